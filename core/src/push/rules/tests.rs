use ruma::push::{NewPushRule, NewSimplePushRule, RuleKind};
use ruma::{RoomVersionId, owned_event_id, owned_room_id, room_id, user_id};
use serde_json::{Value, json};

use super::*;
use crate::rooms::authorize::Powers;

fn pdu(kind: &str, sender: &str, content: Value) -> Pdu {
    let mut event = json!({
        "auth_events": [], "content": content, "depth": 2, "origin_server_ts": 1000, "prev_events": ["$p"],
        "room_id": "!r:a.example", "sender": sender, "type": kind,
    });
    if kind.starts_with("m.room.") && kind != "m.room.message" && kind != "m.room.encrypted" {
        event["state_key"] = if kind == "m.room.member" { json!("@bob:a.example") } else { json!("") };
    }
    Pdu::parse(owned_event_id!("$id"), &RoomVersionId::V11.rules().unwrap(), &event.to_string()).unwrap()
}

fn outcome_with(rules: &Ruleset, pdu: &Pdu, members: u64) -> Outcome {
    let create = self::pdu("m.room.create", "@alice:a.example", json!({}));
    let levels =
        self::pdu("m.room.power_levels", "@alice:a.example", json!({"users": {"@alice:a.example": 100}}));
    let version = RoomVersionId::V11.rules().unwrap();
    let levels = Powers::new(&version, &create, Some(&levels)).unwrap().to_notify().unwrap();
    let context =
        context(room_id!("!r:a.example"), members, user_id!("@bob:a.example"), Some("Bobby"), Some(levels));
    evaluate(rules, &flatten(pdu).unwrap(), &context)
}

fn outcome(pdu: &Pdu, members: u64) -> Outcome {
    outcome_with(&rules_of(user_id!("@bob:a.example"), None), pdu, members)
}

const NOTHING: Outcome = Outcome { notify: false, highlight: false };
const NOTIFY: Outcome = Outcome { notify: true, highlight: false };
const HIGHLIGHT: Outcome = Outcome { notify: true, highlight: true };

#[test]
fn predefined_rules() {
    let (alice, bob, carol) = ("@alice:a.example", "@bob:a.example", "@carol:a.example");
    let mention = json!({"body": "x", "m.mentions": {"user_ids": [bob]}});
    let room = json!({"body": "@room", "m.mentions": {"room": true}});
    for (kind, sender, content, members, expected) in [
        ("m.room.message", alice, json!({"body": "hi", "msgtype": "m.text"}), 5, NOTIFY),
        ("m.room.message", alice, json!({"body": "hi", "msgtype": "m.text"}), 2, NOTIFY),
        ("m.room.encrypted", alice, json!({"ciphertext": "x"}), 2, NOTIFY),
        ("m.room.message", bob, json!({"body": "hi"}), 5, NOTHING),
        ("m.room.message", alice, json!({"body": "hi", "msgtype": "m.notice"}), 5, NOTHING),
        ("m.room.message", alice, mention, 5, HIGHLIGHT),
        ("m.room.message", alice, room.clone(), 5, HIGHLIGHT),
        ("m.room.message", carol, room, 5, NOTIFY),
        ("m.reaction", alice, json!({}), 5, NOTHING),
        ("m.room.member", alice, json!({"membership": "invite"}), 5, NOTIFY),
        ("m.room.member", alice, json!({"membership": "ban"}), 5, NOTHING),
        ("m.room.tombstone", alice, json!({"body": "moved"}), 5, HIGHLIGHT),
        ("m.room.name", alice, json!({"name": "n"}), 5, NOTHING),
    ] {
        let pdu = pdu(kind, sender, content);
        assert_eq!(outcome(&pdu, members), expected, "{} of {sender} in {members}", pdu.json());
    }
}

#[test]
fn own_rules_come_first_and_survive_an_upgrade() {
    let bob = user_id!("@bob:a.example");
    let mut rules = rules_of(bob, None);
    let quiet = NewSimplePushRule::new(owned_room_id!("!r:a.example"), vec![]);
    rules.insert(NewPushRule::Room(quiet), None, None).unwrap();
    rules.set_enabled(RuleKind::Override, ".m.rule.is_user_mention", false).unwrap();
    let stored = serde_json::to_string(&rules).unwrap();
    let rules = rules_of(bob, Some(serde_json::from_str(&stored).unwrap()));
    let message =
        pdu("m.room.message", "@alice:a.example", json!({"body": "hi", "m.mentions": {"user_ids": [bob]}}));
    assert_eq!(outcome_with(&rules, &message, 5), NOTHING);
    assert_eq!(outcome(&message, 5), HIGHLIGHT);
}
