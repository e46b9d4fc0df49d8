//! What clients send, and what an operator writes.

use myelin_core::config::{self, ConfigFile};
use myelin_core::events::Pdu;
use myelin_core::keys::{Device, upload};
use myelin_core::push::rules;
use myelin_core::rooms::timeline::Point;
use myelin_core::rooms::version;
use myelin_core::sync::filter;
use myelin_core::sync::token::{Seal, Token};
use ruma::api::client::filter::FilterDefinition;
use ruma::push::Ruleset;
use ruma::{device_id, event_id, room_id, user_id};
use serde_json::value::RawValue;

pub(crate) const TOKENS: &[&[u8]] =
    &[b"s1_25_300_20.0123456789abcdef", b"t12", b"s9223372036854775807_0_0_0"];

pub(crate) const FILTERS: &[&[u8]] = &[
    br#"{"room":{"timeline":{"limit":10,"types":["m.room.*"],"not_senders":["@u:a"],"lazy_load_members":true,"contains_url":true},"rooms":["!r:a"],"include_leave":true},"event_fields":["content.body","content.m\\.relates_to","type"],"event_format":"federation"}"#,
    br#"{"presence":{"types":["*"],"not_types":["*a*"]},"account_data":{"types":[]}}"#,
];

pub(crate) const DEVICE_KEYS: &[&[u8]] = &[
    br#"{"device_keys":{"user_id":"@u:a","device_id":"D","algorithms":["x"],"keys":{"ed25519:D":"x"},"signatures":{"@u:a":{"ed25519:D":"x"}}},"one_time_keys":{"signed_curve25519:A":{"key":"x","signatures":{}},"curve25519:B":"y"},"fallback_keys":{"signed_curve25519:F":{"key":"x","fallback":true,"signatures":{}}}}"#,
];

pub(crate) const PUSH_RULES: &[&[u8]] = &[
    br#"{"override":[{"rule_id":"a","default":false,"enabled":true,"actions":["notify",{"set_tweak":"highlight"}],"conditions":[{"kind":"event_match","key":"content.body","pattern":"*x?"},{"kind":"room_member_count","is":"<=2"}]}],"content":[{"rule_id":"b","default":false,"enabled":true,"actions":[],"pattern":"a*b"}]}"#,
];

pub(crate) const CONFIGURATIONS: &[&[u8]] = &[
    b"server_name = \"a.b:8448\"\n[database]\nurl = \"postgres://u:p@h/d\"\n[[listeners]]\nbind = \"127.0.0.1:1\"\nserve = [\"client\"]\n[limits]\nrequest_size = \"8 MiB\"\n",
    b"server_nam = 5\n[limits]\ncache_bytes = -1\n[federation]\ndenied_ip_ranges = [\"::/0\", \"10.0.0.0/33\"]\n",
];

/// Tokens of /sync and of /messages.
pub(crate) fn tokens(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(token) = Token::parse(text) {
        assert_eq!(Token::parse(&token.to_string()).expect("a token"), token);
    }
    if let Ok(point) = Point::parse(text) {
        assert_eq!(Point::parse(&point.to_string()).expect("a point"), point);
    }
    let _ = Seal::new("a secret").is_ours(text);
}

/// An event that has much of what filters and rules look at.
fn event() -> Pdu {
    const JSON: &str = r#"{"type":"m.room.message","room_id":"!r:a","sender":"@u:a","origin_server_ts":1,"depth":9,"prev_events":["$p"],"auth_events":["$c"],"content":{"body":"x y","url":"mxc://a/b","m.relates_to":{"rel_type":"m.thread","event_id":"$t"}}}"#;
    let rules = version::rules_of("11").expect("rules");
    Pdu::parse(event_id!("$e").to_owned(), &rules, JSON).expect("an event")
}

/// A filter, applied.
pub(crate) fn filter(data: &[u8]) {
    let Ok(definition) = serde_json::from_slice::<FilterDefinition>(data) else { return };
    let event = event();
    let _ = filter::wants_room(&definition.room, room_id!("!r:a"));
    for part in [&definition.room.timeline, &definition.room.state, &definition.room.ephemeral] {
        let _ = (filter::wants_event(part, &event), filter::wants_events_of(part, room_id!("!r:a")));
        let _ = (filter::wants_room_type(part, "m.typing"), filter::limit(part.limit, 10, 1_000));
    }
    let _ = filter::wants(&definition.presence, "m.presence", Some(user_id!("@u:a")));
    let shown = RawValue::from_string(event.json()).expect("JSON");
    if let Some(fields) = &definition.event_fields {
        let chosen = filter::select_fields(&shown, fields).expect("what is there can be chosen from");
        assert!(chosen.get().len() <= shown.get().len());
    }
}

/// An upload of keys.
pub(crate) fn device_keys(data: &[u8]) {
    let Ok(upload) = serde_json::from_slice::<upload::Upload>(data) else { return };
    let device = Device { user_pk: 1, user_id: user_id!("@u:a"), device_pk: 1, device_id: device_id!("D") };
    let _ = upload::check(device, &upload);
}

/// Push rules as account data holds them, evaluated.
pub(crate) fn push_rules(data: &[u8]) {
    let Ok(stored) = serde_json::from_slice::<Ruleset>(data) else { return };
    let user = user_id!("@v:a");
    let all = rules::rules_of(user, Some(stored));
    let event = rules::flatten(&event()).expect("an event");
    let context = rules::context(room_id!("!r:a"), 2, user, Some("V"), None);
    let outcome = rules::evaluate(&all, &event, &context);
    assert!(outcome.notify || !outcome.highlight, "what is highlighted notifies");
}

/// A configuration file.
pub(crate) fn configuration(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let file = ConfigFile { name: "myelin.toml", text };
    match config::load(Some(file), []) {
        Ok(settings) => drop((settings.public_baseurl(), settings.database_url())),
        Err(error) => assert!(!error.problems.is_empty() && !error.to_string().is_empty()),
    }
}
