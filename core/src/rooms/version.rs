//! Room versions: which we support and, in plain words, where they differ.
//!
//! Callers ask these functions and not the version's number, so a new version is an entry here.

use ruma::room_version_rules::{RoomIdFormatVersion, RoomVersionRules};
use ruma::{EventId, IdParseError, OwnedEventId, OwnedRoomId, RoomId, RoomVersionId};

/// The versions that we create, join and advertise, oldest first.
///
/// 1 to 5 need state resolution v1 and lax canonical JSON, which ruma does not have.
pub const SUPPORTED: [RoomVersionId; 7] = [
    RoomVersionId::V6,
    RoomVersionId::V7,
    RoomVersionId::V8,
    RoomVersionId::V9,
    RoomVersionId::V10,
    RoomVersionId::V11,
    RoomVersionId::V12,
];

/// The version of a room that is created without one, unless the configuration says otherwise.
pub const DEFAULT: RoomVersionId = RoomVersionId::V12;

/// The rules of a version, `None` if we do not support it.
pub fn rules(version: &RoomVersionId) -> Option<RoomVersionRules> {
    if SUPPORTED.contains(version) { version.rules() } else { None }
}

/// The rules of a version given by its name.
pub fn rules_of(version: &str) -> Option<RoomVersionRules> {
    rules(&RoomVersionId::try_from(version).ok()?)
}

/// The room id is the hash of the create event, which carries no room id and is in no event's
/// `auth_events` (12 and later).
pub fn room_id_is_hash(rules: &RoomVersionRules) -> bool {
    rules.room_id_format != RoomIdFormatVersion::V1
}

/// The creators of the room stand above all power levels (12 and later).
pub fn creators_are_privileged(rules: &RoomVersionRules) -> bool {
    rules.authorization.explicitly_privilege_room_creators
}

/// `additional_creators` of the create event count as creators (12 and later).
pub fn has_additional_creators(rules: &RoomVersionRules) -> bool {
    rules.authorization.additional_room_creators
}

/// The create event names its creator in its content (before 11).
pub fn create_content_has_creator(rules: &RoomVersionRules) -> bool {
    !rules.authorization.use_room_create_sender
}

/// A redaction names its target in its content (11 and later), not beside it.
pub fn redacts_in_content(rules: &RoomVersionRules) -> bool {
    rules.redaction.content_field_redacts
}

/// Knocking is possible (7 and later).
pub fn allows_knocking(rules: &RoomVersionRules) -> bool {
    rules.authorization.knocking
}

/// The join rule `restricted` is possible (8 and later).
pub fn allows_restricted(rules: &RoomVersionRules) -> bool {
    rules.authorization.restricted_join_rule
}

/// The join rule `knock_restricted` is possible (10 and later).
pub fn allows_knock_restricted(rules: &RoomVersionRules) -> bool {
    rules.authorization.knock_restricted_join_rule
}

/// Power levels are integers, never strings of digits (10 and later).
pub fn power_levels_are_integers(rules: &RoomVersionRules) -> bool {
    rules.authorization.integer_power_levels
}

/// The id of the room that a create event makes, in versions whose room id is a hash.
pub fn room_id_of_create(create: &EventId) -> Result<OwnedRoomId, IdParseError> {
    RoomId::parse(create.as_str().replacen('$', "!", 1))
}

/// The id of the event that made a room, in versions whose room id is a hash.
pub fn create_of_room_id(room_id: &RoomId) -> Result<OwnedEventId, IdParseError> {
    EventId::parse(room_id.as_str().replacen('!', "$", 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_of_known_and_unknown_versions() {
        for version in &SUPPORTED {
            assert!(rules(version).is_some(), "{version}");
        }
        assert!(rules_of("5").is_none());
        assert!(rules_of("org.example.unknown").is_none());
    }

    #[test]
    fn differences_start_where_the_specification_says() {
        type Question = fn(&RoomVersionRules) -> bool;
        let first: [(Question, &str); 8] = [
            (allows_knocking, "7"),
            (allows_restricted, "8"),
            (allows_knock_restricted, "10"),
            (power_levels_are_integers, "10"),
            (redacts_in_content, "11"),
            (room_id_is_hash, "12"),
            (creators_are_privileged, "12"),
            (has_additional_creators, "12"),
        ];
        for (question, since) in first {
            let found = SUPPORTED.iter().find(|v| question(&v.rules().unwrap())).unwrap();
            assert_eq!(found.as_str(), since);
        }
    }

    #[test]
    fn room_id_and_create_event_name_each_other() {
        let create = EventId::parse("$XA9y1cRmEHU1EXdTuZ0HNRpNxHYfaeC0lZQQY5mTnCk").unwrap();
        let room = room_id_of_create(&create).unwrap();
        assert_eq!(room.as_str(), "!XA9y1cRmEHU1EXdTuZ0HNRpNxHYfaeC0lZQQY5mTnCk");
        assert_eq!(create_of_room_id(&room).unwrap(), create);
    }
}
