//! `login`: a new device, with cross-signing and key backup set up if it is the first one.

use crate::{
    output::Output,
    passphrase,
    session::{Credentials, Profile, Session},
};
use anyhow::{Context, Result};
use clap::Args;
use matrix_sdk::ruma::api::client::uiaa::{AuthData, MatrixUserIdentifier, Password, UserIdentifier};
use serde_json::json;

/// The environment variable that replaces the question for the password.
pub const PASSWORD: &str = "MYELIN_CLIENT_PASSWORD";
/// How devices are called if nothing is said.
pub const DEVICE_NAME: &str = "myelin-client";

/// Arguments of `login`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The server: its name or its URL
    pub server: String,
    /// The account's name, or its full identifier
    pub user: String,
    /// How the device is called in lists
    #[arg(long, default_value = DEVICE_NAME)]
    pub device_name: String,
}

/// Asks for the password and logs in.
pub async fn run(profile: Profile, arguments: &Arguments, out: &Output) -> Result<()> {
    let password = passphrase::ask_or_variable("Password: ", PASSWORD).await?;
    let credentials = Credentials {
        server: &arguments.server,
        user: &arguments.user,
        password: &password,
        device_name: &arguments.device_name,
        passphrase: None,
    };
    let session = log_in(profile, credentials, out).await?;
    session.finish(out).await
}

/// Logs in and sets encryption up.
pub async fn log_in(profile: Profile, credentials: Credentials<'_>, out: &Output) -> Result<Session> {
    // Not yet a sign of life on the terminal: the passphrase may be asked for there.
    let password = credentials.password;
    let session = Session::login(profile, credentials).await?;
    let progress = out.progress("Setting up encryption");
    progress.say("Announcing this device's keys");
    session.client.sync_once(Session::sync_settings()).await.context("the first sync failed")?;
    progress.say("Setting up cross-signing");
    let is_first = set_up_cross_signing(&session, password).await?;
    drop(progress);
    let device = session.client.device_id().context("the login gave no device")?;
    let next = if is_first {
        "This is your first device: it signs the others.\n\
         Run `myelin-client recovery enable` and keep the recovery key, or losing this device loses your history."
    } else {
        "This device is not verified yet, and can't read earlier messages. Run `myelin-client verify` here\n\
         and `myelin-client verify --accept` on another device of yours, or `myelin-client recovery restore`."
    };
    out.report(
        "login",
        json!({ "user": session.user, "device": device, "first_device": is_first }),
        format!("Logged in as {}, device {device}.\n{next}", session.user),
    )?;
    Ok(session)
}

/// Makes the account's cross-signing identity and key backup if there is none yet; says whether
/// this device made them.
async fn set_up_cross_signing(session: &Session, password: &str) -> Result<bool> {
    let encryption = session.client.encryption();
    if encryption.request_user_identity(&session.user).await?.is_some() {
        return Ok(false);
    }
    if let Err(error) = encryption.bootstrap_cross_signing_if_needed(None).await {
        // Servers may ask for the password again before they accept the keys.
        let Some(info) = error.as_uiaa_response() else {
            return Err(error).context("cross-signing could not be set up");
        };
        let user = UserIdentifier::Matrix(MatrixUserIdentifier::new(session.user.to_string()));
        let mut again = Password::new(user, password.to_owned());
        again.session.clone_from(&info.session);
        encryption
            .bootstrap_cross_signing(Some(AuthData::Password(again)))
            .await
            .context("cross-signing could not be set up")?;
    }
    // From now on room keys are backed up, encrypted, so that a verified device can read history.
    encryption.recovery().enable_backup().await.context("the key backup could not be set up")?;
    Ok(true)
}
