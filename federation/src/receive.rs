//! Taking in events of other servers.
//!
//! The core judges an event by what is here (`rooms::append::receive`). Where it says that something is missing, it is
//! fetched here, from the server that sent the event, and within bounds: first what lies between the event and what this
//! server has (`/get_missing_events`); where the oldest of that follow events that are not here, the states after these
//! (`/state_ids` and `/event`, or `/state`); auth events by `/event_auth`.

pub(crate) mod device_lists;
mod edus;
mod missing;
pub mod transaction;

use crate::Federation;
use missing::Source;
use myelin_core::events::{canonical, hashes};
use myelin_core::rooms::append::receive::{Arrival, Received, ToldBy};
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

/// How deep an event says it stands.
pub(crate) fn depth(event: &CanonicalJsonObject) -> i64 {
    match event.get("depth") {
        Some(CanonicalJsonValue::Integer(depth)) => i64::from(*depth),
        _ => 0,
    }
}

/// Whether it was this server that failed, so that the other one is to try again. What the database can't store ever is
/// the other's fault; and where what is here is damaged, all else that the other one has to say must not wait for it.
pub(crate) fn failed_here(error: &Error) -> bool {
    match error {
        Error::Storage(error) => !error.is_unstorable() && !error.is_damage(),
        Error::Unavailable(_) => true,
        _ => false,
    }
}

/// What another server tells is not taken in: logs why, or gives the error back where this server failed and has to be
/// told again. Damage is worth an operator's attention.
///
/// # Errors
/// That one, where [`failed_here`].
pub(crate) fn passed_over(error: Error, from: &ServerName, what: &str) -> Result<()> {
    match &error {
        _ if failed_here(&error) => return Err(error),
        Error::Storage(inner) if inner.is_damage() => tracing::error!(%error, %from, "{what} is passed over"),
        Error::Internal(_) => tracing::error!(%error, %from, "{what} is passed over"),
        _ => tracing::debug!(%error, %from, "{what} is passed over"),
    }
    Ok(())
}

/// The events that an event follows.
pub(crate) fn previous(event: &CanonicalJsonObject) -> impl Iterator<Item = OwnedEventId> {
    let all = event.get("prev_events").and_then(CanonicalJsonValue::as_array);
    all.into_iter().flatten().filter_map(|id| OwnedEventId::try_from(id.as_str()?).ok())
}

/// The type of an event.
pub(crate) fn text<'a>(event: &'a CanonicalJsonObject, field: &str) -> Option<&'a str> {
    event.get(field).and_then(CanonicalJsonValue::as_str)
}

impl Federation {
    /// Takes an event in that `from` sent, and fetches from there what it needs. Who pushes an event has those that it
    /// follows: where they are not to be had, it is refused, for the room would have to take that server's word for its
    /// whole state.
    pub async fn take_in(
        &self,
        from: &ServerName,
        room: &Arc<Room>,
        mut event: CanonicalJsonObject,
        told_by: ToldBy,
    ) -> Result<Received> {
        self.ask_for_recommendation(from, room, &mut event).await?;
        let keys = self.keys.for_event(&event, &room.rules).await?;
        let arrival = Arrival { told_by, ..Arrival::default() };
        let mut received = self.server.receive(room, event.clone(), &keys, &arrival).await?;
        let Received::Missing { prev, .. } = &received else { return Ok(received) };
        let source = Source { federation: self, from, room };
        let id = event_id(&event, room)?;
        if !prev.is_empty() {
            source.events_between(&id, prev).await?;
            received = self.server.receive(room, event.clone(), &keys, &arrival).await?;
        }
        match received {
            Received::Missing { prev, .. } if prev.is_empty() => {
                source.auth_events(&id).await?;
                self.server.receive(room, event, &keys, &arrival).await
            }
            received => Ok(received),
        }
    }

    /// An event that is new should bear the signature of the room's policy server; without, the core soft-fails it.
    async fn ask_for_recommendation(
        &self,
        from: &ServerName,
        room: &Arc<Room>,
        event: &mut CanonicalJsonObject,
    ) -> Result<()> {
        let root = self.server.current_root(room).await?;
        if self.server.policy_server(room, root).await?.is_none()
            || self.server.rooms.find_event(&event_id(event, room)?).await?.is_some()
        {
            return Ok(());
        }
        match self.server.recommend(room, event).await {
            Ok(_) => Ok(()),
            Err(error) => passed_over(error, from, "a recommendation of the room's policy server"),
        }
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
