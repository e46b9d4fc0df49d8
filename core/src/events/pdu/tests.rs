use ruma::{RoomVersionId, owned_event_id};

use super::*;

const MESSAGE: &str = r#"{"auth_events":["$a","$b"],"content":{"body":"h\u00e4","msgtype":"m.text"},"depth":7,"hashes":{"sha256":"x"},"origin_server_ts":12,"prev_events":["$p"],"room_id":"!r:a.example","sender":"@u:a.example","signatures":{},"type":"m.room.message"}"#;

fn parse(version: RoomVersionId, json: &str) -> Result<Pdu, PduError> {
    Pdu::parse(owned_event_id!("$id"), &version.rules().unwrap(), json)
}

#[test]
fn parses_and_gives_back() {
    let pdu = parse(RoomVersionId::V11, MESSAGE).unwrap();
    assert_eq!(pdu.json(), MESSAGE);
    assert_eq!(&*pdu.kind, "m.room.message");
    assert_eq!(pdu.content.get(), r#"{"body":"h\u00e4","msgtype":"m.text"}"#);
    assert_eq!((pdu.depth, pdu.origin_server_ts), (7, 12));
    assert_eq!(pdu.auth_events.len(), 2);
    assert!(!pdu.is_state() && pdu.redacts.is_none());
    assert!(pdu.weight() > MESSAGE.len() && pdu.weight() < 4 * MESSAGE.len());
}

#[test]
fn create_event_of_version_12_makes_its_room_id() {
    let json = MESSAGE
        .replace(r#""room_id":"!r:a.example","#, "")
        .replace("m.room.message", "m.room.create")
        .replace(r#""type""#, r#""state_key":"","type""#);
    let pdu = parse(RoomVersionId::V12, &json).unwrap();
    assert_eq!(pdu.room_id, "!id");
    assert!(Event::room_id(&pdu).is_none());
    assert!(matches!(parse(RoomVersionId::V11, &json), Err(PduError::RoomId)));
    let json = json.replace("m.room.create", "m.room.name");
    assert!(matches!(parse(RoomVersionId::V12, &json), Err(PduError::RoomId)));
}

#[test]
fn target_of_a_redaction_is_where_the_version_says() {
    let beside = MESSAGE
        .replace("m.room.message", "m.room.redaction")
        .replace("{\"auth", "{\"redacts\":\"$t\",\"auth");
    let inside = beside.replace("\"redacts\":\"$t\",", "").replace("{\"body", "{\"redacts\":\"$t\",\"body");
    let target = Some(owned_event_id!("$t"));
    assert_eq!(parse(RoomVersionId::V10, &beside).unwrap().redacts, target);
    assert_eq!(parse(RoomVersionId::V10, &inside).unwrap().redacts, None);
    assert_eq!(parse(RoomVersionId::V11, &beside).unwrap().redacts, None);
    assert_eq!(parse(RoomVersionId::V11, &inside).unwrap().redacts, target);
    let odd = inside.replace("\"$t\"", "17");
    assert_eq!(parse(RoomVersionId::V11, &odd).unwrap().redacts, None);
    let message = beside.replace("m.room.redaction", "m.room.message");
    assert_eq!(parse(RoomVersionId::V10, &message).unwrap().redacts, None);
}

#[test]
fn refuses_what_is_no_event() {
    for (from, to) in [
        (r#""depth":7"#, r#""depth":"7""#),
        (r#""depth":7,"#, ""),
        (r#""sender":"@u:a.example""#, r#""sender":"u""#),
        (r#""prev_events":["$p"]"#, r#""prev_events":[["$p",{}]]"#),
        (r#"{"body":"h\u00e4","msgtype":"m.text"}"#, "[]"),
        (r#""origin_server_ts":12"#, r#""origin_server_ts":-1"#),
        (r#""signatures":{},"#, r#""signatures":{},"depth":7,"#),
        (r#""type":"m.room.message"}"#, r#""type":"m.room.message""#),
    ] {
        assert!(MESSAGE.contains(from));
        assert!(parse(RoomVersionId::V11, &MESSAGE.replace(from, to)).is_err(), "{to}");
    }
}

/// Pairs of an unstable and a stable name that ruma merges, some only with features that we leave off.
const ALIASES: [(&str, &str); 5] = [
    ("org.matrix.call.sdp_stream_metadata_changed", "m.call.sdp_stream_metadata_changed"),
    ("org.matrix.msc3401.call.member", "m.call.member"),
    ("org.matrix.msc3672.beacon_info", "m.beacon_info"),
    ("org.matrix.msc1763.retention", "m.room.retention"),
    ("org.matrix.msc4075.rtc.notification", "m.rtc.notification"),
];

#[test]
fn types_compare_as_their_strings_do() {
    for (unstable, stable) in ALIASES {
        assert_ne!(ruma_type(unstable), ruma_type(stable));
        assert_ne!(ruma_state_type(unstable), ruma_state_type(stable));
        for kind in [unstable, stable, "raw:m.call.member", "m.room.message", "", "raw:"] {
            assert_eq!(raw_state_type(&ruma_state_type(kind)), kind);
            assert_eq!(ruma_state_type(kind).to_string(), ruma_type(kind).to_string());
        }
    }
    assert_ne!(
        ruma_type("org.matrix.call.sdp_stream_metadata_changed").to_string(),
        "m.call.sdp_stream_metadata_changed"
    );
}

#[test]
fn power_levels_name_types_as_their_strings_do() {
    let content = r#"{"events":{"m.call.sdp_stream_metadata_changed":50,"org.matrix.call.sdp_stream_metadata_changed":100,"m.room.name":50}}"#;
    let json = MESSAGE
        .replace(r#"{"body":"h\u00e4","msgtype":"m.text"}"#, content)
        .replace("m.room.message", "m.room.power_levels");
    let pdu = parse(RoomVersionId::V11, &json).unwrap();
    assert_eq!(pdu.content.get(), content);
    assert_eq!(pdu.json(), json);
    let seen: serde_json::Value = serde_json::from_str(Event::content(&pdu).get()).unwrap();
    for (kind, level) in [
        ("m.call.sdp_stream_metadata_changed", 50),
        ("org.matrix.call.sdp_stream_metadata_changed", 100),
        ("m.room.name", 50),
    ] {
        assert_eq!(seen["events"][ruma_type(kind).to_string()], level, "{kind}");
    }
}
