//! Events and states of rooms.

use super::{pdus, raw, stored_pdus};
use crate::Federation;
use myelin_core::rooms::cache::Stored;
use myelin_core::rooms::timestamp_to_event::Moment;
use myelin_core::{Error, Result};
use ruma::api::Direction;
use ruma::api::federation::event::{
    get_event, get_event_by_timestamp, get_missing_events, get_room_state, get_room_state_ids,
};
use ruma::{EventId, MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedServerName, RoomId, ServerName, UInt};
use std::sync::Arc;

/// Events between two ends that are given at once.
const MOST_MISSING: u64 = 50;

/// `GET /event/{eventId}`
pub async fn event(
    federation: Arc<Federation>,
    origin: OwnedServerName,
    request: get_event::v1::Request,
) -> Result<get_event::v1::Response> {
    let server = &federation.server;
    let not_found = || Error::not_found("that event is not known here");
    let event = server.rooms.event_by_id(&request.event_id).await?.ok_or_else(not_found)?;
    let room = server.rooms.by_pk(event.room_pk).await?;
    let room = server.shared_room(&room.id, &origin).await?;
    let json = event.pdu.json();
    // Auth events and states are given to whoever is in the room; what was said, to whom it was said.
    if !event.is_state() && server.visible_to(&room, vec![event], &origin).await?.is_empty() {
        return Err(Error::forbidden("your server may not see that event"));
    }
    let now = UInt::try_from(server.now_ms()).unwrap_or_default();
    Ok(get_event::v1::Response::new(server.owned_name(), MilliSecondsSinceUnixEpoch(now), raw(json)?))
}

/// `GET /timestamp_to_event/{roomId}`
pub async fn timestamp_to_event(
    federation: Arc<Federation>,
    origin: OwnedServerName,
    request: get_event_by_timestamp::v1::Request,
) -> Result<get_event_by_timestamp::v1::Response> {
    let server = &federation.server;
    let room = server.shared_room(&request.room_id, &origin).await?;
    let moment = Moment { ts: request.ts.0.into(), backwards: request.dir == Direction::Backward };
    let found = server.timestamp_to_event_for(&room, &origin, moment).await?;
    let ts = MilliSecondsSinceUnixEpoch(UInt::try_from(found.ts).unwrap_or_default());
    Ok(get_event_by_timestamp::v1::Response::new(found.event_id, ts))
}

/// `GET /state/{roomId}`
pub async fn state(
    federation: Arc<Federation>,
    origin: OwnedServerName,
    request: get_room_state::v1::Request,
) -> Result<get_room_state::v1::Response> {
    let (state, chain) = state_and_chain(&federation, &origin, &request.room_id, &request.event_id).await?;
    Ok(get_room_state::v1::Response::new(stored_pdus(&chain)?, stored_pdus(&state)?))
}

/// `GET /state_ids/{roomId}`
pub async fn state_ids(
    federation: Arc<Federation>,
    origin: OwnedServerName,
    request: get_room_state_ids::v1::Request,
) -> Result<get_room_state_ids::v1::Response> {
    let (state, chain) = state_and_chain(&federation, &origin, &request.room_id, &request.event_id).await?;
    Ok(get_room_state_ids::v1::Response::new(ids(&chain), ids(&state)))
}

async fn state_and_chain(
    federation: &Federation,
    origin: &ServerName,
    room_id: &RoomId,
    event_id: &EventId,
) -> Result<(Vec<Stored>, Vec<Stored>)> {
    let server = &federation.server;
    let room = server.shared_room(room_id, origin).await?;
    let event = server.event_in(&room, event_id).await?;
    let state = server.events_of_state(&room, event.state_root).await?;
    let chain = server.auth_chain(&room, &state).await?;
    Ok((state, chain))
}

fn ids(events: &[Stored]) -> Vec<OwnedEventId> {
    events.iter().map(|event| event.event_id.clone()).collect()
}

/// `POST /get_missing_events/{roomId}`
pub async fn missing_events(
    federation: Arc<Federation>,
    origin: OwnedServerName,
    request: get_missing_events::v1::Request,
) -> Result<get_missing_events::v1::Response> {
    let server = &federation.server;
    let room = server.shared_room(&request.room_id, &origin).await?;
    let limit = usize::try_from(u64::from(request.limit).min(MOST_MISSING)).unwrap_or_default();
    let (earliest, latest) = (bounded(request.earliest_events), bounded(request.latest_events));
    let depth = i64::from(request.min_depth);
    let events = server.events_between(&room, &earliest, &latest, depth, limit, &origin).await?;
    Ok(get_missing_events::v1::Response::new(pdus(&events)?))
}

fn bounded(mut ids: Vec<OwnedEventId>) -> Vec<OwnedEventId> {
    ids.truncate(100);
    ids
}
