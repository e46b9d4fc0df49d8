//! `fingerprint`: the safety number shared with somebody.

use crate::{
    commands::find_user,
    output::Output,
    safety_number::{in_lines, safety_number},
    session::Session,
};
use anyhow::{Context, Result};
use clap::Args;
use matrix_sdk::ruma::UserId;
use serde_json::json;

/// Arguments of `fingerprint`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// With whom (default: one's own keys are shown)
    pub user: Option<String>,
}

/// Prints the safety number (with somebody) or one's own keys; returns the number.
pub async fn run(session: &Session, arguments: &Arguments, out: &Output) -> Result<Option<String>> {
    session.catch_up(out).await?;
    let (own_key, _) = master_key(session, &session.user).await?;
    let Some(user) = &arguments.user else {
        let device = session.client.encryption().ed25519_key().await;
        let fields = json!({ "user": session.user, "master_key": base64(&own_key), "device_key": device });
        let device = device.unwrap_or_default();
        let text = format!("{}\nidentity  {}\ndevice    {device}", session.user, base64(&own_key));
        out.report("fingerprint", fields, text)?;
        return Ok(None);
    };
    let user = find_user(session, user)?;
    let (key, verified) = master_key(session, &user).await?;
    let number = safety_number((session.user.as_str(), &own_key), (user.as_str(), &key));
    let fields = json!({
        "user": user, "safety_number": number, "master_key": base64(&key), "verified": verified,
    });
    let state = if verified { "verified" } else { "not verified" };
    let text = format!(
        "Safety number of {} and {user} ({state}):\n\n{}\n\nIt is safe if both of you see the same number.",
        session.user,
        in_lines(&number)
    );
    out.report("fingerprint", fields, text)?;
    Ok(Some(number))
}

async fn master_key(session: &Session, user: &UserId) -> Result<(Vec<u8>, bool)> {
    let identity = session
        .client
        .encryption()
        .request_user_identity(user)
        .await?
        .with_context(|| format!("{user} has no cross-signing identity"))?;
    let key = identity.master_key().get_first_key().context("the identity has no key")?;
    Ok((key.as_bytes().to_vec(), identity.is_verified()))
}

fn base64(key: &[u8]) -> String {
    use base64::{Engine, prelude::BASE64_STANDARD_NO_PAD};
    BASE64_STANDARD_NO_PAD.encode(key)
}
