//! The events that a received one names: those that it is judged by, and those that it follows.

use super::{Arrival, Received};
use crate::error::Result;
use crate::events::pdu::Pdu;
use crate::rooms::cache::{Room, Snapshot, Stored};
use crate::rooms::version;
use crate::server::Server;
use myelin_storage::changes::OUTLIER;
use ruma::OwnedEventId;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

/// What is known about the surroundings of an event.
pub(super) struct Near {
    /// The auth events, and the create event in every version.
    pub(super) auth: HashMap<OwnedEventId, Arc<Pdu>>,
    /// The previous events that are here.
    pub(super) prevs: Vec<Stored>,
    /// Those that are not.
    pub(super) missing: Vec<OwnedEventId>,
    /// The states that came with the event.
    pub(super) given: Vec<Vec<Arc<Pdu>>>,
}

/// The events that say whether an event is allowed; in version 12 the room's id names the create event.
pub(super) fn auth_ids(room: &Room, pdu: &Pdu) -> BTreeSet<OwnedEventId> {
    let mut ids: BTreeSet<OwnedEventId> = pdu.auth_events.iter().cloned().collect();
    if version::room_id_is_hash(&room.rules) && &*pdu.kind != "m.room.create" {
        ids.extend(version::create_of_room_id(&room.id).ok());
    }
    ids
}

impl Near {
    /// Looks around. `Err` is the answer where something is missing or does not belong together.
    pub(super) async fn look(
        server: &Server,
        room: &Room,
        pdu: &Pdu,
        arrival: &Arrival,
    ) -> Result<Result<Near, Received>> {
        let auth_ids = auth_ids(room, pdu);
        let prev_ids: BTreeSet<OwnedEventId> = pdu.prev_events.iter().cloned().collect();
        let state_ids = || arrival.states.iter().flatten();
        let all: BTreeSet<OwnedEventId> =
            auth_ids.iter().chain(&prev_ids).chain(state_ids()).cloned().collect();
        let all: Vec<OwnedEventId> = all.into_iter().collect();
        let found = server.rooms.events_by_ids(&all).await?;
        let in_graph = |id: &OwnedEventId| found.get(id).filter(|event| event.flags & OUTLIER == 0);
        let prevs: Vec<Stored> = prev_ids.iter().filter_map(|id| in_graph(id).cloned()).collect();
        let missing: Vec<OwnedEventId> =
            prev_ids.iter().filter(|id| in_graph(id).is_none()).cloned().collect();
        if prevs.iter().any(|prev| prev.room_pk != room.pk) {
            return Ok(Err(Received::Refused("the event follows one of another room".to_owned())));
        }
        let unknown: BTreeSet<&OwnedEventId> =
            auth_ids.iter().chain(state_ids()).filter(|id| !found.contains_key(*id)).collect();
        if !unknown.is_empty() || (!missing.is_empty() && arrival.states.is_empty()) {
            let auth = unknown.into_iter().cloned().collect();
            return Ok(Err(Received::Missing { auth, prev: missing }));
        }
        if state_ids()
            .filter_map(|id| found.get(id))
            .any(|event| event.room_pk != room.pk || !event.is_state())
        {
            let text = "the state that came with the event is none of this room".to_owned();
            return Ok(Err(Received::Refused(text)));
        }
        let given = |state: &Vec<OwnedEventId>| {
            let events = state.iter().filter_map(|id| found.get(id));
            events.filter(|event| !event.rejected).map(|event| event.pdu.clone()).collect()
        };
        let given = match missing.is_empty() {
            true => Vec::new(),
            false => arrival.states.iter().map(given).collect(),
        };
        let auth = auth_ids.into_iter().filter_map(|id| Some((id.clone(), found.get(&id)?.pdu.clone())));
        Ok(Ok(Near { auth: auth.collect(), prevs, missing, given }))
    }

    /// The previous events are all here, and are the room's extremities.
    pub(super) fn is_all_of(&self, snapshot: &Snapshot) -> bool {
        let ends: HashSet<i64> = snapshot.extremities.iter().map(|(pk, _)| *pk).collect();
        let prevs: HashSet<i64> = self.prevs.iter().map(|prev| prev.pk).collect();
        self.missing.is_empty() && ends == prevs
    }
}
