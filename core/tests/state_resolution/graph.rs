//! A room's events, made honestly: each is allowed by the auth events that it names and by the state before it.

use myelin_core::events::canonical;
use myelin_core::events::hashes;
use myelin_core::events::pdu::Pdu;
use myelin_core::rooms::authorize::{auth_types, authorize, check_auth_events};
use myelin_core::rooms::version::{room_id_is_hash, room_id_of_create};
use myelin_core::state_resolution::{Conflict, Key, Plan};
use ruma::canonical_json::CanonicalJsonValue;
use ruma::room_version_rules::RoomVersionRules;
use ruma::{EventId, OwnedEventId, RoomVersionId, UserId};
use serde::Serialize;
use serde_json::value::to_raw_value;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// A room's state.
pub type State = BTreeMap<Key, OwnedEventId>;

/// What somebody wants to send.
pub struct Draft<'a> {
    pub sender: &'a str,
    pub kind: &'a str,
    pub state_key: &'a str,
    pub content: Value,
    pub ts: u64,
    /// The state from which the auth events are taken, if it is not the one before the event.
    pub cites: Option<&'a State>,
}

/// A branch of the graph.
#[derive(Clone, Default)]
pub struct Branch {
    /// The state behind it.
    pub state: State,
    /// Its last events.
    pub tips: Vec<OwnedEventId>,
    /// Some of the states that it had.
    pub old: Vec<State>,
}

/// Something that somebody tried to send.
#[derive(Serialize)]
pub struct Try {
    event: Value,
    /// The events of the state before it that decide about it.
    state: Vec<OwnedEventId>,
    /// Whether they allow it.
    #[serde(skip)]
    pub allowed: bool,
}

/// A room.
pub struct Graph {
    pub version: RoomVersionId,
    pub rules: RoomVersionRules,
    pub room_id: String,
    /// The events in the order in which they were made, as other servers get them.
    pub json: Vec<Value>,
    pub rejected: Option<OwnedEventId>,
    /// The sets of states to be resolved.
    pub resolutions: Vec<Vec<State>>,
    /// What was tried to send.
    pub tries: Vec<Try>,
    events: HashMap<OwnedEventId, Option<Arc<Pdu>>>,
    create: Option<OwnedEventId>,
}

impl Graph {
    pub fn new(version: RoomVersionId) -> Self {
        let (json, rejected, resolutions, tries, events, create) = Default::default();
        let rules = version.rules().unwrap();
        let room_id = "!room:one.example".to_owned();
        Self { version, rules, room_id, json, rejected, resolutions, tries, events, create }
    }

    pub fn event(&self, id: &OwnedEventId) -> &Arc<Pdu> {
        self.events[id].as_ref().unwrap()
    }

    /// The content of a state's event.
    pub fn content(&self, state: &State, kind: &str, state_key: &str) -> Option<Value> {
        let id = state.get(&(kind.to_owned(), state_key.to_owned()))?;
        self.event(id).content_as()
    }

    /// Sends an event into a branch, if that is allowed.
    pub fn send(&mut self, branch: &mut Branch, draft: Draft<'_>) -> bool {
        let raw = to_raw_value(&draft.content).unwrap();
        let sender = <&UserId>::try_from(draft.sender).unwrap();
        let types = auth_types(&self.rules, draft.kind, sender, Some(draft.state_key), &raw).unwrap();
        let cites = draft.cites.unwrap_or(&branch.state);
        let auth: Vec<&OwnedEventId> = types.iter().filter_map(|key| cites.get(key)).collect();
        let mut event = json!({
            "auth_events": auth, "content": draft.content, "depth": self.json.len() + 1, "hashes": {"sha256": ""},
            "origin_server_ts": draft.ts, "prev_events": branch.tips, "sender": draft.sender, "signatures": {},
            "state_key": draft.state_key, "type": draft.kind,
        });
        let is_create = draft.kind == "m.room.create";
        if !(is_create && room_id_is_hash(&self.rules)) {
            event["room_id"] = json!(self.room_id);
        }
        let CanonicalJsonValue::Object(object) = CanonicalJsonValue::try_from(event.clone()).unwrap() else {
            panic!("an event is an object")
        };
        let id = hashes::event_id(&object, &self.rules).unwrap();
        let pdu = Pdu::parse(id.clone(), &self.rules, &canonical::to_string(&object).unwrap()).unwrap();
        if self.events.contains_key(&id) {
            return false;
        }
        event["event_id"] = json!(id);
        let allowed = self.allows(&pdu, |kind, key| branch.state.get(&(kind.to_owned(), key.to_owned())));
        if !is_create {
            let mut state: Vec<_> = types.iter().filter_map(|key| branch.state.get(key).cloned()).collect();
            state.extend(self.create.clone().filter(|create| !state.contains(create)));
            self.tries.push(Try { event: event.clone(), state, allowed });
        }
        let named = |kind: &str, key: &str| pdu.auth_events.iter().find(|id| self.event(id).is(kind, key));
        let known = |id: &EventId| self.events.get(id).cloned().flatten();
        if !allowed || check_auth_events(&self.rules, &pdu, known).is_err() || !self.allows(&pdu, named) {
            return false;
        }
        if is_create {
            self.create = Some(id.clone());
            if room_id_is_hash(&self.rules) {
                self.room_id = room_id_of_create(&id).unwrap().into();
            }
        }
        self.json.push(event);
        self.events.insert(id.clone(), Some(Arc::new(pdu)));
        if self.json.len().is_multiple_of(3) {
            branch.old.push(branch.state.clone());
        }
        branch.state.insert((draft.kind.to_owned(), draft.state_key.to_owned()), id.clone());
        branch.tips = vec![id];
        true
    }

    /// Whether a state allows an event.
    fn allows<'a>(&'a self, pdu: &Pdu, state: impl Fn(&str, &str) -> Option<&'a OwnedEventId>) -> bool {
        let find = |kind: &str, key: &str| {
            let id = if kind == "m.room.create" { self.create.as_ref() } else { state(kind, key) };
            Some(self.event(id?).clone())
        };
        authorize(&self.rules, pdu, find).is_ok()
    }

    /// Lets a branch go on from two, and leaves their states to be resolved.
    pub fn merge(&mut self, into: &mut Branch, other: &Branch) {
        let states = vec![into.state.clone(), other.state.clone()];
        into.old.push(into.state.clone());
        into.state = self.resolve(&states);
        into.tips.extend(other.tips.iter().cloned());
        into.tips.sort();
        into.tips.dedup();
        self.resolutions.push(states);
    }

    /// The auth events of these events, theirs, and so on.
    pub fn auth_chain<'a>(
        &self,
        events: impl IntoIterator<Item = &'a OwnedEventId>,
    ) -> BTreeSet<OwnedEventId> {
        let mut chain = BTreeSet::new();
        let mut open: Vec<OwnedEventId> = events.into_iter().cloned().collect();
        while let Some(id) = open.pop() {
            open.extend(self.event(&id).auth_events.iter().filter(|id| chain.insert((*id).clone())).cloned());
        }
        chain
    }

    /// From now on, one of the events that are in auth chains and in no state of the last resolutions is rejected: as
    /// for a server that was given another state before it. What was resolved before is left out.
    pub fn reject(&mut self, which: usize, last: usize) {
        self.resolutions.drain(..self.resolutions.len() - last);
        let states: BTreeSet<OwnedEventId> =
            self.resolutions.iter().flatten().flat_map(State::values).cloned().collect();
        let candidates: Vec<OwnedEventId> = self
            .auth_chain(&states)
            .into_iter()
            .filter(|id| !states.contains(id) && Some(id) != self.create.as_ref())
            .collect();
        if let Some(id) = candidates.get(which % candidates.len().max(1)) {
            let mut pdu = Pdu::clone(self.event(id));
            pdu.rejected = true;
            self.events.insert(id.clone(), Some(Arc::new(pdu)));
            self.rejected = Some(id.clone());
        }
    }

    /// The conflicted keys of states, each with its events.
    pub fn conflicts(states: &[State]) -> BTreeMap<&Key, BTreeSet<&OwnedEventId>> {
        let keys: BTreeSet<&Key> = states.iter().flat_map(State::keys).collect();
        let events = |key: &Key| states.iter().filter_map(|state| state.get(key)).collect();
        let is_common = |key: &Key| states.iter().all(|state| state.get(key) == states[0].get(key));
        keys.into_iter().filter(|key| !is_common(key)).map(|key| (key, events(key))).collect()
    }

    /// What Myelin makes of states.
    pub fn resolve(&self, states: &[State]) -> State {
        let conflicts = Self::conflicts(states);
        if conflicts.is_empty() {
            return states[0].clone();
        }
        let mut resolved: State =
            states[0].iter().filter(|(key, _)| !conflicts.contains_key(key)).map(entry).collect();
        let apart: Vec<Vec<OwnedEventId>> = states
            .iter()
            .map(|state| conflicts.keys().filter_map(|key| state.get(*key).cloned()).collect())
            .collect();
        let common: Vec<OwnedEventId> = resolved.values().cloned().collect();
        let conflict = Conflict { rules: &self.rules, states: &apart, unconflicted: Some(&common) };
        let plan = Plan::new(conflict, &self.events).unwrap();
        let part = plan.keys().filter_map(|key| resolved.get_key_value(key)).map(entry).collect();
        for one in plan.resolve(&self.events, &part).unwrap() {
            if let Some(event) = one.event {
                assert!(resolved.insert(one.key, event).is_none(), "an unconflicted key was resolved");
            }
        }
        resolved
    }

    /// The graph as `resolve.py` reads it.
    pub fn line(&self, ways: &[&[&str]]) -> String {
        let ids = |state: &State| state.values().cloned().collect::<Vec<_>>();
        let states = |states: &Vec<State>| states.iter().map(ids).collect::<Vec<_>>();
        let resolutions: Vec<_> = self.resolutions.iter().map(states).collect();
        json!({
            "version": self.version, "room_id": self.room_id, "events": self.json, "rejected": self.rejected.as_slice(),
            "resolutions": resolutions, "tries": self.tries, "ways": ways,
        })
        .to_string()
    }
}

fn entry((key, id): (&Key, &OwnedEventId)) -> (Key, OwnedEventId) {
    (key.clone(), id.clone())
}
