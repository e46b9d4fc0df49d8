use ruma::{RoomVersionId, event_id, owned_event_id, user_id};
use serde_json::{Value, json};

use super::*;

fn pdu(version: RoomVersionId, changes: Value) -> Pdu {
    let mut event = json!({
        "auth_events": ["$a"], "content": {"body": "x", "n": 1}, "depth": 2, "hashes": {}, "origin_server_ts": 1000,
        "prev_events": ["$p"], "room_id": "!r:a.example", "sender": "@u:a.example", "signatures": {}, "type": "m.x",
    });
    for (key, value) in changes.as_object().unwrap() {
        event[key] = value.clone();
    }
    Pdu::parse(owned_event_id!("$id"), &version.rules().unwrap(), &event.to_string()).unwrap()
}

fn shown(pdu: &Pdu, shape: Shape, unsigned: &Unsigned<'_>) -> Value {
    serde_json::from_str(client_event(pdu, shape, unsigned).unwrap().get()).unwrap()
}

#[test]
fn message_in_every_shape() {
    let pdu = pdu(RoomVersionId::V12, json!({}));
    let mut expected = json!({
        "content": {"body": "x", "n": 1}, "event_id": "$id", "origin_server_ts": 1000, "sender": "@u:a.example",
        "type": "m.x",
    });
    assert_eq!(shown(&pdu, Shape::Sync, &Unsigned::default()), expected);
    expected["room_id"] = json!("!r:a.example");
    assert_eq!(shown(&pdu, Shape::Full, &Unsigned::default()), expected);
    let federation = shown(&pdu, Shape::Federation, &Unsigned { age: Some(5), ..Unsigned::default() });
    assert_eq!(federation["depth"], 2);
    assert_eq!(federation["event_id"], "$id");
    assert_eq!(federation["unsigned"], json!({"age": 5}));
}

#[test]
fn unsigned_holds_what_was_handed_in() {
    let raw = |text: &str| RawValue::from_string(text.to_owned()).unwrap();
    let (content, because, relations) = (raw(r#"{"old":1}"#), raw(r#"{"event_id":"$r"}"#), raw("{}"));
    let state = [raw(r#"{"type":"m.room.name"}"#)];
    let pdu = pdu(RoomVersionId::V12, json!({"state_key": "k"}));
    let unsigned = Unsigned {
        age: Some(age(&pdu, 4000)),
        transaction_id: Some("t\"1"),
        prev_content: Some(&content),
        prev_sender: Some(user_id!("@v:a.example")),
        replaces_state: Some(event_id!("$old")),
        redacted_because: Some(&because),
        membership: Some("join"),
        relations: Some(&relations),
        invite_room_state: Some(&state),
        knock_room_state: None,
    };
    let event = shown(&pdu, Shape::Sync, &unsigned);
    assert_eq!(event["state_key"], "k");
    assert_eq!(
        event["unsigned"],
        json!({
            "age": 3000, "transaction_id": "t\"1", "prev_content": {"old": 1}, "prev_sender": "@v:a.example",
            "replaces_state": "$old", "redacted_because": {"event_id": "$r"}, "membership": "join",
            "m.relations": {}, "invite_room_state": [{"type": "m.room.name"}],
        })
    );
    assert_eq!(age(&pdu, 0), -1000);
}

#[test]
fn redactions_show_their_target_twice() {
    let old = json!({"type": "m.room.redaction", "redacts": "$t", "content": {"reason": "r"}});
    let new = json!({"type": "m.room.redaction", "content": {"reason": "r", "redacts": "$t"}});
    for (version, changes) in [(RoomVersionId::V10, old), (RoomVersionId::V11, new)] {
        let event = shown(&pdu(version, changes), Shape::Sync, &Unsigned::default());
        assert_eq!(event["redacts"], "$t");
        assert_eq!(event["content"], json!({"reason": "r", "redacts": "$t"}));
    }
}

#[test]
fn stripped_state_has_four_fields() {
    let pdu =
        pdu(RoomVersionId::V12, json!({"type": "m.room.name", "state_key": "", "content": {"name": "n"}}));
    let event: Value = serde_json::from_str(stripped(&pdu).unwrap().get()).unwrap();
    let expected =
        json!({"content": {"name": "n"}, "sender": "@u:a.example", "state_key": "", "type": "m.room.name"});
    assert_eq!(event, expected);
}
