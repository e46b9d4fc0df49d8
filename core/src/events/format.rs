//! The form that a room version wants of a received event.

use ruma::canonical_json::CanonicalJsonObject;
use ruma::room_version_rules::RoomVersionRules;

/// Checks sizes, the presence and types of fields, and the lengths of lists. On error, drop the event.
pub fn check(event: &CanonicalJsonObject, rules: &RoomVersionRules) -> Result<(), String> {
    ruma::state_res::check_pdu_format(event, &rules.event_format)?;
    // PostgreSQL's texts cannot hold it; no event that a client would make has it in these fields.
    let fields = ["type", "state_key", "sender", "room_id"];
    match fields.into_iter().find(|field| {
        event.get(*field).and_then(|value| value.as_str()).is_some_and(|text| text.contains('\0'))
    }) {
        Some(field) => Err(format!("`{field}` contains U+0000")),
        None => Ok(()),
    }
}
