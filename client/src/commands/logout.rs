//! `logout`: the server forgets the device, this machine forgets its keys.

use crate::{output::Output, session::Session};
use anyhow::{Result, bail};
use clap::Args;
use matrix_sdk::encryption::recovery::RecoveryState;
use serde_json::json;

/// Arguments of `logout`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Log out even if this loses the only keys to one's history
    #[arg(long)]
    pub force: bool,
}

/// Logs out, unless that would lose the history.
pub async fn run(session: Session, arguments: &Arguments, out: &Output) -> Result<()> {
    if !arguments.force {
        session.catch_up(out).await?;
        let recovery = session.client.encryption().recovery();
        if recovery.state() != RecoveryState::Enabled && recovery.is_last_device().await? {
            bail!(
                "this is your last device and there is no recovery key: your messages would be lost. \
                 Run `recovery enable` first, or `logout --force`"
            );
        }
        session.finish(out).await?;
    }
    let user = session.user.clone();
    session.logout().await?;
    out.report(
        "logout",
        json!({ "user": user }),
        format!("{user} is logged out, and the keys here are removed."),
    )
}
