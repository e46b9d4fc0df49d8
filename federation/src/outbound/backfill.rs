//! History of rooms that other servers have and this one has not.

use super::request::Patience;
use crate::Federation;
use crate::receive::{depth, event_id, parse_all, state_before};
use myelin_core::Result;
use myelin_core::rooms::append::receive::{Arrival, Received};
use myelin_core::rooms::cache::Room;
use ruma::api::federation::backfill::get_backfill;
use ruma::{OwnedEventId, OwnedServerName, UInt};
use std::sync::Arc;

/// Events that are asked for at most.
const MOST: usize = 100;
/// Servers that are tried.
const SERVERS: usize = 3;

impl Federation {
    pub(crate) async fn fetch_history(
        &self,
        room: &Arc<Room>,
        before: &[OwnedEventId],
        limit: usize,
    ) -> Result<usize> {
        for server in self.servers_to_ask(room, SERVERS).await? {
            let limit = UInt::try_from(limit.min(MOST)).unwrap_or_default();
            let request = get_backfill::v1::Request::new(room.id.clone(), before.to_vec(), limit);
            match self.client.send(&server, request, Patience::SOME).await {
                Ok(answer) if !answer.pdus.is_empty() => {
                    return self.take_history(&server, room, before, parse_all(&answer.pdus)).await;
                }
                Ok(_) => {}
                Err(error) => tracing::debug!(%error, room = %room.id, "no history"),
            }
        }
        Ok(0)
    }

    /// Other servers of a room that are not known to be away.
    pub(super) async fn servers_to_ask(&self, room: &Room, most: usize) -> Result<Vec<OwnedServerName>> {
        let servers = self.server.servers_in(room).await?;
        let others =
            servers.iter().filter(|name| *name != self.server.name() && !self.client.is_left_alone(name));
        Ok(others.take(most).cloned().collect())
    }

    /// Puts events into the history: the newest first, each before the one that follows it.
    async fn take_history(
        &self,
        from: &OwnedServerName,
        room: &Arc<Room>,
        before: &[OwnedEventId],
        mut events: Vec<ruma::canonical_json::CanonicalJsonObject>,
    ) -> Result<usize> {
        let Some(anchor) = before.first().cloned() else { return Ok(0) };
        // The oldest come first, so that those which follow them have them; the state before the first is asked for.
        events.sort_by_key(depth);
        events.truncate(MOST);
        let (keys, _) = self.keys.for_events(&events, &room.rules).await?;
        let mut new = 0;
        let arrival = Arrival { history_before: Some(anchor), ..Arrival::default() };
        for event in events {
            let mut received = self.server.receive(room, event.clone(), &keys, &arrival).await?;
            if let Received::Missing { .. } = received {
                let id = event_id(&event, room)?;
                let Ok(state) = state_before(self, from, room, &id).await else { continue };
                let arrival = Arrival { states: vec![state], ..arrival.clone() };
                received = self.server.receive(room, event, &keys, &arrival).await?;
            }
            if matches!(received, Received::Accepted(_)) {
                new += 1;
            }
        }
        Ok(new)
    }
}
