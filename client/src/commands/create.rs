//! `create`: a room, encrypted unless told otherwise.

use crate::{commands::find_user, output::Output, session::Session};
use anyhow::{Context, Result, bail};
use clap::Args;
use matrix_sdk::{
    Room,
    ruma::{
        OwnedRoomId,
        api::client::room::create_room::v3::{Request, RoomPreset},
        events::{InitialStateEvent, room::encryption::RoomEncryptionEventContent},
    },
};
use serde_json::json;

/// Arguments of `create`.
#[derive(Debug, Default, Args)]
pub struct Arguments {
    /// The room's name (the server can read it)
    #[arg(long)]
    pub name: Option<String>,
    /// What the room is about (the server can read it)
    #[arg(long)]
    pub topic: Option<String>,
    /// Invite this user; may be repeated
    #[arg(long, value_name = "USER")]
    pub invite: Vec<String>,
    /// Make a direct chat with this user
    #[arg(long, value_name = "USER", conflicts_with = "invite")]
    pub direct: Option<String>,
    /// Do not encrypt: everything can be read by the servers
    #[arg(long)]
    pub unencrypted: bool,
}

/// Creates the room and prints its identifier.
pub async fn run(session: &Session, arguments: &Arguments, out: &Output) -> Result<OwnedRoomId> {
    session.catch_up(out).await?;
    let mut request = Request::new();
    request.name.clone_from(&arguments.name);
    request.topic.clone_from(&arguments.topic);
    request.preset = Some(RoomPreset::PrivateChat);
    for user in arguments.invite.iter().chain(&arguments.direct) {
        request.invite.push(find_user(session, user)?);
    }
    if arguments.direct.is_some() {
        request.is_direct = true;
        request.preset = Some(RoomPreset::TrustedPrivateChat);
    }
    if !arguments.unencrypted {
        let content = RoomEncryptionEventContent::with_recommended_defaults();
        request.initial_state.push(InitialStateEvent::with_empty_state_key(content).to_raw_any());
    }
    let room = session.client.create_room(request).await.context("the server did not create the room")?;
    confirm_encryption(&room, arguments).await?;
    let id = room.room_id().to_owned();
    out.report(
        "created",
        json!({ "room": id, "encrypted": !arguments.unencrypted }),
        format!("Created {id}"),
    )?;
    Ok(id)
}

/// Nothing may be sent into a room that was meant to be encrypted and is not.
async fn confirm_encryption(room: &Room, arguments: &Arguments) -> Result<()> {
    if !arguments.unencrypted && !room.latest_encryption_state().await?.is_encrypted() {
        bail!("the server created {} without the encryption that was asked for", room.room_id());
    }
    Ok(())
}
