//! What clients read of rooms: single events, context, pages of messages, members.

use crate::error::{Error, Result};
use crate::events::client_format::Shape;
use crate::rooms::cache::{Room, Stored};
use crate::rooms::serialize::Reader;
use crate::rooms::timeline::{Page, Point, Reading};
use crate::server::Server;
use crate::sync::filter;
use myelin_storage::changes::{HISTORY, OUTLIER, REJECTED, SOFT_FAILED};
use myelin_storage::rooms::{events, memberships, state};
use ruma::api::client::filter::RoomEventFilter;
use ruma::{EventId, OwnedEventId, OwnedRoomId, OwnedUserId, RoomId};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::BTreeSet;
use std::sync::Arc;

type Shown = Vec<Box<RawValue>>;

/// Events that are looked at for one page, when a filter leaves out most of them.
const LOOKED_AT: usize = 2_000;

/// How often other servers are asked for one page.
const FETCHES: usize = 5;

/// Events that other servers are asked for at least, when something is missing.
const LEAST_FETCHED: usize = 30;

/// Told of events that are not here and of those that the reader may not see alike.
const NO_EVENT: &str = "there is no such event here, or you may not see it";

/// An answer of /messages.
pub struct Messages {
    /// Where the page begins.
    pub start: Point,
    /// Where the next one does, if there is one.
    pub end: Option<Point>,
    /// The events.
    pub chunk: Shown,
    /// The senders' member events, where the client loads members lazily.
    pub state: Shown,
}

/// An answer of /context.
pub struct Context {
    /// Where events before the context are.
    pub start: Point,
    /// Where events behind the context are.
    pub end: Point,
    /// The events before, newest first.
    pub before: Shown,
    /// The event itself.
    pub event: Box<RawValue>,
    /// The events behind, oldest first.
    pub after: Shown,
    /// The room's state at the last of them.
    pub state: Shown,
}

#[derive(Deserialize)]
struct MemberContent {
    displayname: Option<String>,
    avatar_url: Option<String>,
}

impl Reading {
    /// The end of the reader's last time in the room; see [`Server::visible_events`].
    pub fn joined_until(&self) -> i64 {
        match self.joined || self.upto < i64::MAX {
            true => self.upto,
            // Somebody who only looks in was never joined.
            false => 0,
        }
    }
}

impl Server {
    /// One event that the reader may see. M_NOT_FOUND otherwise, so that nothing is told about events of other rooms.
    pub async fn event_for(
        &self,
        room_id: &RoomId,
        event_id: &EventId,
        reader: &Reader<'_>,
    ) -> Result<Box<RawValue>> {
        let found = self.readable_event(room_id, event_id, reader).await;
        let (reading, event) = found.map_err(|error| match error {
            Error::Forbidden(_) => Error::not_found(NO_EVENT),
            other => other,
        })?;
        let shown = self.serialize(&reading.room, reader, &[event], Shape::Full).await?;
        shown.into_iter().next().ok_or_else(|| Error::internal("an event was lost"))
    }

    async fn readable_event(
        &self,
        room_id: &RoomId,
        event_id: &EventId,
        reader: &Reader<'_>,
    ) -> Result<(Reading, Stored)> {
        let reading = self.reading(room_id, reader.user_pk).await?;
        let missing = || Error::not_found(NO_EVENT);
        let event = self.rooms.event_by_id(event_id).await?.ok_or_else(missing)?;
        let hidden = event.flags & (OUTLIER | REJECTED | SOFT_FAILED) != 0;
        if event.room_pk != reading.room.pk || hidden || event.pos > reading.upto {
            return Err(missing());
        }
        let joined = reading.joined_until();
        let visible = self.visible_events(&reading.room, reader, joined, vec![event]).await?;
        let event = visible.into_iter().next().ok_or_else(missing)?;
        Ok((reading, event))
    }

    /// A page of a room's messages.
    pub async fn messages(
        &self,
        room_id: &RoomId,
        reader: &Reader<'_>,
        span: (Option<Point>, Option<Point>),
        backwards: bool,
        limit: usize,
        filter: &RoomEventFilter,
    ) -> Result<Messages> {
        let reading = self.reading(room_id, reader.user_pk).await?;
        let newest = Point::at(self.log.visible());
        let start = span.0.unwrap_or(if backwards { newest } else { Point::at(0) });
        let (mut from, mut chosen, mut looked) = (Some(start), Vec::new(), 0);
        let mut fetches = if backwards { FETCHES } else { 0 };
        while let Some(point) = from
            && chosen.len() < limit
            && looked < LOOKED_AT
        {
            let wanted = limit - chosen.len();
            let page = self.page(&reading, point, span.1, backwards, wanted).await?;
            let gaps = match backwards && (fetches > 0 || page.end.is_none()) {
                true => self.gaps_to_fill(&reading, &page).await?,
                false => Vec::new(),
            };
            if fetches > 0 {
                let fetched = self.fetch_history(&reading.room, &gaps, wanted).await?;
                fetches = if fetched { fetches - 1 } else { 0 };
                if fetched {
                    continue;
                }
            }
            from = page.end;
            // What is missing may be had another time.
            let ends_at_gap = from.is_none() && !page.events.is_empty() && !gaps.is_empty();
            looked += page.events.len();
            let joined = reading.joined_until();
            let visible = self.visible_events(&reading.room, reader, joined, page.events).await?;
            chosen.extend(visible.into_iter().filter(|event| filter::wants_event(filter, event)));
            if ends_at_gap {
                from = Some(page.last);
                break;
            }
        }
        if !filter::wants_events_of(filter, room_id) {
            chosen.clear();
        }
        let state = match filter::members(filter) {
            filter::Members::All => Vec::new(),
            _ => self.senders(&reading, &chosen).await?,
        };
        let chunk = self.serialize(&reading.room, reader, &chosen, Shape::Full).await?;
        Ok(Messages { start, end: from, chunk, state })
    }

    /// What is missing behind a page, where other servers may have it and the reader may see it.
    async fn gaps_to_fill(&self, reading: &Reading, page: &Page) -> Result<Vec<OwnedEventId>> {
        let alone = self.remote().is_err() || self.servers_in(&reading.room).await?.len() < 2;
        if alone || !reading.joined {
            return Ok(Vec::new());
        }
        self.gaps_behind(&reading.room, page).await
    }

    /// Asks other servers for what lies in gaps. Says whether the page is to be read again.
    async fn fetch_history(&self, room: &Arc<Room>, gaps: &[OwnedEventId], wanted: usize) -> Result<bool> {
        let Ok(remote) = self.remote() else { return Ok(false) };
        if gaps.is_empty() {
            return Ok(false);
        }
        match remote.backfill(room, gaps, wanted.max(LEAST_FETCHED)).await {
            Ok(new) => Ok(new > 0),
            Err(error) => {
                // The reader gets what is here.
                tracing::debug!(%error, room = %room.id, "history could not be fetched");
                Ok(false)
            }
        }
    }

    /// The member events of those who sent these events.
    async fn senders(&self, reading: &Reading, events: &[Stored]) -> Result<Shown> {
        let senders: BTreeSet<&str> = events.iter().map(|event| event.sender.as_str()).collect();
        let keys: Vec<(&str, &str)> = senders.into_iter().map(|sender| ("m.room.member", sender)).collect();
        let members = self.state_events(&reading.room, reading.root, &keys).await?;
        self.serialize_state(&members, Shape::Full)
    }

    /// An event with what stands around it.
    pub async fn context(
        &self,
        room_id: &RoomId,
        event_id: &EventId,
        reader: &Reader<'_>,
        limit: usize,
        filter: &RoomEventFilter,
    ) -> Result<Context> {
        let (reading, event) = self.readable_event(room_id, event_id, reader).await?;
        let (room, joined) = (&reading.room, reading.joined_until());
        let half = limit / 2;
        let (older, newer) = self.around(&event).await?;
        let before = self.page(&reading, older, None, true, half).await?;
        let after = self.page(&reading, newer, None, false, limit - half).await?;
        let (start, end) = (before.last, after.last);
        let root = after.events.last().map_or(event.state_root, |event| event.state_root);
        let choose = async |events| {
            let mut visible = self.visible_events(room, reader, joined, events).await?;
            visible.retain(|event| filter::wants_event(filter, event));
            Ok::<_, Error>(visible)
        };
        let (before, after) = (choose(before.events).await?, choose(after.events).await?);
        let state = match filter::members(filter) {
            filter::Members::All => {
                self.full_state(room, root).await?.into_iter().map(|(.., pk)| pk).collect()
            }
            _ => {
                let shown: BTreeSet<&str> =
                    before.iter().chain(&after).chain([&event]).map(|e| e.sender.as_str()).collect();
                let state = self.full_state(room, root).await?;
                let wanted = |(kind, key, pk): (std::sync::Arc<str>, std::sync::Arc<str>, i64)| {
                    (&*kind != "m.room.member" || shown.contains(&*key)).then_some(pk)
                };
                state.into_iter().filter_map(wanted).collect::<Vec<i64>>()
            }
        };
        let state = self.serialize_state(&self.rooms.events(&state).await?, Shape::Full)?;
        let event = self.serialize(room, reader, &[event], Shape::Full).await?;
        Ok(Context {
            start,
            end,
            before: self.serialize(room, reader, &before, Shape::Full).await?,
            event: event.into_iter().next().ok_or_else(|| Error::internal("an event was lost"))?,
            after: self.serialize(room, reader, &after, Shape::Full).await?,
            state,
        })
    }

    /// The points before and behind an event.
    async fn around(&self, event: &Stored) -> Result<(Point, Point)> {
        if event.flags & HISTORY == 0 {
            return Ok((Point::at(event.pos - 1), Point::at(event.pos)));
        }
        let place = events::place(&mut self.database.read().await?, event.event_id.as_str()).await?;
        let before = place.ok_or_else(|| Error::internal("history without a place"))?;
        let point = |pk| Point::in_past(before, event.depth, pk);
        Ok((point(event.pk), point(event.pk + 1)))
    }

    /// The state that the reader may see as the room's present one.
    pub async fn state_for(&self, room_id: &RoomId, reader: &Reader<'_>) -> Result<Shown> {
        let reading = self.reading(room_id, reader.user_pk).await?;
        let entries = self.full_state(&reading.room, reading.root).await?;
        let pks: Vec<i64> = entries.into_iter().map(|(.., pk)| pk).collect();
        self.serialize_state(&self.rooms.events(&pks).await?, Shape::Full)
    }

    /// One piece of that state.
    pub async fn state_event_for(
        &self,
        room_id: &RoomId,
        reader: &Reader<'_>,
        kind: &str,
        state_key: &str,
    ) -> Result<Stored> {
        let reading = self.reading(room_id, reader.user_pk).await?;
        let found = self.state_event(&reading.room, reading.root, kind, state_key).await?;
        found.ok_or_else(|| Error::not_found("the room has no such state"))
    }

    /// The member events of a room, now or at a point, each with its membership.
    pub async fn members_for(
        &self,
        room_id: &RoomId,
        reader: &Reader<'_>,
        at: Option<&str>,
    ) -> Result<Vec<(String, Box<RawValue>)>> {
        let reading = self.reading(room_id, reader.user_pk).await?;
        let root = match at.map(Point::parse).transpose()? {
            Some(point) => {
                let pos = point.pos.min(reading.upto);
                state::root_at(&mut self.database.read().await?, reading.room.pk, pos).await?
            }
            None => reading.root,
        };
        let entries = self.full_state(&reading.room, root).await?;
        let members = entries.into_iter().filter(|(kind, ..)| &**kind == "m.room.member");
        let events = self.rooms.events(&members.map(|(.., pk)| pk).collect::<Vec<_>>()).await?;
        let shown = self.serialize_state(&events, Shape::Full)?;
        let membership =
            |event: &Stored| event.membership().map(|text| text.into_owned()).unwrap_or_default();
        Ok(events.iter().map(membership).zip(shown).collect())
    }

    /// Who is joined to a room, with the names that they have there.
    pub async fn joined_members(
        &self,
        room: &Room,
    ) -> Result<Vec<(OwnedUserId, Option<String>, Option<String>)>> {
        let joined =
            memberships::of_room(&mut self.database.read().await?, room.pk, memberships::JOIN).await?;
        let events = self.rooms.events(&joined.into_iter().map(|(_, pk)| pk).collect::<Vec<_>>()).await?;
        let mut members = Vec::with_capacity(events.len());
        for event in events {
            let Some(user) = event.state_key.as_deref().and_then(|id| OwnedUserId::try_from(id).ok()) else {
                continue;
            };
            let content = event.content_as::<MemberContent>();
            let (name, avatar) = content.map_or((None, None), |c| (c.displayname, c.avatar_url));
            members.push((user, name, avatar));
        }
        Ok(members)
    }

    /// The rooms that a user is joined to.
    pub async fn joined_rooms(&self, user_pk: i64) -> Result<Vec<OwnedRoomId>> {
        let rows = memberships::of_user(&mut self.database.read().await?, user_pk).await?;
        let mut rooms = Vec::new();
        for row in rows.into_iter().filter(|row| row.membership == memberships::JOIN) {
            rooms.push(self.rooms.by_pk(row.room_pk).await?.id.clone());
        }
        Ok(rooms)
    }
}
