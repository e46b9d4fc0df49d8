//! `rooms`: the rooms one is in, and the invitations.

use crate::{output::Output, session::Session};
use anyhow::Result;
use matrix_sdk::{Room, RoomState};
use serde_json::json;

/// Prints the rooms.
pub async fn run(session: &Session, out: &Output) -> Result<()> {
    session.catch_up(out).await?;
    let mut rooms = session.client.joined_rooms();
    rooms.extend(session.client.invited_rooms());
    if rooms.is_empty() {
        out.say("No rooms yet: `create` makes one.")?;
    }
    for room in rooms {
        report(&room, out).await?;
    }
    Ok(())
}

async fn report(room: &Room, out: &Output) -> Result<()> {
    let name = room.display_name().await?.to_string();
    let encrypted = room.latest_encryption_state().await.is_ok_and(|state| state.is_encrypted());
    let is_direct = room.compute_is_dm().await.unwrap_or(false);
    let is_invitation = room.state() == RoomState::Invited;
    let members = room.joined_members_count();
    let mut notes = vec![format!("{members} members")];
    if is_invitation {
        notes = vec!["invitation: `join` or `leave`".to_owned()];
    }
    if is_direct {
        notes.push("direct".to_owned());
    }
    if !encrypted && !is_invitation {
        notes.push("NOT ENCRYPTED".to_owned());
    }
    let fields = json!({
        "room": room.room_id(), "name": name, "encrypted": encrypted, "direct": is_direct,
        "membership": if is_invitation { "invite" } else { "join" }, "members": members,
    });
    out.report("room", fields, format!("{}  {name}  ({})", room.room_id(), notes.join(", ")))
}
