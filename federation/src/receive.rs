//! Taking in events of other servers.
//!
//! The core judges an event by what is here (`rooms::append::receive`). Where it says that something is missing, it is
//! fetched here, from the server that sent the event, and within bounds: first what lies between the event and what this
//! server has (`/get_missing_events`); where that does not close the gap, the state before the event (`/state_ids` and
//! `/event`, or `/state`); auth events by `/event_auth`.

mod edus;
mod missing;
pub mod transaction;

use crate::Federation;
use missing::Source;
use myelin_core::events::{canonical, hashes};
use myelin_core::rooms::append::receive::{Arrival, Received};
use myelin_core::rooms::cache::Room;
use myelin_core::{Error, Result};
use ruma::canonical_json::{CanonicalJsonObject, CanonicalJsonValue};
use ruma::{OwnedEventId, OwnedRoomId, ServerName};
use serde_json::value::RawValue;
use std::sync::Arc;

/// Events of another server, as they came.
pub(crate) fn parse_all(events: &[Box<RawValue>]) -> Vec<CanonicalJsonObject> {
    events.iter().filter_map(|event| canonical::parse(event.get()).ok()).collect()
}

/// The room that an event says it is of. The create event of a room whose id is its hash says none.
pub(crate) fn room_of(event: &CanonicalJsonObject) -> Option<OwnedRoomId> {
    let id = event.get("room_id").and_then(CanonicalJsonValue::as_str)?;
    OwnedRoomId::try_from(id).ok()
}

/// The type of an event.
pub(crate) fn text<'a>(event: &'a CanonicalJsonObject, field: &str) -> Option<&'a str> {
    event.get(field).and_then(CanonicalJsonValue::as_str)
}

impl Federation {
    /// Takes an event in that `from` sent, and fetches from there what it needs.
    pub async fn take_in(
        &self,
        from: &ServerName,
        room: &Arc<Room>,
        event: CanonicalJsonObject,
        forward: bool,
    ) -> Result<Received> {
        let keys = self.keys.for_event(&event, &room.rules).await?;
        let arrival = Arrival { forward, ..Arrival::default() };
        let received = self.server.receive(room, event.clone(), &keys, &arrival).await?;
        let Received::Missing { auth, prev } = received else { return Ok(received) };
        let source = Source { federation: self, from, room };
        let id = event_id(&event, room)?;
        if !auth.is_empty() {
            source.auth_events(&id).await?;
        }
        let mut state = None;
        if !prev.is_empty() {
            source.events_between(&id).await?;
            let received = self.server.receive(room, event.clone(), &keys, &arrival).await?;
            match received {
                Received::Missing { prev, .. } if !prev.is_empty() => {
                    state = Some(source.state_before(&id).await?);
                }
                Received::Missing { .. } => source.auth_events(&id).await?,
                other => return Ok(other),
            }
        }
        self.server.receive(room, event, &keys, &Arrival { state, forward, ..Arrival::default() }).await
    }
}

/// The state before an event, by the word of a server: its events are fetched, and are outliers.
pub(crate) async fn state_before(
    federation: &Federation,
    from: &ServerName,
    room: &Arc<Room>,
    id: &OwnedEventId,
) -> Result<Vec<OwnedEventId>> {
    let source = Source { federation, from, room };
    let state = source.state_before(id).await?;
    source.auth_events(id).await?;
    Ok(state)
}

/// The id of an event.
pub(crate) fn event_id(event: &CanonicalJsonObject, room: &Room) -> Result<OwnedEventId> {
    hashes::event_id(event, &room.rules).map_err(|error| Error::bad_json(error.to_string()))
}
