//! Users of this server: accounts, sessions, devices, and what is theirs alone.
//!
//! * [`accounts`] makes, changes and closes accounts; [`passwords`] hashes without blocking the runtime.
//! * [`uia`] asks again who somebody is before something that matters.
//! * [`sessions`] gives out access tokens and knows whose they are. It keeps them in memory, so that a request costs no
//!   SQL, and forgets them by the log, so that no revoked token is honoured.
//! * [`openid`] makes tokens by which a third party may ask who somebody is.
//! * [`devices`], [`profiles`], [`account_data`], [`push_rules`] and [`filters`] are named after their endpoints.

pub mod account_data;
pub mod accounts;
pub mod devices;
pub mod filters;
pub mod openid;
pub mod passwords;
pub mod profiles;
pub mod push_rules;
pub mod registration_tokens;
pub mod sessions;
pub mod shared_secret;
pub mod uia;

pub use self::sessions::Session;

use crate::cache::Caches;
use crate::config::Settings;
use crate::error::{Error, Result};
use sha2::{Digest as _, Sha256};
use std::sync::Arc;

/// What the server keeps in memory about users.
pub struct Users {
    /// Hashes and checks passwords.
    pub passwords: passwords::Passwords,
    /// The sessions of access tokens that were used lately.
    pub sessions: Arc<sessions::Cache>,
}

impl Users {
    /// With the figures of the settings.
    pub fn new(settings: &Settings, caches: &Caches) -> Result<Users> {
        Ok(Users {
            passwords: passwords::Passwords::new(settings.limits.password_hashing)?,
            sessions: Arc::new(sessions::Cache::new(caches)),
        })
    }
}

/// SHA-256, by which secrets are stored.
fn hash(text: &str) -> [u8; 32] {
    Sha256::digest(text).into()
}

/// Longest device id, device name and other id that has no limit of its own, in bytes.
pub const LONGEST_TEXT: usize = 512;

/// Text from outside that goes into a column of its own: bounded, and without U+0000, which PostgreSQL cannot store.
///
/// # Errors
/// M_INVALID_PARAM with the text's name.
pub fn check_text(name: &str, text: &str, most: usize) -> Result<()> {
    if text.contains('\0') {
        return Err(Error::InvalidParam(format!("{name} must not contain U+0000")));
    }
    if text.len() > most {
        return Err(Error::InvalidParam(format!("{name} is longer than {most} bytes")));
    }
    Ok(())
}
