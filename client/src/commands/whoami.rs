//! `whoami`: the account, the device and the state of its encryption.

use crate::{output::Output, session::Session};
use anyhow::{Context, Result};
use matrix_sdk::encryption::recovery::RecoveryState;
use serde_json::json;

/// Prints who is logged in, after asking the server.
pub async fn run(session: &Session, out: &Output) -> Result<()> {
    session.catch_up(out).await?;
    let client = &session.client;
    let encryption = client.encryption();
    let told = client.whoami().await.context("the server does not know this session")?;
    let device = client.device_id().context("no device")?;
    let verified = encryption.get_own_device().await?.is_some_and(|device| device.is_cross_signed_by_owner());
    let recovery = match encryption.recovery().state() {
        RecoveryState::Enabled => "enabled",
        RecoveryState::Disabled => "disabled",
        RecoveryState::Incomplete => "incomplete",
        RecoveryState::Unknown => "unknown",
    };
    let backup = encryption.backups().are_enabled().await;
    let fields = json!({
        "user": told.user_id, "device": device, "server": client.homeserver().as_str(),
        "verified": verified, "recovery": recovery, "backup": backup,
    });
    let text = format!(
        "{} on {}\ndevice    {device} ({})\nrecovery  {recovery}\nbackup    {}",
        told.user_id,
        client.homeserver(),
        if verified { "verified" } else { "not verified" },
        if backup { "on" } else { "off" },
    );
    out.report("whoami", fields, text)
}
