//! `recovery`: the key that brings identity and history back when every device is lost.

use crate::{
    output::{Output, Progress},
    passphrase,
    session::Session,
};
use anyhow::{Context, Result, bail};
use clap::Subcommand;
use futures_util::StreamExt;
use matrix_sdk::encryption::recovery::{EnableProgress, RecoveryState};
use serde_json::json;

/// The environment variable that replaces the question for the recovery key.
pub const KEY: &str = "MYELIN_CLIENT_RECOVERY_KEY";

/// What to do with recovery.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Make a recovery key and back everything up; prints the key
    Enable {
        /// Replace an earlier recovery key
        #[arg(long)]
        replace: bool,
    },
    /// Restore identity and room keys with the recovery key, which verifies this device
    Restore,
    /// Whether recovery is set up
    Status,
}

/// Does what is asked.
pub async fn run(session: &Session, action: &Action, out: &Output) -> Result<()> {
    session.catch_up(out).await?;
    match action {
        Action::Enable { replace } => enable(session, *replace, out).await.map(drop),
        Action::Restore => {
            let key = passphrase::ask_or_variable("Recovery key: ", KEY).await?;
            restore(session, key.trim(), out).await
        }
        Action::Status => status(session, out).await,
    }
}

/// Makes the recovery key, waits until all room keys are in the backup, and prints the key.
pub async fn enable(session: &Session, replace: bool, out: &Output) -> Result<String> {
    let recovery = session.client.encryption().recovery();
    let progress = out.progress("Making the recovery key");
    let key = match (recovery.state(), replace) {
        (RecoveryState::Incomplete, _) => {
            bail!("this device does not have the keys: `verify` it or `recovery restore` first")
        }
        (RecoveryState::Enabled, false) => {
            bail!("there is a recovery key already: --replace makes a new one")
        }
        (RecoveryState::Enabled, true) => recovery.reset_key().await?,
        (RecoveryState::Disabled | RecoveryState::Unknown, _) => {
            let enabling = recovery.enable().wait_for_backups_to_upload();
            let mut steps = enabling.subscribe_to_progress();
            let show = async {
                while let Some(Ok(step)) = steps.next().await {
                    show_step(&step, &progress);
                }
                std::future::pending().await
            };
            tokio::select! {
                key = enabling => key.context("recovery could not be enabled")?,
                () = show => bail!("the progress ended before the work"),
            }
        }
    };
    drop(progress);
    let text = format!(
        "Your recovery key:\n\n    {key}\n\nKeep it where no one else finds it. Whoever has it can read your messages;\n\
         without it and without a device of yours, nobody can."
    );
    out.report("recovery_key", json!({ "key": key }), text)?;
    Ok(key)
}

fn show_step(step: &EnableProgress, progress: &Progress) {
    match step {
        EnableProgress::CreatingBackup => progress.say("Making the key backup"),
        EnableProgress::CreatingRecoveryKey => progress.say("Making the recovery key"),
        EnableProgress::BackingUp(counts) => {
            progress.say(format!("Backing up room keys: {} of {}", counts.backed_up, counts.total));
        }
        EnableProgress::RoomKeyUploadError => {
            progress.say("Some keys could not be backed up; they will be later")
        }
        EnableProgress::Starting | EnableProgress::Done { .. } => {}
    }
}

/// Fetches identity and room keys with the recovery key.
pub async fn restore(session: &Session, key: &str, out: &Output) -> Result<()> {
    let encryption = session.client.encryption();
    let progress = out.progress("Opening the secret storage");
    encryption.recovery().recover(key).await.context("the recovery key did not open the storage")?;
    let rooms = session.client.joined_rooms();
    for (done, room) in rooms.iter().enumerate() {
        progress.say(format!("Fetching room keys: room {} of {}", done + 1, rooms.len()));
        encryption.backups().download_room_keys_for_room(room.room_id()).await?;
    }
    drop(progress);
    let verified = encryption.get_own_device().await?.is_some_and(|device| device.is_cross_signed_by_owner());
    let backup = encryption.backups().are_enabled().await;
    if !verified || !backup {
        bail!("the secret storage did not hold all keys (device verified: {verified}, key backup: {backup})");
    }
    out.report(
        "restored",
        json!({ "verified": verified, "backup": backup, "rooms": rooms.len() }),
        format!("Restored: this device is verified, and has the keys of {} rooms.", rooms.len()),
    )
}

async fn status(session: &Session, out: &Output) -> Result<()> {
    let encryption = session.client.encryption();
    let (state, text) = match encryption.recovery().state() {
        RecoveryState::Enabled => ("enabled", "There is a recovery key, and this device has all secrets."),
        RecoveryState::Disabled => ("disabled", "There is no recovery key: `recovery enable` makes one."),
        RecoveryState::Incomplete => (
            "incomplete",
            "There is a recovery key, but this device lacks secrets: `recovery restore` or `verify`.",
        ),
        RecoveryState::Unknown => ("unknown", "The state of recovery is not known yet."),
    };
    out.report(
        "recovery",
        json!({ "state": state, "backup": encryption.backups().are_enabled().await }),
        text,
    )
}
