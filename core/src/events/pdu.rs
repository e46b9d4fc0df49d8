//! A PDU in memory: parsed once, immutable, shared as `Arc<Pdu>` by caches and rules.
//!
//! The JSON is kept in two pieces around the content, so the content is there as a raw value
//! without being held twice.

use std::borrow::Cow;
use std::mem::size_of;

use ruma::events::{StateEventType, TimelineEventType};
use ruma::room_version_rules::RoomVersionRules;
use ruma::state_res::Event;
use ruma::{MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, UInt, UserId};
use serde::Deserialize;
use serde_json::value::{RawValue, to_raw_value};

use crate::rooms::version;

pub mod join_rules;

/// An event as servers exchange it, with what we know about it.
#[derive(Debug, Clone)]
pub struct Pdu {
    /// The key in the database, 0 before the event is stored.
    pub pk: i64,
    /// The event's id, the hash of what its redacted form holds.
    pub event_id: OwnedEventId,
    /// The room; for a create event whose room id is its hash, derived.
    pub room_id: OwnedRoomId,
    /// Who sent it.
    pub sender: OwnedUserId,
    /// The type, as the raw string that came in.
    pub kind: Box<str>,
    /// Present on state events only.
    pub state_key: Option<Box<str>>,
    /// Milliseconds since 1970 on the sender's clock, not to be trusted.
    pub origin_server_ts: u64,
    /// One more than the deepest previous event, as far as the sender knew.
    pub depth: i64,
    /// The events before this one.
    pub prev_events: Box<[OwnedEventId]>,
    /// The events that allow this one.
    pub auth_events: Box<[OwnedEventId]>,
    /// The event that this redaction redacts, from where the room version says.
    pub redacts: Option<OwnedEventId>,
    /// The content.
    pub content: Box<RawValue>,
    /// It failed the rules at its own place in the graph.
    pub rejected: bool,
    /// It failed the rules against the state when it arrived: kept, but not shown.
    pub soft_failed: bool,
    /// The root of the room's state before this event, 0 where unknown.
    pub state_root: i64,
    /// The JSON without the content, and where the content belongs.
    frame: Box<str>,
    content_at: usize,
    room_id_in_json: bool,
    event_type: TimelineEventType,
    /// The content with types as ruma must see them, where that differs.
    ruma_content: Option<Box<RawValue>>,
}

/// Why a text is no PDU.
#[derive(Debug, thiserror::Error)]
pub enum PduError {
    /// Not JSON, or fields missing or of the wrong type.
    #[error("not an event: {0}")]
    Json(#[from] serde_json::Error),
    /// The content is not an object.
    #[error("not an event: content is not an object")]
    Content,
    /// There is no room id where the room version wants one.
    #[error("not an event: missing field `room_id`")]
    RoomId,
    /// An identifier inside is malformed.
    #[error("not an event: {0}")]
    Id(#[from] ruma::IdParseError),
}

#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    room_id: Option<OwnedRoomId>,
    sender: OwnedUserId,
    #[serde(borrow)]
    state_key: Option<Cow<'a, str>>,
    origin_server_ts: UInt,
    depth: i64,
    prev_events: Box<[OwnedEventId]>,
    auth_events: Box<[OwnedEventId]>,
    #[serde(borrow)]
    redacts: Option<&'a RawValue>,
    #[serde(borrow)]
    content: &'a RawValue,
}

#[derive(Deserialize)]
struct RedactsField {
    redacts: Option<OwnedEventId>,
}

impl Pdu {
    /// Reads a PDU. `json` is the whole PDU without `unsigned` and `event_id`.
    pub fn parse(event_id: OwnedEventId, rules: &RoomVersionRules, json: &str) -> Result<Self, PduError> {
        let fields: Fields<'_> = serde_json::from_str(json)?;
        let content = fields.content.get();
        if !content.starts_with('{') {
            return Err(PduError::Content);
        }
        let room_id_in_json = fields.room_id.is_some();
        let room_id = match fields.room_id {
            Some(room_id) => room_id,
            None if version::room_id_is_hash(rules) && fields.kind == "m.room.create" => {
                version::room_id_of_create(&event_id)?
            }
            None => return Err(PduError::RoomId),
        };
        let redacts = match (&*fields.kind, version::redacts_in_content(rules)) {
            ("m.room.redaction", false) => {
                fields.redacts.and_then(|raw| serde_json::from_str(raw.get()).ok())
            }
            // A redaction with a malformed target redacts nothing; it is no less an event.
            ("m.room.redaction", true) => {
                serde_json::from_str::<RedactsField>(content).ok().and_then(|found| found.redacts)
            }
            _ => None,
        };
        // The raw value borrows from `json`: its address tells where it stands.
        let content_at = content.as_ptr().addr() - json.as_ptr().addr();
        let before = json.get(..content_at).ok_or(PduError::Content)?;
        let after = json.get(content_at + content.len()..).ok_or(PduError::Content)?;
        Ok(Self {
            pk: 0,
            event_type: ruma_type(&fields.kind),
            ruma_content: ruma_content(&fields.kind, content),
            frame: [before, after].concat().into(),
            content_at,
            room_id_in_json,
            event_id,
            room_id,
            sender: fields.sender,
            state_key: fields.state_key.map(|key| key.into()),
            origin_server_ts: fields.origin_server_ts.into(),
            depth: fields.depth,
            prev_events: fields.prev_events,
            auth_events: fields.auth_events,
            redacts,
            content: fields.content.to_owned(),
            kind: fields.kind.into(),
            rejected: false,
            soft_failed: false,
            state_root: 0,
        })
    }

    /// The PDU's JSON, byte by byte what was parsed.
    pub fn json(&self) -> String {
        let (before, after) = self.frame.split_at_checked(self.content_at).unwrap_or((&self.frame, ""));
        [before, self.content.get(), after].concat()
    }

    /// Is it a state event?
    pub fn is_state(&self) -> bool {
        self.state_key.is_some()
    }

    /// Is it the state event of this type and key?
    pub fn is(&self, kind: &str, state_key: &str) -> bool {
        &*self.kind == kind && self.state_key.as_deref() == Some(state_key)
    }

    /// The content, parsed into what the caller needs of it. `None` if it does not have that form.
    pub fn content_as<'a, T: Deserialize<'a>>(&'a self) -> Option<T> {
        serde_json::from_str(self.content.get()).ok()
    }

    /// The membership that this event sets, if it is a member event.
    pub fn membership(&self) -> Option<Cow<'_, str>> {
        #[derive(Deserialize)]
        struct Member<'a> {
            #[serde(borrow)]
            membership: Cow<'a, str>,
        }
        if &*self.kind != "m.room.member" || self.state_key.is_none() {
            return None;
        }
        self.content_as::<Member<'_>>().map(|member| member.membership)
    }

    /// The bytes that it holds, for caches.
    pub fn weight(&self) -> usize {
        /// An id with its pointer, length and the allocator's overhead.
        const ID: usize = 44 + 16 + 8;
        let ids = 1 + self.prev_events.len() + self.auth_events.len() + usize::from(self.redacts.is_some());
        size_of::<Self>()
            + ids * ID
            + self.room_id.as_str().len()
            + self.sender.as_str().len()
            + 2 * self.kind.len()
            + self.state_key.as_ref().map_or(0, |key| key.len())
            + self.content.get().len()
            + self.ruma_content.as_ref().map_or(0, |content| content.get().len())
            + self.frame.len()
    }
}

/// Marks a type that ruma's enums must take as it is.
const RAW: &str = "raw:";

fn needs_mark(kind: &str) -> bool {
    kind.starts_with(RAW)
        || TimelineEventType::from(kind).to_string() != kind
        || StateEventType::from(kind).to_string() != kind
}

/// A type as ruma's enum, so that two are equal exactly if their strings are.
///
/// ruma merges some unstable names with the stable ones. Compared through these, power levels would
/// differ from other servers', so such a name is marked to be none that ruma knows.
pub fn ruma_type(kind: &str) -> TimelineEventType {
    if needs_mark(kind) { format!("{RAW}{kind}").into() } else { kind.into() }
}

/// The same for the types of state.
pub fn ruma_state_type(kind: &str) -> StateEventType {
    if needs_mark(kind) { format!("{RAW}{kind}").into() } else { kind.into() }
}

/// The raw string of a type that [`ruma_state_type`] made.
pub fn raw_state_type(kind: &StateEventType) -> String {
    let kind = kind.to_string();
    kind.strip_prefix(RAW).map(ToOwned::to_owned).unwrap_or(kind)
}

/// The content of power levels with marked types, and of join rules with the rule that holds where they name none;
/// `None` where nothing differs from what the event says.
fn ruma_content(kind: &str, content: &str) -> Option<Box<RawValue>> {
    match kind {
        "m.room.join_rules" => return join_rules::named(content),
        "m.room.power_levels" => {}
        _ => return None,
    }
    let mut object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(content).ok()?;
    let events = object.get_mut("events")?.as_object_mut()?;
    if !events.keys().any(|kind| needs_mark(kind)) {
        return None;
    }
    *events = std::mem::take(events)
        .into_iter()
        .map(|(kind, level)| (if needs_mark(&kind) { format!("{RAW}{kind}") } else { kind }, level))
        .collect();
    to_raw_value(&object).ok()
}

impl Event for Pdu {
    type Id = OwnedEventId;

    fn event_id(&self) -> &OwnedEventId {
        &self.event_id
    }

    fn room_id(&self) -> Option<&RoomId> {
        self.room_id_in_json.then_some(&*self.room_id)
    }

    fn sender(&self) -> &UserId {
        &self.sender
    }

    fn origin_server_ts(&self) -> MilliSecondsSinceUnixEpoch {
        MilliSecondsSinceUnixEpoch(UInt::new_saturating(self.origin_server_ts))
    }

    fn event_type(&self) -> &TimelineEventType {
        &self.event_type
    }

    fn content(&self) -> &RawValue {
        self.ruma_content.as_ref().unwrap_or(&self.content)
    }

    fn state_key(&self) -> Option<&str> {
        self.state_key.as_deref()
    }

    fn prev_events(&self) -> Box<dyn DoubleEndedIterator<Item = &OwnedEventId> + '_> {
        Box::new(self.prev_events.iter())
    }

    fn auth_events(&self) -> Box<dyn DoubleEndedIterator<Item = &OwnedEventId> + '_> {
        Box::new(self.auth_events.iter())
    }

    fn redacts(&self) -> Option<&OwnedEventId> {
        self.redacts.as_ref()
    }

    fn rejected(&self) -> bool {
        self.rejected
    }
}

#[cfg(test)]
mod tests;
