//! Fetching what an event needs from the server that sent it.

use super::{depth, event_id, parse_all, passed_over, previous};
use crate::Federation;
use crate::outbound::request::Patience;
use futures_util::{FutureExt as _, StreamExt as _};
use myelin_core::events::canonical;
use myelin_core::rooms::append::receive::{Arrival, Received};
use myelin_core::rooms::cache::Room;
use myelin_core::{Error, Result};
use myelin_storage::changes::OUTLIER;
use ruma::api::federation::authorization::get_event_authorization;
use ruma::api::federation::event::{get_event, get_missing_events, get_room_state, get_room_state_ids};
use ruma::canonical_json::CanonicalJsonObject;
use ruma::signatures::PublicKeyMap;
use ruma::{OwnedEventId, ServerName, UInt};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Events that are asked for at once to close a gap.
const GAP: u32 = 50;
/// States that are asked for to close a gap.
const STATES: usize = 10;
/// Events of a state that are fetched one by one; where more are missing, the whole state is asked for.
const SINGLY: usize = 50;
/// Single events that are fetched at once.
const TOGETHER: usize = 8;

/// A server that is asked about a room.
pub(super) struct Source<'a> {
    pub(super) federation: &'a Federation,
    pub(super) from: &'a ServerName,
    pub(super) room: &'a Arc<Room>,
}

impl Source<'_> {
    /// Fetches the events by which one is judged.
    pub(super) async fn auth_events(&self, id: &OwnedEventId) -> Result<()> {
        let request = get_event_authorization::v1::Request::new(self.room.id.clone(), id.clone());
        let answer = self.federation.client.send(self.from, request, Patience::EVENTS).await?;
        self.outliers(parse_all(&answer.auth_chain)).await
    }

    /// Fetches events between what is here and one that has come, and takes them in, the oldest first. `missing` are the
    /// events that this one follows and that are not here.
    pub(super) async fn events_between(&self, id: &OwnedEventId, missing: &[OwnedEventId]) -> Result<()> {
        let server = &self.federation.server;
        let earliest = server.extremities(self.room).await?;
        let mut request =
            get_missing_events::v1::Request::new(self.room.id.clone(), earliest, vec![id.clone()]);
        request.limit = UInt::from(GAP);
        let answer = match self.federation.client.send(self.from, request, Patience::SOME).await {
            Ok(answer) => answer,
            Err(error) => {
                tracing::debug!(%error, room = %self.room.id, "missing events were not to be had");
                return Ok(());
            }
        };
        let mut events = self.gap_among(parse_all(&answer.events), missing).await?;
        events.sort_by_key(depth);
        let (keys, _) = self.federation.keys.for_events(&events, &self.room.rules).await?;
        let mut states = STATES;
        for event in events.into_iter().take(GAP as usize) {
            if let Err(error) = self.gap_event(event, &keys, &mut states).await {
                passed_over(error, self.from, "an event of a gap")?;
            }
        }
        Ok(())
    }

    /// Takes in one event of a gap; for those that stand behind the rest of it, so many states may be asked for.
    async fn gap_event(
        &self,
        event: CanonicalJsonObject,
        keys: &PublicKeyMap,
        states: &mut usize,
    ) -> Result<()> {
        let server = &self.federation.server;
        let mut arrival = Arrival::default();
        let mut received = server.receive(self.room, event.clone(), keys, &arrival).await?;
        if let Received::Missing { prev, .. } = &received
            && !prev.is_empty()
            && *states > 0
        {
            *states = states.saturating_sub(prev.len());
            arrival.states = self.states_after(prev).await?;
            received = server.receive(self.room, event.clone(), keys, &arrival).await?;
        }
        if let Received::Missing { prev, .. } = &received
            && (prev.is_empty() || !arrival.states.is_empty())
        {
            self.auth_events(&event_id(&event, self.room)?).await?;
            server.receive(self.room, event, keys, &arrival).await?;
        }
        Ok(())
    }

    /// Those of the events that lie between what is here and these missing ones. A server that does not have our newest
    /// events can't tell where the gap ends, and sends what stands behind it too: that is history, perhaps from before
    /// this server came into the room, and taken in as news it would be shown as such, or not at all.
    async fn gap_among(
        &self,
        events: Vec<CanonicalJsonObject>,
        missing: &[OwnedEventId],
    ) -> Result<Vec<CanonicalJsonObject>> {
        let mut sent = HashMap::with_capacity(events.len());
        for event in events {
            if let Ok(id) = event_id(&event, self.room) {
                sent.insert(id, event);
            }
        }
        let ids: Vec<OwnedEventId> = sent.keys().cloned().collect();
        let standing = self.standing(&ids).await?;
        let mut gap = Vec::new();
        let mut next: Vec<OwnedEventId> = missing.to_vec();
        while let Some(id) = next.pop() {
            if standing.contains(&id) {
                continue;
            }
            if let Some(event) = sent.remove(&id) {
                next.extend(previous(&event));
                gap.push(event);
            }
        }
        Ok(gap)
    }

    /// Those of the events that have a place in the room here.
    async fn standing(&self, ids: &[OwnedEventId]) -> Result<HashSet<OwnedEventId>> {
        let rooms = &self.federation.server.rooms;
        if let Ok(here) = rooms.events_by_ids(ids).await {
            return Ok(here
                .into_iter()
                .filter(|(_, event)| event.flags & OUTLIER == 0)
                .map(|(id, _)| id)
                .collect());
        }
        // Where one can't be read it is here all the same.
        let mut standing = HashSet::new();
        for id in ids {
            let stands = match rooms.event_by_id(id).await {
                Ok(event) => event.is_some_and(|event| event.flags & OUTLIER == 0),
                Err(error) => passed_over(error, self.from, "a damaged event").map(|()| true)?,
            };
            if stands {
                standing.insert(id.clone());
            }
        }
        Ok(standing)
    }

    /// The states after events that are not here.
    async fn states_after(&self, events: &[OwnedEventId]) -> Result<Vec<Vec<OwnedEventId>>> {
        let mut states = Vec::with_capacity(events.len());
        for id in events.iter().take(STATES) {
            let before = self.state_before(id).await?;
            let rooms = &self.federation.server.rooms;
            if rooms.find_event(id).await?.is_none() {
                self.single_events(vec![id.clone()]).await?;
            }
            let missing = || Error::Elsewhere(format!("the event {id} was not to be had"));
            let event = rooms.event_by_id(id).await?.ok_or_else(missing)?;
            if !event.is_state() || event.rejected {
                states.push(before);
                continue;
            }
            let here = rooms.events_by_ids(&before).await?;
            let key = event.state_key.as_deref().unwrap_or_default();
            let is_replaced = |id: &OwnedEventId| here.get(id).is_some_and(|old| old.is(&event.kind, key));
            let mut after: Vec<OwnedEventId> = before.into_iter().filter(|id| !is_replaced(id)).collect();
            after.push(id.clone());
            states.push(after);
        }
        Ok(states)
    }

    /// Fetches the state before an event; gives the ids of its events.
    pub(super) async fn state_before(&self, id: &OwnedEventId) -> Result<Vec<OwnedEventId>> {
        let request = get_room_state_ids::v1::Request::new(id.clone(), self.room.id.clone());
        let answer = self.federation.client.send(self.from, request, Patience::EVENTS).await?;
        let all: HashSet<&OwnedEventId> = answer.pdu_ids.iter().chain(&answer.auth_chain_ids).collect();
        let all: Vec<OwnedEventId> = all.into_iter().cloned().collect();
        let here = self.federation.server.rooms.events_by_ids(&all).await?;
        let missing: Vec<OwnedEventId> = all.into_iter().filter(|id| !here.contains_key(id)).collect();
        match missing.len() {
            0 => {}
            1..=SINGLY => self.single_events(missing).await?,
            _ => self.whole_state(id).await?,
        }
        let here = self.federation.server.rooms.events_by_ids(&answer.pdu_ids).await?;
        // What can't be had or is not rightly signed is left out: the state is judged by what is there.
        Ok(answer.pdu_ids.into_iter().filter(|id| here.contains_key(id)).collect())
    }

    async fn single_events(&self, ids: Vec<OwnedEventId>) -> Result<()> {
        let fetch = |id| {
            let request = get_event::v1::Request::new(id);
            self.federation.client.send(self.from, request, Patience::SOME).boxed()
        };
        let fetches: Vec<_> = ids.into_iter().map(fetch).collect();
        let mut answers = futures_util::stream::iter(fetches).buffer_unordered(TOGETHER);
        let mut events = Vec::new();
        while let Some(answer) = answers.next().await {
            let event = answer.ok().and_then(|answer| canonical::parse(answer.pdu.get()).ok());
            events.extend(event);
        }
        self.outliers(events).await
    }

    async fn whole_state(&self, id: &OwnedEventId) -> Result<()> {
        let request = get_room_state::v1::Request::new(id.clone(), self.room.id.clone());
        let answer = self.federation.client.send(self.from, request, Patience::ROOM).await?;
        let mut events = parse_all(&answer.auth_chain);
        events.extend(parse_all(&answer.pdus));
        self.outliers(events).await
    }

    async fn outliers(&self, events: Vec<CanonicalJsonObject>) -> Result<()> {
        self.federation.take_outliers(self.room, events).await
    }
}

impl Federation {
    /// Takes events in that others are judged by. Those without a valid signature are left out.
    pub(crate) async fn take_outliers(
        &self,
        room: &Arc<Room>,
        events: Vec<CanonicalJsonObject>,
    ) -> Result<()> {
        let (keys, good) = self.keys.for_events(&events, &room.rules).await?;
        let events: Vec<_> = events
            .into_iter()
            .enumerate()
            .filter(|(index, _)| good.contains(index))
            .map(|(_, e)| e)
            .collect();
        if events.is_empty() {
            return Ok(());
        }
        for received in self.server.receive_outliers(room, events, &keys).await? {
            if let Received::Refused(reason) = received {
                tracing::debug!(room = %room.id, %reason, "an event was left out");
            }
        }
        Ok(())
    }
}
