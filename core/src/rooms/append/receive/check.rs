//! What is decided by looking at a received event alone: form, signatures, hash, and that it is of this room.

use crate::events::pdu::Pdu;
use crate::events::signatures::{self, Verdict};
use crate::events::{canonical, format, hashes, redaction};
use crate::rooms::cache::Room;
use ruma::canonical_json::CanonicalJsonObject;
use ruma::signatures::PublicKeyMap;

/// An event that is as its sender wrote it, or the redacted form of one that is not.
pub(super) struct Checked {
    pub(super) pdu: Pdu,
    pub(super) json: String,
}

/// Checks an event; the error says why it is to be dropped.
pub(super) fn check(
    room: &Room,
    mut event: CanonicalJsonObject,
    keys: &PublicKeyMap,
) -> Result<Checked, String> {
    let rules = &room.rules;
    // What other servers say beside the event is not signed and not ours to keep.
    event.remove("unsigned");
    format::check(&event, rules)?;
    let verdict = signatures::verify(&event, keys, rules).map_err(|error| error.to_string())?;
    let event_id = hashes::event_id(&event, rules).map_err(|error| error.to_string())?;
    if verdict == Verdict::Redact {
        redaction::redact_object(&mut event, rules).map_err(|error| error.to_string())?;
    }
    let json = canonical::to_string(&event).map_err(|error| error.to_string())?;
    let pdu = Pdu::parse(event_id, rules, &json).map_err(|error| error.to_string())?;
    if pdu.room_id != room.id {
        return Err(format!("the event is of the room {}", pdu.room_id));
    }
    Ok(Checked { pdu, json })
}
