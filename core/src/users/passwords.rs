//! Passwords: argon2id, in threads of their own and few at once.
//!
//! A hash takes tens of milliseconds and as much memory as the settings say. It runs where blocking is allowed, and
//! [`AT_ONCE`] at most, so that a flood of logins neither stops the runtime nor eats the memory.

use crate::config::PasswordHashing;
use crate::error::{Error, Result};
use crate::ports::Random;
use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Params, PasswordHasher as _, PasswordVerifier as _, Version};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Hashes at once.
const AT_ONCE: usize = 2;
/// Longest password in bytes, as in Synapse.
const LONGEST: usize = 512;

/// Hashes and checks passwords.
pub struct Passwords {
    argon2: Argon2<'static>,
    slots: Arc<Semaphore>,
}

impl Passwords {
    /// With this cost.
    pub fn new(cost: PasswordHashing) -> Result<Passwords> {
        let params = Params::new(cost.memory_kib, cost.iterations, cost.parallelism, None)
            .map_err(|error| Error::Internal(format!("limits.password_hashing: {error}")))?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        Ok(Passwords { argon2, slots: Arc::new(Semaphore::new(AT_ONCE)) })
    }

    /// The hash to store.
    pub async fn hash(&self, random: &dyn Random, password: String) -> Result<String> {
        if password.is_empty() {
            return Err(Error::WeakPassword("the password is empty".to_owned()));
        }
        if password.len() > LONGEST {
            return Err(Error::WeakPassword(format!("the password is longer than {LONGEST} bytes")));
        }
        let mut salt = [0; 16];
        random.fill(&mut salt);
        self.work(move |argon2| {
            let hash = argon2.hash_password_with_salt(password.as_bytes(), &salt);
            hash.map(|hash| hash.to_string())
                .map_err(|error| Error::Internal(format!("hashing a password: {error}")))
        })
        .await?
    }

    /// Whether this is the password. Without a hash it is not, and finding out takes as long, so that nobody learns by
    /// the time who has an account.
    pub async fn verify(&self, password: String, hash: Option<String>) -> Result<bool> {
        if password.len() > LONGEST {
            return Ok(false);
        }
        self.work(move |argon2| {
            let Some(hash) = hash else {
                return argon2.hash_password_with_salt(password.as_bytes(), &[0; 16]).map(|_| false);
            };
            let hash = PasswordHash::new(&hash)?;
            Ok(argon2.verify_password(password.as_bytes(), &hash).is_ok())
        })
        .await?
        .map_err(|error| Error::Internal(format!("checking a password: {error}")))
    }

    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Argon2<'static>) -> T + Send + 'static,
    ) -> Result<T> {
        // The permit goes into the thread: a caller that gives up does not make room for another hash.
        let permit = self.slots.clone().acquire_owned().await.map_err(Error::internal_display)?;
        let argon2 = self.argon2.clone();
        tokio::task::spawn_blocking(move || {
            let done = work(&argon2);
            drop(permit);
            done
        })
        .await
        .map_err(Error::internal_display)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::SystemRandom;

    #[tokio::test]
    async fn only_the_password_is_the_password() {
        let cost = PasswordHashing { memory_kib: 8, iterations: 1, parallelism: 1 };
        let passwords = Passwords::new(cost).unwrap();
        let hash = passwords.hash(&SystemRandom, "secret".to_owned()).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=8,t=1,p=1$"), "{hash}");
        assert!(passwords.verify("secret".to_owned(), Some(hash.clone())).await.unwrap());
        assert!(!passwords.verify("Secret".to_owned(), Some(hash)).await.unwrap());
        assert!(!passwords.verify("secret".to_owned(), None).await.unwrap());
        assert!(passwords.hash(&SystemRandom, String::new()).await.is_err());
    }
}
