//! A room in brief for people who are not in it: in the directory, in a space, before they join.

use crate::error::{Error, Result};
use crate::rooms::cache::{Room, Stored};
use crate::rooms::version;
use crate::rooms::visibility::{self, Membership, Visibility};
use crate::server::Server;
use ruma::{OwnedRoomId, OwnedServerName, RoomId, ServerName, UserId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::sync::Arc;

/// The state that a summary is made of.
const SUMMARISED: [(&str, &str); 9] = [
    ("m.room.create", ""),
    ("m.room.name", ""),
    ("m.room.topic", ""),
    ("m.room.canonical_alias", ""),
    ("m.room.avatar", ""),
    ("m.room.join_rules", ""),
    ("m.room.history_visibility", ""),
    ("m.room.guest_access", ""),
    ("m.room.encryption", ""),
];

/// What the directory shows of a room. Serializes as the specification has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublicRoom {
    /// The id.
    pub room_id: String,
    /// How many are joined.
    pub num_joined_members: u64,
    /// m.room.name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// m.room.topic, as plain text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// The main alias.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub canonical_alias: Option<String>,
    /// m.room.avatar.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub avatar_url: Option<String>,
    /// Who may join; `invite` where the room does not say.
    #[serde(default = "public")]
    pub join_rule: String,
    /// Everybody may read it.
    pub world_readable: bool,
    /// Guests may join.
    pub guest_can_join: bool,
    /// The type from the create event; a room for talking has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub room_type: Option<String>,
}

/// A room in brief. Serializes as the specification has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// What the directory would show.
    #[serde(flatten)]
    pub room: PublicRoom,
    /// The version; empty where another server does not say.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub room_version: String,
    /// The algorithm, where the room is encrypted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encryption: Option<String>,
    /// Rooms whose members may join, where the join rule is restricted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_room_ids: Vec<OwnedRoomId>,
}

/// A room in brief, with what somebody is to it. Serializes as the specification has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Preview {
    /// The room.
    #[serde(flatten)]
    pub summary: Summary,
    /// The membership of who asks, if it is known who that is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub membership: Option<&'static str>,
}

impl Server {
    /// A room in brief for somebody who may not be in it: from here, or from one of these servers where this one is not
    /// in the room. M_NOT_FOUND where they may not see it, so that nobody learns which rooms there are. `None` stands
    /// for everybody.
    pub async fn preview(
        &self,
        room_id: &RoomId,
        via: &[OwnedServerName],
        user: Option<&UserId>,
    ) -> Result<Preview> {
        let hidden = || Error::not_found("there is no such room, or not for you");
        if self.is_here(room_id).await? {
            let (room, summary) = self.shown_summary(room_id, user).await?.ok_or_else(hidden)?;
            let membership = match user {
                Some(user) => Some(self.current_membership(&room, user).await?.as_str()),
                None => None,
            };
            return Ok(Preview { summary, membership });
        }
        // Somebody without an account does not make this server speak to others.
        let user = user.ok_or_else(hidden)?;
        let branch = self.branch_elsewhere(room_id, via, false).await.ok_or_else(hidden)?;
        let summary = branch.room.summary;
        if !self.may_see_elsewhere(&summary, user).await? {
            return Err(hidden());
        }
        let membership = match self.rooms.find(room_id).await? {
            Some(room) => self.current_membership(&room, user).await?,
            None => Membership::Leave,
        };
        Ok(Preview { summary, membership: Some(membership.as_str()) })
    }

    /// Whether this server is in a room.
    pub(crate) async fn is_here(&self, room_id: &RoomId) -> Result<bool> {
        match self.rooms.find(room_id).await? {
            Some(room) => self.is_in(&room).await,
            None => Ok(false),
        }
    }

    /// A room with its summary, if it is here.
    async fn summary_here(&self, room_id: &RoomId) -> Result<Option<(Arc<Room>, Summary)>> {
        let Some(room) = self.rooms.find(room_id).await? else { return Ok(None) };
        if !self.is_in(&room).await? {
            return Ok(None);
        }
        let summary = self.room_summary(&room).await?;
        Ok(Some((room, summary)))
    }

    /// A room with its summary, if it is here and somebody may see it.
    pub(crate) async fn shown_summary(
        &self,
        room_id: &RoomId,
        user: Option<&UserId>,
    ) -> Result<Option<(Arc<Room>, Summary)>> {
        let Some((room, summary)) = self.summary_here(room_id).await? else { return Ok(None) };
        Ok(self.may_preview(&room, &summary, user).await?.then_some((room, summary)))
    }

    /// A room in brief, now.
    pub async fn room_summary(&self, room: &Room) -> Result<Summary> {
        let root = self.current_root(room).await?;
        let events = self.state_events(room, root, &SUMMARISED).await?;
        let joined = self.brief(room).await?.joined;
        Ok(summarise(room, &events, joined.try_into().unwrap_or_default()))
    }

    /// Whether somebody may see a room's summary: whoever is in the room, invited or let in by its join rule. `None`
    /// stands for everybody.
    pub async fn may_preview(&self, room: &Room, summary: &Summary, user: Option<&UserId>) -> Result<bool> {
        if summary.room.is_open(room) {
            return Ok(true);
        }
        let Some(user) = user else { return Ok(false) };
        if matches!(self.current_membership(room, user).await?, Membership::Join | Membership::Invite) {
            return Ok(true);
        }
        self.is_in_any(&summary.allowed_room_ids, user).await
    }

    /// Whether somebody may see the summary that another server gave of a room.
    pub(crate) async fn may_see_elsewhere(&self, summary: &Summary, user: &UserId) -> Result<bool> {
        let by_rule = matches!(&*summary.room.join_rule, "public" | "knock" | "knock_restricted");
        if by_rule || summary.room.world_readable {
            return Ok(true);
        }
        if let Ok(room_id) = <&RoomId>::try_from(&*summary.room.room_id)
            && let Some(room) = self.rooms.find(room_id).await?
            && self.current_membership(&room, user).await? == Membership::Invite
        {
            return Ok(true);
        }
        self.is_in_any(&summary.allowed_room_ids, user).await
    }

    /// A room with its summary, if it is here and another server may see it: because everybody may, or one of its users
    /// is in the room, invited, or let in by its join rule.
    pub(crate) async fn summary_for(
        &self,
        room_id: &RoomId,
        server: &ServerName,
    ) -> Result<Option<(Arc<Room>, Summary)>> {
        let Some((room, summary)) = self.summary_here(room_id).await? else { return Ok(None) };
        let mut may_see = summary.room.is_open(&room) || self.is_expected(&room, server).await?;
        for allowed in &summary.allowed_room_ids {
            may_see = may_see
                || match self.room_here(allowed).await? {
                    Some(other) => self.servers_in(&other).await?.contains(server),
                    None => false,
                };
        }
        Ok(may_see.then_some((room, summary)))
    }

    async fn is_in_any(&self, rooms: &[OwnedRoomId], user: &UserId) -> Result<bool> {
        for room_id in rooms {
            if let Some(room) = self.room_here(room_id).await?
                && self.current_membership(&room, user).await? == Membership::Join
            {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl Summary {
    /// The room is there for the rooms in it.
    pub fn is_space(&self) -> bool {
        self.room.room_type.as_deref() == Some("m.space")
    }
}

/// What an answer of another server means that does not say who may join.
fn public() -> String {
    "public".to_owned()
}

impl PublicRoom {
    /// Everybody may join the room, knock on it or read it.
    pub fn is_open(&self, room: &Room) -> bool {
        let by_rule = match &*self.join_rule {
            "public" => true,
            "knock" => version::allows_knocking(&room.rules),
            "knock_restricted" => version::allows_knock_restricted(&room.rules),
            _ => false,
        };
        by_rule || self.world_readable
    }
}

fn summarise(room: &Room, events: &[Stored], num_joined_members: u64) -> Summary {
    let content = |kind: &str| -> Map<String, Value> {
        let event = events.iter().find(|event| event.is(kind, ""));
        event.and_then(|event| event.content_as()).unwrap_or_default()
    };
    let field = |kind: &str, field: &str| text(&content(kind), field);
    let join_rules = content("m.room.join_rules");
    let join_rule = text(&join_rules, "join_rule").unwrap_or_else(|| "invite".to_owned());
    let visibility = field("m.room.history_visibility", "history_visibility");
    let allowed_room_ids = allowed_rooms(room, &join_rule, &join_rules);
    Summary {
        room: PublicRoom {
            room_id: room.id.to_string(),
            num_joined_members,
            name: field("m.room.name", "name"),
            topic: field("m.room.topic", "topic"),
            canonical_alias: field("m.room.canonical_alias", "alias"),
            avatar_url: field("m.room.avatar", "url"),
            join_rule,
            world_readable: visibility::may_peek(
                visibility.map_or(Visibility::Shared, |text| Visibility::parse(&text)),
            ),
            guest_can_join: field("m.room.guest_access", "guest_access").as_deref() == Some("can_join"),
            room_type: field("m.room.create", "type"),
        },
        room_version: room.version.to_string(),
        encryption: field("m.room.encryption", "algorithm"),
        allowed_room_ids,
    }
}

/// A field that is text and not empty.
fn text(content: &Map<String, Value>, field: &str) -> Option<String> {
    content.get(field)?.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

fn allowed_rooms(room: &Room, join_rule: &str, content: &Map<String, Value>) -> Vec<OwnedRoomId> {
    let is_restricted = match join_rule {
        "restricted" => version::allows_restricted(&room.rules),
        "knock_restricted" => version::allows_knock_restricted(&room.rules),
        _ => false,
    };
    let list = content.get("allow").and_then(Value::as_array).filter(|_| is_restricted);
    let named = |allow: &Value| {
        let by_membership = allow.get("type")?.as_str()? == "m.room_membership";
        OwnedRoomId::try_from(allow.get("room_id")?.as_str()?).ok().filter(|_| by_membership)
    };
    list.into_iter().flatten().filter_map(named).collect()
}
