use std::collections::HashMap;

use ruma::{OwnedEventId, RoomVersionId, user_id};
use serde_json::{Value, json};

use super::*;

const ALICE: &str = "@alice:a.example";
const BOB: &str = "@bob:a.example";

struct Room {
    rules: RoomVersionRules,
    state: HashMap<(String, String), Arc<Pdu>>,
}

impl Room {
    /// A public room of alice with power levels, bob joined.
    fn new(version: RoomVersionId, levels: Value) -> Self {
        let mut room = Self { rules: version.rules().unwrap(), state: HashMap::new() };
        room.put(ALICE, "m.room.create", Some(""), json!({"creator": ALICE, "room_version": version}));
        room.put(ALICE, "m.room.member", Some(ALICE), json!({"membership": "join"}));
        room.put(ALICE, "m.room.power_levels", Some(""), levels);
        room.put(ALICE, "m.room.join_rules", Some(""), json!({"join_rule": "public"}));
        room.put(BOB, "m.room.member", Some(BOB), json!({"membership": "join"}));
        room
    }

    fn event(&self, sender: &str, kind: &str, state_key: Option<&str>, content: Value) -> Arc<Pdu> {
        let mut event = json!({
            "auth_events": [], "content": content, "depth": 1, "origin_server_ts": 1, "prev_events": ["$p"],
            "sender": sender, "type": kind,
        });
        if kind == "m.room.create" {
            event["prev_events"] = json!([]);
        }
        if kind != "m.room.create" || !version::room_id_is_hash(&self.rules) {
            event["room_id"] = json!("!0:a.example");
        }
        if let Some(state_key) = state_key {
            event["state_key"] = json!(state_key);
        }
        let id = OwnedEventId::try_from(format!("${}:a.example", self.state.len())).unwrap();
        Arc::new(Pdu::parse(id, &self.rules, &event.to_string()).unwrap())
    }

    fn put(&mut self, sender: &str, kind: &str, state_key: Option<&str>, content: Value) {
        let pdu = self.event(sender, kind, state_key, content);
        self.state.insert((kind.to_owned(), state_key.unwrap().to_owned()), pdu);
    }

    fn authorize(
        &self,
        sender: &str,
        kind: &str,
        state_key: Option<&str>,
        content: Value,
    ) -> Result<(), Reason> {
        let pdu = self.event(sender, kind, state_key, content);
        authorize(&self.rules, &pdu, |kind, key| self.state.get(&(kind.to_owned(), key.to_owned())).cloned())
    }

    fn types(&self, kind: &str, state_key: Option<&str>, content: Value) -> Vec<(String, String)> {
        let pdu = self.event(BOB, kind, state_key, content);
        auth_types(&self.rules, kind, user_id!("@bob:a.example"), state_key, &pdu.content).unwrap()
    }
}

fn pair(kind: &str, key: &str) -> (String, String) {
    (kind.to_owned(), key.to_owned())
}

#[test]
fn auth_types_name_what_decides() {
    let levels = json!({});
    let room = Room::new(RoomVersionId::V11, levels.clone());
    let base = [pair("m.room.power_levels", ""), pair("m.room.member", BOB), pair("m.room.create", "")];
    assert_eq!(room.types("m.room.message", None, json!({})), base);
    let join = room.types(
        "m.room.member",
        Some(BOB),
        json!({"membership": "join", "join_authorised_via_users_server": ALICE}),
    );
    assert_eq!(join[3..], [pair("m.room.join_rules", ""), pair("m.room.member", ALICE)]);
    let signed = json!({"token": "t", "mxid": ALICE, "signatures": {}});
    let invite = room.types(
        "m.room.member",
        Some(ALICE),
        json!({"membership": "invite", "third_party_invite": {"signed": signed}}),
    );
    assert_eq!(
        invite[3..],
        [pair("m.room.member", ALICE), pair("m.room.join_rules", ""), pair("m.room.third_party_invite", "t")]
    );
    assert_eq!(room.types("m.room.create", Some(""), json!({})), []);
    // The room id names the create event in version 12.
    let room = Room::new(RoomVersionId::V12, levels);
    assert_eq!(room.types("m.room.message", None, json!({})), base[..2]);
    let without_target = room.event(BOB, "m.room.member", None, json!({"membership": "join"}));
    assert!(
        auth_types(&room.rules, "m.room.member", user_id!("@bob:a.example"), None, &without_target.content)
            .is_err()
    );
}

#[test]
fn levels_decide_who_may_send() {
    for version in version::SUPPORTED {
        let mut levels = json!({"users": {BOB: 10}, "events": {"m.room.name": 20}, "events_default": 0});
        if !["12"].contains(&version.as_str()) {
            levels["users"][ALICE] = json!(100);
        }
        let room = Room::new(version, levels);
        assert!(room.authorize(BOB, "m.room.message", None, json!({"body": "x"})).is_ok());
        assert!(room.authorize(ALICE, "m.room.name", Some(""), json!({"name": "x"})).is_ok());
        let reason = room.authorize(BOB, "m.room.name", Some(""), json!({"name": "x"})).unwrap_err();
        assert_eq!(
            reason.to_string(),
            "sender does not have enough power to send event of type `m.room.name`"
        );
        let stranger = room.authorize("@eve:b.example", "m.room.message", None, json!({})).unwrap_err();
        assert_eq!(stranger.to_string(), "sender's membership is not `join`");
    }
}

#[test]
fn types_are_the_strings_that_came_in() {
    for (unstable, stable) in [
        ("org.matrix.msc3401.call.member", "m.call.member"),
        ("org.matrix.call.sdp_stream_metadata_changed", "m.call.sdp_stream_metadata_changed"),
    ] {
        for (allowed, denied) in [(unstable, stable), (stable, unstable)] {
            let levels = json!({"events": {allowed: 0}, "state_default": 50, "events_default": 50});
            let room = Room::new(RoomVersionId::V12, levels);
            assert!(room.authorize(BOB, allowed, Some(""), json!({})).is_ok(), "{allowed}");
            assert!(room.authorize(BOB, allowed, None, json!({})).is_ok(), "{allowed}");
            let reason = room.authorize(BOB, denied, Some(""), json!({})).unwrap_err();
            assert!(reason.to_string().ends_with(&format!("`{denied}`")), "{reason}");
        }
    }
}

#[test]
fn powers_of_users() {
    let levels = json!({"users": {BOB: 50}, "redact": 40, "ban": 60, "events": {"m.x": 70}});
    let room = Room::new(RoomVersionId::V12, levels);
    let state = |kind: &str| room.state[&(kind.to_owned(), String::new())].clone();
    let (create, levels) = (state("m.room.create"), state("m.room.power_levels"));
    let powers = Powers::new(&room.rules, &create, Some(&levels)).unwrap();
    let (alice, bob) = (user_id!("@alice:a.example"), user_id!("@bob:a.example"));
    assert!(powers.may_do(bob, Action::Redact).unwrap() && !powers.may_do(bob, Action::Ban).unwrap());
    assert!(powers.may_do(alice, Action::Ban).unwrap() && powers.may_send(alice, "m.x", None).unwrap());
    assert!(!powers.may_send(bob, "m.x", None).unwrap() && powers.may_send(bob, "m.y", Some("")).unwrap());
    assert!(powers.may_do(user_id!("@eve:b.example"), Action::Invite).unwrap());

    let without = Powers::new(&room.rules, &create, None).unwrap();
    assert_eq!(without.of(alice).unwrap(), UserPowerLevel::Infinite);
    assert_eq!(without.of(bob).unwrap(), Int::from(0_u8));
    let rules = RoomVersionId::V10.rules().unwrap();
    assert_eq!(Powers::new(&rules, &create, None).unwrap().of(alice).unwrap(), Int::from(100_u8));
}

#[test]
fn auth_events_must_be_the_right_ones() {
    let room = Room::new(RoomVersionId::V11, json!({}));
    let by_id: HashMap<_, _> = room.state.values().map(|pdu| (pdu.event_id.clone(), pdu.clone())).collect();
    let id = |kind: &str, key: &str| room.state[&pair(kind, key)].event_id.clone();
    let base = [id("m.room.create", ""), id("m.room.power_levels", ""), id("m.room.member", BOB)];
    let message = room.event(BOB, "m.room.message", None, json!({}));
    let check = |auth_events: &[OwnedEventId], events: &HashMap<OwnedEventId, Arc<Pdu>>| {
        let mut pdu = (*message).clone();
        pdu.auth_events = auth_events.into();
        check_auth_events(&room.rules, &pdu, |id| events.get(id).cloned())
    };
    assert!(check(&base, &by_id).is_ok());
    assert!(check(&base[1..], &by_id).is_err());
    assert!(check(&[&base[..], &base[..1]].concat(), &by_id).is_err());
    assert!(check(&[&base[..], &[id("m.room.join_rules", "")]].concat(), &by_id).is_err());
    let mut rejected = by_id.clone();
    let levels = rejected.get_mut(&base[1]).unwrap();
    Arc::make_mut(levels).rejected = true;
    assert!(check(&base, &rejected).is_err());
}

#[test]
fn a_room_that_names_no_join_rule_is_by_invitation() {
    const CAROL: &str = "@carol:a.example";
    let join = || json!({"membership": "join"});
    for version in [RoomVersionId::V6, RoomVersionId::V12] {
        let mut room = Room::new(version, json!({}));
        let rules = ("m.room.join_rules".to_owned(), String::new());
        for content in [None, Some(json!({})), Some(json!({"join_rule": null}))] {
            let is_closed = content.as_ref().is_some_and(|content| content.get("join_rule").is_some());
            room.state.remove(&rules);
            if let Some(content) = content {
                room.put(ALICE, "m.room.join_rules", Some(""), content);
            }
            room.state.remove(&("m.room.member".to_owned(), CAROL.to_owned()));
            assert!(room.authorize(CAROL, "m.room.member", Some(CAROL), join()).is_err());
            room.put(ALICE, "m.room.member", Some(CAROL), json!({"membership": "invite"}));
            let joined = room.authorize(CAROL, "m.room.member", Some(CAROL), join());
            assert_eq!(joined.is_err(), is_closed, "{joined:?}");
        }
    }
}
