//! `invite`: somebody into a room.

use crate::{
    commands::{find_room, find_user},
    output::Output,
    session::Session,
};
use anyhow::{Context, Result};
use clap::Args;
use serde_json::json;

/// Arguments of `invite`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The room: identifier, alias or name
    pub room: String,
    /// Whom to invite
    pub user: String,
}

/// Invites the user.
pub async fn run(session: &Session, arguments: &Arguments, out: &Output) -> Result<()> {
    session.catch_up(out).await?;
    let room = find_room(session, &arguments.room).await?;
    let user = find_user(session, &arguments.user)?;
    room.invite_user_by_id(&user).await.context("the server did not invite")?;
    let fields = json!({ "room": room.room_id(), "user": user });
    out.report("invited", fields, format!("{user} is invited to {}", room.room_id()))
}
