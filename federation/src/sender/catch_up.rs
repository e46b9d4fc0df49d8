//! A server that has missed events: its rooms in which something happened since, the newest first, each with this
//! server's newest events, and those of them that nothing follows yet. It asks for what lies between.

use super::Inner;
use super::destination::{Destination, PDUS, transaction};
use super::dispatcher::{audience, is_ours};
use crate::outbound::request::{Patience, RequestError};
use myelin_core::Result;
use myelin_storage::federation::{destinations, rooms};
use myelin_storage::rooms::events::{self, Order};
use ruma::api::federation::discovery::get_server_version;
use std::collections::HashMap;
use std::sync::Arc;

/// Events of one room that are sent.
const OF_ROOM: i64 = 20;

/// Sends what a server missed, when it is there again. When this returns without an error it has everything up to where
/// the dispatcher was.
pub(super) async fn run(inner: &Arc<Inner>, destination: &Arc<Destination>) -> Result<()> {
    if inner.client.backoff.has_failed(&destination.name) {
        // What it missed may be much to look up, and it may be dead still.
        let probe = get_server_version::v1::Request::new();
        let answer = inner.client.send(&destination.name, probe, Patience::PROBE).await;
        if let Err(error @ (RequestError::Unreachable { .. } | RequestError::LeftAlone(_))) = answer {
            return Err(error.into());
        }
    }
    loop {
        let (since, upto) = {
            let Some(since) = destination.state.lock().behind else { return Ok(()) };
            // No event that the dispatcher has put into a queue so far stands behind this.
            (since, inner.server.log.visible())
        };
        let pks = missed(inner, destination, since, upto).await?;
        for part in pks.chunks(PDUS) {
            transaction(inner, destination, part, Vec::new()).await?;
        }
        let done = destination.state.lock().caught_up(upto);
        if done {
            return note(inner, destination).await;
        }
    }
}

/// The events to send, in the order of their rooms.
async fn missed(inner: &Inner, destination: &Destination, since: i64, upto: i64) -> Result<Vec<i64>> {
    let mut connection = inner.server.database.read().await?;
    let shared: HashMap<i64, i64> =
        rooms::of_server(&mut connection, destination.name.as_str(), since).await?.into_iter().collect();
    let room_pks: Vec<i64> = shared.keys().copied().collect();
    let mut moved = events::rooms_after(&mut connection, &room_pks, since).await?;
    moved.sort_by_key(|(_, newest)| std::cmp::Reverse(*newest));
    let mut newest_of = Vec::with_capacity(moved.len());
    for (room_pk, _) in moved {
        // Of a room that its last user left, the newest is that.
        let upto = shared.get(&room_pk).map_or(upto, |last| upto.min(*last));
        let newest =
            events::between(&mut connection, room_pk, since, upto, Order::NewestFirst, OF_ROOM).await?;
        newest_of.push((room_pk, upto, newest.iter().rev().map(|(_, pk)| *pk).collect::<Vec<i64>>()));
    }
    drop(connection);
    let mut found = Vec::new();
    for (room_pk, upto, pks) in newest_of {
        let room = inner.server.rooms.by_pk(room_pk).await?;
        let mut stored = inner.server.rooms.events(&pks).await?;
        // While servers were apart, others may have said so much that none of ours is among the newest. Those of them
        // that something follows are found through what does.
        for id in inner.server.extremities(&room).await? {
            let end = inner.server.rooms.event_by_id(&id).await?;
            stored.extend(end.filter(|end| end.pos > since && end.pos <= upto && !pks.contains(&end.pk)));
        }
        stored.sort_by_key(|event| event.pos);
        for event in stored.iter().filter(|event| is_ours(inner, event)) {
            // It may have come into the room, or left it, since.
            if audience(inner, event).await?.contains(&destination.name) {
                found.push(event.pk);
            }
        }
    }
    Ok(found)
}

/// Writes down what a server has, or that it has everything.
pub(super) async fn note(inner: &Inner, destination: &Destination) -> Result<()> {
    let (behind, noted) = {
        let state = destination.state.lock();
        (state.behind, state.noted)
    };
    if behind == noted {
        return Ok(());
    }
    let name = destination.name.to_string();
    inner
        .server
        .commit
        .run(move |tx| {
            Box::pin(async move {
                match behind {
                    Some(since) => destinations::put_backlog(tx, &name, since).await?,
                    None => destinations::caught_up(tx, &name).await?,
                }
                Ok(())
            })
        })
        .await?;
    destination.state.lock().noted = behind;
    Ok(())
}
