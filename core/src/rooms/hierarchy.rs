//! The rooms of a space, and those of the spaces in it.
//!
//! The tree is walked depth first, children in the order that the space gives them. A page's token names the last room
//! of the page before: the walk begins at the root again and shows what comes behind that room, so no replica keeps
//! anything between two pages.
//!
//! What is not here is asked of the servers that the space names for it. One question gives a room with its children,
//! so a room is asked for by itself only where it is a space again. A page asks only so many questions: a lying server
//! can grow a tree without end.

use crate::error::{Error, Result};
use crate::events::client_format;
use crate::rooms::cache::{Room, Stored};
use crate::rooms::state::NodeId;
use crate::rooms::summary::Summary;
use crate::server::Server;
use ruma::{OwnedRoomId, OwnedServerName, RoomId, ServerName, UserId};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::collections::{HashMap, HashSet};

/// Rooms of one page at most.
const MOST: usize = 50;
/// Longest text that orders a child.
const LONGEST_ORDER: usize = 50;
/// Questions to other servers for one page.
const MOST_ASKED: usize = 50;
/// Servers that are asked for one room.
const SERVERS_ASKED: usize = 3;

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
#[derive(Clone, Debug, Serialize, Deserialize)]
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

/// A room with its children, as servers show it to each other. Serializes as the specification has it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Branch {
    /// The room.
    pub room: SpaceRoom,
    /// Children that the server which asks may see.
    pub children: Vec<Summary>,
    /// Children that it may not see, so that it need not ask for them.
    pub inaccessible_children: Vec<OwnedRoomId>,
}

/// A room that the walk has yet to come to.
struct Step {
    room_id: OwnedRoomId,
    depth: u64,
    via: Vec<OwnedServerName>,
}

/// What a walk has learned from other servers.
#[derive(Default)]
struct Learned {
    /// Children of rooms that were asked for. `None` stands for those that we may not see.
    rooms: HashMap<OwnedRoomId, Option<Summary>>,
    asked: usize,
}

impl Server {
    /// A page of a space, as somebody sees it. Rooms that they may not see, or that no server tells of, are left out.
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
        let mut page = Hierarchy::default();
        let via = root.server_name().into_iter().map(ToOwned::to_owned).collect();
        let mut next = vec![Step { room_id: root.to_owned(), depth: 0, via }];
        let (mut seen, mut learned, mut last) = (HashSet::new(), Learned::default(), None);
        while let Some(step) = next.pop() {
            if !seen.insert(step.room_id.clone()) {
                continue;
            }
            let found = match self.space_room(&step, user, walk.suggested_only, &mut learned).await? {
                Some(found) => found,
                None if step.depth == 0 => {
                    return Err(Error::forbidden("you are not in this room, and may not look into it"));
                }
                None => continue,
            };
            if page.rooms.len() == limit {
                page.next_batch = last.map(|last: OwnedRoomId| walk.token(&last));
                return Ok(page);
            }
            let depth = step.depth + 1;
            if walk.max_depth.is_none_or(|most| depth <= most) {
                let children = read_children(&found.children_state, walk.suggested_only).into_iter().rev();
                next.extend(children.map(|Child { room_id, via, .. }| Step { room_id, depth, via }));
            }
            if behind.is_none() {
                page.rooms.push(found);
                last = Some(step.room_id);
            } else if behind.as_ref() == Some(&step.room_id) {
                behind = None;
            }
        }
        match behind {
            Some(_) => Err(Error::invalid_param("the room at which the page began is no longer there")),
            None => Ok(page),
        }
    }

    /// A room with its children's events, from here or from another server, if somebody may see it.
    async fn space_room(
        &self,
        step: &Step,
        user: &UserId,
        suggested: bool,
        learned: &mut Learned,
    ) -> Result<Option<SpaceRoom>> {
        if self.is_here(&step.room_id).await? {
            let Some((room, summary)) = self.shown_summary(&step.room_id, Some(user)).await? else {
                return Ok(None);
            };
            let children_state = self.children_of(&room, &summary, suggested).await?;
            return Ok(Some(SpaceRoom { summary, children_state }));
        }
        let found = match learned.rooms.remove(&step.room_id) {
            Some(None) => return Ok(None),
            Some(Some(summary)) if !summary.is_space() => SpaceRoom { summary, children_state: Vec::new() },
            _ if learned.asked >= MOST_ASKED => return Ok(None),
            _ => {
                learned.asked += 1;
                let Some(branch) = self.branch_elsewhere(&step.room_id, &step.via, suggested).await else {
                    return Ok(None);
                };
                let hidden = branch.inaccessible_children.into_iter().map(|room_id| (room_id, None));
                let shown = branch.children.into_iter().filter_map(|summary| {
                    let room_id = OwnedRoomId::try_from(&*summary.room.room_id).ok()?;
                    Some((room_id, Some(summary)))
                });
                learned.rooms.extend(hidden.chain(shown).take(MOST * 4));
                branch.room
            }
        };
        Ok(self.may_see_elsewhere(&found.summary, user).await?.then_some(found))
    }

    /// A room that this server is not in, as the first of these servers tells that does.
    pub(crate) async fn branch_elsewhere(
        &self,
        room_id: &RoomId,
        via: &[OwnedServerName],
        suggested: bool,
    ) -> Option<Branch> {
        let remote = self.remote().ok()?;
        for server in via.iter().filter(|server| *server != self.name()).take(SERVERS_ASKED) {
            if let Ok(branch) = remote.hierarchy(server, room_id, suggested).await
                && branch.room.summary.room.room_id == *room_id
            {
                return Some(branch);
            }
        }
        None
    }

    /// A room of this server with its children, as another server may see them.
    ///
    /// # Errors
    /// M_NOT_FOUND where it may not see the room.
    pub async fn branch_for(&self, room_id: &RoomId, server: &ServerName, suggested: bool) -> Result<Branch> {
        let shown = self.summary_for(room_id, server).await?;
        let (room, summary) =
            shown.ok_or_else(|| Error::not_found("there is no such room, or not for you"))?;
        let children_state = self.children_of(&room, &summary, suggested).await?;
        let (mut children, mut inaccessible_children) = (Vec::new(), Vec::new());
        for Child { room_id, .. } in read_children(&children_state, suggested).into_iter().take(MOST) {
            match self.summary_for(&room_id, server).await? {
                Some((_, summary)) => children.push(summary),
                // What is not here may well be seen elsewhere.
                None if self.is_here(&room_id).await? => inaccessible_children.push(room_id),
                None => {}
            }
        }
        Ok(Branch { room: SpaceRoom { summary, children_state }, children, inaccessible_children })
    }

    /// The stripped events that name the children of a space, in their order; none of a room that is no space.
    async fn children_of(
        &self,
        room: &Room,
        summary: &Summary,
        suggested: bool,
    ) -> Result<Vec<Box<RawValue>>> {
        if !summary.is_space() {
            return Ok(Vec::new());
        }
        let root = self.current_root(room).await?;
        let events = self.child_events(room, root).await?;
        let stripped = events.iter().map(|event| client_format::stripped_child(event));
        let stripped: Vec<_> = stripped.collect::<Result<_, _>>().map_err(Error::internal_display)?;
        Ok(read_children(&stripped, suggested).into_iter().map(|child| child.stripped).collect())
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
    via: Vec<OwnedServerName>,
    order: Option<String>,
    is_suggested: bool,
    origin_server_ts: u64,
    stripped: Box<RawValue>,
}

/// The children that stripped events name, in their order.
fn read_children(stripped: &[Box<RawValue>], suggested: bool) -> Vec<Child> {
    let mut children: Vec<Child> = stripped.iter().filter_map(|event| Child::read(event)).collect();
    children.retain(|child| child.is_suggested || !suggested);
    children.sort_by(|a, b| a.place().cmp(&b.place()));
    children
}

impl Child {
    /// `None` where the event names no room, or no servers to ask for it.
    fn read(stripped: &RawValue) -> Option<Child> {
        #[derive(Deserialize)]
        struct Event {
            #[serde(rename = "type")]
            kind: String,
            state_key: String,
            content: Map<String, Value>,
            #[serde(default)]
            origin_server_ts: u64,
        }
        let Event { kind, state_key, content, origin_server_ts } =
            serde_json::from_str(stripped.get()).ok()?;
        let room_id = OwnedRoomId::try_from(state_key).ok().filter(|_| kind == "m.space.child")?;
        let via = content.get("via")?.as_array()?;
        if via.is_empty() || !via.iter().all(Value::is_string) {
            return None;
        }
        let via = via.iter().filter_map(|server| OwnedServerName::try_from(server.as_str()?).ok()).collect();
        let order = content.get("order").and_then(Value::as_str).filter(|order| is_order(order));
        let order = order.map(str::to_owned);
        let is_suggested = content.get("suggested") == Some(&Value::Bool(true));
        Some(Child { room_id, via, order, is_suggested, origin_server_ts, stripped: stripped.to_owned() })
    }

    /// Children with an order come first, then the older ones.
    fn place(&self) -> (bool, Option<&str>, u64, &str) {
        (self.order.is_none(), self.order.as_deref(), self.origin_server_ts, self.room_id.as_str())
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
