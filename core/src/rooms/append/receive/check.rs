//! What is decided by looking at a received event alone: form, signatures, hash.

use crate::events::pdu::Pdu;
use crate::events::signatures::{self, Verdict};
use crate::events::{canonical, format, hashes, redaction};
use ruma::canonical_json::CanonicalJsonObject;
use ruma::room_version_rules::RoomVersionRules;
use ruma::signatures::PublicKeyMap;

/// An event that is as its sender wrote it, or the redacted form of one that is not.
pub struct Checked {
    /// The event.
    pub pdu: Pdu,
    /// Its canonical JSON.
    pub json: String,
}

/// Checks an event; the error says why it is to be dropped.
pub fn check(
    rules: &RoomVersionRules,
    mut event: CanonicalJsonObject,
    keys: &PublicKeyMap,
) -> Result<Checked, String> {
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
    Ok(Checked { pdu, json })
}
