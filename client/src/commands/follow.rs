//! `follow`: messages as they arrive.

use crate::{commands::find_room, messages::Message, output::Output, session::Session};
use anyhow::{Context, Result};
use clap::Args;
use futures_util::{StreamExt, pin_mut};
use matrix_sdk::{ruma::RoomId, sync::SyncResponse};
use std::time::Duration;

/// Arguments of `follow`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Only this room: identifier, alias, name, or a user for the direct chat
    pub room: Option<String>,
    /// End after so many messages
    #[arg(long)]
    pub count: Option<usize>,
    /// End after so many seconds
    #[arg(long, value_name = "SECONDS")]
    pub timeout: Option<u64>,
}

/// Prints messages until interrupted, or until `--count` or `--timeout` ends it.
pub async fn run(session: &Session, arguments: &Arguments, out: &Output) -> Result<()> {
    session.catch_up(out).await?;
    let only = match &arguments.room {
        Some(room) => Some(find_room(session, room).await?.room_id().to_owned()),
        None => None,
    };
    out.say("Waiting for messages (Ctrl-C ends)")?;
    let mut left = arguments.count.unwrap_or(usize::MAX);
    let follow = async {
        let syncs =
            session.client.sync_stream(Session::sync_settings().timeout(Duration::from_secs(30))).await;
        pin_mut!(syncs);
        while left > 0 {
            let sync = syncs.next().await.context("the sync ended")?.context("the sync failed")?;
            left -= print(session, &sync, only.as_deref(), left, out).await?;
        }
        Ok(())
    };
    let limit = arguments.timeout.map_or(Duration::MAX, Duration::from_secs);
    tokio::select! {
        result = follow => result,
        () = tokio::time::sleep(limit) => Ok(()),
        interrupted = tokio::signal::ctrl_c() => Ok(interrupted?),
    }
}

/// Prints at most `limit` messages of a sync and says how many it were.
async fn print(
    session: &Session,
    sync: &SyncResponse,
    only: Option<&RoomId>,
    limit: usize,
    out: &Output,
) -> Result<usize> {
    let mut printed = 0;
    for (id, update) in &sync.rooms.joined {
        let Some(room) = session.client.get_room(id).filter(|_| only.is_none_or(|only| only == *id)) else {
            continue;
        };
        let name = match only {
            Some(_) => None,
            None => Some(room.display_name().await?.to_string()),
        };
        for message in update.timeline.events.iter().filter_map(Message::from_event) {
            if printed == limit {
                return Ok(printed);
            }
            message.report(&room, name.as_deref(), out)?;
            printed += 1;
        }
    }
    Ok(printed)
}
