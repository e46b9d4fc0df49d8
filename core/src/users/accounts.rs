//! Accounts: who may have one, under which name, and how it ends.

use super::devices;
use super::sessions::{self, LoggedIn, Opening, Wanted};
use super::uia::Completed;
use crate::config::RegistrationMode;
use crate::error::{Error, Result};
use crate::server::Server;
use myelin_storage::keys::backups;
use myelin_storage::log::Kind;
use myelin_storage::users::accounts::{self, Account, GUEST, USER};
use myelin_storage::users::{
    account_data, login_tokens, openid_tokens, profiles, registration_tokens, uia_sessions,
};
use ruma::api::client::uiaa::{AuthType, UserIdentifier};
use ruma::{OwnedUserId, UserId};

pub use myelin_storage::users::accounts::Listed;

/// Longest user id in bytes.
const LONGEST_ID: usize = 255;

/// An account to make.
#[derive(Debug, Default)]
pub struct Registration {
    /// The localpart, or one that we make up.
    pub username: Option<String>,
    /// The password; without one nobody logs in by password.
    pub password: Option<String>,
    /// A guest's.
    pub guest: bool,
    /// The guest whose account this becomes; see [`guest_to_upgrade`].
    pub upgrades: Option<i64>,
    /// The account may administer the server.
    pub admin: bool,
    /// The session to open, if any.
    pub login: Option<Wanted>,
    /// The user-interactive authentication that this ends.
    pub authentication: Option<Completed>,
}

/// An account that was made.
#[derive(Debug)]
pub struct Registered {
    /// The user.
    pub user: OwnedUserId,
    /// The session, if one was wanted.
    pub login: Option<LoggedIn>,
}

/// The user id that somebody who registers would get.
pub fn user_id(server: &Server, username: &str) -> Result<OwnedUserId> {
    let localpart = username.to_ascii_lowercase();
    let invalid = |text: &str| Err(Error::InvalidUsername(text.to_owned()));
    let allowed = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '.' | '_' | '=' | '-' | '/' | '+');
    if localpart.is_empty() {
        return invalid("the user name is empty");
    }
    if !localpart.chars().all(allowed) {
        return invalid("a user name has only the characters a-z, 0-9 and . _ = - / +");
    }
    if localpart.starts_with('_') {
        return invalid("a user name does not begin with _");
    }
    let id = format!("@{localpart}:{}", server.name());
    if id.len() > LONGEST_ID {
        return invalid("the user name is too long");
    }
    UserId::parse(&id).map_err(|error| Error::InvalidUsername(error.to_string()))
}

/// Refuses a user name that cannot be had.
pub async fn check_available(server: &Server, username: &str) -> Result<()> {
    let user = user_id(server, username)?;
    let Some(user_pk) = server.ids.find_user(user.as_str()).await? else { return Ok(()) };
    match accounts::get(&mut server.database.read().await?, user_pk).await? {
        Some(_) => Err(Error::UserInUse),
        None => Ok(()),
    }
}

/// The guest who registers to keep their account: they show their token, and want the name that they have.
///
/// # Errors
/// M_FORBIDDEN when the name is somebody's and the token none of theirs, or no guest's.
pub async fn guest_to_upgrade(server: &Server, username: &str, token: &str) -> Result<Option<i64>> {
    let user = user_id(server, username)?;
    if find(server, &user).await?.is_none() {
        return Ok(None);
    }
    match sessions::authenticate(server, token).await {
        Ok(session) if session.guest && session.user == user => Ok(Some(session.user_pk)),
        Ok(_) | Err(Error::UnknownToken { .. }) => {
            Err(Error::forbidden("the name is taken, and the token is not the one of its guest"))
        }
        Err(error) => Err(error),
    }
}

/// What somebody who registers has to show, or M_FORBIDDEN where nobody may.
pub fn registration_flows(server: &Server) -> Result<Vec<Vec<AuthType>>> {
    match server.settings.registration.mode {
        RegistrationMode::Closed => Err(Error::forbidden("registration is closed")),
        RegistrationMode::Token => Ok(vec![vec![AuthType::RegistrationToken]]),
        // The token of the first administrator is worth something here too.
        RegistrationMode::Open => Ok(vec![vec![AuthType::Dummy], vec![AuthType::RegistrationToken]]),
    }
}

/// Makes an account.
pub async fn register(server: &Server, registration: Registration) -> Result<Registered> {
    let Registration { username, password, guest, upgrades, admin, login, authentication } = registration;
    let user = match username {
        Some(username) => user_id(server, &username)?,
        None => user_id(server, &random_name(server))?,
    };
    let password_hash = match password {
        Some(password) => Some(server.users.passwords.hash(&*server.random, password).await?),
        None => None,
    };
    let opening = match login {
        Some(wanted) => Some(Opening::new(server, wanted).await?),
        None => None,
    };
    let user_pk = server.ids.user(user.as_str()).await?;
    let (localpart, now) = (user.localpart().to_owned(), server.now_ms());
    let login = server
        .commit
        .run(move |tx| {
            Box::pin(async move {
                let Completed { session, registration_token } = authentication.unwrap_or_default();
                let mut admin = admin;
                if let Some(token) = registration_token {
                    let by_token = registration_tokens::take(tx, &token, now).await?;
                    admin |= by_token.ok_or_else(|| Error::forbidden("the registration token is used up"))?;
                }
                if let Some(session) = session {
                    uia_sessions::take(tx, &session, now).await?;
                }
                let hash = password_hash.as_deref();
                if upgrades == Some(user_pk) && accounts::upgrade(tx, user_pk, hash).await? {
                    // The guest's sessions are the user's from now on: caches read them anew.
                    tx.entry(Kind::Tokens, user_pk, 0);
                } else {
                    let kind = if guest { GUEST } else { USER };
                    if !accounts::insert(tx, user_pk, hash, kind, admin, now).await? {
                        return Err(Error::UserInUse);
                    }
                    let name = serde_json::Value::from(localpart).to_string();
                    profiles::put(tx, user_pk, "displayname", &name).await?;
                    tx.entry(Kind::Profile, user_pk, 0);
                }
                match opening {
                    Some(opening) => opening.open(tx, user_pk).await.map(Some),
                    None => Ok(None),
                }
            })
        })
        .await?;
    tracing::info!(%user, guest, "an account was made");
    Ok(Registered { user, login })
}

fn random_name(server: &Server) -> String {
    let mut bytes = [0; 12];
    server.random.fill(&mut bytes);
    bytes.into_iter().map(|b| char::from(b'a' + b % 26)).collect()
}

/// The local user that an identifier names: a localpart or a whole id.
pub fn identify(server: &Server, identifier: &UserIdentifier) -> Result<OwnedUserId> {
    let UserIdentifier::Matrix(matrix) = identifier else {
        let message = format!("identifiers of type {} are not supported", identifier.identifier_type());
        return Err(Error::Other { errcode: "M_UNKNOWN", message });
    };
    local_user(server, &matrix.user)
}

/// The user of this server with this localpart or id. Whether there is an account is another question.
pub fn local_user(server: &Server, text: &str) -> Result<OwnedUserId> {
    let wrong = || Error::forbidden("there is no such user, or the password is wrong");
    let id = if text.starts_with('@') { text.to_owned() } else { format!("@{text}:{}", server.name()) };
    let user = UserId::parse(id).map_err(|_| wrong())?;
    if user.server_name() != server.name() || user.as_str().contains('\0') {
        return Err(wrong());
    }
    Ok(user)
}

/// A user's account.
pub async fn find(server: &Server, user: &UserId) -> Result<Option<Account>> {
    let mut found = None;
    // Older clients send capitals; accounts have none, as in Synapse.
    for id in [user.as_str().to_owned(), user.as_str().to_lowercase()] {
        if let Some(user_pk) = server.ids.find_user(&id).await? {
            found = accounts::get(&mut server.database.read().await?, user_pk).await?;
        }
        if found.is_some() {
            break;
        }
    }
    Ok(found)
}

/// The account whose password this is.
pub async fn check_password(server: &Server, user: &UserId, password: String) -> Result<Account> {
    let account = find(server, user).await?;
    let hash = account.as_ref().and_then(|account| account.password_hash.clone());
    let right = server.users.passwords.verify(password, hash).await?;
    match account {
        Some(account) if account.deactivated => Err(Error::UserDeactivated),
        Some(account) if right => Ok(account),
        _ => Err(Error::forbidden("there is no such user, or the password is wrong")),
    }
}

/// Sets a password. With `logout`, all devices but `kept` are deleted.
pub async fn set_password(
    server: &Server,
    user_pk: i64,
    password: String,
    logout: bool,
    kept: Option<i64>,
) -> Result<()> {
    let hash = server.users.passwords.hash(&*server.random, password).await?;
    server
        .commit
        .run(move |tx| {
            Box::pin(async move {
                accounts::set_password(tx, user_pk, &hash).await?;
                login_tokens::delete_of_user(tx, user_pk).await?;
                if logout { devices::remove_all_but(tx, user_pk, kept).await } else { Ok(()) }
            })
        })
        .await
}

/// Closes an account for ever: sessions, devices, account data and key backups go, with `erase` the profile too. The
/// name is never given again. The rooms are left by [`Server::deactivate`], which calls this.
pub(crate) async fn close(server: &Server, user_pk: i64, erase: bool) -> Result<()> {
    server
        .commit
        .run(move |tx| {
            Box::pin(async move {
                accounts::deactivate(tx, user_pk).await?;
                devices::remove_all_but(tx, user_pk, None).await?;
                login_tokens::delete_of_user(tx, user_pk).await?;
                openid_tokens::delete_of_user(tx, user_pk).await?;
                account_data::clear(tx, user_pk).await?;
                backups::clear(tx, user_pk).await?;
                if erase {
                    profiles::clear(tx, user_pk).await?;
                    tx.entry(Kind::Profile, user_pk, 0);
                }
                Ok(())
            })
        })
        .await
}

/// Whether anybody but guests has an account.
pub async fn exist(server: &Server) -> Result<bool> {
    Ok(accounts::any(&mut server.database.read().await?).await?)
}

/// All accounts.
pub async fn list(server: &Server) -> Result<Vec<Listed>> {
    Ok(accounts::list(&mut server.database.read().await?).await?)
}
