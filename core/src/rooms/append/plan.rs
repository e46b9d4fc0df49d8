//! Planning: drafts become events, each following the one before, in memory.

use super::trees::Trees;
use super::{Draft, Request, change, membership_number, relation, row};
use crate::error::{Error, Result};
use crate::events::build::{BuildError, PduBuilder};
use crate::events::pdu::Pdu;
use crate::events::redaction;
use crate::rooms::authorize::{self, Action, Reason};
use crate::rooms::cache::{Room, Snapshot, View};
use crate::rooms::lookup;
use crate::rooms::relations;
use crate::rooms::state::NodeId;
use crate::rooms::version;
use crate::server::Server;
use myelin_storage::changes::{Changes, NewEvent, NewMembership, RoomChange};
use myelin_storage::transaction_ids;
use ruma::{OwnedEventId, UserId};
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::collections::HashMap;
use std::sync::Arc;

/// Events that an event of ours follows at most. The specification allows 20; fewer keep events small, and the others
/// are followed by the next one.
pub(super) const MOST_PREV_EVENTS: usize = 10;

/// Requests, planned: what to write and what to answer.
pub(super) struct Plan {
    pub(super) changes: Changes,
    pub(super) pdus: Vec<Arc<Pdu>>,
    pub(super) after: Snapshot,
    pub(super) view: View,
    pub(super) answers: Vec<Result<Vec<OwnedEventId>>>,
}

/// Where the room stands after the events planned so far.
#[derive(Clone)]
struct Place {
    root: NodeId,
    depth: i64,
    related: i64,
    extremities: Vec<(i64, OwnedEventId)>,
    /// How much of each list belongs to it.
    counts: Counts,
}

#[derive(Clone, Copy, Default)]
struct Counts {
    events: usize,
    keys: usize,
    relations: usize,
    redactions: usize,
    redacted: usize,
}

/// Plans requests on the room's newest snapshot. That their transactions are new is taken for granted unless `is_again`:
/// the commit notices (`storage::changes`), at less cost than a look here.
pub(super) async fn plan(
    server: &Server,
    room: &Arc<Room>,
    requests: &[Request],
    is_again: bool,
) -> Result<Plan> {
    let creates = requests.first().is_some_and(|request| request.creates);
    let snapshot = if creates {
        Snapshot { guard: 0, root: 0, depth: 0, related: 0, extremities: Vec::new(), upto: 0 }
    } else {
        (*server.rooms.snapshot(room).await?).clone()
    };
    let mut extremities = snapshot.extremities.clone();
    let beside = extremities.split_off(extremities.len().min(MOST_PREV_EVENTS));
    let mut planner = Planner {
        server,
        room,
        place: Place {
            root: snapshot.root,
            depth: snapshot.depth,
            related: snapshot.related,
            extremities,
            counts: Counts::default(),
        },
        beside,
        changes: Changes::default(),
        trees: Trees::new(server, room),
        pdus: Vec::new(),
        is_again,
    };
    if !planner.beside.is_empty() {
        planner.place.root = planner.merged(&planner.place.extremities.clone(), None).await?;
    }
    let mut answers = Vec::with_capacity(requests.len());
    for request in requests {
        answers.push(planner.request(request).await);
    }
    if !planner.beside.is_empty() && !planner.changes.events.is_empty() {
        planner.join_others(snapshot.root).await?;
    }
    Ok(planner.finish(snapshot, creates, answers))
}

struct Planner<'a> {
    server: &'a Server,
    room: &'a Arc<Room>,
    place: Place,
    /// Extremities that the first event does not follow, because they are too many.
    beside: Vec<(i64, OwnedEventId)>,
    changes: Changes,
    trees: Trees<'a>,
    pdus: Vec<Arc<Pdu>>,
    is_again: bool,
}

impl Planner<'_> {
    /// Plans one request; when one of its events is refused, none of them stays.
    async fn request(&mut self, request: &Request) -> Result<Vec<OwnedEventId>> {
        if let Some(known) = self.repeated(request, self.is_again).await? {
            return Ok(known);
        }
        let before = self.place.clone();
        let mut ids = Vec::with_capacity(request.drafts.len());
        for draft in &request.drafts {
            match self.draft(draft).await {
                Ok(id) => ids.push(id),
                Err(error) => {
                    self.back_to(before);
                    // It may have been allowed the first time.
                    return self.repeated(request, true).await?.ok_or(error);
                }
            }
        }
        // The commit looks only at transactions that bring events.
        if self.changes.events.len() == before.counts.events
            && let Some(known) = self.repeated(request, true).await?
        {
            return Ok(known);
        }
        if let Some(transaction) = &request.transaction {
            // A transaction is one event; where nothing changed there is none.
            let first = self.changes.events.get_mut(before.counts.events..).and_then(|new| new.first_mut());
            if let Some(event) = first {
                event.transaction = Some((transaction.device_pk, transaction.id.clone()));
            }
            let answer = ids.first().map(ToString::to_string).unwrap_or_default();
            let (scope, id) = (transaction.scope.clone(), transaction.id.clone());
            self.changes.transactions.push((transaction.device_pk, scope, id, answer, self.server.now_ms()));
        }
        Ok(ids)
    }

    /// The answer that a transaction has already: from this batch, or, where that is to be looked at, from any time before.
    async fn repeated(&self, request: &Request, look: bool) -> Result<Option<Vec<OwnedEventId>>> {
        let Some(transaction) = &request.transaction else { return Ok(None) };
        let same = |t: &&(i64, String, String, String, i64)| {
            t.0 == transaction.device_pk && t.1 == transaction.scope && t.2 == transaction.id
        };
        let answer = match self.changes.transactions.iter().find(same) {
            Some(planned) => Some(planned.3.clone()),
            None if !look => None,
            None => {
                let mut connection = self.server.database.read().await?;
                let (device, scope, id) = (transaction.device_pk, &transaction.scope, &transaction.id);
                transaction_ids::find(&mut connection, device, scope, id).await?
            }
        };
        let Some(answer) = answer else { return Ok(None) };
        let id = OwnedEventId::try_from(answer).map_err(|e| Error::internal(e.to_string()))?;
        Ok(Some(vec![id]))
    }

    fn back_to(&mut self, before: Place) {
        let counts = before.counts;
        self.changes.events.truncate(counts.events);
        self.changes.relations.truncate(counts.relations);
        self.changes.redactions.truncate(counts.redactions);
        self.changes.redacted.truncate(counts.redacted);
        self.pdus.truncate(counts.events);
        self.trees.new_keys.truncate(counts.keys);
        self.place = before;
    }

    /// Makes one event of a draft, if the room's rules allow it.
    async fn draft(&mut self, draft: &Draft) -> Result<OwnedEventId> {
        if let Some(same) = self.unchanged(draft).await? {
            return Ok(same);
        }
        let is_create = draft.kind == "m.room.create";
        if is_create && !self.place.extremities.is_empty() {
            return Err(Error::bad_json("a room is created once"));
        }
        if draft.kind == "m.room.power_levels" {
            self.must_leave_out_creators(draft).await?;
        }
        let (root, state_key) = (self.place.root, draft.state_key.as_deref());
        let auth = self.trees.deciding(root, &draft.kind, &draft.sender, state_key, &draft.content).await?;
        let auth = auth.map_err(|reason| Error::bad_json(reason.0))?;
        let rules = &self.room.rules;
        let named = |event: &&Arc<Pdu>| !(version::room_id_is_hash(rules) && &*event.kind == "m.room.create");
        let depth = self.place.depth.saturating_add(1).min(i64::from(ruma::Int::MAX));
        let builder = PduBuilder {
            room_id: (!is_create || !version::room_id_is_hash(rules)).then(|| self.room.id.clone()),
            sender: draft.sender.clone(),
            kind: draft.kind.clone(),
            state_key: draft.state_key.clone(),
            content: draft.content.clone(),
            redacts: draft.redacts.clone(),
            origin_server_ts: draft.timestamp.unwrap_or_else(|| self.server.now_ms().cast_unsigned()),
            depth,
            prev_events: self.place.extremities.iter().map(|(_, id)| id.clone()).collect(),
            auth_events: auth.iter().filter(named).map(|event| event.event_id.clone()).collect(),
        };
        let (event_id, json) = builder.build(self.server.name(), &self.server.key, rules).map_err(refused)?;
        let mut pdu = Pdu::parse(event_id, rules, &json).map_err(|e| Error::bad_json(e.to_string()))?;
        let find = |kind: &str, key: &str| auth.iter().find(|event| event.is(kind, key)).cloned();
        authorize::authorize(rules, &pdu, find).map_err(forbidden)?;
        pdu.pk = self.server.ids.events.next().await?;
        pdu.state_root = self.place.root;
        self.redaction(&pdu).await?;
        self.place_event(Arc::new(pdu), json).await
    }

    /// The event itself where a state event would change nothing: clients repeat themselves, rooms need not.
    async fn unchanged(&mut self, draft: &Draft) -> Result<Option<OwnedEventId>> {
        let Some(state_key) = &draft.state_key else { return Ok(None) };
        let Some(current) = self.state(&[(draft.kind.as_str(), state_key.as_str())]).await?.pop() else {
            return Ok(None);
        };
        let parse = |text| serde_json::from_str::<serde_json::Value>(text).ok();
        let same =
            current.sender == draft.sender && parse(current.content.get()) == parse(draft.content.get());
        Ok(same.then(|| current.event_id.clone()))
    }

    /// The events at keys of the state that the room has at this place.
    async fn state(&mut self, keys: &[(&str, &str)]) -> Result<Vec<Arc<Pdu>>> {
        self.trees.at(self.place.root, keys).await
    }

    /// Whether a redaction may be sent, and what it does to its target.
    async fn redaction(&mut self, pdu: &Pdu) -> Result<()> {
        let Some(target_id) = pdu.redacts.clone() else { return Ok(()) };
        let Some(target) = self.server.rooms.event_by_id(&target_id).await? else {
            // It may be an event that other servers have. Should it come, it is judged then.
            self.changes.redactions.push((target_id.to_string(), pdu.pk, self.room.pk, false));
            return Ok(());
        };
        if target.room_pk != self.room.pk {
            return Err(Error::not_found("the event to be redacted is not in this room"));
        }
        let powerful = self.may(&pdu.sender, Action::Redact).await?;
        if !redaction::may_send(&pdu.sender, &target.sender, powerful) {
            return Err(Error::forbidden("you may redact your own events only"));
        }
        let stripped =
            redaction::redacted(&target.pdu, &self.room.rules).map_err(|e| Error::internal(e.to_string()))?;
        self.changes.redactions.push((target_id.to_string(), pdu.pk, self.room.pk, true));
        self.changes.redacted.push((target.pk, self.room.pk, stripped.json()));
        Ok(())
    }

    /// Where creators have all power, no power levels may name them. The rules say so too; but this is the client's
    /// mistake, not a matter of what it may do.
    async fn must_leave_out_creators(&mut self, draft: &Draft) -> Result<()> {
        #[derive(Deserialize)]
        struct Levels {
            #[serde(default)]
            users: HashMap<String, IgnoredAny>,
        }
        if !version::creators_are_privileged(&self.room.rules) {
            return Ok(());
        }
        let Ok(Levels { users }) = serde_json::from_str(draft.content.get()) else { return Ok(()) };
        let events = self.state(&lookup::POWERS).await?;
        let powers = lookup::powers_of(&self.room.rules, &events).map_err(forbidden)?;
        let named = powers.and_then(|powers| {
            powers.creators().iter().find(|creator| users.contains_key(creator.as_str())).cloned()
        });
        match named {
            Some(creator) => {
                Err(Error::bad_json(format!("{creator} made the room, and has all power as it is")))
            }
            None => Ok(()),
        }
    }

    async fn may(&mut self, user: &UserId, action: Action) -> Result<bool> {
        let events = self.state(&lookup::POWERS).await?;
        let powers = lookup::powers_of(&self.room.rules, &events).map_err(forbidden)?;
        powers.map_or(Ok(false), |powers| powers.may_do(user, action).map_err(forbidden))
    }

    /// Puts an event at the end of the room.
    async fn place_event(&mut self, pdu: Arc<Pdu>, json: String) -> Result<OwnedEventId> {
        let membership = self.membership(&pdu).await?;
        // What stands before it is where the room is now.
        self.place.root = self.trees.after(&pdu).await?;
        if let Some(relation) = relation(self.server, self.room, &pdu).await? {
            if relations::is_bundled(&relation.2) {
                self.place.related = self.place.related.max(pdu.depth);
            }
            self.changes.relations.push(relation);
        }
        let state_after = pdu.is_state().then_some(self.place.root);
        self.changes.events.push(NewEvent {
            live: true,
            state_after,
            membership,
            ..row(&pdu, self.room, json)
        });
        self.place.depth = pdu.depth;
        self.place.extremities = vec![(pdu.pk, pdu.event_id.clone())];
        self.trees.plan(pdu.clone());
        let event_id = pdu.event_id.clone();
        self.pdus.push(pdu);
        self.place.counts = Counts {
            events: self.changes.events.len(),
            keys: self.trees.new_keys.len(),
            relations: self.changes.relations.len(),
            redactions: self.changes.redactions.len(),
            redacted: self.changes.redacted.len(),
        };
        Ok(event_id)
    }

    /// What a member event means for the table of members, with the stripped state for those who only look in.
    async fn membership(&mut self, pdu: &Pdu) -> Result<Option<NewMembership>> {
        let (Some(text), Some(user_id)) = (pdu.membership(), pdu.state_key.as_deref()) else {
            return Ok(None);
        };
        let membership = membership_number(&text)
            .ok_or_else(|| Error::bad_json("the membership is none that the specification knows"))?;
        let user_pk = self.server.ids.user(user_id).await?;
        let stripped = self.trees.stripped(self.place.root, pdu, membership).await?;
        Ok(Some(NewMembership { user_pk, membership, stripped }))
    }

    /// The state behind these extremities together, and behind `root` too.
    async fn merged(&mut self, ends: &[(i64, OwnedEventId)], root: Option<NodeId>) -> Result<NodeId> {
        let mut roots: Vec<NodeId> = root.into_iter().collect();
        let pks: Vec<i64> = ends.iter().map(|(pk, _)| *pk).collect();
        for end in self.server.rooms.events(&pks).await? {
            roots.push(self.trees.after(&end).await?);
        }
        self.trees.resolve(&roots).await
    }

    /// The current state is that behind the new events and behind the extremities beside them, which are more than an
    /// event may follow. What moves is told for all events together.
    async fn join_others(&mut self, before: NodeId) -> Result<()> {
        let beside = self.beside.clone();
        self.place.root = self.merged(&beside, Some(self.place.root)).await?;
        self.place.extremities.extend(beside);
        let changes = self.trees.diff(before, self.place.root).await?;
        if !changes.is_empty() {
            self.changes.moves.push(self.trees.moved(&changes, self.place.root).await?);
        }
        for event in &mut self.changes.events {
            (event.state_after, event.membership) = (None, None);
        }
        Ok(())
    }

    fn finish(mut self, before: Snapshot, creates: bool, answers: Vec<Result<Vec<OwnedEventId>>>) -> Plan {
        let after = Snapshot {
            guard: before.guard + 1,
            root: self.place.root,
            depth: self.place.depth,
            related: self.place.related,
            extremities: self.place.extremities,
            upto: before.upto,
        };
        let room = self.room;
        if !self.changes.events.is_empty() {
            let new = creates.then(|| (room.id.to_string(), room.version.to_string()));
            // The create event's id may be the room's: then the room is lost where another one has it.
            let create = self.pdus.first().filter(|_| creates);
            self.changes.unheard_of.extend(create.map(|event| (room.pk, event.event_id.to_string())));
            self.changes.rooms.push(RoomChange { new, ..change(room, &before, &after) });
        }
        let roots = self.changes.events.iter().map(|event| event.root).chain([after.root]);
        self.changes.nodes = self.trees.nodes_of(roots);
        self.changes.state_keys = self.trees.state_keys();
        Plan { changes: self.changes, pdus: self.pdus, after, view: self.trees.view, answers }
    }
}

pub(super) fn forbidden(reason: Reason) -> Error {
    Error::Forbidden(reason.0)
}

pub(super) fn refused(error: BuildError) -> Error {
    match error {
        BuildError::Nul(_) => Error::BadJson(error.to_string()),
        BuildError::TooLarge | BuildError::FieldTooLong(_) => Error::TooLarge(error.to_string()),
        BuildError::Content(_) => Error::BadJson(error.to_string()),
        BuildError::RoomId | BuildError::Sign(_) => Error::Internal(error.to_string()),
    }
}
