//! The people of the demo and their devices.

use crate::{
    commands::{login, register},
    output::Output,
    passphrase::Secret,
    session::{Credentials, Profile, Session},
};
use anyhow::{Context, Result, bail};
use matrix_sdk::ruma::OwnedUserId;
use rand::{Rng, distr::Alphanumeric};
use std::{
    path::Path,
    time::{Duration, Instant},
};

/// How long anything that must happen may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// An account.
pub struct Person {
    /// What the narration calls the person.
    pub name: &'static str,
    server: String,
    account: String,
    password: String,
    token: Option<String>,
}

/// A device, logged in.
pub struct Device {
    /// What narration and table call it, such as `alice/1`.
    pub label: String,
    /// The session.
    pub session: Session,
}

impl Person {
    /// Somebody with a name that is free on any server.
    pub fn new(name: &'static str, server: &str, token: Option<String>) -> Self {
        Self {
            name,
            server: server.to_owned(),
            account: format!("{name}-{}", random(6)),
            password: random(24),
            token,
        }
    }

    /// The account's name on its server.
    pub fn account(&self) -> &str {
        &self.account
    }

    /// The account's password.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// Makes the account.
    pub async fn register(&self) -> Result<()> {
        register::create(&self.server, &self.account, &self.password, self.token.as_deref())
            .await
            .with_context(|| format!("registering {}", self.name))
    }

    /// Logs a new device in; its store is in a profile below `home`.
    pub async fn log_in(&self, number: usize, home: &Path) -> Result<Device> {
        let profile = Profile::lock(home, &format!("{}-{number}", self.name))?;
        let label = format!("{}/{number}", self.name);
        let credentials = Credentials {
            server: &self.server,
            user: &self.account,
            password: &self.password,
            device_name: &label,
            passphrase: Some(Secret::new(random(32))),
        };
        let session = login::log_in(profile, credentials, &quiet())
            .await
            .with_context(|| format!("logging {label} in"))?;
        Ok(Device { label, session })
    }
}

impl Device {
    /// Whose device it is.
    pub fn user(&self) -> &OwnedUserId {
        &self.session.user
    }

    /// The device's identifier.
    pub fn id(&self) -> String {
        self.session.client.device_id().map(ToString::to_string).unwrap_or_default()
    }

    /// Syncs until something is so.
    pub async fn until(&self, what: &str, is_so: impl AsyncFn(&Session) -> Result<bool>) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.session
                .catch_up(&quiet())
                .await
                .with_context(|| format!("{} waits until {what}", self.label))?;
            if is_so(&self.session).await? {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("{} waited in vain until {what}", self.label);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// An output for the commands that the demo calls: the demo speaks for itself.
pub fn quiet() -> Output {
    Output::into_writer(false, std::io::sink())
}

/// A random lower-case text.
pub fn random(length: usize) -> String {
    rand::rng()
        .sample_iter(Alphanumeric)
        .take(length)
        .map(|byte| char::from(byte).to_ascii_lowercase())
        .collect()
}
