//! Reading a room's timeline: who may read what of it, and pages of it.

use crate::error::{Error, Result};
use crate::rooms::cache::{Room, Stored};
use crate::rooms::lookup::membership_of;
use crate::rooms::state::NodeId;
use crate::rooms::visibility::Membership;
use crate::server::Server;
use myelin_storage::rooms::{events, memberships, state};
use ruma::RoomId;
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

/// A point between two positions of the log: behind `pos`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point(pub i64);

impl Point {
    /// Reads a token of /messages (`t12`) or of /sync (`s1_12_0`).
    pub fn parse(token: &str) -> Result<Point> {
        let pos = match token.split_at_checked(1) {
            Some(("t", pos)) => pos.parse().ok(),
            Some(("s", rest)) => rest.split('_').nth(1).and_then(|pos| pos.parse().ok()),
            _ => None,
        };
        let pos = pos.filter(|pos: &i64| *pos >= 0);
        pos.map(Point).ok_or_else(|| Error::invalid_param("the token is not one of this server's"))
    }
}

impl std::fmt::Display for Point {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "t{}", self.0)
    }
}

/// A page of a timeline.
pub struct Page {
    /// The events, in the direction that was asked for.
    pub events: Vec<Stored>,
    /// Where the next page begins; `None` at the end of what there is.
    pub end: Option<Point>,
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
        let (room_pk, upto) = (reading.room.pk, reading.upto.min(self.log.visible()));
        let found = if backwards {
            let after = to.map_or(0, |point| point.0);
            self.rooms.newest(&reading.room, after, from.0.min(upto), limit).await?
        } else {
            let last = to.map_or(upto, |point| point.0.min(upto));
            let wanted = i64::try_from(limit).unwrap_or(i64::MAX);
            events::oldest(&mut self.database.read().await?, room_pk, from.0, last, wanted).await?
        };
        let full = found.len() == limit;
        let last = found.last().map(|(pos, _)| if backwards { Point(pos - 1) } else { Point(*pos) });
        let pks: Vec<i64> = found.into_iter().map(|(_, pk)| pk).collect();
        Ok(Page { events: self.rooms.events(&pks).await?, end: last.filter(|_| full) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_read_from_tokens_of_both_kinds() {
        assert_eq!(Point::parse("t12").unwrap(), Point(12));
        assert_eq!(Point::parse("s1_34_0").unwrap(), Point(34));
        for wrong in ["", "t", "x1", "s", "s1", "t-1", "t1x", "é"] {
            assert!(Point::parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(Point(7).to_string(), "t7");
    }
}
