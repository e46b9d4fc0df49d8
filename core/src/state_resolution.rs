//! State resolution: one state out of the states of several branches.
//!
//! ruma's algorithm wants whole states and whole auth chains. A room's state has a hundred thousand
//! entries and branches differ in a few, so it gets what can matter and no more:
//!
//! 1. [`conflicted`] compares the roots: the keys at which the states differ.
//! 2. [`Plan::new`] finds the full conflicted set: the events at these keys, the auth difference and,
//!    in version 12, the conflicted state subgraph. [`Plan::keys`] says which keys of the common rest
//!    can take part: the keys of these events and those that their authorization looks at.
//! 3. [`Plan::resolve`] runs the algorithm on that, and says what to lay over any of the states.
//!
//! Nothing is loaded here: what misses an event says which ([`ResolveError::Need`]), and is asked again.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::BuildHasher;
use std::sync::Arc;

use ruma::events::StateEventType;
use ruma::room_version_rules::RoomVersionRules;
use ruma::state_res::utils::event_id_set::EventIdSet;
use ruma::state_res::{self, StateMap};
use ruma::{EventId, OwnedEventId};

use crate::events::Pdu;
use crate::events::pdu::{raw_state_type, ruma_state_type};
use crate::rooms::authorize::auth_types;
use crate::rooms::state::{EventPk, Index, NodeId, Nodes, TreeError, diff, get_many};
use crate::rooms::version;

/// A type and a state key, raw.
pub type Key = (String, String);

/// The events that are loaded.
pub trait Source {
    /// An event: `None` if it is not loaded, `Some(None)` if we do not have it.
    fn event(&self, id: &EventId) -> Option<Option<Arc<Pdu>>>;
}

impl<S: BuildHasher> Source for HashMap<OwnedEventId, Option<Arc<Pdu>>, S> {
    fn event(&self, id: &EventId) -> Option<Option<Arc<Pdu>>> {
        self.get(id).cloned()
    }
}

/// Why a resolution did not come to its end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// Load these events and try again.
    #[error("{} events are not loaded", .0.len())]
    Need(Vec<OwnedEventId>),
    /// Say which events all states have in common and try again.
    #[error("the unconflicted events are needed")]
    NeedUnconflicted,
    /// An event that takes part is malformed.
    #[error("state resolution failed: {0}")]
    Failed(String),
}

/// A key and its event in each of several states.
pub type ConflictedKey = (Index, Vec<Option<EventPk>>);

/// The keys at which states differ, each with its event in every state.
pub fn conflicted(nodes: &impl Nodes, roots: &[NodeId]) -> Result<Vec<ConflictedKey>, TreeError> {
    let Some((first, others)) = roots.split_first() else { return Ok(Vec::new()) };
    let mut indexes = BTreeSet::new();
    for other in others {
        indexes.extend(diff(nodes, *first, *other)?.into_iter().map(|change| change.index));
    }
    let indexes: Vec<Index> = indexes.into_iter().collect();
    let mut rows: Vec<_> = indexes.iter().map(|index| (*index, Vec::with_capacity(roots.len()))).collect();
    for root in roots {
        for ((_, row), event) in rows.iter_mut().zip(get_many(nodes, *root, &indexes)?) {
            row.push(event);
        }
    }
    Ok(rows)
}

/// What state resolution starts from.
#[derive(Debug, Clone, Copy)]
pub struct Conflict<'a> {
    /// The rules of the room's version.
    pub rules: &'a RoomVersionRules,
    /// For each state, its events at the conflicted keys.
    pub states: &'a [Vec<OwnedEventId>],
    /// The events that all states have in common: what their auth chains hold is no difference. Most resolutions need
    /// not know them; [`ResolveError::NeedUnconflicted`] asks for them.
    pub unconflicted: Option<&'a [OwnedEventId]>,
}

/// A resolution whose events are known.
#[derive(Debug)]
pub struct Plan<'a> {
    conflict: Conflict<'a>,
    states: Vec<StateMap<OwnedEventId>>,
    difference: HashSet<OwnedEventId>,
    subgraph: HashSet<OwnedEventId>,
    keys: BTreeSet<Key>,
    /// Events as ruma is to see them, where that is not as they are.
    instead: HashMap<OwnedEventId, Arc<Pdu>>,
}

/// What a resolved state has at a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// Type and state key.
    pub key: Key,
    /// The event, `None` if the key is not in the state.
    pub event: Option<OwnedEventId>,
}

impl<'a> Plan<'a> {
    /// Finds the events that take part.
    pub fn new(conflict: Conflict<'a>, source: &impl Source) -> Result<Self, ResolveError> {
        let load = Load::new(source);
        let difference = auth_difference(&conflict, &load)?;
        let conflicted: HashSet<&OwnedEventId> = conflict.states.iter().flatten().collect();
        let subgraph = if uses_subgraph(conflict.rules) {
            conflicted_subgraph(&conflicted, &load)
        } else {
            HashSet::new()
        };
        let mut keys = BTreeSet::new();
        let mut instead = HashMap::new();
        for id in conflicted.into_iter().chain(&difference).chain(&subgraph) {
            let Some(pdu) = load.event(id) else { continue };
            if let Some(create) = create_event(conflict.rules, &pdu) {
                load.event(&create);
            }
            keys.extend(key_of(&pdu));
            let types =
                auth_types(conflict.rules, &pdu.kind, &pdu.sender, pdu.state_key.as_deref(), &pdu.content);
            // Of a malformed event nothing is looked up: it is never applied.
            keys.extend(types.unwrap_or_default());
            if joins_without_rules(&pdu, &load) {
                instead.extend(pdu.default_join_rules().map(|rules| (rules.event_id.clone(), rules)));
                instead.insert(id.clone(), pdu.with_default_join_rules());
            }
        }
        let states = conflict.states.iter().map(|events| load.state(events)).collect();
        load.done()?;
        Ok(Self { conflict, states, difference, subgraph, keys, instead })
    }

    /// The keys whose unconflicted events [`Plan::resolve`] needs.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.keys.iter()
    }

    /// Resolves. `common` has the unconflicted event at each of [`Plan::keys`] that has one.
    ///
    /// The answer has every conflicted key, and keys that were in none of the states and now are.
    pub fn resolve(
        &self,
        source: &impl Source,
        common: &HashMap<Key, OwnedEventId>,
    ) -> Result<Vec<Resolved>, ResolveError> {
        let Some(v2_rules) = self.conflict.rules.state_res.v2_rules() else {
            return Err(ResolveError::Failed("the room's version has state resolution v1".to_owned()));
        };
        let conflicted: HashSet<_> = self.states.iter().flat_map(StateMap::keys).cloned().collect();
        let common: StateMap<OwnedEventId> = common
            .iter()
            .map(|((kind, key), id)| ((ruma_state_type(kind), key.clone()), id.clone()))
            .filter(|(key, _)| !conflicted.contains(key))
            .collect();
        let mut states = self.states.clone();
        for state in &mut states {
            state.extend(common.iter().map(|(key, id)| (key.clone(), id.clone())));
        }
        // ruma takes what is not in all chains: two of them, of which one is the difference, say that.
        let chains = vec![self.difference.iter().cloned().collect(), EventIdSet::new()];
        let load = Load::new(source);
        let resolved = state_res::resolve(
            &self.conflict.rules.authorization,
            v2_rules,
            &states,
            chains,
            |id| self.instead.get(id).cloned().or_else(|| load.event(id)),
            |_| Some(self.subgraph.iter().cloned().collect()),
        );
        load.done()?;
        let mut resolved = resolved.map_err(|error| ResolveError::Failed(error.to_string()))?;
        let raw = |(kind, key): (StateEventType, String)| (raw_state_type(&kind), key);
        let mut answer: Vec<Resolved> = conflicted
            .into_iter()
            .map(|key| {
                let event = resolved.remove(&key);
                Resolved { key: raw(key), event }
            })
            .collect();
        resolved.retain(|key, _| !common.contains_key(key));
        answer.extend(resolved.into_iter().map(|(key, id)| Resolved { key: raw(key), event: Some(id) }));
        Ok(answer)
    }
}

/// The create event of a room whose id is its hash. It is among no auth events, and every event is judged by it.
fn create_event(rules: &RoomVersionRules, pdu: &Pdu) -> Option<OwnedEventId> {
    let named = version::room_id_is_hash(rules) && &*pdu.kind != "m.room.create";
    let id = pdu.room_id.as_str().strip_prefix('!').filter(|_| named)?;
    OwnedEventId::try_from(format!("${id}")).ok()
}

fn uses_subgraph(rules: &RoomVersionRules) -> bool {
    rules.state_res.v2_rules().is_some_and(|rules| rules.consider_conflicted_state_subgraph)
}

/// Whether it is a join that names no join rules by which it could be judged.
fn joins_without_rules(pdu: &Pdu, load: &Load<'_, impl Source>) -> bool {
    let are_rules = |id: &OwnedEventId| {
        load.event(id).is_some_and(|event| event.is("m.room.join_rules", "") && !event.rejected)
    };
    pdu.membership().as_deref() == Some("join") && !pdu.auth_events.iter().any(are_rules)
}

fn key_of(pdu: &Pdu) -> Option<Key> {
    Some((pdu.kind.to_string(), pdu.state_key.as_deref()?.to_owned()))
}

/// The events that are in the auth chains of some states but not of all. A state's own events are part of its auth chain, as
/// they are for Synapse, against the specification's words (docs/state-resolution.md).
fn auth_difference(
    conflict: &Conflict<'_>,
    load: &Load<'_, impl Source>,
) -> Result<HashSet<OwnedEventId>, ResolveError> {
    let chains: Vec<_> = conflict.states.iter().map(|events| load.auth_chain(events)).collect();
    let is_different = |id: &&OwnedEventId| chains.iter().any(|chain| !chain.contains(*id));
    let mut difference: HashSet<_> = chains.iter().flatten().filter(is_different).cloned().collect();
    // What is missing is asked for first: the common rest of a room is large.
    if difference.is_empty() || !load.missing.borrow().is_empty() {
        return Ok(difference);
    }
    let unconflicted = conflict.unconflicted.ok_or(ResolveError::NeedUnconflicted)?;
    let mut common = load.auth_chain(unconflicted);
    common.extend(unconflicted.iter().cloned());
    difference.retain(|id| !common.contains(id));
    Ok(difference)
}

/// The events on the ways along auth events from one conflicted event to another, with both ends.
fn conflicted_subgraph(
    conflicted: &HashSet<&OwnedEventId>,
    load: &Load<'_, impl Source>,
) -> HashSet<OwnedEventId> {
    // Upwards from all of them, remembering the way back; then back down from those that were met.
    let mut ways_back: HashMap<OwnedEventId, Vec<OwnedEventId>> = HashMap::new();
    let mut seen = HashSet::new();
    let mut open: Vec<OwnedEventId> = conflicted.iter().map(|id| (*id).clone()).collect();
    while let Some(id) = open.pop() {
        if !seen.insert(id.clone()) {
            continue;
        }
        for auth in load.event(&id).iter().flat_map(|pdu| pdu.auth_events.iter()) {
            ways_back.entry(auth.clone()).or_default().push(id.clone());
            open.push(auth.clone());
        }
    }
    let mut subgraph = HashSet::new();
    let mut open: Vec<OwnedEventId> = conflicted.iter().map(|id| (*id).clone()).collect();
    while let Some(id) = open.pop() {
        if subgraph.insert(id.clone()) {
            open.extend(ways_back.remove(&id).unwrap_or_default());
        }
    }
    subgraph
}

/// A source that notes what is missing.
struct Load<'a, S> {
    source: &'a S,
    missing: RefCell<BTreeSet<OwnedEventId>>,
}

impl<'a, S: Source> Load<'a, S> {
    fn new(source: &'a S) -> Self {
        Self { source, missing: RefCell::default() }
    }

    fn event(&self, id: &EventId) -> Option<Arc<Pdu>> {
        let found = self.source.event(id);
        if found.is_none() {
            self.missing.borrow_mut().insert(id.to_owned());
        }
        found.flatten()
    }

    /// The auth events of these events, and theirs, and so on.
    fn auth_chain(&self, events: &[OwnedEventId]) -> HashSet<OwnedEventId> {
        let mut chain = HashSet::new();
        let mut open: Vec<Arc<Pdu>> = events.iter().filter_map(|id| self.event(id)).collect();
        while let Some(pdu) = open.pop() {
            for auth in &pdu.auth_events {
                if chain.insert(auth.clone()) {
                    open.extend(self.event(auth));
                }
            }
        }
        chain
    }

    fn state(&self, events: &[OwnedEventId]) -> StateMap<OwnedEventId> {
        let entry = |id: &OwnedEventId| {
            let (kind, key) = key_of(&*self.event(id)?)?;
            Some(((ruma_state_type(&kind), key), id.clone()))
        };
        events.iter().filter_map(entry).collect()
    }

    fn done(self) -> Result<(), ResolveError> {
        let missing = self.missing.into_inner();
        if missing.is_empty() { Ok(()) } else { Err(ResolveError::Need(missing.into_iter().collect())) }
    }
}

#[cfg(test)]
mod tests;
