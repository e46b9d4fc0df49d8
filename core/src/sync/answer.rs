//! The answer of /sync as it is written: events are JSON already.

use ruma::{OwnedRoomId, OwnedUserId};
use serde::Serialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::sync::Arc;

type Events = Vec<Box<RawValue>>;

/// A list of events in an object of its own, as the specification writes most lists.
#[derive(Debug, Serialize)]
pub struct List<E = Box<RawValue>> {
    /// The events.
    pub events: Vec<E>,
}

impl<E> Default for List<E> {
    fn default() -> List<E> {
        List { events: Vec::new() }
    }
}

impl<E> List<E> {
    /// No events.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }
}

impl<E> From<Vec<E>> for List<E> {
    fn from(events: Vec<E>) -> List<E> {
        List { events }
    }
}

/// The whole answer.
#[derive(Debug, Default, Serialize)]
pub struct Answer {
    /// The token to go on from.
    pub next_batch: String,
    /// The rooms.
    #[serde(skip_serializing_if = "Rooms::is_empty")]
    pub rooms: Rooms,
    /// Global account data.
    #[serde(skip_serializing_if = "List::is_empty")]
    pub account_data: List,
    /// Who is there.
    #[serde(skip_serializing_if = "List::is_empty")]
    pub presence: List,
    /// Messages for the device, shared with the memory from which they may have come.
    #[serde(skip_serializing_if = "List::is_empty")]
    pub to_device: List<Arc<RawValue>>,
    /// Users whose devices changed or who are gone.
    #[serde(skip_serializing_if = "DeviceLists::is_empty")]
    pub device_lists: DeviceLists,
    /// How many one-time keys the device has here, by algorithm.
    pub device_one_time_keys_count: BTreeMap<String, i64>,
    /// The algorithms for which a fallback key was not used yet.
    pub device_unused_fallback_key_types: Vec<String>,
    /// One of the two is news.
    #[serde(skip)]
    pub keys_changed: bool,
}

impl Answer {
    /// Nothing that is worth an answer before its time.
    pub fn is_empty(&self) -> bool {
        self.rooms.is_empty()
            && self.account_data.is_empty()
            && self.presence.is_empty()
            && self.to_device.is_empty()
            && self.device_lists.is_empty()
            && !self.keys_changed
    }
}

/// Rooms by how the user stands to them.
#[derive(Debug, Default, Serialize)]
pub struct Rooms {
    /// Joined.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub join: BTreeMap<OwnedRoomId, JoinedRoom>,
    /// Invited.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub invite: BTreeMap<OwnedRoomId, InvitedRoom>,
    /// Knocking.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub knock: BTreeMap<OwnedRoomId, KnockedRoom>,
    /// Left, kicked or banned.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub leave: BTreeMap<OwnedRoomId, LeftRoom>,
}

impl Rooms {
    fn is_empty(&self) -> bool {
        self.join.is_empty() && self.invite.is_empty() && self.knock.is_empty() && self.leave.is_empty()
    }
}

/// A piece of a timeline.
#[derive(Debug, Default, Serialize)]
pub struct Timeline {
    /// The events, oldest first.
    pub events: Events,
    /// There are more between the last answer and this one.
    pub limited: bool,
    /// Where those before are.
    pub prev_batch: String,
}

/// The part of a room that joined and left ones have in common: a timeline, and the state that belongs to it.
#[derive(Debug, Default, Serialize)]
pub struct History {
    /// What changed in the state before the timeline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<List>,
    /// What changed in the state by the end of the timeline, for clients that asked for it so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state_after: Option<List>,
    /// The same under its unstable name.
    #[serde(rename = "org.matrix.msc4222.state_after", skip_serializing_if = "Option::is_none")]
    pub unstable_state_after: Option<List>,
    /// The timeline.
    pub timeline: Timeline,
}

impl History {
    /// True when there is nothing in it.
    pub fn is_empty(&self) -> bool {
        let lists = [&self.state, &self.state_after, &self.unstable_state_after];
        self.timeline.events.is_empty() && lists.into_iter().flatten().all(List::is_empty)
    }
}

/// A room that the user is joined to.
#[derive(Debug, Default, Serialize)]
pub struct JoinedRoom {
    /// Timeline and state.
    #[serde(flatten)]
    pub history: History,
    /// Account data of the room.
    pub account_data: List,
    /// Receipts and who types.
    pub ephemeral: List,
    /// What a client needs to name the room.
    pub summary: Summary,
    /// What was not read.
    pub unread_notifications: Count,
    /// The same for each thread.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub unread_thread_notifications: BTreeMap<String, Count>,
}

/// Members of a room in brief; left out where nothing changed.
#[derive(Debug, Default, Serialize)]
pub struct Summary {
    /// Members after whom to name a room without a name.
    #[serde(rename = "m.heroes", skip_serializing_if = "Option::is_none")]
    pub heroes: Option<Vec<String>>,
    /// How many are joined.
    #[serde(rename = "m.joined_member_count", skip_serializing_if = "Option::is_none")]
    pub joined: Option<i64>,
    /// How many are invited.
    #[serde(rename = "m.invited_member_count", skip_serializing_if = "Option::is_none")]
    pub invited: Option<i64>,
}

/// Unread events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Count {
    /// That concern the user in person.
    #[serde(rename = "highlight_count")]
    pub highlight: u64,
    /// That notify.
    #[serde(rename = "notification_count")]
    pub notify: u64,
}

/// A room that the user is invited to.
#[derive(Debug, Serialize)]
pub struct InvitedRoom {
    /// What is shown of it.
    pub invite_state: List,
}

/// A room that the user knocks at.
#[derive(Debug, Serialize)]
pub struct KnockedRoom {
    /// What is shown of it.
    pub knock_state: List,
}

/// A room that the user is no longer in.
#[derive(Debug, Default, Serialize)]
pub struct LeftRoom {
    /// Timeline and state up to the end.
    #[serde(flatten)]
    pub history: History,
    /// Account data of the room.
    pub account_data: List,
}

/// Users whose devices changed.
#[derive(Debug, Default, Serialize)]
pub struct DeviceLists {
    /// Whose keys are to be asked for anew.
    pub changed: Vec<OwnedUserId>,
    /// With whom no room is shared any more.
    pub left: Vec<OwnedUserId>,
}

impl DeviceLists {
    fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.left.is_empty()
    }
}
