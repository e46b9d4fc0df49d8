//! State trees while something is planned: nodes and state keys that are not stored yet, on top of those that are.
//!
//! What is made here and not wanted in the end (the state behind an event that was only resolved with others) is not
//! stored: [`Trees::nodes_of`] gives the nodes that the trees to be kept consist of.

use super::{membership_number, stripped};
use crate::error::{Error, Result};
use crate::events::pdu::Pdu;
use crate::rooms::authorize::{self, Reason};
use crate::rooms::cache::{Room, View};
use crate::rooms::state::{self, Change, EventPk, Index, NodeId};
use crate::server::Server;
use crate::state_resolution::{Conflict, ConflictedKey, Plan, ResolveError, Resolved, conflicted};
use myelin_storage::changes::{NewMembership, StateMove};
use myelin_storage::rooms::memberships::{INVITE, KNOCK, LEAVE};
use ruma::{OwnedEventId, UserId};
use serde_json::value::RawValue;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

type Events = HashMap<OwnedEventId, Option<Arc<Pdu>>>;

/// The trees of a room, and those that are being planned.
pub(super) struct Trees<'a> {
    server: &'a Server,
    room: &'a Room,
    /// Nodes at hand.
    pub(super) view: View,
    /// Those of them that were made here.
    made: HashSet<NodeId>,
    /// State keys that the room has not had yet, numbered from `first_new`.
    pub(super) new_keys: Vec<(String, String)>,
    first_new: Index,
    /// Events that are not stored yet.
    planned: HashMap<EventPk, Arc<Pdu>>,
}

impl<'a> Trees<'a> {
    /// The room's trees as they are.
    pub(super) fn new(server: &'a Server, room: &'a Room) -> Self {
        let first_new = room.keys.read().len();
        let (view, made, new_keys, planned) = Default::default();
        Self { server, room, view, made, new_keys, first_new, planned }
    }

    fn index(&self, kind: &str, state_key: &str) -> Option<Index> {
        if let Some(index) = self.room.keys.read().find(kind, state_key) {
            return Some(index);
        }
        let new = self.new_keys.iter().position(|(k, s)| k == kind && s == state_key)?;
        Some(self.first_new + Index::try_from(new).ok()?)
    }

    fn index_or_new(&mut self, kind: &str, state_key: &str) -> Index {
        if let Some(index) = self.index(kind, state_key) {
            return index;
        }
        self.new_keys.push((kind.to_owned(), state_key.to_owned()));
        self.first_new + Index::try_from(self.new_keys.len() - 1).unwrap_or(Index::MAX)
    }

    fn key(&self, index: Index) -> Option<(String, String)> {
        match index.checked_sub(self.first_new) {
            Some(new) => self.new_keys.get(usize::try_from(new).ok()?).cloned(),
            None => self.room.keys.read().get(index).map(|(kind, key)| (kind.to_string(), key.to_string())),
        }
    }

    /// Takes an event in that is not stored yet.
    pub(super) fn plan(&mut self, pdu: Arc<Pdu>) {
        self.planned.insert(pdu.pk, pdu);
    }

    async fn events(&self, pks: &[EventPk]) -> Result<Vec<Arc<Pdu>>> {
        let mut events: Vec<Arc<Pdu>> = pks.iter().filter_map(|pk| self.planned.get(pk).cloned()).collect();
        let others: Vec<EventPk> = pks.iter().copied().filter(|pk| !self.planned.contains_key(pk)).collect();
        events.extend(self.server.rooms.events(&others).await?.into_iter().map(|event| event.pdu));
        Ok(events)
    }

    /// The events at keys of a state.
    pub(super) async fn at(&mut self, root: NodeId, keys: &[(&str, &str)]) -> Result<Vec<Arc<Pdu>>> {
        let indexes: Vec<Index> = keys.iter().filter_map(|(kind, key)| self.index(kind, key)).collect();
        let server = self.server;
        let found =
            server.rooms.on_tree(&mut self.view, |nodes| state::get_many(nodes, root, &indexes)).await?;
        let pks: Vec<EventPk> = found.into_iter().flatten().collect();
        self.events(&pks).await
    }

    /// The events of a state that decide about an event, the create event always among them.
    pub(super) async fn deciding(
        &mut self,
        root: NodeId,
        kind: &str,
        sender: &UserId,
        state_key: Option<&str>,
        content: &RawValue,
    ) -> Result<Result<Vec<Arc<Pdu>>, Reason>> {
        let mut types = match authorize::auth_types(&self.room.rules, kind, sender, state_key, content) {
            Ok(types) => types,
            Err(reason) => return Ok(Err(reason)),
        };
        if kind != "m.room.create" && !types.iter().any(|(kind, _)| kind == "m.room.create") {
            types.push(("m.room.create".to_owned(), String::new()));
        }
        let keys: Vec<(&str, &str)> = types.iter().map(|(kind, key)| (kind.as_str(), key.as_str())).collect();
        self.at(root, &keys).await.map(Ok)
    }

    /// Whether a state allows an event that some events allow already: mostly these are what decides here, too.
    pub(super) async fn authorize(
        &mut self,
        root: NodeId,
        pdu: &Pdu,
        allow_it: &HashMap<OwnedEventId, Arc<Pdu>>,
    ) -> Result<Result<(), Reason>> {
        let key = pdu.state_key.as_deref();
        let events = match self.deciding(root, &pdu.kind, &pdu.sender, key, &pdu.content).await? {
            Ok(events) => events,
            Err(reason) => return Ok(Err(reason)),
        };
        if events.len() == allow_it.len() && events.iter().all(|event| allow_it.contains_key(&event.event_id))
        {
            return Ok(Ok(()));
        }
        let find = |kind: &str, key: &str| events.iter().find(|event| event.is(kind, key)).cloned();
        Ok(authorize::authorize(&self.room.rules, pdu, find))
    }

    /// Continues a state; 0 removes a key.
    async fn set(&mut self, root: NodeId, entries: &[(Index, EventPk)]) -> Result<NodeId> {
        // A path is at most seven nodes long, with a few more where the tree grows upwards.
        let most = entries.len().saturating_mul(7).saturating_add(9);
        let ids = self.server.ids.nodes.take_above(most, root).await?;
        let server = self.server;
        let insert = |nodes: &View| {
            let mut next = ids.start;
            let mut alloc = || {
                next += 1;
                next - 1
            };
            state::insert_many(nodes, root, entries, &mut alloc)
        };
        let (root, made) = server.rooms.on_tree(&mut self.view, insert).await?;
        for (id, node) in made {
            self.made.insert(id);
            self.view.insert(id, Arc::new(node));
        }
        Ok(root)
    }

    /// A state that consists of these events.
    pub(super) async fn of(&mut self, events: &[Arc<Pdu>]) -> Result<NodeId> {
        let mut entries = Vec::with_capacity(events.len());
        for event in events {
            if let Some(state_key) = &event.state_key {
                entries.push((self.index_or_new(&event.kind, state_key), event.pk));
            }
        }
        self.set(0, &entries).await
    }

    /// The state after an event. A rejected event does not move it.
    pub(super) async fn after(&mut self, event: &Pdu) -> Result<NodeId> {
        match &event.state_key {
            Some(state_key) if !event.rejected => {
                let index = self.index_or_new(&event.kind, state_key);
                self.set(event.state_root, &[(index, event.pk)]).await
            }
            _ => Ok(event.state_root),
        }
    }

    /// What differs between two states.
    pub(super) async fn diff(&mut self, from: NodeId, to: NodeId) -> Result<Vec<Change>> {
        let server = self.server;
        server.rooms.on_tree(&mut self.view, |nodes| state::diff(nodes, from, to)).await
    }

    /// `root`, or `known` where that is the same state: what is stored already need not be stored again.
    pub(super) async fn settle(&mut self, root: NodeId, known: NodeId) -> Result<NodeId> {
        Ok(if self.diff(known, root).await?.is_empty() { known } else { root })
    }

    /// One state out of several.
    pub(super) async fn resolve(&mut self, roots: &[NodeId]) -> Result<NodeId> {
        let Some(base) = roots.first().copied() else { return Ok(0) };
        let server = self.server;
        let rows = server.rooms.on_tree(&mut self.view, |nodes| conflicted(nodes, roots)).await?;
        if rows.is_empty() {
            return Ok(base);
        }
        let mut loaded = Events::new();
        let mut numbers = HashMap::new();
        let pks: Vec<EventPk> = rows.iter().flat_map(|(_, row)| row.iter().flatten().copied()).collect();
        for pdu in self.events(&pks).await? {
            numbers.insert(pdu.pk, pdu.event_id.clone());
            loaded.insert(pdu.event_id.clone(), Some(pdu));
        }
        let states: Vec<Vec<OwnedEventId>> = (0..roots.len())
            .map(|state| {
                let pks = rows.iter().filter_map(|(_, row)| *row.get(state)?);
                pks.filter_map(|pk| numbers.get(&pk).cloned()).collect()
            })
            .collect();
        let resolved = self.run(base, &rows, &states, &mut loaded).await?;
        let mut entries = Vec::with_capacity(resolved.len());
        for Resolved { key: (kind, state_key), event } in resolved {
            let pk = match &event {
                Some(id) => loaded.get(id).and_then(|pdu| Some(pdu.as_ref()?.pk)).ok_or_else(|| {
                    Error::internal(format!("state resolution gave the unknown event {id}"))
                })?,
                None => 0,
            };
            entries.push((self.index_or_new(&kind, &state_key), pk));
        }
        self.set(base, &entries).await
    }

    /// Runs the algorithm, loading what it asks for.
    async fn run(
        &mut self,
        base: NodeId,
        rows: &[ConflictedKey],
        states: &[Vec<OwnedEventId>],
        loaded: &mut Events,
    ) -> Result<Vec<Resolved>> {
        let rules = &self.room.rules;
        let mut unconflicted: Option<Vec<OwnedEventId>> = None;
        let plan = loop {
            let conflict = Conflict { rules, states, unconflicted: unconflicted.as_deref() };
            match Plan::new(conflict, &*loaded) {
                Ok(plan) => break plan,
                Err(ResolveError::Need(ids)) => self.load(loaded, ids).await?,
                Err(ResolveError::NeedUnconflicted) => {
                    unconflicted = Some(self.unconflicted(base, rows).await?);
                }
                Err(error) => return Err(Error::internal_display(error)),
            }
        };
        let conflicted: HashSet<Index> = rows.iter().map(|(index, _)| *index).collect();
        let keys: Vec<(&str, &str)> = plan
            .keys()
            .map(|(kind, key)| (kind.as_str(), key.as_str()))
            .filter(|(kind, key)| self.index(kind, key).is_some_and(|index| !conflicted.contains(&index)))
            .collect();
        let mut common = HashMap::new();
        for pdu in self.at(base, &keys).await? {
            let Some(state_key) = &pdu.state_key else { continue };
            common.insert((pdu.kind.to_string(), state_key.to_string()), pdu.event_id.clone());
        }
        loop {
            match plan.resolve(&*loaded, &common) {
                Ok(resolved) => return Ok(resolved),
                Err(ResolveError::Need(ids)) => self.load(loaded, ids).await?,
                Err(error) => return Err(Error::internal_display(error)),
            }
        }
    }

    /// The ids of the events that the states have in common.
    async fn unconflicted(&mut self, base: NodeId, rows: &[ConflictedKey]) -> Result<Vec<OwnedEventId>> {
        let server = self.server;
        let conflicted: HashSet<Index> = rows.iter().map(|(index, _)| *index).collect();
        let all = server.rooms.on_tree(&mut self.view, |nodes| state::iterate(nodes, base)).await?;
        let common = all.into_iter().filter(|(index, _)| !conflicted.contains(index));
        let pks: Vec<EventPk> = common.map(|(_, pk)| pk).collect();
        Ok(self.events(&pks).await?.into_iter().map(|pdu| pdu.event_id.clone()).collect())
    }

    /// Loads events with their auth chains, of which all will be asked for.
    async fn load(&self, loaded: &mut Events, ids: Vec<OwnedEventId>) -> Result<()> {
        let mut open = ids;
        while !open.is_empty() {
            let mut stored = self.server.rooms.events_by_ids(&open).await?;
            let mut next = BTreeSet::new();
            for id in open {
                let planned = || self.planned.values().find(|pdu| pdu.event_id == id).cloned();
                let pdu = stored.remove(&id).map(|event| event.pdu).or_else(planned);
                next.extend(pdu.iter().flat_map(|pdu| pdu.auth_events.iter().cloned()));
                loaded.insert(id, pdu);
            }
            open = next.into_iter().filter(|id| !loaded.contains_key(id)).collect();
        }
        Ok(())
    }

    /// What it means that the room's current state becomes another one, by changes that are some.
    pub(super) async fn moved(&mut self, changes: &[Change], to: NodeId) -> Result<StateMove> {
        let mut members = Vec::new();
        for change in changes {
            let key = self.key(change.index).filter(|(kind, _)| kind == "m.room.member");
            members.extend(key.map(|(_, user_id)| (change, user_id)));
        }
        let ids: Vec<&str> = members.iter().map(|(_, user_id)| user_id.as_str()).collect();
        let numbers = self.server.ids.users(&ids).await?;
        let mut memberships = Vec::with_capacity(members.len());
        for (change, user_id) in members {
            let Some(pk) = change.new.or(change.old) else { continue };
            let Some(event) = self.events(&[pk]).await?.pop() else { continue };
            let text = event.membership();
            // Whose member event is no longer in the state is somebody who was never there.
            let membership = match change.new {
                Some(_) => text.as_deref().and_then(membership_number).unwrap_or(LEAVE),
                None => LEAVE,
            };
            let is_ours = UserId::parse(&user_id).is_ok_and(|user| user.server_name() == self.server.name());
            let stripped = if is_ours { self.stripped(to, &event, membership).await? } else { None };
            let Some(user_pk) = numbers.get(&user_id).copied() else { continue };
            memberships.push((pk, NewMembership { user_pk, membership, stripped }));
        }
        Ok(StateMove { room_pk: self.room.pk, root: to, memberships })
    }

    /// What somebody who is invited or knocks is shown of a room in a state; nobody else.
    pub(super) async fn stripped(
        &mut self,
        root: NodeId,
        own: &Pdu,
        membership: i64,
    ) -> Result<Option<String>> {
        match membership {
            INVITE | KNOCK => {
                let state = self.at(root, &stripped::keys(own.sender.as_str())).await?;
                stripped::write(state, own).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// The nodes to be stored so that these trees stand.
    pub(super) fn nodes_of(&self, roots: impl IntoIterator<Item = NodeId>) -> Vec<(i64, i64, Vec<u8>)> {
        let mut wanted = BTreeSet::new();
        let mut open: Vec<NodeId> = roots.into_iter().collect();
        while let Some(id) = open.pop() {
            if self.made.contains(&id)
                && wanted.insert(id)
                && let Some(node) = self.view.get(&id)
            {
                open.extend(node.children());
            }
        }
        let body = |id: NodeId| self.view.get(&id).map(|node| (id, self.room.pk, node.encode()));
        wanted.into_iter().filter_map(body).collect()
    }

    /// The state keys to be stored.
    pub(super) fn state_keys(&self) -> Vec<(i64, i64, String, String)> {
        let numbered = self.new_keys.iter().zip(i64::from(self.first_new)..);
        numbered.map(|((kind, key), index)| (self.room.pk, index, kind.clone(), key.clone())).collect()
    }
}
