//! Events as other servers send them.

use myelin_core::events::client_format::{Shape, Unsigned, client_event, stripped};
use myelin_core::events::signatures::ServerKey;
use myelin_core::events::{Pdu, canonical, redaction};
use myelin_core::push::rules;
use myelin_core::rooms::append::receive::check::{Checked, check};
use myelin_core::rooms::authorize::{Action, Powers};
use myelin_core::rooms::{relations, version};
use ruma::room_version_rules::RoomVersionRules;
use ruma::signatures::PublicKeyMap;
use ruma::{event_id, server_name, user_id};

/// The first byte chooses the room version.
pub(crate) const PDUS: &[&[u8]] = &[
    br#"6{"type":"m.room.create","room_id":"!r:a","sender":"@u:a","state_key":"","origin_server_ts":1,"depth":1,"prev_events":[],"auth_events":[],"content":{"creator":"@u:a","room_version":"12"}}"#,
    br#"0{"type":"m.room.message","room_id":"!r:a","sender":"@u:a","origin_server_ts":1,"depth":9,"prev_events":["$p"],"auth_events":["$c"],"content":{"body":"x","m.relates_to":{"rel_type":"m.thread","event_id":"$t","m.in_reply_to":{"event_id":"$p"},"is_falling_back":true}}}"#,
    br#"5{"type":"m.room.redaction","room_id":"!r:a","sender":"@u:a","origin_server_ts":1,"depth":9,"prev_events":["$p"],"auth_events":["$c"],"redacts":"$x","content":{"redacts":"$y"},"unsigned":{"age":1}}"#,
    br#"4{"type":"m.room.member","room_id":"!r:a","sender":"@u:a","state_key":"@v:a","origin_server_ts":1,"depth":9,"prev_events":["$p"],"auth_events":["$c"],"content":{"membership":"join","join_authorised_via_users_server":"@w:a","third_party_invite":{"signed":{"mxid":"@v:a","token":"t","signatures":{"a":{"ed25519:1":"x"}}}}}}"#,
];

/// Power levels alone.
pub(crate) const LEVELS: &[&[u8]] = &[
    br#"6{"users":{"@u:a":100,"@v:a":"50"},"users_default":0,"events":{"m.room.name":50},"events_default":0,"state_default":50,"ban":50,"kick":50,"redact":50,"invite":0,"notifications":{"room":50}}"#,
    br#"3{"users":{"@u:a":" +7 "},"ban":"50"}"#,
];

/// Keys as Synapse keeps them in a file.
pub(crate) const SIGNING_KEYS: &[&[u8]] = &[
    b"ed25519 a_1 AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n",
    b"ed25519 a_1 AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n\n9 a_1\n",
    b"ed25519 \n\n x",
];

const VERSIONS: [&str; 7] = ["6", "7", "8", "9", "10", "11", "12"];

/// The rules of a room version, and the rest of the bytes as text.
fn versioned(data: &[u8]) -> Option<(RoomVersionRules, &str)> {
    let (first, rest) = data.split_first()?;
    let version = VERSIONS[usize::from(*first) % VERSIONS.len()];
    Some((version::rules_of(version)?, std::str::from_utf8(rest).ok()?))
}

/// An event on the way in: checks, then all that is done with one that passed.
pub(crate) fn pdu(data: &[u8]) {
    let Some((rules, text)) = versioned(data) else { return };
    let Ok(mut event) = canonical::parse(text) else { return };
    // As it came: most are refused for their signature.
    let _ = check(&rules, event.clone(), &PublicKeyMap::new());
    // As its server would have signed it.
    let server = server_name!("a");
    let key = ServerKey::from_seed("1", &[7; 32]).expect("a key");
    event.remove("unsigned");
    if key.hash_and_sign(server, &mut event, &rules).is_err() {
        return;
    }
    let keys = PublicKeyMap::from([(server.to_string(), public_keys(&key))]);
    let Ok(Checked { pdu, json }) = check(&rules, event, &keys) else { return };
    assert_eq!(pdu.json(), json);
    assert!(pdu.weight() >= pdu.content.get().len());
    let relation = relations::relation(pdu.content.get());
    let _ = (relations::thread_of(&pdu, relation.as_ref()), pdu.membership());
    for shape in [Shape::Full, Shape::Federation] {
        client_event(&pdu, shape, &Unsigned::default()).expect("what was parsed can be shown");
    }
    stripped(&pdu).expect("what was parsed can be stripped");
    rules::flatten(&pdu).expect("what was parsed can be flattened");
    let once = redaction::redacted(&pdu, &rules).expect("what was parsed can be redacted");
    let twice = redaction::redacted(&once, &rules).expect("what was redacted can be redacted");
    assert_eq!(once.json(), twice.json());
    let _ = Powers::new(&rules, &pdu, Some(&pdu)).map(|powers| powers.of(user_id!("@u:a")));
}

fn public_keys(key: &ServerKey) -> ruma::signatures::PublicKeySet {
    let public = ruma::serde::Base64::parse(key.public_base64()).expect("base64");
    [(key.id().to_string(), public)].into()
}

/// Canonical JSON stays what it is.
pub(crate) fn canonical_json(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(object) = canonical::parse(text) else { return };
    let written = canonical::to_string(&object).expect("what was read can be written");
    let again = canonical::parse(&written).expect("what was written can be read");
    assert_eq!(canonical::to_string(&again).expect("written"), written);
}

/// Power levels with any content: every question is answered or refused.
pub(crate) fn power_levels(data: &[u8]) {
    let Some((rules, content)) = versioned(data) else { return };
    let event = |kind: &str, content: &str| {
        let json = format!(
            r#"{{"type":"{kind}","room_id":"!r:a","sender":"@u:a","state_key":"","origin_server_ts":1,"depth":1,"prev_events":[],"auth_events":[],"content":{content}}}"#
        );
        Pdu::parse(event_id!("$e").to_owned(), &rules, &json)
    };
    let create = event("m.room.create", r#"{"creator":"@u:a"}"#).expect("a create event");
    let Ok(levels) = event("m.room.power_levels", content) else { return };
    let Ok(powers) = Powers::new(&rules, &create, Some(&levels)) else { return };
    let user = user_id!("@v:a");
    let _ =
        (powers.of(user), powers.to_send("m.room.name", Some("")), powers.to_send("m.room.message", None));
    for action in [Action::Ban, Action::Invite, Action::Kick, Action::Redact] {
        let _ = (powers.to_do(action), powers.may_do(user, action));
    }
    let _ = powers.to_notify();
}

/// A signing key's file.
pub(crate) fn signing_key(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(key) = ServerKey::parse(text) {
        assert!(key.id().as_str().starts_with("ed25519:"));
        // The secret is the third word; a key may be called by any word, by this one too.
        let secret = text.split_whitespace().nth(2).expect("a key was read");
        assert!(key.id().as_str().contains(secret) || !format!("{key:?}").contains(secret));
    }
}
