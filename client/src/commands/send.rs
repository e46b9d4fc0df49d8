//! `send`: a text message, encrypted if the room is.

use crate::{commands::find_room, output::Output, session::Session};
use anyhow::{Context, Result, bail};
use clap::Args;
use matrix_sdk::ruma::{OwnedEventId, events::room::message::RoomMessageEventContent};
use serde_json::json;
use std::io::Read;

/// Arguments of `send`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The room: identifier, alias, name, or a user for the direct chat
    pub room: String,
    /// The text; `-` reads it from standard input
    pub text: String,
}

/// Sends the message.
pub async fn run(session: &Session, arguments: &Arguments, out: &Output) -> Result<OwnedEventId> {
    let text = if arguments.text == "-" {
        tokio::task::spawn_blocking(read_input).await??
    } else {
        arguments.text.clone()
    };
    if text.is_empty() {
        bail!("there is nothing to send");
    }
    session.catch_up(out).await?;
    let room = find_room(session, &arguments.room).await?;
    let progress = out.progress("Encrypting and sending");
    let sent =
        room.send(RoomMessageEventContent::text_plain(text)).await.context("the message was not sent")?;
    drop(progress);
    let encrypted = sent.encryption_info.is_some();
    let event = sent.response.event_id;
    let fields = json!({ "room": room.room_id(), "event": event, "encrypted": encrypted });
    let how = if encrypted { "encrypted" } else { "NOT ENCRYPTED" };
    out.report("sent", fields, format!("Sent ({how}): {event}"))?;
    Ok(event)
}

fn read_input() -> Result<String> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    Ok(text.trim_end().to_owned())
}
