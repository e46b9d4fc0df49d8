//! The form that a room version wants of a received event.

use super::MAX_FIELD_BYTES;
use crate::rooms::version;
use ruma::canonical_json::{CanonicalJsonObject, CanonicalJsonValue};
use ruma::room_version_rules::RoomVersionRules;
use std::borrow::Cow;

/// Checks sizes, the presence and types of fields, and the lengths of lists. On error, drop the event.
pub fn check(event: &CanonicalJsonObject, rules: &RoomVersionRules) -> Result<(), String> {
    ruma::state_res::check_pdu_format(&measured(event, rules), &rules.event_format)?;
    // PostgreSQL's texts cannot hold it; no event that a client would make has it in these fields.
    let fields = ["type", "state_key", "sender", "room_id"];
    match fields.into_iter().find(|field| {
        event.get(*field).and_then(|value| value.as_str()).is_some_and(|text| text.contains('\0'))
    }) {
        Some(field) => Err(format!("`{field}` contains U+0000")),
        None => Ok(()),
    }
}

/// The event with fields whose lengths in bytes are those that count. The specification counts bytes, and Synapse counts
/// characters before version 11: a server that dropped such an event would split the room from all others.
fn measured<'a>(event: &'a CanonicalJsonObject, rules: &RoomVersionRules) -> Cow<'a, CanonicalJsonObject> {
    let mut measured = Cow::Borrowed(event);
    if version::redacts_in_content(rules) {
        return measured;
    }
    for field in ["type", "state_key"] {
        let Some(text) = event.get(field).and_then(CanonicalJsonValue::as_str) else { continue };
        if text.len() > MAX_FIELD_BYTES {
            let counted = "x".repeat(text.chars().count());
            measured.to_mut().insert(field.to_owned(), CanonicalJsonValue::String(counted));
        }
    }
    measured
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn characters_count_before_version_11() {
        let check = |version: &str, key: &str| {
            let event = json!({
                "type": "x", "state_key": key, "sender": "@a:b.example", "room_id": "!r:b.example", "depth": 1,
                "content": {}, "hashes": { "sha256": "" }, "signatures": {}, "prev_events": [], "auth_events": [],
                "origin_server_ts": 1,
            });
            check(&serde_json::from_value(event).unwrap(), &version::rules_of(version).unwrap()).is_ok()
        };
        let (emoji, many) = ("😀".repeat(70), "😀".repeat(256));
        assert!(check("10", &emoji) && !check("11", &emoji));
        assert!(!check("10", &many) && !check("10", &"x".repeat(256)) && check("11", &"x".repeat(255)));
    }
}
