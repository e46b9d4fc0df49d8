//! `join`: a room, or an invitation.

use crate::{
    commands::{find_room, find_user},
    output::Output,
    session::Session,
};
use anyhow::{Context, Result};
use clap::Args;
use matrix_sdk::ruma::{OwnedRoomId, OwnedServerName, RoomOrAliasId};
use serde_json::json;

/// Arguments of `join`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The room: identifier, alias, or the name of an invitation
    pub room: String,
    /// A server that is in the room; may be repeated
    #[arg(long, value_name = "SERVER")]
    pub via: Vec<OwnedServerName>,
}

/// Joins the room.
pub async fn run(session: &Session, arguments: &Arguments, out: &Output) -> Result<OwnedRoomId> {
    session.catch_up(out).await?;
    let known = find_invitation(session, &arguments.room).await;
    let target = match &known {
        Some(id) => RoomOrAliasId::parse(id.as_str())?,
        None => RoomOrAliasId::parse(&arguments.room)
            .with_context(|| format!("{:?} is neither a room nor an invitation", arguments.room))?,
    };
    let room = session
        .client
        .join_room_by_id_or_alias(&target, &arguments.via)
        .await
        .context("the server did not let us join")?;
    let id = room.room_id().to_owned();
    out.report("joined", json!({ "room": id }), format!("Joined {id}"))?;
    Ok(id)
}

/// An invitation by its room's name or by who sent it.
async fn find_invitation(session: &Session, text: &str) -> Option<OwnedRoomId> {
    if text.starts_with(['!', '#']) {
        return None;
    }
    if text.starts_with('@')
        && let Ok(user) = find_user(session, text)
    {
        for room in session.client.invited_rooms() {
            let invitation = room.invite_details().await.ok()?;
            if invitation.inviter_id == user {
                return Some(room.room_id().to_owned());
            }
        }
    }
    Some(find_room(session, text).await.ok()?.room_id().to_owned())
}
