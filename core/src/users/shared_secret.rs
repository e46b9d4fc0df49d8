//! Registration by a secret that tools share with the server, in the form that Synapse gave it.

use super::accounts::{self, Registered, Registration};
use super::sessions::Wanted;
use crate::error::{Error, Result};
use crate::ports::random_text;
use crate::server::Server;
use hmac::{Hmac, KeyInit as _, Mac as _};
use myelin_storage::users::uia_sessions;
use sha1::Sha1;

/// How long a nonce can be used.
const NONCE_MS: i64 = 60 * 1_000;

/// What a tool asks for.
#[derive(Debug)]
pub struct Request {
    /// A nonce of ours, used once.
    pub nonce: String,
    /// The localpart.
    pub username: String,
    /// The password.
    pub password: String,
    /// The account is to administer the server.
    pub admin: bool,
    /// Synapse's kinds of users, part of what is signed.
    pub user_type: Option<String>,
    /// Hexadecimal HMAC-SHA1.
    pub mac: String,
    /// Give no access token.
    pub inhibit_login: bool,
}

/// Without a secret there is no such endpoint.
fn secret(server: &Server) -> Result<&str> {
    let secret = server.settings.registration.shared_secret.as_ref();
    secret.map(|secret| secret.expose()).filter(|secret| !secret.is_empty()).ok_or_else(|| Error::Other {
        errcode: "M_UNKNOWN",
        message: "registration by a shared secret is not enabled".to_owned(),
    })
}

/// A nonce. It is in the database, so that it holds on every replica.
pub async fn nonce(server: &Server) -> Result<String> {
    secret(server)?;
    let nonce = random_text(&*server.random, 40);
    let (session, now) = (session(&nonce), server.now_ms());
    server
        .commit
        .run(move |tx| {
            Box::pin(async move { Ok(uia_sessions::put(tx, &session, "", now + NONCE_MS, now).await?) })
        })
        .await?;
    Ok(nonce)
}

/// Nonces share the table of user-interactive authentication, and no name with its sessions.
fn session(nonce: &str) -> String {
    format!("nonce {nonce}")
}

/// Makes an account for who knows the secret.
pub async fn register(server: &Server, request: Request) -> Result<Registered> {
    let secret = secret(server)?;
    let Request { nonce, username, password, admin, user_type, mac, inhibit_login } = request;
    if [&nonce, &username, &password].iter().any(|text| text.contains('\0')) {
        return Err(Error::invalid_param("U+0000 is not allowed"));
    }
    let (taken, now) = (session(&nonce), server.now_ms());
    let took = server
        .commit
        .run(move |tx| Box::pin(async move { Ok(uia_sessions::take(tx, &taken, now).await?) }))
        .await?;
    if !took {
        return Err(Error::Other { errcode: "M_UNKNOWN", message: "unrecognised nonce".to_owned() });
    }
    let signed = Signed {
        nonce: &nonce,
        username: &username,
        password: &password,
        admin,
        user_type: user_type.as_deref(),
    };
    if !signed.is_right(secret, &mac)? {
        return Err(Error::forbidden("HMAC incorrect"));
    }
    let login = (!inhibit_login).then(Wanted::default);
    let registration = Registration {
        username: Some(username),
        password: Some(password),
        admin,
        login,
        ..Registration::default()
    };
    accounts::register(server, registration).await
}

struct Signed<'a> {
    nonce: &'a str,
    username: &'a str,
    password: &'a str,
    admin: bool,
    user_type: Option<&'a str>,
}

impl Signed<'_> {
    fn is_right(&self, secret: &str, mac: &str) -> Result<bool> {
        let mut hmac = Hmac::<Sha1>::new_from_slice(secret.as_bytes()).map_err(Error::internal_display)?;
        let admin = if self.admin { "admin" } else { "notadmin" };
        let parts = [self.nonce, self.username, self.password, admin];
        hmac.update(parts.join("\0").as_bytes());
        if let Some(user_type) = self.user_type {
            hmac.update(b"\0");
            hmac.update(user_type.as_bytes());
        }
        let Some(mac) = from_hex(mac) else { return Ok(false) };
        // In constant time.
        Ok(hmac.verify_slice(&mac).is_ok())
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    text.as_bytes()
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => Some(digit(high)? * 16 + digit(low)?),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_covers_everything() {
        // From Python: hmac.new(b"secret", b"n\0u\0p\0notadmin", "sha1").hexdigest()
        let right = "0f2b4751fa14a68d6a6878c313b752580706c394";
        let signed = |admin| Signed { nonce: "n", username: "u", password: "p", admin, user_type: None };
        assert!(signed(false).is_right("secret", right).unwrap());
        assert!(!signed(true).is_right("secret", right).unwrap());
        assert!(!signed(false).is_right("other", right).unwrap());
        assert!(!signed(false).is_right("secret", "zz").unwrap());
        assert!(!signed(false).is_right("secret", "").unwrap());
    }
}
