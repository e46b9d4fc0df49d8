//! A room's graph of events as other servers ask for it: states, auth chains, what came before.

use crate::error::{Error, Result};
use crate::events::pdu::Pdu;
use crate::events::redaction;
use crate::rooms::cache::{Room, Stored};
use crate::rooms::state::NodeId;
use crate::rooms::version;
use crate::rooms::visibility::{Membership, Visibility};
use crate::server::Server;
use myelin_storage::changes::{OUTLIER, REJECTED};
use ruma::{EventId, OwnedEventId, ServerName};
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::sync::Arc;

/// Auth events that are walked over for one answer: a chain that is longer is none that a room can have.
const LONGEST_CHAIN: usize = 200_000;

impl Server {
    /// An event of a room that has a place in its graph.
    ///
    /// # Errors
    /// M_NOT_FOUND for one that is not here, or is only known by name.
    pub async fn event_in(&self, room: &Room, event_id: &EventId) -> Result<Stored> {
        let event = self.rooms.event_by_id(event_id).await?;
        event
            .filter(|event| event.room_pk == room.pk && event.flags & OUTLIER == 0)
            .ok_or_else(|| Error::not_found("that event is not known here"))
    }

    /// The events of a state.
    pub async fn events_of_state(&self, room: &Room, root: NodeId) -> Result<Vec<Stored>> {
        let pks: Vec<i64> = self.full_state(room, root).await?.into_iter().map(|(_, _, pk)| pk).collect();
        self.rooms.events(&pks).await
    }

    /// The events by which these are judged, and those by which those are, and so on; without these themselves, unless
    /// they are among them.
    pub async fn auth_chain(&self, room: &Room, events: &[Stored]) -> Result<Vec<Stored>> {
        let create = version::room_id_is_hash(&room.rules)
            .then(|| version::create_of_room_id(&room.id).ok())
            .flatten();
        let mut seen: HashSet<OwnedEventId> = HashSet::new();
        let mut chain: Vec<Stored> = Vec::new();
        let mut next: Vec<OwnedEventId> = create.into_iter().filter(|id| seen.insert(id.clone())).collect();
        let fresh = |event: &Stored, seen: &mut HashSet<OwnedEventId>| -> Vec<OwnedEventId> {
            event.auth_events.iter().filter(|id| seen.insert((*id).clone())).cloned().collect()
        };
        for event in events {
            next.extend(fresh(event, &mut seen));
        }
        let mut known: HashMap<&EventId, &Stored> = HashMap::new();
        for event in events {
            known.insert(&event.event_id, event);
        }
        while !next.is_empty() {
            let mut level = Vec::with_capacity(next.len());
            let mut unknown = Vec::new();
            for id in next.drain(..) {
                match known.get(&*id) {
                    Some(event) => level.push((*event).clone()),
                    None => unknown.push(id),
                }
            }
            level.extend(self.rooms.events_by_ids(&unknown).await?.into_values());
            for event in &level {
                next.extend(fresh(event, &mut seen));
            }
            chain.extend(level);
            if chain.len() > LONGEST_CHAIN {
                return Err(Error::internal("an auth chain has no end"));
            }
        }
        Ok(chain)
    }

    /// Events that came before others, the newest first, these among them: for a server that pages back. What that
    /// server may not see is redacted.
    pub async fn events_before(
        &self,
        room: &Room,
        from: &[OwnedEventId],
        limit: usize,
        asker: &ServerName,
    ) -> Result<Vec<Arc<Pdu>>> {
        let stop = HashSet::new();
        let found = self.walk_back(room, from.to_vec(), &stop, 0, limit).await?;
        self.shown_to(room, found, asker).await
    }

    /// Events between two ends of the graph, the oldest first: `latest` have been heard of, `earliest` and what came
    /// before them are known already. Neither ends are among them. What that server may not see is redacted.
    pub async fn events_between(
        &self,
        room: &Room,
        earliest: &[OwnedEventId],
        latest: &[OwnedEventId],
        min_depth: i64,
        limit: usize,
        asker: &ServerName,
    ) -> Result<Vec<Arc<Pdu>>> {
        let stop: HashSet<OwnedEventId> = earliest.iter().chain(latest).cloned().collect();
        let ends = self.rooms.events_by_ids(latest).await?;
        let mut from = Vec::new();
        for end in ends.values().filter(|end| end.room_pk == room.pk && end.flags & OUTLIER == 0) {
            from.extend(end.prev_events.iter().cloned());
        }
        let mut found = self.walk_back(room, from, &stop, min_depth, limit).await?;
        found.reverse();
        self.shown_to(room, found, asker).await
    }

    /// Events as a server may see them: without the others the graph would have gaps, so their redacted form is shown.
    async fn shown_to(&self, room: &Room, events: Vec<Stored>, asker: &ServerName) -> Result<Vec<Arc<Pdu>>> {
        let visible = self.visible_to(room, events.clone(), asker).await?;
        let visible: HashSet<i64> = visible.iter().map(|event| event.pk).collect();
        let shown = |event: Stored| match visible.contains(&event.pk) {
            true => Ok(event.pdu),
            false => {
                redaction::redacted(&event.pdu, &room.rules).map(Arc::new).map_err(Error::internal_display)
            }
        };
        events.into_iter().map(shown).collect()
    }

    /// Walks from events to those that they follow, the deepest first.
    async fn walk_back(
        &self,
        room: &Room,
        from: Vec<OwnedEventId>,
        stop: &HashSet<OwnedEventId>,
        min_depth: i64,
        limit: usize,
    ) -> Result<Vec<Stored>> {
        let mut seen: HashSet<OwnedEventId> = stop.clone();
        let mut heap: BinaryHeap<(i64, i64)> = BinaryHeap::new();
        let mut events: HashMap<i64, Stored> = HashMap::new();
        let mut next: Vec<OwnedEventId> = from.into_iter().filter(|id| seen.insert(id.clone())).collect();
        let mut found = Vec::with_capacity(limit);
        loop {
            if !next.is_empty() {
                let stored = self.rooms.events_by_ids(&next).await?;
                next.clear();
                for event in stored.into_values() {
                    if event.room_pk == room.pk && event.flags & OUTLIER == 0 && event.depth >= min_depth {
                        heap.push((event.depth, event.pk));
                        events.insert(event.pk, event);
                    }
                }
            }
            let Some((_, pk)) = heap.pop() else { return Ok(found) };
            let Some(event) = events.remove(&pk) else { continue };
            next.extend(event.prev_events.iter().filter(|id| seen.insert((*id).clone())).cloned());
            if event.flags & REJECTED == 0 {
                found.push(event);
            }
            if found.len() >= limit {
                return Ok(found);
            }
        }
    }

    /// Those of the events that a server may see, by the history visibility at each.
    pub async fn visible_to(
        &self,
        room: &Room,
        events: Vec<Stored>,
        asker: &ServerName,
    ) -> Result<Vec<Stored>> {
        let mut by_root: HashMap<NodeId, bool> = HashMap::new();
        let mut visible = Vec::with_capacity(events.len());
        for event in events {
            let root = event.state_root;
            let open = match by_root.get(&root) {
                Some(open) => *open,
                None => {
                    let open = self.root_is_visible(room, root, asker).await?;
                    by_root.insert(root, open);
                    open
                }
            };
            // A server sees the events by which its own users come and go.
            let own = event.state_key.as_deref().is_some_and(|key| key.ends_with(asker.as_str()));
            if open || event.sender.server_name() == asker || (own && &*event.kind == "m.room.member") {
                visible.push(event);
            }
        }
        Ok(visible)
    }

    async fn root_is_visible(&self, room: &Room, root: NodeId, asker: &ServerName) -> Result<bool> {
        let wanted = match self.visibility_in(room, root).await? {
            Visibility::WorldReadable | Visibility::Shared => return Ok(true),
            Visibility::Invited => [Membership::Join, Membership::Invite].as_slice(),
            Visibility::Joined => [Membership::Join].as_slice(),
        };
        let members: Vec<i64> = self
            .full_state(room, root)
            .await?
            .into_iter()
            .filter(|(kind, key, _)| {
                let server = key.split_once(':').map(|(_, server)| server);
                &**kind == "m.room.member" && server == Some(asker.as_str())
            })
            .map(|(_, _, pk)| pk)
            .collect();
        let members = self.rooms.events(&members).await?;
        let membership =
            |event: &Stored| event.membership().map_or(Membership::Leave, |text| Membership::parse(&text));
        Ok(members.iter().any(|event| wanted.contains(&membership(event))))
    }

    /// The event from whose timeline nothing follows yet, the deepest first.
    pub async fn extremities(&self, room: &Arc<Room>) -> Result<Vec<OwnedEventId>> {
        let snapshot = self.rooms.snapshot(room).await?;
        Ok(snapshot.extremities.iter().map(|(_, id)| id.clone()).collect())
    }
}
