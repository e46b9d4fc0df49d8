//! Events as clients see them.
//!
//! Whatever has a cost (earlier content, relations, who redacted it) is looked up by the caller and
//! handed in; here it is only written out, without parsing the content again.

use ruma::{EventId, RoomId, UserId};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use super::pdu::Pdu;

/// Which form of an event a client asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Inside a room of a sync answer, so without the room's id.
    Sync,
    /// Everywhere else.
    Full,
    /// As servers exchange it, for filters with `event_format: federation`.
    Federation,
}

/// What stands in `unsigned`.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Unsigned<'a> {
    /// Milliseconds since it was sent; see [`age`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age: Option<i64>,
    /// The client's id for the request, only for the device that sent the event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transaction_id: Option<&'a str>,
    /// The content of the state event that this one replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prev_content: Option<&'a RawValue>,
    /// Who sent the state event that this one replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prev_sender: Option<&'a UserId>,
    /// The state event that this one replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replaces_state: Option<&'a EventId>,
    /// The redaction, in client form, that this event fell to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redacted_because: Option<&'a RawValue>,
    /// The membership of the reader at the time of the event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub membership: Option<&'a str>,
    /// The bundled relations.
    #[serde(rename = "m.relations", skip_serializing_if = "Option::is_none")]
    pub relations: Option<&'a RawValue>,
    /// What an invited user is shown of the room (stripped state).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub invite_room_state: Option<&'a [Box<RawValue>]>,
    /// What a knocking user is shown of the room (stripped state).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub knock_room_state: Option<&'a [Box<RawValue>]>,
}

impl Unsigned<'_> {
    fn is_empty(&self) -> bool {
        let Self { age, transaction_id, prev_content, prev_sender, replaces_state, .. } = self;
        let Self { redacted_because, membership, relations, invite_room_state, knock_room_state, .. } = self;
        age.is_none()
            && transaction_id.is_none()
            && prev_content.is_none()
            && prev_sender.is_none()
            && replaces_state.is_none()
            && redacted_because.is_none()
            && membership.is_none()
            && relations.is_none()
            && invite_room_state.is_none()
            && knock_room_state.is_none()
    }
}

/// The age of an event. Clocks differ: one from the future has a negative age.
pub fn age(pdu: &Pdu, now_ms: u64) -> i64 {
    now_ms.cast_signed().saturating_sub(pdu.origin_server_ts.cast_signed())
}

#[derive(Serialize)]
struct ClientEvent<'a> {
    content: &'a RawValue,
    event_id: &'a EventId,
    origin_server_ts: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    redacts: Option<&'a EventId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    room_id: Option<&'a RoomId>,
    sender: &'a UserId,
    #[serde(skip_serializing_if = "Option::is_none")]
    state_key: Option<&'a str>,
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(skip_serializing_if = "Unsigned::is_empty")]
    unsigned: &'a Unsigned<'a>,
}

/// An event as a client gets it.
pub fn client_event(
    pdu: &Pdu,
    shape: Shape,
    unsigned: &Unsigned<'_>,
) -> Result<Box<RawValue>, serde_json::Error> {
    if shape == Shape::Federation {
        return federation_event(pdu, unsigned);
    }
    let with_redacts = pdu.redacts.as_deref().and_then(|target| content_with_redacts(pdu, target));
    to_raw_value(&ClientEvent {
        content: with_redacts.as_deref().unwrap_or(&pdu.content),
        event_id: &pdu.event_id,
        origin_server_ts: pdu.origin_server_ts,
        redacts: pdu.redacts.as_deref(),
        room_id: (shape == Shape::Full).then_some(&*pdu.room_id),
        sender: &pdu.sender,
        state_key: pdu.state_key.as_deref(),
        kind: &pdu.kind,
        unsigned,
    })
}

/// Clients may look for a redaction's target in the content or beside it, whatever the room's
/// version: the specification asks servers to show both. `None` if the content has it already.
fn content_with_redacts(pdu: &Pdu, target: &EventId) -> Option<Box<RawValue>> {
    #[derive(Deserialize)]
    struct Redacts<'a> {
        #[serde(borrow)]
        redacts: Option<&'a RawValue>,
    }
    if pdu.content_as::<Redacts<'_>>()?.redacts.is_some() {
        return None;
    }
    let mut content: serde_json::Map<String, serde_json::Value> = pdu.content_as()?;
    content.insert("redacts".to_owned(), target.as_str().into());
    to_raw_value(&content).ok()
}

/// The PDU itself, with what a client can't do without.
fn federation_event(pdu: &Pdu, unsigned: &Unsigned<'_>) -> Result<Box<RawValue>, serde_json::Error> {
    let mut event: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&pdu.json())?;
    event.insert("event_id".to_owned(), pdu.event_id.as_str().into());
    event.insert("room_id".to_owned(), pdu.room_id.as_str().into());
    if !unsigned.is_empty() {
        event.insert("unsigned".to_owned(), serde_json::to_value(unsigned)?);
    }
    to_raw_value(&event)
}

#[derive(Serialize)]
struct Stripped<'a> {
    content: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    origin_server_ts: Option<u64>,
    sender: &'a UserId,
    state_key: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
}

fn write_stripped(pdu: &Pdu, origin_server_ts: Option<u64>) -> Result<Box<RawValue>, serde_json::Error> {
    to_raw_value(&Stripped {
        content: &pdu.content,
        origin_server_ts,
        sender: &pdu.sender,
        state_key: pdu.state_key.as_deref().unwrap_or_default(),
        kind: &pdu.kind,
    })
}

/// The stripped form of a state event, for people who are not in the room yet.
pub fn stripped(pdu: &Pdu) -> Result<Box<RawValue>, serde_json::Error> {
    write_stripped(pdu, None)
}

/// The stripped form of a space's child, which is ordered by its time.
pub fn stripped_child(pdu: &Pdu) -> Result<Box<RawValue>, serde_json::Error> {
    write_stripped(pdu, Some(pdu.origin_server_ts))
}

#[cfg(test)]
mod tests;
