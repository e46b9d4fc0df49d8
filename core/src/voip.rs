//! Calls: credentials for a TURN server, which relays the media of people who can't reach each other.
//!
//! The TURN server shares a secret with this one and nothing else (coturn's `use-auth-secret`): a name that begins with the
//! time at which it ends is valid with the password that follows from it by the secret. The specification's example has
//! the user's id behind the time; a random text does as well, and the relay need not learn who calls.

use crate::config::Secret;
use crate::error::{Error, Result};
use crate::ports::random_text;
use crate::server::Server;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha1::Sha1;
use std::time::Duration;

/// How long credentials are valid: a call longer than that is not.
const LIFETIME: Duration = Duration::from_secs(86_400);

/// What a client needs to use the TURN server.
#[derive(Debug)]
pub struct TurnServer {
    /// The name.
    pub username: String,
    /// The password.
    pub password: Secret,
    /// Where it is.
    pub uris: Vec<String>,
    /// How long the name is valid.
    pub ttl: Duration,
}

/// New credentials; `None` where the operator has no TURN server.
pub fn turn_server(server: &Server) -> Result<Option<TurnServer>> {
    let settings = &server.settings.turn;
    let Some(secret) = settings.shared_secret.as_ref().filter(|_| !settings.uris.is_empty()) else {
        return Ok(None);
    };
    let ends = server.now_ms() / 1_000 + LIFETIME.as_secs().cast_signed();
    let username = format!("{ends}:{}", random_text(&*server.random, 16));
    let password = Secret::new(password(secret.expose(), &username)?);
    Ok(Some(TurnServer { username, password, uris: settings.uris.clone(), ttl: LIFETIME }))
}

fn password(secret: &str, username: &str) -> Result<String> {
    let mut hmac = Hmac::<Sha1>::new_from_slice(secret.as_bytes()).map_err(Error::internal_display)?;
    hmac.update(username.as_bytes());
    Ok(STANDARD.encode(hmac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_follows_from_name_and_secret() {
        // From Python: base64.b64encode(hmac.new(b"secret", b"1443779631:x", "sha1").digest())
        assert_eq!(password("secret", "1443779631:x").unwrap(), "IWixkyh3VEfrryPQzvv8U9NT2Ms=");
    }
}
