use std::collections::BTreeMap;

use ruma::serde::Base64;
use ruma::{RoomVersionId, owned_event_id, owned_room_id, owned_user_id, server_name};

use super::*;
use crate::events::Pdu;
use crate::events::signatures::{Verdict, verify};

fn key() -> ServerKey {
    ServerKey::from_seed("t", &[3; 32]).unwrap()
}

fn builder(kind: &str, content: &str) -> PduBuilder {
    PduBuilder {
        room_id: Some(owned_room_id!("!r:a.example")),
        sender: owned_user_id!("@u:a.example"),
        kind: kind.to_owned(),
        state_key: None,
        content: RawValue::from_string(content.to_owned()).unwrap(),
        redacts: None,
        origin_server_ts: 1_700_000_000_000,
        depth: 4,
        prev_events: vec![owned_event_id!("$p")],
        auth_events: vec![owned_event_id!("$r:a.example"), owned_event_id!("$a")],
    }
}

fn build(builder: PduBuilder, version: &RoomVersionId) -> Result<Pdu, BuildError> {
    let rules = version.rules().unwrap();
    let (event_id, json) = builder.build(server_name!("a.example"), &key(), &rules)?;
    Ok(Pdu::parse(event_id, &rules, &json).unwrap())
}

#[test]
fn what_we_build_verifies_in_every_version() {
    let public = Base64::parse(key().public_base64()).unwrap();
    let keys = BTreeMap::from([("a.example".to_owned(), BTreeMap::from([("ed25519:t".to_owned(), public)]))]);
    for version in &version::SUPPORTED {
        let rules = version.rules().unwrap();
        let pdu = build(builder("m.room.message", r#"{"body":"hi","n":-3}"#), version).unwrap();
        let mut object = canonical::parse(&pdu.json()).unwrap();
        assert!(!object.contains_key("origin") && !object.contains_key("event_id"));
        assert_eq!(verify(&object, &keys, &rules).unwrap(), Verdict::Genuine);
        assert_eq!(hashes::event_id(&object, &rules).unwrap(), pdu.event_id);
        object.insert("content".to_owned(), CanonicalJsonValue::Object(BTreeMap::new()));
        assert_eq!(verify(&object, &keys, &rules).unwrap(), Verdict::Redact);
        object.insert("sender".to_owned(), canonical::string("@other:a.example"));
        assert!(verify(&object, &keys, &rules).is_err());
    }
}

#[test]
fn redacts_goes_where_the_version_wants_it() {
    for (version, inside) in [(RoomVersionId::V10, false), (RoomVersionId::V11, true)] {
        let target = Some(owned_event_id!("$t"));
        let redaction =
            PduBuilder { redacts: target.clone(), ..builder("m.room.redaction", r#"{"reason":"x"}"#) };
        let pdu = build(redaction, &version).unwrap();
        assert_eq!(pdu.redacts, target);
        assert_eq!(pdu.content.get().contains("redacts"), inside);
    }
}

#[test]
fn version_12_leaves_the_room_id_and_the_create_event_out() {
    let create = PduBuilder {
        state_key: Some(String::new()),
        prev_events: vec![],
        auth_events: vec![],
        ..builder("m.room.create", r#"{"room_version":"12"}"#)
    };
    let pdu = build(create.clone(), &RoomVersionId::V12).unwrap();
    assert!(!pdu.json().contains("room_id"));
    assert_eq!(pdu.room_id.as_str()[1..], pdu.event_id.as_str()[1..]);
    assert_eq!(build(create.clone(), &RoomVersionId::V11).unwrap().room_id, "!r:a.example");
    let nowhere = PduBuilder { room_id: None, ..create };
    assert!(build(nowhere.clone(), &RoomVersionId::V12).is_ok());
    assert!(matches!(build(nowhere, &RoomVersionId::V11), Err(BuildError::RoomId)));

    let auth_events = vec![pdu.event_id.clone(), owned_event_id!("$a")];
    let room_id = Some(pdu.room_id.clone());
    let message = PduBuilder { auth_events, room_id, ..builder("m.room.message", "{}") };
    assert_eq!(*build(message.clone(), &RoomVersionId::V12).unwrap().auth_events, [owned_event_id!("$a")]);
    assert_eq!(build(message, &RoomVersionId::V11).unwrap().auth_events.len(), 2);
}

#[test]
fn sizes_are_limited() {
    let version = RoomVersionId::V12;
    let empty = build(builder("m.x", r#"{"body":""}"#), &version).unwrap().json().len();
    let body = |length: usize| format!(r#"{{"body":"{}"}}"#, "x".repeat(length));
    let fits = MAX_PDU_BYTES - empty;
    assert!(build(builder("m.x", &body(fits)), &version).is_ok());
    for length in [fits + 1, MAX_PDU_BYTES, 100_000] {
        assert!(matches!(build(builder("m.x", &body(length)), &version), Err(BuildError::TooLarge)));
    }
    assert!(build(builder(&"t".repeat(255), "{}"), &version).is_ok());
    assert!(matches!(
        build(builder(&"t".repeat(256), "{}"), &version),
        Err(BuildError::FieldTooLong("type"))
    ));
    let long = PduBuilder { state_key: Some("ä".repeat(128)), ..builder("m.x", "{}") };
    assert!(matches!(build(long, &version), Err(BuildError::FieldTooLong("state_key"))));
}

#[test]
fn names_hold_no_nul() {
    let version = RoomVersionId::V12;
    assert!(matches!(build(builder("m.\0", "{}"), &version), Err(BuildError::Nul("type"))));
    let key = PduBuilder { state_key: Some("\0".to_owned()), ..builder("m.x", "{}") };
    assert!(matches!(build(key, &version), Err(BuildError::Nul("state_key"))));
}

#[test]
fn content_must_be_canonical() {
    for content in ["[]", r#"{"a":1.5}"#, r#"{"a":9007199254740992}"#, "null"] {
        let error = build(builder("m.x", content), &RoomVersionId::V12).unwrap_err();
        assert!(matches!(error, BuildError::Content(_)), "{content}: {error}");
    }
}
