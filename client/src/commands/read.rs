//! `read`: the last messages of a room.

use crate::{commands::find_room, messages, output::Output, session::Session};
use anyhow::Result;
use clap::Args;

/// Arguments of `read`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The room: identifier, alias, name, or a user for the direct chat
    pub room: String,
    /// How many messages
    #[arg(long, short = 'n', default_value_t = 50)]
    pub limit: usize,
}

/// Prints the messages, oldest first.
pub async fn run(session: &Session, arguments: &Arguments, out: &Output) -> Result<()> {
    session.catch_up(out).await?;
    let room = find_room(session, &arguments.room).await?;
    let progress = out.progress("Fetching and decrypting");
    let messages = messages::last(&room, arguments.limit).await?;
    drop(progress);
    if messages.is_empty() {
        out.say("No messages yet.")?;
    }
    for message in messages {
        message.report(&room, None, out)?;
    }
    Ok(())
}
