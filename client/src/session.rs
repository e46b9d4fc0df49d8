//! A profile on disk and the session that is opened from it.
//!
//! One profile is one device: a folder with `profile.json` (the server's address and where the
//! passphrase is; nothing secret), `store/` (matrix-sdk's SQLite databases, each encrypted with the
//! passphrase) and `lock`. The access token is inside the encrypted store.

use crate::{
    output::Output,
    passphrase::{self, Secret, Source},
};
use anyhow::{Context, Result, anyhow, bail};
use matrix_sdk::{
    Client,
    authentication::matrix::MatrixSession,
    config::{RequestConfig, SyncSettings},
    encryption::{BackupDownloadStrategy, EncryptionSettings},
    ruma::{
        OwnedUserId,
        api::client::{filter::FilterDefinition, sync::sync_events::v3::Filter},
    },
    sliding_sync::VersionBuilder,
};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
    time::Duration,
};

const TOKEN_KEY: &[u8] = b"myelin-client.session";

/// A profile's folder, locked for this process.
pub struct Profile {
    directory: PathBuf,
    // Held, not read: the lock ends with it.
    _lock: File,
}

#[derive(Serialize, Deserialize)]
struct Description {
    homeserver: String,
    passphrase: Source,
}

impl Profile {
    /// Opens (and makes, if need be) the folder of a profile. Two processes with one store would
    /// advance the same ratchets, so the second one is refused.
    pub fn lock(home: &Path, name: &str) -> Result<Self> {
        if name.is_empty() || name.contains(['/', '\\']) || name.starts_with('.') {
            bail!("{name:?} can't be the name of a profile");
        }
        let directory = home.join(name);
        make_private_directory(&directory)?;
        let lock = File::create(directory.join("lock"))?;
        for attempt in 0.. {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if attempt < 20 => {
                    std::thread::sleep(Duration::from_millis(100))
                }
                Err(TryLockError::WouldBlock) => {
                    bail!("another myelin-client is using the profile {name:?} (`follow`, perhaps)")
                }
                Err(TryLockError::Error(error)) => return Err(error.into()),
            }
        }
        Ok(Self { directory, _lock: lock })
    }

    /// Whether somebody is logged in with this profile.
    pub fn is_logged_in(&self) -> bool {
        self.description_path().exists()
    }

    fn description_path(&self) -> PathBuf {
        self.directory.join("profile.json")
    }

    fn store_path(&self) -> PathBuf {
        self.directory.join("store")
    }

    fn description(&self) -> Result<Description> {
        let text = fs::read(self.description_path())
            .map_err(|_| anyhow!("nobody is logged in with this profile: use `login` or `register`"))?;
        serde_json::from_slice(&text).context("profile.json is damaged")
    }

    /// Removes everything this machine knows of the login.
    pub async fn forget(&self) -> Result<()> {
        if let Ok(description) = self.description()
            && let Err(error) = passphrase::forget(&self.directory, description.passphrase).await
        {
            tracing::warn!("the keychain kept the passphrase: {error}");
        }
        for result in [fs::remove_dir_all(self.store_path()), fs::remove_file(self.description_path())] {
            match result {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
        }
        Ok(())
    }
}

/// What a login needs.
pub struct Credentials<'a> {
    /// The server: its name or its URL.
    pub server: &'a str,
    /// The account's name or identifier.
    pub user: &'a str,
    /// The account's password.
    pub password: &'a str,
    /// How the device is called in lists.
    pub device_name: &'a str,
    /// What the store is encrypted with; None takes the keychain, or asks.
    pub passphrase: Option<Secret>,
}

/// A logged-in device.
pub struct Session {
    /// The SDK's client: server, store and encryption.
    pub client: Client,
    /// Who is logged in.
    pub user: OwnedUserId,
    profile: Profile,
}

impl Session {
    /// Logs in with a password, as a new device of a profile that has no login yet.
    pub async fn login(profile: Profile, credentials: Credentials<'_>) -> Result<Self> {
        if profile.is_logged_in() {
            bail!("this profile is logged in already: use `logout`, or another --profile");
        }
        // What an interrupted login left is of no use: its device's keys were never announced as ours.
        profile.forget().await?;
        let (passphrase, source) = match credentials.passphrase {
            Some(passphrase) => (passphrase, Source::Asked),
            None => passphrase::for_new_profile(&profile.directory).await?,
        };
        make_private_directory(&profile.store_path())?;
        let client = build(credentials.server, &profile.store_path(), &passphrase).await?;
        client
            .matrix_auth()
            .login_username(credentials.user, credentials.password)
            .initial_device_display_name(credentials.device_name)
            .send()
            .await
            .context("the server did not accept the login")?;
        let session = client.matrix_auth().session().context("the login gave no session")?;
        client.state_store().set_custom_value(TOKEN_KEY, serde_json::to_vec(&session)?).await?;
        let description = Description { homeserver: client.homeserver().to_string(), passphrase: source };
        fs::write(profile.description_path(), serde_json::to_vec_pretty(&description)?)?;
        client.encryption().wait_for_e2ee_initialization_tasks().await;
        Ok(Self { user: session.meta.user_id, client, profile })
    }

    /// Opens the login that a profile holds; a passphrase that is not given is looked for.
    pub async fn open(profile: Profile, passphrase: Option<Secret>) -> Result<Self> {
        let description = profile.description()?;
        let passphrase = match passphrase {
            Some(passphrase) => passphrase,
            None => passphrase::for_profile(&profile.directory, description.passphrase).await?,
        };
        let client = build(&description.homeserver, &profile.store_path(), &passphrase)
            .await
            .context("the store did not open (wrong passphrase?)")?;
        let stored = client.state_store().get_custom_value(TOKEN_KEY).await?;
        let session: MatrixSession =
            serde_json::from_slice(&stored.context("the store holds no login: log in again")?)?;
        client.restore_session(session.clone()).await?;
        client.encryption().wait_for_e2ee_initialization_tasks().await;
        Ok(Self { user: session.meta.user_id, client, profile })
    }

    /// Settings of every sync: members are loaded when they are needed.
    pub fn sync_settings() -> SyncSettings {
        SyncSettings::new().filter(Filter::FilterDefinition(FilterDefinition::with_lazy_loading()))
    }

    /// Fetches what happened since the last time, and sends what encryption has to send.
    pub async fn catch_up(&self, out: &Output) -> Result<()> {
        let _progress = out.progress("Catching up with the server");
        self.client.sync_once(Self::sync_settings()).await.context("the sync failed")?;
        Ok(())
    }

    /// Makes sure that nothing is left in this process only: new room keys reach the backup.
    pub async fn finish(&self, out: &Output) -> Result<()> {
        let backups = self.client.encryption().backups();
        if backups.are_enabled().await {
            let _progress = out.progress("Backing up room keys");
            // A late upload is made up for by the next command, so a slow server fails nothing.
            let _ = tokio::time::timeout(Duration::from_secs(30), backups.wait_for_steady_state()).await;
        }
        Ok(())
    }

    /// Ends the session on the server and forgets it here.
    pub async fn logout(self) -> Result<()> {
        let Self { client, profile, .. } = self;
        client.matrix_auth().logout().await.context("the server did not log out")?;
        // Before its files go.
        drop(client);
        profile.forget().await
    }
}

async fn build(server: &str, store: &Path, passphrase: &str) -> Result<Client> {
    let encryption = EncryptionSettings {
        // Both are done by `commands::login`, which can report what went wrong.
        auto_enable_cross_signing: false,
        auto_enable_backups: false,
        backup_download_strategy: BackupDownloadStrategy::AfterDecryptionFailure,
    };
    let builder = Client::builder()
        .sqlite_store(store, Some(passphrase))
        .with_encryption_settings(encryption)
        // Handing earlier keys to people who are invited later is not for us to decide.
        .with_enable_share_history_on_invite(false)
        .sliding_sync_version_builder(VersionBuilder::None)
        .respect_login_well_known(false)
        .request_config(RequestConfig::new().timeout(Duration::from_secs(60)).retry_limit(3));
    let builder = if server.starts_with("http://") || server.starts_with("https://") {
        builder.homeserver_url(server)
    } else {
        builder.server_name_or_homeserver_url(server)
    };
    Ok(builder.build().await?)
}

/// A client that is not logged in and keeps nothing, for registering.
pub async fn anonymous(server: &str) -> Result<Client> {
    let builder = Client::builder().sliding_sync_version_builder(VersionBuilder::None);
    let builder = if server.starts_with("http://") || server.starts_with("https://") {
        builder.homeserver_url(server)
    } else {
        builder.server_name_or_homeserver_url(server)
    };
    Ok(builder.build().await?)
}

/// The folder of the profiles if none is given.
pub fn default_home() -> Result<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = if cfg!(windows) {
        variable("APPDATA")
    } else if cfg!(target_os = "macos") {
        variable("HOME").map(|home| home.join("Library/Application Support"))
    } else {
        variable("XDG_DATA_HOME").or_else(|| variable("HOME").map(|home| home.join(".local/share")))
    };
    Ok(base.context("no home folder is known: use --home")?.join("myelin-client"))
}

fn make_private_directory(path: &Path) -> Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path).with_context(|| format!("{} can't be made", path.display()))
}
