//! Reading a room's timeline: who may read what of it, and pages of it.

use crate::error::{Error, Result};
use crate::rooms::cache::{Room, Stored};
use crate::rooms::lookup::membership_of;
use crate::rooms::state::NodeId;
use crate::rooms::visibility::Membership;
use crate::server::Server;
use myelin_storage::rooms::events::{self, Order};
use myelin_storage::rooms::{gaps, memberships, state};
use ruma::{OwnedEventId, RoomId};
use std::collections::HashSet;
use std::sync::Arc;

/// What a user may read of a room.
pub struct Reading {
    /// The room.
    pub room: Arc<Room>,
    /// The state that is the present one for the user: that of now, or of when they left.
    pub root: NodeId,
    /// The last position that the user may know of; `i64::MAX` for members.
    pub upto: i64,
    /// The user is joined now.
    pub joined: bool,
}

/// A point in a room's timeline: behind a position of the log, and within the history that lies between that position
/// and the next.
///
/// History came by backfill and has no positions of its own: it belongs before an event that has one. Newest first, a
/// timeline is the event at a position, the history that belongs before it (by depth, then number), the event at the
/// position before, and so on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// The position.
    pub pos: i64,
    /// Within the history, before an event with this depth and number, if that is where the point is.
    past: Option<(i64, i64)>,
}

impl Point {
    /// Right behind a position.
    pub const fn at(pos: i64) -> Point {
        Point { pos, past: None }
    }

    /// Before an event of history that belongs before the event at a position.
    pub(crate) const fn in_past(before_pos: i64, depth: i64, event_pk: i64) -> Point {
        Point { pos: before_pos - 1, past: Some((depth, event_pk)) }
    }

    /// Reads a token of /messages (`t12`, `t12_5_77` within history) or of /sync (`s1_12_0`).
    pub fn parse(token: &str) -> Result<Point> {
        let point = match token.split_at_checked(1) {
            Some(("t", rest)) => Self::read(rest),
            Some(("s", rest)) => rest.split('_').nth(1).and_then(|pos| pos.parse().ok()).map(Point::at),
            _ => None,
        };
        let point = point.filter(|point| point.pos >= 0);
        point.ok_or_else(|| Error::invalid_param("the token is not one of this server's"))
    }

    fn read(text: &str) -> Option<Point> {
        let mut numbers = text.split('_');
        let pos = numbers.next()?.parse().ok()?;
        let past = match (numbers.next(), numbers.next(), numbers.next()) {
            (None, ..) => None,
            (Some(depth), Some(pk), None) => Some((depth.parse().ok()?, pk.parse().ok()?)),
            _ => return None,
        };
        Some(Point { pos, past })
    }
}

impl std::fmt::Display for Point {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.past {
            None => write!(f, "t{}", self.pos),
            Some((depth, pk)) => write!(f, "t{}_{depth}_{pk}", self.pos),
        }
    }
}

/// Where something stands in a timeline; what is newer is greater.
type Place = (i64, bool, i64, i64);

/// A page of a timeline.
pub struct Page {
    /// The events, in the direction that was asked for.
    pub events: Vec<Stored>,
    /// Where the next page begins; `None` at the end of what there is.
    pub end: Option<Point>,
    /// Behind the last of the events.
    pub last: Point,
}

impl Server {
    /// What a user may read of a room: members all of it, those who left it what was there when they went, others only
    /// of a room that the world may read.
    pub async fn reading(&self, room_id: &RoomId, user_pk: i64) -> Result<Reading> {
        let outside = || Error::forbidden("you are not in this room, and it is not open to the world");
        let room = self.rooms.find(room_id).await?.ok_or_else(outside)?;
        let root = self.current_root(&room).await?;
        let user = self.ids.user_id(user_pk).await?;
        let member = self.state_event(&room, root, "m.room.member", &user).await?;
        if membership_of(member.as_ref()) == Membership::Join {
            return Ok(Reading { room, root, upto: i64::MAX, joined: true });
        }
        let mut connection = self.database.read().await?;
        let row = memberships::get(&mut connection, user_pk, room.pk).await?;
        if let Some(row) = row.filter(|row| !row.forgotten) {
            if row.membership == memberships::JOIN {
                return Ok(Reading { room, root, upto: i64::MAX, joined: true });
            }
            let history = memberships::history(&mut connection, user_pk, room.pk).await?;
            let was_in = history.iter().any(|(membership, ..)| *membership == memberships::JOIN);
            if was_in && matches!(row.membership, memberships::LEAVE | memberships::BAN) {
                let root = state::root_at(&mut connection, room.pk, row.pos).await?;
                return Ok(Reading { room, root, upto: row.pos, joined: false });
            }
        }
        drop(connection);
        let visibility = self.visibility_in(&room, root).await?;
        if crate::rooms::visibility::may_peek(visibility) {
            return Ok(Reading { room, root, upto: i64::MAX, joined: false });
        }
        Err(outside())
    }

    /// A page of the timeline between two points, newest first (`backwards`) or oldest first. `from` is where it begins;
    /// `to` where it must end, if anywhere.
    pub async fn page(
        &self,
        reading: &Reading,
        from: Point,
        to: Option<Point>,
        backwards: bool,
        limit: usize,
    ) -> Result<Page> {
        if backwards {
            return self.page_back(reading, from, to, limit).await;
        }
        self.page_on(reading, from, to, limit).await
    }

    /// Oldest first, history among it.
    async fn page_on(&self, reading: &Reading, from: Point, to: Option<Point>, limit: usize) -> Result<Page> {
        let room = &reading.room;
        let upto = reading.upto.min(self.log.visible());
        let last = to.map_or(upto, |point| point.pos.min(upto));
        let wanted = i64::try_from(limit).unwrap_or(i64::MAX);
        let has_history = self.may_have_history(room, reading.root).await?;
        let mut connection = self.database.read().await?;
        let live =
            events::between(&mut connection, room.pk, from.pos, last, Order::OldestFirst, wanted).await?;
        let mut found: Vec<(Place, i64)> =
            live.into_iter().map(|(pos, pk)| ((pos, true, 0, 0), pk)).collect();
        if has_history {
            let (depth, pk) = from.past.unwrap_or((i64::MIN, i64::MIN));
            let start = (from.pos.saturating_add(1), depth, pk);
            let past = events::history_from(&mut connection, room.pk, start, last, wanted).await?;
            found.extend(past.into_iter().map(|(before, depth, pk)| ((before, false, depth, pk), pk)));
            found.sort_unstable();
            found.truncate(limit);
        }
        drop(connection);
        let full = found.len() == limit;
        let last = found.last().map(|((pos, live, depth, pk), _)| match live {
            true => Point::at(*pos),
            false => Point::in_past(*pos, *depth, pk + 1),
        });
        let pks: Vec<i64> = found.into_iter().map(|(_, pk)| pk).collect();
        let events = self.rooms.events(&pks).await?;
        Ok(Page { events, end: last.filter(|_| full), last: last.unwrap_or(from) })
    }

    /// Newest first, history among it.
    async fn page_back(
        &self,
        reading: &Reading,
        from: Point,
        to: Option<Point>,
        limit: usize,
    ) -> Result<Page> {
        let room = &reading.room;
        let upto = reading.upto.min(self.log.visible());
        let after = to.map_or(0, |point| point.pos);
        let live = self.rooms.newest(room, after, from.pos.min(upto), limit).await?;
        let mut found: Vec<(Place, i64)> =
            live.into_iter().map(|(pos, pk)| ((pos, true, 0, 0), pk)).collect();
        if self.may_have_history(room, reading.root).await? {
            let (depth, pk) = from.past.unwrap_or((i64::MAX, i64::MAX));
            let start = (from.pos.min(upto).saturating_add(1), depth, pk);
            let wanted = i64::try_from(limit).unwrap_or(i64::MAX);
            let mut connection = self.database.read().await?;
            let past = events::history(&mut connection, room.pk, start, after, wanted).await?;
            found.extend(past.into_iter().map(|(before, depth, pk)| ((before, false, depth, pk), pk)));
            found.sort_unstable_by(|a, b| b.cmp(a));
            found.truncate(limit);
        }
        let full = found.len() == limit;
        let last = found.last().map(|((pos, live, depth, pk), _)| match live {
            true => Point::at(pos - 1),
            false => Point::in_past(*pos, *depth, *pk),
        });
        let pks: Vec<i64> = found.into_iter().map(|(_, pk)| pk).collect();
        let events = self.rooms.events(&pks).await?;
        Ok(Page { events, end: last.filter(|_| full), last: last.unwrap_or(from) })
    }

    /// A room that was made here has no history from elsewhere but what fills gaps.
    async fn may_have_history(&self, room: &Room, root: NodeId) -> Result<bool> {
        if self.remote().is_err() {
            return Ok(false);
        }
        let create = self.state_event(room, root, "m.room.create", "").await?;
        let made_here = create.is_some_and(|create| self.is_local(&create.sender));
        Ok(!made_here || self.servers_in(room).await?.len() > 1)
    }

    /// Events of a page that follow others which are not here; where there are none and the timeline ends, the oldest
    /// that does.
    pub(crate) async fn gaps_behind(&self, room: &Room, page: &Page) -> Result<Vec<OwnedEventId>> {
        let gaps = gaps::of_room(&mut self.database.read().await?, room.pk).await?;
        let open: HashSet<i64> = gaps.into_iter().map(|(_, follower)| follower).collect();
        let here = |event: &&Stored| open.contains(&event.pk);
        let in_page: Vec<OwnedEventId> =
            page.events.iter().filter(here).map(|event| event.event_id.clone()).collect();
        if !in_page.is_empty() || page.end.is_some() || open.is_empty() {
            return Ok(in_page);
        }
        let pks: Vec<i64> = open.into_iter().collect();
        let oldest = self.rooms.events(&pks).await?.into_iter().min_by_key(|event| (event.depth, event.pk));
        Ok(oldest.map(|event| event.event_id.clone()).into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_read_from_tokens_of_both_kinds() {
        assert_eq!(Point::parse("t12").unwrap(), Point::at(12));
        assert_eq!(Point::parse("s1_34_0").unwrap(), Point::at(34));
        let past = Point::in_past(13, 5, 77);
        assert_eq!(Point::parse(&past.to_string()).unwrap(), past);
        for wrong in ["", "t", "x1", "s", "s1", "t-1", "t1x", "é", "t1_2", "t1_2_3_4", "t1_x_3"] {
            assert!(Point::parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(Point::at(7).to_string(), "t7");
    }
}
