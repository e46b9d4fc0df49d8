//! `devices`: somebody's devices, and which of them their owner has signed.

use crate::{commands::find_user, output::Output, session::Session};
use anyhow::Result;
use clap::Args;
use serde_json::json;
use std::collections::HashMap;

/// Arguments of `devices`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Whose devices (default: one's own)
    pub user: Option<String>,
}

/// Prints the devices.
pub async fn run(session: &Session, arguments: &Arguments, out: &Output) -> Result<()> {
    session.catch_up(out).await?;
    let user = match &arguments.user {
        Some(user) => find_user(session, user)?,
        None => session.user.clone(),
    };
    let encryption = session.client.encryption();
    // Asks the server, so that people one shares no room with can be looked at too.
    encryption.request_user_identity(&user).await?;
    let mut names = HashMap::new();
    if user == session.user {
        for device in session.client.devices().await?.devices {
            names.insert(device.device_id, device.display_name);
        }
    }
    let known = encryption.get_user_devices(&user).await?;
    for device in known.devices() {
        let id = device.device_id().to_owned();
        let name = names.remove(&id).flatten().or_else(|| device.display_name().map(ToOwned::to_owned));
        let (signed, trusted) = (device.is_cross_signed_by_owner(), device.is_verified());
        let is_this = session.client.device_id() == Some(&id);
        let key = device.ed25519_key().map(|key| key.to_base64());
        let fields = json!({
            "user": user, "device": id, "name": name, "signed_by_owner": signed, "verified": trusted,
            "this_device": is_this, "ed25519": key,
        });
        let state = match (signed, trusted) {
            (_, true) => "verified",
            (true, false) => "signed by its owner, who is not verified",
            (false, false) => "NOT VERIFIED",
        };
        let text = format!(
            "{id}  {}  {state}{}\n    ed25519 {}",
            name.unwrap_or_default(),
            if is_this { "  (this device)" } else { "" },
            key.unwrap_or_default(),
        );
        out.report("device", fields, text)?;
    }
    for (id, name) in names {
        let fields = json!({
            "user": user, "device": id, "name": name, "signed_by_owner": false, "verified": false,
            "this_device": false, "ed25519": null,
        });
        out.report("device", fields, format!("{id}  {}  without encryption", name.unwrap_or_default()))?;
    }
    Ok(())
}
