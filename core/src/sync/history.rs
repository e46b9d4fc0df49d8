//! A room's timeline between two positions, and the state that belongs to it.

use crate::error::{Error, Result};
use crate::events::client_format::Shape;
use crate::rooms::cache::{Room, Stored};
use crate::rooms::lookup::StateEntry;
use crate::rooms::state::NodeId;
use crate::rooms::timeline::Point;
use crate::server::Server;
use crate::sync::account::Preferences;
use crate::sync::answer::{History, List, Timeline};
use crate::sync::filter::{self, Members};
use crate::sync::look::{Ask, StateAfter};
use myelin_storage::changes::GAP;
use ruma::api::client::filter::FilterDefinition;
use serde_json::value::RawValue;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Events of a room where the filter names no number, and at most.
const LIMIT: (usize, usize) = (10, 100);
/// Pages that are read at most to fill a timeline of which the filter leaves out most events.
const PAGES: usize = 5;

/// What of a room is asked for.
pub(super) struct Span<'a> {
    pub(super) room: &'a Room,
    /// What the client has: the timeline is behind it.
    pub(super) since: i64,
    /// What the answer reaches.
    pub(super) upto: i64,
    /// The client knows nothing of the room, or wants all state again.
    pub(super) full_state: bool,
    /// The state moved in between without an event.
    pub(super) state_moved: bool,
    /// The end of the user's time in the room.
    pub(super) joined_until: i64,
}

/// The events of a timeline.
struct Chosen {
    /// Oldest first.
    events: Vec<Stored>,
    limited: bool,
    /// Nothing between the two positions was left out.
    complete: bool,
    start: i64,
}

/// A timeline with its state, and whether members are among it.
pub(super) struct Told {
    pub(super) history: History,
    pub(super) members_changed: bool,
}

impl Server {
    /// The timeline and state of a room for somebody.
    pub(super) async fn history(
        &self,
        ask: &Ask<'_>,
        preferences: &Preferences,
        span: &Span<'_>,
    ) -> Result<Told> {
        let chosen = self.choose(ask, preferences, span).await?;
        let state = self.state_of(ask, span, &chosen).await?;
        let is_member = |event: &Stored| &*event.kind == "m.room.member" && event.is_state();
        let members_changed = chosen.events.iter().chain(&state).any(is_member);
        let shape = filter::shape(ask.filter, Shape::Sync);
        let shown = self.serialize(span.room, &ask.reader, &chosen.events, shape).await?;
        let timeline = Timeline {
            events: select(ask, shown)?,
            limited: chosen.limited,
            prev_batch: Point::at(chosen.start).to_string(),
        };
        let list = Some(List::from(select(ask, self.serialize_state(&state, shape)?)?));
        let mut history = History { timeline, ..History::default() };
        match ask.state_after {
            StateAfter::Off => history.state = list,
            StateAfter::Stable => history.state_after = list,
            StateAfter::Unstable => history.unstable_state_after = list,
        }
        Ok(Told { history, members_changed })
    }

    /// A timeline of one event.
    pub(super) async fn only(&self, ask: &Ask<'_>, room: &Room, event: Stored, pos: i64) -> Result<History> {
        let wanted = filter::wants_event(&ask.filter.room.timeline, &event);
        let shown = match wanted {
            true => {
                self.serialize(room, &ask.reader, &[event], filter::shape(ask.filter, Shape::Sync)).await?
            }
            false => Vec::new(),
        };
        let timeline =
            Timeline { events: select(ask, shown)?, limited: false, prev_batch: Point::at(pos).to_string() };
        Ok(History { timeline, state: Some(List::default()), ..History::default() })
    }

    /// The newest events that the user may see and wants.
    async fn choose(&self, ask: &Ask<'_>, preferences: &Preferences, span: &Span<'_>) -> Result<Chosen> {
        let wanted = &ask.filter.room.timeline;
        let limit = limit(ask.filter);
        let (mut newest_first, mut from, mut looked_at, mut all) = (Vec::new(), span.upto, 0, false);
        let mut gap = false;
        let page = limit.saturating_add(1);
        for _ in 0..PAGES {
            let rows = self.rooms.newest(span.room, span.since, from, page).await?;
            all = rows.len() < page;
            from = rows.last().map_or(span.since, |(pos, _)| pos - 1);
            looked_at += rows.len();
            let pks: Vec<i64> = rows.into_iter().map(|(_, pk)| pk).collect();
            let mut events = self.rooms.events(&pks).await?;
            // What lies behind a gap is for the client to page back to, and this server to fetch then.
            if let Some(place) = events.iter().position(|event| event.flags & GAP != 0) {
                gap = true;
                from = events.get(place).map_or(from, |event| event.pos - 1);
                events.truncate(place + 1);
            }
            let seen = self.visible_events(span.room, &ask.reader, span.joined_until, events).await?;
            let shown = |event: &Stored| event.is_state() || !preferences.ignored.contains(&event.sender);
            newest_first
                .extend(seen.into_iter().filter(|event| shown(event) && filter::wants_event(wanted, event)));
            if gap || all || newest_first.len() > limit {
                break;
            }
        }
        if !filter::wants_events_of(wanted, &span.room.id) {
            newest_first.clear();
        }
        let complete = all && !gap && newest_first.len() == looked_at && looked_at <= limit;
        let limited = gap || !all || newest_first.len() > limit;
        newest_first.truncate(limit);
        newest_first.reverse();
        let start =
            newest_first.first().map_or(if all && !gap { span.upto } else { from }, |event| event.pos - 1);
        Ok(Chosen { events: newest_first, limited, complete, start })
    }

    /// The state events that go with a timeline: what changed before it, or by its end; of members perhaps only those
    /// who speak in it.
    async fn state_of(&self, ask: &Ask<'_>, span: &Span<'_>, chosen: &Chosen) -> Result<Vec<Stored>> {
        let after = ask.state_after != StateAfter::Off;
        let moved = span.full_state
            || span.state_moved
            || !chosen.complete
            || (after && chosen.events.iter().any(|event| event.is_state()));
        let in_line = !after && moved && self.is_line(span, chosen).await?;
        let root = match chosen.events.first() {
            // The current state as it was before the first event: that before the event itself is the state of the
            // event's branch, which is another one where branches lie beside each other.
            Some(first) if !after && moved && !in_line => {
                self.rooms.root_at(span.room, first.pos - 1).await?
            }
            Some(first) if !after => first.state_root,
            _ if !moved && ask.members == Members::All => 0,
            _ => self.rooms.root_at(span.room, span.upto).await?,
        };
        let mut entries = if span.full_state {
            self.full_state(span.room, root).await?
        } else if moved {
            let from = self.rooms.root_at(span.room, span.since).await?;
            self.state_since(span.room, from, root).await?
        } else {
            Vec::new()
        };
        if (span.state_moved || span.full_state) && !after && !in_line {
            entries = self.moved_within(span, chosen, root, entries).await?;
        }
        let mut pks = Vec::with_capacity(entries.len());
        let mut members = BTreeMap::new();
        for (kind, key, pk) in entries {
            match &*kind {
                "m.room.member" => drop(members.insert(key.to_string(), pk)),
                _ => pks.push(pk),
            }
        }
        if ask.members != Members::All {
            self.lazy_members(ask, span, chosen, root, &mut members).await?;
        }
        pks.extend(members.into_values());
        if !filter::wants_events_of(&ask.filter.room.state, &span.room.id) {
            return Ok(Vec::new());
        }
        let shown: BTreeSet<i64> = match after {
            true => BTreeSet::new(),
            false => chosen.events.iter().map(|event| event.pk).collect(),
        };
        pks.retain(|pk| !shown.contains(pk));
        let mut state = self.rooms.events(&pks).await?;
        state.retain(|event| filter::wants_event(&ask.filter.room.state, event));
        Ok(state)
    }

    /// The timeline is one line that ends at the room's only extremity: the state before its first event was the current
    /// one then, and nothing moved without an event since.
    async fn is_line(&self, span: &Span<'_>, chosen: &Chosen) -> Result<bool> {
        let snapshot = self.rooms.snapshot(span.room).await?;
        let follows = |pair: &[Stored]| match pair {
            [before, event] => event.prev_events.iter().eq([&before.event_id]),
            _ => true,
        };
        let end = chosen.events.last().map(|event| event.pk);
        let ends = snapshot.extremities.iter().map(|(pk, _)| *pk);
        Ok(end.is_some() && ends.eq(end) && chosen.events.windows(2).all(follows))
    }

    /// The state before a timeline, and what moved within the timeline without an event of it: branches merged, and a
    /// key has an event that is nowhere in the timeline.
    async fn moved_within(
        &self,
        span: &Span<'_>,
        chosen: &Chosen,
        start: NodeId,
        before: Vec<StateEntry>,
    ) -> Result<Vec<StateEntry>> {
        let end = self.rooms.root_at(span.room, span.upto).await?;
        let sets = |kind: &str, key: &str| chosen.events.iter().any(|event| event.is(kind, key));
        let mut entries: BTreeMap<(Arc<str>, Arc<str>), i64> =
            before.into_iter().map(|(kind, key, pk)| ((kind, key), pk)).collect();
        for (kind, key, pk) in self.state_since(span.room, start, end).await? {
            if !sets(&kind, &key) {
                entries.insert((kind, key), pk);
            }
        }
        Ok(entries.into_iter().map(|((kind, key), pk)| (kind, key, pk)).collect())
    }

    /// Replaces the members that changed by those who speak in the timeline, without those that the device has.
    async fn lazy_members(
        &self,
        ask: &Ask<'_>,
        span: &Span<'_>,
        chosen: &Chosen,
        root: NodeId,
        members: &mut BTreeMap<String, i64>,
    ) -> Result<()> {
        let mut speakers: BTreeSet<&str> = chosen.events.iter().map(|event| event.sender.as_str()).collect();
        let own = ask.reader.user.as_str();
        // Members that moved without an event of the timeline are told whether they speak or not.
        members.retain(|user, _| span.state_moved || speakers.contains(user.as_str()) || user == own);
        if span.full_state {
            speakers.insert(own);
        }
        let missing: Vec<(&str, &str)> = speakers
            .into_iter()
            .filter(|user| !members.contains_key(*user))
            .map(|user| ("m.room.member", user))
            .collect();
        for event in self.state_events(span.room, root, &missing).await? {
            if let Some(user) = &event.state_key {
                members.insert(user.to_string(), event.pk);
            }
        }
        let key = (ask.reader.device_pk, span.room.pk);
        let remembered = self.online.sent(key, span.full_state);
        let mut sent = remembered.lock();
        let before = sent.len();
        // What another replica has sent is not known here, nor whether the device began anew there.
        if ask.members == Members::Lazy && !span.full_state && !self.replicas.are_there() {
            members.retain(|user, pk| sent.get(user.as_str()) != Some(&*pk));
        }
        for (user, pk) in &*members {
            sent.insert(user.as_str().into(), *pk);
        }
        for event in chosen.events.iter().filter(|event| &*event.kind == "m.room.member") {
            if let Some(user) = &event.state_key {
                sent.insert(user.clone(), event.pk);
            }
        }
        let grew = sent.len() > before;
        drop(sent);
        if grew {
            self.online.recount_sent(key);
        }
        Ok(())
    }
}

/// How many events of a room a client wants.
pub(super) fn limit(filter: &FilterDefinition) -> usize {
    filter::limit(filter.room.timeline.limit, LIMIT.0, LIMIT.1)
}

/// The fields that the filter asks for.
fn select(ask: &Ask<'_>, events: Vec<Box<RawValue>>) -> Result<Vec<Box<RawValue>>> {
    let Some(fields) = &ask.filter.event_fields else { return Ok(events) };
    let select = |event: &RawValue| filter::select_fields(event, fields).map_err(Error::internal_display);
    events.iter().map(|event| select(event)).collect()
}
