//! The rooms of a space, and those of the spaces in it.
//!
//! The tree is walked depth first, children in the order that the space gives them. A page's token names the last room
//! of the page before: the walk begins at the root again and shows what comes behind that room, so no replica keeps
//! anything between two pages.

use crate::error::{Error, Result};
use crate::events::client_format;
use crate::rooms::cache::{Room, Stored};
use crate::rooms::state::NodeId;
use crate::rooms::summary::Summary;
use crate::server::Server;
use ruma::{OwnedRoomId, RoomId, UserId};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::collections::HashSet;

/// Rooms of one page at most.
const MOST: usize = 50;
/// Longest text that orders a child.
const LONGEST_ORDER: usize = 50;

/// How a client wants to see a space.
#[derive(Clone, Debug, Default)]
pub struct Walk {
    /// Rooms of a page.
    pub limit: Option<u64>,
    /// How many levels below the root are shown.
    pub max_depth: Option<u64>,
    /// Only children that their space suggests.
    pub suggested_only: bool,
    /// The token of another page.
    pub from: Option<String>,
}

/// A room of a space. Serializes as the specification has it.
#[derive(Clone, Debug, Serialize)]
pub struct SpaceRoom {
    /// The room.
    #[serde(flatten)]
    pub summary: Summary,
    /// Its children, stripped.
    pub children_state: Vec<Box<RawValue>>,
}

/// A page of a space. Serializes as the specification has it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Hierarchy {
    /// The rooms.
    pub rooms: Vec<SpaceRoom>,
    /// The token of the next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_batch: Option<String>,
}

impl Server {
    /// A page of a space, as somebody sees it. Rooms that are not here, or that they may not see, are left out.
    ///
    /// # Errors
    /// M_FORBIDDEN where they may not see the space itself; M_INVALID_PARAM for a token that is none, or of another walk.
    pub async fn hierarchy(&self, root: &RoomId, user: &UserId, walk: &Walk) -> Result<Hierarchy> {
        let limit = match walk.limit {
            Some(0) => return Err(Error::invalid_param("limit must be more than 0")),
            limit => {
                limit.and_then(|limit| usize::try_from(limit).ok()).map_or(MOST, |limit| limit.min(MOST))
            }
        };
        let mut behind = walk.from.as_deref().map(|token| walk.parse(token)).transpose()?;
        if self.shown_summary(root, Some(user)).await?.is_none() {
            return Err(Error::forbidden("you are not in this room, and may not look into it"));
        }
        let mut page = Hierarchy::default();
        let (mut next, mut seen) = (vec![(root.to_owned(), 0)], HashSet::new());
        let mut last = None;
        while let Some((room_id, depth)) = next.pop() {
            if !seen.insert(room_id.clone()) {
                continue;
            }
            let Some((room, summary)) = self.shown_summary(&room_id, Some(user)).await? else { continue };
            if page.rooms.len() == limit {
                page.next_batch = last.map(|last: OwnedRoomId| walk.token(&last));
                return Ok(page);
            }
            let children = self.children_of(&room, &summary, walk.suggested_only).await?;
            if walk.max_depth.is_none_or(|most| depth < most) {
                next.extend(children.iter().rev().map(|child| (child.room_id.clone(), depth + 1)));
            }
            if behind.is_none() {
                let stripped = children.iter().map(|child| client_format::stripped_child(&child.event));
                let children_state = stripped.collect::<Result<_, _>>().map_err(Error::internal_display)?;
                page.rooms.push(SpaceRoom { summary, children_state });
                last = Some(room_id);
            } else if behind.as_ref() == Some(&room_id) {
                behind = None;
            }
        }
        match behind {
            Some(_) => Err(Error::invalid_param("the room at which the page began is no longer there")),
            None => Ok(page),
        }
    }

    /// The children of a space in their order; none of a room that is no space.
    async fn children_of(&self, room: &Room, summary: &Summary, suggested: bool) -> Result<Vec<Child>> {
        if summary.room.room_type.as_deref() != Some("m.space") {
            return Ok(Vec::new());
        }
        let root = self.current_root(room).await?;
        let events = self.child_events(room, root).await?;
        let mut children: Vec<Child> = events.into_iter().filter_map(Child::read).collect();
        children.retain(|child| child.is_suggested || !suggested);
        children.sort_by(|a, b| a.place().cmp(&b.place()));
        Ok(children)
    }

    /// The events that name the children of a space, those among them that no longer do.
    pub(crate) async fn child_events(&self, room: &Room, root: NodeId) -> Result<Vec<Stored>> {
        let state = self.full_state(room, root).await?;
        let children = state.iter().filter(|(kind, ..)| &**kind == "m.space.child");
        let pks: Vec<i64> = children.map(|(.., pk)| *pk).collect();
        self.rooms.events(&pks).await
    }
}

impl Walk {
    /// The token of the page behind a room. It holds what may not change from page to page.
    fn token(&self, last: &RoomId) -> String {
        let depth = self.max_depth.map_or_else(|| "-".to_owned(), |depth| depth.to_string());
        format!("{depth}.{}.{last}", u8::from(self.suggested_only))
    }

    fn parse(&self, token: &str) -> Result<OwnedRoomId> {
        let last = token.splitn(3, '.').nth(2).and_then(|last| OwnedRoomId::try_from(last).ok());
        last.filter(|last| self.token(last) == token)
            .ok_or_else(|| Error::invalid_param("from is no token of this walk"))
    }
}

/// A child of a space.
struct Child {
    room_id: OwnedRoomId,
    order: Option<String>,
    is_suggested: bool,
    event: Stored,
}

impl Child {
    /// `None` where the event names no room, or no servers to ask for it.
    fn read(event: Stored) -> Option<Child> {
        let room_id = OwnedRoomId::try_from(event.state_key.as_deref()?).ok()?;
        let content: Map<String, Value> = event.content_as()?;
        let via = content.get("via")?.as_array()?;
        if via.is_empty() || !via.iter().all(Value::is_string) {
            return None;
        }
        let order = content.get("order").and_then(Value::as_str).filter(|order| is_order(order));
        let order = order.map(str::to_owned);
        let is_suggested = content.get("suggested") == Some(&Value::Bool(true));
        Some(Child { room_id, order, is_suggested, event })
    }

    /// Children with an order come first, then the older ones.
    fn place(&self) -> (bool, Option<&str>, u64, &str) {
        (self.order.is_none(), self.order.as_deref(), self.event.origin_server_ts, self.room_id.as_str())
    }
}

/// Printable ASCII, and not too long.
fn is_order(order: &str) -> bool {
    order.len() <= LONGEST_ORDER && order.bytes().all(|byte| (0x20..=0x7e).contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ruma::room_id;

    #[test]
    fn tokens_belong_to_their_walk() {
        let walk = Walk { max_depth: Some(2), suggested_only: true, ..Walk::default() };
        let token = walk.token(room_id!("!a:b.example"));
        assert_eq!(walk.parse(&token).unwrap(), "!a:b.example");
        let others = [
            Walk::default(),
            Walk { max_depth: Some(3), ..walk.clone() },
            Walk { suggested_only: false, ..walk.clone() },
        ];
        assert!(others.iter().all(|other| other.parse(&token).is_err()));
        for wrong in ["", "x", "2.1", "2.1.", "2.1.x", "2.1.@a:b", "é"] {
            assert!(walk.parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn orders_are_short_and_printable() {
        assert!(is_order("") && is_order(" ~") && is_order(&"a".repeat(50)));
        assert!(!is_order("é") && !is_order("\n") && !is_order(&"a".repeat(51)));
    }
}
