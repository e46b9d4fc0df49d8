//! Giving a received event its place: the state before it, what the rules say, and what becomes of the room.

use super::check::Checked;
use super::near::Near;
use super::{Arrival, Received, Step, ToldBy};
use crate::error::{Error, Result};
use crate::events::pdu::Pdu;
use crate::events::redaction;
use crate::events::{can_be_id, canonical};
use crate::rooms::append::plan::Plan;
use crate::rooms::append::trees::Trees;
use crate::rooms::append::{change, relation, row};
use crate::rooms::authorize::{self, Action, Reason};
use crate::rooms::cache::{Room, Snapshot};
use crate::rooms::lookup;
use crate::rooms::relations;
use crate::rooms::state::NodeId;
use crate::server::Server;
use myelin_storage::changes::{
    Changes, FORWARDED, GAP, HISTORY, NewEvent, OUTLIER, REDACTED, REJECTED, SOFT_FAILED, TOLD,
};
use myelin_storage::rooms::{events, gaps};
use ruma::OwnedEventId;
use std::cmp::Reverse;
use std::collections::HashSet;
use std::sync::Arc;

/// Failed events through which is looked for extremities that a new event follows.
const WALK: usize = 1_000;

/// Plans an event on the room's newest snapshot. Where it follows what the room ends with, as nearly all do, it is taken
/// for granted that nothing is known of it, unless `is_again`: the commit notices (`storage::changes`), at less cost than
/// three looks here.
pub(super) async fn plan(
    server: &Server,
    room: &Arc<Room>,
    checked: &Checked,
    arrival: &Arrival,
    is_again: bool,
) -> Result<Step> {
    // The snapshot comes first: what is read behind it cannot be older than its guard.
    let snapshot = server.rooms.snapshot(room).await?;
    let mut pdu = checked.pdu.clone();
    let near = Near::look(server, room, &pdu, arrival).await?;
    let is_next = near.as_ref().is_ok_and(|near| near.is_all_of(&snapshot));
    let unheard_of = is_next && !is_again && !server.rooms.has_met(&pdu.event_id);
    let known = match unheard_of {
        true => None,
        false => match server.rooms.find_event(&pdu.event_id).await? {
            Some(pk) => server.rooms.fresh_event(pk).await?,
            None => None,
        },
    };
    if let Some(known) = &known
        && known.flags & OUTLIER == 0
    {
        return Ok(Step::Answer(vec![Received::Known(pdu.event_id)]));
    }
    let near = match near {
        Ok(near) => near,
        Err(answer) => return Ok(Step::Answer(vec![answer])),
    };
    pdu.pk = match &known {
        Some(known) => known.pk,
        None => server.ids.events.next().await?,
    };
    let mut changes = Changes::default();
    if unheard_of {
        changes.unheard_of.push((room.pk, pdu.event_id.to_string()));
    }
    let trees = Trees::new(server, room);
    let mut placing = Placing { server, room, snapshot: &snapshot, near, is_next, trees, changes };
    if &*pdu.kind == "m.room.create" {
        let create = placing.trees.at(snapshot.root, &[("m.room.create", "")]).await?.pop();
        if create.is_some_and(|create| create.event_id != pdu.event_id) {
            let text = "the room has another create event".to_owned();
            return Ok(Step::Answer(vec![Received::Refused(text)]));
        }
    }
    pdu.state_root = placing.state_before(&pdu).await?;
    let verdict = placing.verdict(&pdu).await?;
    pdu.rejected = verdict.is_err();
    let soft = match verdict.is_ok() && arrival.history_before.is_none() {
        true => match placing.current_verdict(&pdu).await? {
            Ok(()) => placing.recommended(checked).await?,
            refused => refused,
        },
        false => Ok(()),
    };
    pdu.soft_failed = soft.is_err();
    let id = pdu.event_id.clone();
    let answer = match (verdict, soft) {
        (Err(reason), _) => Received::Rejected(id, reason),
        (_, Err(reason)) => Received::SoftFailed(id, reason),
        _ => Received::Accepted(id),
    };
    let plan = placing.finish(pdu, checked.json.clone(), known.is_some(), arrival).await?;
    Ok(Step::Write(Box::new(plan), vec![answer]))
}

struct Placing<'a> {
    server: &'a Server,
    room: &'a Arc<Room>,
    snapshot: &'a Snapshot,
    near: Near,
    /// The event follows exactly the room's extremities: the state before it is the current one.
    is_next: bool,
    trees: Trees<'a>,
    changes: Changes,
}

impl Placing<'_> {
    /// Nothing is known of the event, by what the commit will see.
    fn is_unheard_of(&self) -> bool {
        !self.changes.unheard_of.is_empty()
    }

    /// The state before the event: resolved from those after its previous events and, where some of these are missing,
    /// from what the sender says. Known branches count even then, so nobody undoes a ban by naming an event that nobody
    /// else has.
    async fn state_before(&mut self, pdu: &Pdu) -> Result<NodeId> {
        if pdu.prev_events.is_empty() {
            return Ok(0);
        }
        if self.is_next {
            return Ok(self.snapshot.root);
        }
        let mut roots = Vec::with_capacity(self.near.prevs.len() + self.near.given.len());
        for prev in &self.near.prevs {
            roots.push(self.trees.after(prev).await?);
        }
        for given in &self.near.given {
            roots.push(self.trees.of(given).await?);
        }
        let before = self.trees.resolve(&roots).await?;
        self.trees.settle(before, self.snapshot.root).await
    }

    /// The rules by the auth events and by the state before the event.
    async fn verdict(&mut self, pdu: &Pdu) -> Result<Result<(), Reason>> {
        let (rules, auth) = (&self.room.rules, &self.near.auth);
        let by_key = |kind: &str, key: &str| auth.values().find(|event| event.is(kind, key)).cloned();
        let verdict = authorize::check_auth_events(rules, pdu, |id| auth.get(id).cloned())
            .and_then(|()| authorize::authorize(rules, pdu, by_key));
        match verdict {
            Ok(()) => self.trees.authorize(pdu.state_root, pdu, auth).await,
            rejected => Ok(rejected),
        }
    }

    /// The rules by the current state. Where the sender told us the state before the event, we have a gap and perhaps
    /// an old view of the room: then that state counts too.
    async fn current_verdict(&mut self, pdu: &Pdu) -> Result<Result<(), Reason>> {
        if self.snapshot.extremities.is_empty() || self.is_next {
            return Ok(Ok(()));
        }
        let root = match self.near.given.is_empty() {
            true => self.snapshot.root,
            false => self.trees.resolve(&[self.snapshot.root, pdu.state_root]).await?,
        };
        self.trees.authorize(root, pdu, &self.near.auth).await
    }

    /// Whether the room's policy server recommends the event, if there is one.
    async fn recommended(&self, checked: &Checked) -> Result<Result<(), Reason>> {
        let policy = self.server.policy_server(self.room, self.snapshot.root).await?;
        let Some(policy) = policy else { return Ok(Ok(())) };
        let event = canonical::parse(&checked.json).map_err(Error::internal_display)?;
        Ok(match policy.recommends(self.room, &event) {
            true => Ok(()),
            false => Err(Reason(format!("{} does not recommend it", policy.name))),
        })
    }

    async fn finish(
        mut self,
        mut pdu: Pdu,
        mut json: String,
        was_outlier: bool,
        arrival: &Arrival,
    ) -> Result<Plan> {
        let failed = pdu.rejected || pdu.soft_failed;
        let live = !failed && arrival.history_before.is_none();
        let mut flags = if pdu.rejected { REJECTED } else { 0 };
        flags |= if pdu.soft_failed { SOFT_FAILED } else { 0 };
        flags |= if arrival.history_before.is_some() { HISTORY } else { 0 };
        flags |= match arrival.told_by {
            ToldBy::Us if live => FORWARDED,
            ToldBy::Other => TOLD,
            _ => 0,
        };
        flags |= if live && !self.near.missing.is_empty() { GAP } else { 0 };
        if !failed && let Some(redacted) = self.redactions(&pdu).await? {
            json = redacted.json();
            pdu = redacted;
            flags |= REDACTED;
        }
        let before_pos = match &arrival.history_before {
            Some(id) => Some(self.place_of(id).await?),
            None => None,
        };
        let pdu = Arc::new(pdu);
        let event = row(&pdu, self.room, json);
        self.changes.events.push(NewEvent { was_outlier, live, before_pos, flags, ..event });
        let mut after = self.snapshot.clone();
        after.guard += 1;
        if !failed {
            self.relate(&pdu, &mut after).await?;
        }
        let followed = self.close_gaps(&pdu).await?;
        if live {
            self.trees.plan(pdu.clone());
            self.move_room(&pdu, followed, &mut after).await?;
        }
        self.changes.rooms.push(change(self.room, self.snapshot, &after));
        self.changes.nodes = self.trees.nodes_of([pdu.state_root, after.root]);
        self.changes.state_keys = self.trees.state_keys();
        let view = std::mem::take(&mut self.trees.view);
        Ok(Plan { changes: self.changes, pdus: vec![pdu], after, view, answers: Vec::new() })
    }

    /// Notes what the event relates to. Depths may lie, so that of its target counts too.
    async fn relate(&mut self, pdu: &Pdu, after: &mut Snapshot) -> Result<()> {
        let Some(relation) = relation(self.server, self.room, pdu).await? else { return Ok(()) };
        if relations::is_bundled(&relation.2) {
            let target = match OwnedEventId::try_from(relation.1.as_str()) {
                Ok(id) => self.server.rooms.event_by_id(&id).await?,
                Err(_) => None,
            };
            let target_depth = target.map_or(0, |target| target.depth.saturating_add(1));
            after.related = after.related.max(pdu.depth).max(target_depth);
        }
        self.changes.relations.push(relation);
        Ok(())
    }

    /// The position before which history belongs.
    async fn place_of(&self, event_id: &OwnedEventId) -> Result<i64> {
        let place = events::place(&mut self.server.database.read().await?, event_id.as_str()).await?;
        place.ok_or_else(|| Error::not_found("the event that follows the history has no place itself"))
    }

    /// Notes which previous events are missing, and that this one no longer is. Says whether others follow it already.
    async fn close_gaps(&mut self, pdu: &Pdu) -> Result<bool> {
        for id in self.near.missing.iter().filter(|id| can_be_id(id.as_str())) {
            self.changes.gaps.push((self.room.pk, id.to_string(), pdu.pk));
        }
        if self.is_unheard_of() {
            return Ok(false);
        }
        let mut connection = self.server.database.read().await?;
        let followers = gaps::followers(&mut connection, self.room.pk, pdu.event_id.as_str()).await?;
        drop(connection);
        if followers.is_empty() {
            return Ok(false);
        }
        self.changes.closed_gaps.push((self.room.pk, pdu.event_id.to_string()));
        let followers = self.server.rooms.events(&followers).await?;
        Ok(followers.iter().any(|event| !event.rejected && !event.soft_failed))
    }

    /// The room's extremities and current state with a new event in its timeline.
    async fn move_room(&mut self, pdu: &Arc<Pdu>, followed: bool, after: &mut Snapshot) -> Result<()> {
        let gone = self.followed_by(pdu).await?;
        let stay = self.snapshot.extremities.iter().filter(|(_, id)| !gone.contains(id));
        let pks: Vec<i64> = stay.map(|(pk, _)| *pk).collect();
        let stored = self.server.rooms.events(&pks).await?;
        let mut ends: Vec<Arc<Pdu>> = stored.into_iter().map(|end| end.pdu).collect();
        if followed && ends.len() == self.snapshot.extremities.len() {
            // It fills a gap: what it does to the state has happened already.
            return Ok(());
        }
        if !followed || ends.is_empty() {
            ends.push(pdu.clone());
        }
        ends.sort_by_key(|end| (Reverse(end.depth), end.pk));
        let mut roots = Vec::with_capacity(ends.len());
        for end in &ends {
            roots.push(self.trees.after(end).await?);
        }
        let root = self.trees.resolve(&roots).await?;
        let before = self.snapshot.root;
        after.root = self.trees.settle(root, before).await?;
        after.depth = ends.first().map_or(0, |end| end.depth);
        after.extremities = ends.iter().map(|end| (end.pk, end.event_id.clone())).collect();
        self.tell_move(pdu, before, after.root).await
    }

    /// How the current state moves: by the event alone, as it does when this server makes one, or in another way.
    async fn tell_move(&mut self, pdu: &Pdu, before: NodeId, after: NodeId) -> Result<()> {
        let changes = self.trees.diff(before, after).await?;
        if changes.is_empty() {
            return Ok(());
        }
        let mut moved = self.trees.moved(&changes, after).await?;
        let event = self.changes.events.last_mut().filter(|_| changes.len() == 1);
        match event.filter(|_| changes.iter().all(|change| change.new == Some(pdu.pk))) {
            Some(event) => {
                event.state_after = Some(after);
                event.membership = moved.memberships.pop().map(|(_, membership)| membership);
            }
            None => self.changes.moves.push(moved),
        }
        Ok(())
    }

    /// What is no extremity any more once this event is one: its previous events and, where these failed and so
    /// followed nothing, the ones before them.
    async fn followed_by(&self, pdu: &Pdu) -> Result<HashSet<OwnedEventId>> {
        let mut gone = HashSet::new();
        let mut open = pdu.prev_events.to_vec();
        while let Some(id) = open.pop() {
            if gone.len() >= WALK || !gone.insert(id.clone()) {
                continue;
            }
            let event = self.server.rooms.event_by_id(&id).await?;
            if let Some(event) = event.filter(|event| event.rejected || event.soft_failed) {
                open.extend(event.prev_events.iter().cloned());
            }
        }
        Ok(gone)
    }

    /// What the event redacts, and its redacted form if it was redacted before it came.
    async fn redactions(&mut self, pdu: &Pdu) -> Result<Option<Pdu>> {
        if let Some(target_id) = pdu.redacts.as_ref().filter(|id| can_be_id(id.as_str())) {
            let target = self.server.rooms.event_by_id(target_id).await?;
            let target = target.filter(|target| target.room_pk == self.room.pk);
            let applies = match &target {
                Some(target) => self.redacts(pdu, target).await?,
                None => false,
            };
            self.changes.redactions.push((target_id.to_string(), pdu.pk, self.room.pk, applies));
            if let Some(target) = target.filter(|target| applies && target.flags & REDACTED == 0) {
                self.changes.redacted.push((target.pk, self.room.pk, self.redacted(&target)?.json()));
            }
        }
        if self.is_unheard_of() {
            return Ok(None);
        }
        let mut connection = self.server.database.read().await?;
        let earlier = events::redactions_of(&mut connection, pdu.event_id.as_str()).await?;
        drop(connection);
        for by in self.server.rooms.events(&earlier).await? {
            if by.room_pk == self.room.pk && self.redacts(&by, pdu).await? {
                self.changes.redactions.push((pdu.event_id.to_string(), by.pk, self.room.pk, true));
                return self.redacted(pdu).map(Some);
            }
        }
        Ok(None)
    }

    /// Whether a redaction takes effect, by the power of its sender at its place.
    async fn redacts(&mut self, by: &Pdu, target: &Pdu) -> Result<bool> {
        let events = self.trees.at(by.state_root, &lookup::POWERS).await?;
        let powers = lookup::powers_of(&self.room.rules, &events).ok().flatten();
        let powerful =
            powers.is_some_and(|powers| powers.may_do(&by.sender, Action::Redact).unwrap_or(false));
        Ok(redaction::takes_effect(&by.sender, &target.sender, powerful))
    }

    fn redacted(&self, pdu: &Pdu) -> Result<Pdu> {
        redaction::redacted(pdu, &self.room.rules).map_err(Error::internal_display)
    }
}
