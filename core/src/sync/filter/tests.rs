use proptest::prelude::*;
use ruma::{RoomVersionId, owned_event_id, room_id, uint, user_id};
use serde_json::json;

use super::*;

fn pdu(kind: &str, sender: &str, content: &Value) -> Pdu {
    let event = json!({
        "auth_events": [], "content": content, "depth": 2, "origin_server_ts": 1000, "prev_events": [],
        "room_id": "!r:a.example", "sender": sender, "type": kind,
    });
    Pdu::parse(owned_event_id!("$id"), &RoomVersionId::V11.rules().unwrap(), &event.to_string()).unwrap()
}

fn room_events(filter: Value) -> RoomEventFilter {
    serde_json::from_value(filter).unwrap()
}

#[test]
fn events_by_type_sender_and_url() {
    let message = pdu("m.room.message", "@a:a.example", &json!({"body": "\"url\""}));
    let image = pdu("m.room.message", "@a:a.example", &json!({"url": null}));
    for (filter, wants_message, wants_image) in [
        (json!({}), true, true),
        (json!({"types": []}), false, false),
        (json!({"types": ["m.room.*"]}), true, true),
        (json!({"types": ["m.room.name", "*.message"]}), true, true),
        (json!({"types": ["*"], "not_types": ["m.*.message"]}), false, false),
        (json!({"not_types": ["m.room.mess"]}), true, true),
        (json!({"senders": ["@a:a.example"]}), true, true),
        (json!({"senders": ["@b:a.example"]}), false, false),
        (json!({"senders": ["@a:a.example"], "not_senders": ["@a:a.example"]}), false, false),
        (json!({"contains_url": true}), false, true),
        (json!({"contains_url": false}), true, false),
    ] {
        let parsed = room_events(filter.clone());
        assert_eq!(
            (wants_event(&parsed, &message), wants_event(&parsed, &image)),
            (wants_message, wants_image),
            "{filter}"
        );
    }
    assert!(wants_room_type(&room_events(json!({"types": ["m.typing"]})), "m.typing"));
}

#[test]
fn rooms() {
    let (room, other) = (room_id!("!r:a.example"), room_id!("!s:a.example"));
    for (filter, wanted) in [
        (json!({}), true),
        (json!({"rooms": []}), false),
        (json!({"rooms": [room]}), true),
        (json!({"rooms": [other]}), false),
        (json!({"not_rooms": [room], "rooms": [room]}), false),
        (json!({"not_rooms": [other]}), true),
    ] {
        assert_eq!(wants_room(&serde_json::from_value(filter.clone()).unwrap(), room), wanted, "{filter}");
        assert_eq!(wants_events_of(&room_events(filter.clone()), room), wanted, "{filter}");
    }
}

#[test]
fn what_belongs_to_no_room() {
    let filter: Filter =
        serde_json::from_value(json!({"types": ["m.presence"], "not_senders": ["@a:a.example"]})).unwrap();
    assert!(!wants(&filter, "m.presence", Some(user_id!("@a:a.example"))));
    assert!(wants(&filter, "m.presence", Some(user_id!("@b:a.example"))));
    assert!(wants(&filter, "m.presence", None) && !wants(&filter, "m.direct", None));
}

#[test]
fn limits_members_and_form() {
    assert_eq!(limit(None, 10, 100), 10);
    assert_eq!(limit(Some(uint!(0)), 10, 100), 1);
    assert_eq!(limit(Some(uint!(7)), 10, 100), 7);
    assert_eq!(limit(Some(UInt::MAX), 10, 100), 100);
    assert_eq!(members(&room_events(json!({}))), Members::All);
    assert_eq!(members(&room_events(json!({"lazy_load_members": true}))), Members::Lazy);
    let redundant = json!({"lazy_load_members": true, "include_redundant_members": true});
    assert_eq!(members(&room_events(redundant)), Members::LazyRedundant);
    let filter: FilterDefinition = serde_json::from_value(json!({"event_format": "federation"})).unwrap();
    assert_eq!(shape(&filter, Shape::Sync), Shape::Federation);
    assert_eq!(shape(&FilterDefinition::default(), Shape::Sync), Shape::Sync);
}

#[test]
fn fields() {
    let event = json!({
        "type": "m.x", "content": {"body": "b", "m.relates_to": {"rel_type": "m.thread", "key": 1}, "m\\foo": 2, "list": [1]},
    });
    let raw = to_raw_value(&event).unwrap();
    for (paths, expected) in [
        (vec![], json!({})),
        (vec!["type", "content.body"], json!({"type": "m.x", "content": {"body": "b"}})),
        (vec![r"content.m\.relates_to.key"], json!({"content": {"m.relates_to": {"key": 1}}})),
        (vec![r"content.m\\foo", "content.list.0"], json!({"content": {"m\\foo": 2}})),
        (vec!["content.body", "content"], json!({"content": event["content"]})),
        (vec!["content", "content.body"], json!({"content": event["content"]})),
        (vec!["none.of.it", "", "."], json!({})),
    ] {
        let paths: Vec<String> = paths.into_iter().map(str::to_owned).collect();
        let selected: Value = serde_json::from_str(select_fields(&raw, &paths).unwrap().get()).unwrap();
        assert_eq!(selected, expected, "{paths:?}");
    }
}

/// The definition of a wildcard, slow and plain.
fn plain(pattern: &[char], text: &[char]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some(('*', rest)) => (0..=text.len()).any(|skip| plain(rest, &text[skip..])),
        Some((char, rest)) => text.first() == Some(char) && plain(rest, &text[1..]),
    }
}

proptest! {
    #[test]
    fn wildcards(pattern in "[ab*ä]{0,7}", text in "[abä]{0,9}") {
        let chars = |text: &str| text.chars().collect::<Vec<_>>();
        prop_assert_eq!(matches_wildcard(&pattern, &text), plain(&chars(&pattern), &chars(&text)));
    }
}
