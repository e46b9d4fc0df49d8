//! Rooms with a policy server: what it does not sign is refused here, and not shown when others send it.

use hyper::Method;
use myelin_core::events::signatures::ServerKey;
use ruma::canonical_json::CanonicalJsonObject;
use ruma::room_version_rules::RoomVersionRules;
use serde_json::{Value, json};

use crate::pair::{Pair, each_pair};
use crate::stranger::Stranger;
use crate::support::{User, ok, refused};
use crate::visit::Visit;

const SIGN: &str = "POST /_matrix/policy/v1/sign";

/// A room in which the stranger's user is, and that names the stranger as its policy server, with a key of its own.
async fn watched<'a>(pair: &Pair, stranger: &'a Stranger) -> (User, Visit<'a>, ServerKey) {
    let alice = pair.one.register("alice").await;
    let wish = json!({ "preset": "public_chat", "room_version": "11" });
    let room = pair.one.create_room(&alice, wish).await;
    let visit = Visit::join(stranger, &pair.one.name(), &room, "eve").await;
    let key = ServerKey::from_seed("policy_server", &[99; 32]).unwrap();
    let policy = json!({ "via": stranger.name, "public_keys": { "ed25519": key.public_base64() } });
    ok(pair.one.put(&path(&visit, "state/m.room.policy/"), &*alice.token, policy).await);
    (alice, visit, key)
}

fn path(visit: &Visit<'_>, rest: &str) -> String {
    format!("/_matrix/client/v3/rooms/{}/{rest}", visit.room)
}

/// The stranger signs whatever it is asked to.
fn signs(stranger: &Stranger, key: &ServerKey, rules: &RoomVersionRules) {
    let (name, seed, rules) = (stranger.name.clone(), key.public_base64().to_owned(), rules.clone());
    stranger.answers_by(SIGN, move |body| {
        let key = ServerKey::from_seed("policy_server", &[99; 32]).unwrap();
        assert_eq!(key.public_base64(), seed);
        let mut event: CanonicalJsonObject = serde_json::from_value(body).unwrap();
        event.remove("signatures");
        key.sign_event(&name, &mut event, &rules).unwrap();
        serde_json::to_value(&event["signatures"]).unwrap()
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn events_need_the_policy_servers_signature() {
    each_pair(|pair| async move {
        let stranger = Stranger::start(51).await;
        let (alice, visit, key) = watched(&pair, &stranger).await;
        let rules = myelin_core::rooms::version::rules_of("11").unwrap();
        let say = |text: &str| json!({ "msgtype": "m.text", "body": text });
        let send = |id: &str| path(&visit, &format!("send/m.room.message/{id}"));

        // It signs nothing: nothing is sent, and its answer is the client's.
        refused(pair.one.put(&send("a"), &*alice.token, say("spam")).await, 404, "M_NOT_FOUND");
        assert!(stranger.was_asked(SIGN));

        // It signs: the event bears both signatures.
        signs(&stranger, &key, &rules);
        let sent = ok(pair.one.put(&send("b"), &*alice.token, say("ham")).await);
        let again = ok(pair.one.put(&send("b"), &*alice.token, say("ham")).await);
        assert_eq!(sent, again, "a repeated transaction is one event");
        let event = sent["event_id"].as_str().unwrap();
        let event_path = format!("/_matrix/federation/v1/event/{event}");
        let answer = ok(stranger.ask(&visit.host, Method::GET, &event_path, None).await);
        let signatures = &answer["pdus"][0]["signatures"];
        assert!(signatures[stranger.name.as_str()]["ed25519:policy_server"].is_string(), "{answer}");
        assert!(signatures[pair.one.name()].is_object(), "{answer}");

        // What others send without is asked for; where it is refused the event is not shown.
        let (good, good_event) = visit.event("m.room.message", None, say("from eve"), &[event], 3);
        let questions = stranger.questions();
        visit.send(&[&good_event]).await;
        assert!(stranger.questions() > questions);
        pair.one.until_seen(&alice, &visit.room, "from eve").await;
        stranger.forgets(SIGN);
        let (bad, bad_event) = visit.event("m.room.message", None, say("spam from eve"), &[&good], 4);
        assert_eq!(visit.send(&[&bad_event]).await[&bad], json!({}), "it is no fault of the event's form");
        let shown = pair.one.get(&path(&visit, &format!("event/{bad}")), &*alice.token).await;
        refused(shown, 404, "M_NOT_FOUND");

        // The room can always rid itself of its policy server.
        ok(pair.one.put(&path(&visit, "state/m.room.policy/"), &*alice.token, json!({})).await);
        ok(pair.one.put(&send("c"), &*alice.token, say("free")).await);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_server_has_to_be_in_the_room() {
    each_pair(|pair| async move {
        let alice = pair.one.register("alice").await;
        let room = pair.one.create_room(&alice, json!({ "preset": "public_chat" })).await;
        let policy: Value = json!({ "via": "policy.example", "public_keys": { "ed25519": "AAAA" } });
        let path = format!("/_matrix/client/v3/rooms/{room}/state/m.room.policy/");
        ok(pair.one.put(&path, &*alice.token, policy).await);
        pair.one.say(&alice, &room, "nobody is asked").await;
    })
    .await;
}
