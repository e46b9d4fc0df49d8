//! The directory of rooms: which are shown, in what order, and its pages.
//!
//! The largest rooms come first. A page's token names the room next to it, so rooms that come and go between two pages
//! repeat or hide none of the others.

use crate::error::{Error, Result};
use crate::rooms::summary::PublicRoom;
use crate::server::Server;
use myelin_storage::rooms::directory;
use ruma::ServerName;
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;

/// Rooms of one page at most.
const MOST: usize = 100;

/// What a client looks for.
#[derive(Clone, Debug, Default)]
pub struct Search {
    /// Rooms of a page; all that fit where there is no limit.
    pub limit: Option<u64>,
    /// The token of another page.
    pub since: Option<String>,
    /// Text in the name, the topic or the main alias, in whatever case.
    pub term: Option<String>,
    /// Types of rooms, `None` for rooms without a type; all where there are none.
    pub types: Vec<Option<String>>,
}

/// A page of the directory. Serializes as the specification has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing {
    /// The rooms.
    pub chunk: Vec<PublicRoom>,
    /// The token of the page behind this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_batch: Option<String>,
    /// The token of the page before this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prev_batch: Option<String>,
    /// How many rooms there are on all pages.
    #[serde(default)]
    pub total_room_count_estimate: usize,
}

impl Server {
    /// A page of a server's directory: of this one's if none is named.
    ///
    /// # Errors
    /// M_INVALID_PARAM for a token that is none.
    pub async fn public_rooms(&self, server: Option<&ServerName>, search: &Search) -> Result<Listing> {
        match server.filter(|server| *server != self.name()) {
            Some(server) => self.remote()?.public_rooms(server, search).await,
            None => self.public_rooms_here(search).await,
        }
    }

    /// A page of this server's directory. Only rooms that this server is in are shown, and of them those that everybody
    /// may join, knock on or read.
    pub async fn public_rooms_here(&self, search: &Search) -> Result<Listing> {
        let place = search.since.as_deref().map(Place::parse).transpose()?;
        let mut found = Vec::new();
        let published = directory::published(&mut self.database.read().await?).await?;
        for room_pk in published {
            let room = self.rooms.by_pk(room_pk).await?;
            if !self.is_in(&room).await? {
                continue;
            }
            let summary = self.room_summary(&room).await?.room;
            if summary.is_open(&room) && search.wants(&summary) {
                found.push(summary);
            }
        }
        let limit = search.limit.filter(|limit| *limit > 0).and_then(|limit| usize::try_from(limit).ok());
        Ok(page(found, place.as_ref(), limit.map_or(MOST, |limit| limit.min(MOST))))
    }
}

impl Search {
    fn wants(&self, room: &PublicRoom) -> bool {
        let by_type = self.types.is_empty() || self.types.contains(&room.room_type);
        let term = self.term.as_ref().filter(|term| !term.is_empty()).map(|term| term.to_lowercase());
        by_type
            && term.is_none_or(|term| {
                let fields = [&room.name, &room.topic, &room.canonical_alias];
                fields.into_iter().flatten().any(|text| text.to_lowercase().contains(&term))
            })
    }
}

/// Where a room stands in the directory.
type Rank<'a> = (Reverse<u64>, &'a str);

fn rank(room: &PublicRoom) -> Rank<'_> {
    (Reverse(room.num_joined_members), &room.room_id)
}

/// A place in the directory, and which way the page goes from there.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    is_forward: bool,
    members: u64,
    room_id: String,
}

impl Place {
    fn parse(token: &str) -> Result<Place> {
        let wrong = || Error::invalid_param("since is no token of the directory");
        let (is_forward, rest) = match token.strip_prefix('n') {
            Some(rest) => (true, rest),
            None => (false, token.strip_prefix('p').ok_or_else(wrong)?),
        };
        let (members, room_id) = rest.split_once('.').ok_or_else(wrong)?;
        let members = members.parse().map_err(|_| wrong())?;
        Ok(Place { is_forward, members, room_id: room_id.to_owned() })
    }

    fn rank(&self) -> Rank<'_> {
        (Reverse(self.members), &self.room_id)
    }
}

/// The token of what follows a room, or of everything.
fn behind(room: Option<&PublicRoom>) -> String {
    let (Reverse(members), room_id) = room.map_or((Reverse(u64::MAX), ""), rank);
    format!("n{members}.{room_id}")
}

/// The token of what stands before a room, or of everything: rooms without members are not shown.
fn before(room: Option<&PublicRoom>) -> String {
    let (Reverse(members), room_id) = room.map_or((Reverse(0), ""), rank);
    format!("p{members}.{room_id}")
}

fn page(mut rooms: Vec<PublicRoom>, place: Option<&Place>, limit: usize) -> Listing {
    rooms.sort_by(|a, b| rank(a).cmp(&rank(b)));
    let total = rooms.len();
    let (from, to) = match place {
        Some(place) if !place.is_forward => {
            let to = rooms.partition_point(|room| rank(room) < place.rank());
            (to.saturating_sub(limit), to)
        }
        place => {
            let from = place.map_or(0, |place| rooms.partition_point(|room| rank(room) <= place.rank()));
            (from, from.saturating_add(limit).min(total))
        }
    };
    let next_batch = (to < total).then(|| behind(to.checked_sub(1).and_then(|last| rooms.get(last))));
    let prev_batch = (from > 0).then(|| before(rooms.get(from)));
    let chunk = rooms.into_iter().take(to).skip(from).collect();
    Listing { chunk, next_batch, prev_batch, total_room_count_estimate: total }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rooms() -> Vec<PublicRoom> {
        let room = |room_id: &str, num_joined_members| PublicRoom {
            room_id: room_id.to_owned(),
            num_joined_members,
            ..PublicRoom::default()
        };
        vec![room("!c.d", 1), room("!a", 1), room("!b", 7), room("!e", 3), room("!d", 3)]
    }

    fn ids(listing: &Listing) -> Vec<&str> {
        listing.chunk.iter().map(|room| &*room.room_id).collect()
    }

    fn at(token: Option<&String>, limit: usize) -> Listing {
        page(rooms(), token.map(|token| Place::parse(token).unwrap()).as_ref(), limit)
    }

    #[test]
    fn pages_go_on_and_back() {
        let first = at(None, 2);
        assert_eq!((ids(&first), &first.prev_batch), (vec!["!b", "!d"], &None));
        let second = at(first.next_batch.as_ref(), 2);
        assert_eq!(ids(&second), ["!e", "!a"]);
        let third = at(second.next_batch.as_ref(), 2);
        assert_eq!((ids(&third), &third.next_batch), (vec!["!c.d"], &None));
        assert_eq!(ids(&at(third.prev_batch.as_ref(), 2)), ids(&second));
        let back = at(second.prev_batch.as_ref(), 2);
        assert_eq!(back, first);
        assert_eq!(third.total_room_count_estimate, 5);
    }

    #[test]
    fn ends_lead_back() {
        let none = at(Some(&"n1.!z".to_owned()), 2);
        assert_eq!((ids(&none), &none.next_batch), (vec![], &None));
        assert_eq!(ids(&at(none.prev_batch.as_ref(), 2)), ["!a", "!c.d"]);
        let none = at(Some(&"p9.!z".to_owned()), 2);
        assert_eq!((ids(&none), &none.prev_batch), (vec![], &None));
        assert_eq!(ids(&at(none.next_batch.as_ref(), 9)), ids(&at(None, 9)));
        for wrong in ["", "n", "x1.!a", "n1", "n-1.!a", "p.!a"] {
            assert!(Place::parse(wrong).is_err(), "{wrong}");
        }
    }
}
