//! `leave`: a room; or declines an invitation.

use crate::{commands::find_room, output::Output, session::Session};
use anyhow::{Context, Result};
use clap::Args;
use serde_json::json;

/// Arguments of `leave`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The room: identifier, alias or name
    pub room: String,
}

/// Leaves the room.
pub async fn run(session: &Session, arguments: &Arguments, out: &Output) -> Result<()> {
    session.catch_up(out).await?;
    let room = find_room(session, &arguments.room).await?;
    room.leave().await.context("the server did not let us leave")?;
    out.report("left", json!({ "room": room.room_id() }), format!("Left {}", room.room_id()))
}
