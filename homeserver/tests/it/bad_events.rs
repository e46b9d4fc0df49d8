//! Events that no honest server sends: of other rooms, too large, malformed, without end, in thousands of branches.

use hyper::Method;
use myelin_core::ports::{SystemRandom, random_text};
use serde_json::{Value, json};

use crate::pair::each_pair;
use crate::stranger::Stranger;
use crate::support::ok;
use crate::visit::{Visit, meeting, open};

fn say(text: &str) -> Value {
    json!({ "msgtype": "m.text", "body": text })
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_of_their_room_and_of_their_size() {
    each_pair(|pair| async move {
        let stranger = Stranger::start(21).await;
        let alice = pair.one.register("alice").await;
        let room = pair.one.create_room(&alice, open()).await;
        let other = pair.one.create_room(&alice, open()).await;
        let said = pair.one.say(&alice, &other, "elsewhere").await;
        let host = pair.one.name();
        let visit = Visit::join(&stranger, &host, &room, "eve").await;
        // It follows an event of another room, or is judged by one.
        let (first, follows) = visit.event("m.room.message", None, say("x"), &[&said], 1);
        let auth = [visit.state_id("m.room.create", ""), visit.join.clone(), said.clone()];
        let (second, judged) = visit.event_with("m.room.message", None, say("x"), &[&visit.join], &auth, 1);
        // It says that it is of a room that its server is not in.
        let mut abroad = Visit::join(&stranger, &host, &room, "eve").await;
        abroad.room.clone_from(&other);
        let (third, elsewhere) = abroad.event("m.room.message", None, say("x"), &[&visit.join], 1);
        // The id does not depend on what a message says.
        let (fourth, mut large) = visit.event("m.room.message", None, say("small"), &[&visit.join], 1);
        large["content"]["body"] = "x".repeat(65_536).into();
        let (fifth, named) =
            visit.event("m.room.topic", Some(&"k".repeat(256)), json!({}), &[&visit.join], 1);
        let answer = visit.send(&[&follows, &judged, &elsewhere, &large, &named]).await;
        for id in [first, second, third, fourth, fifth] {
            assert!(answer[&id]["error"].is_string(), "{id}: {answer}");
            let path = format!("/_matrix/client/v3/rooms/{room}/event/{id}");
            assert_eq!(pair.one.get(&path, &*alice.token).await.0, 404);
        }
        // Whoever sends nonsense is heard all the same when it speaks clearly.
        let (id, event) = visit.event("m.room.message", None, say("at last"), &[&visit.join], 1);
        assert_eq!(visit.send(&[&event]).await[&id], json!({}));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_events_harm_nobody_but_themselves() {
    each_pair(|pair| async move {
        let stranger = Stranger::start(22).await;
        let (_, visit) = meeting(&pair, &stranger).await;
        let (_, whole) = visit.event("m.room.message", None, say("x"), &[&visit.join], 1);
        let mut broken: Vec<Value> = vec![json!(null), json!("event"), json!(7), json!([]), json!({})];
        for field in [
            "type",
            "sender",
            "room_id",
            "content",
            "depth",
            "prev_events",
            "auth_events",
            "hashes",
            "signatures",
            "origin_server_ts",
        ] {
            for value in [json!(null), json!([1]), json!({ "a": [null] }), json!("\u{0}"), json!(-1)] {
                let mut event = whole.clone();
                event[field] = value;
                broken.push(event);
            }
        }
        for events in broken.chunks(50) {
            let events: Vec<&Value> = events.iter().collect();
            let answer = visit.send(&events).await;
            let accepted = answer.as_object().unwrap().values().filter(|answer| answer["error"].is_null());
            assert_eq!(accepted.count(), 0, "{answer}");
        }
        let (id, event) = visit.event("m.room.message", None, say("well"), &[&visit.join], 1);
        assert_eq!(visit.send(&[&event]).await[&id], json!({}));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_to_a_server_that_never_tells_all_come_to_an_end() {
    each_pair(|pair| async move {
        let stranger = Stranger::start(23).await;
        let (alice, visit) = meeting(&pair, &stranger).await;
        let room = visit.room.clone();
        // Each event is judged by one before it, and there is always one more.
        let state = |kind: &str| visit.state_id(&format!("m.room.{kind}"), "");
        let fixed = [state("create"), state("power_levels"), state("join_rules")];
        let mut chain = vec![(format!("${}", "A".repeat(43)), Value::Null)];
        for deeper in 1..60 {
            let before = chain.last().unwrap().0.clone();
            let content = json!({ "membership": "join", "displayname": deeper.to_string() });
            let auth = [&fixed[..], std::slice::from_ref(&before)].concat();
            chain.push(visit.event_with(
                "m.room.member",
                Some(&visit.user),
                content,
                &[&before],
                &auth,
                deeper,
            ));
        }
        let events: Vec<&Value> = chain.iter().skip(1).map(|(_, event)| event).collect();
        visit.has_missing(&events);
        for (id, event) in chain.iter().skip(1) {
            visit.hands_out(id, event);
            let auth = json!({ "auth_chain": [event] });
            stranger.answer(&format!("GET /_matrix/federation/v1/event_auth/{room}/{id}"), auth);
        }
        let ids: Vec<&String> = chain.iter().map(|(id, _)| id).collect();
        let state = json!({ "pdu_ids": ids, "auth_chain_ids": ids });
        stranger.answer(&format!("GET /_matrix/federation/v1/state_ids/{room}"), state);
        let (id, last) = (&chain.last().unwrap().0, &chain.last().unwrap().1);
        let before = stranger.questions();
        visit.send(&[last]).await;
        let asked = stranger.questions() - before;
        assert!(asked < 1_000, "{asked} questions for one event");
        let path = format!("/_matrix/client/v3/rooms/{room}/event/{id}");
        assert_eq!(pair.one.get(&path, &*alice.token).await.0, 404, "it cannot be judged");
        pair.one.say(&alice, &room, "life goes on").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_too_long_for_a_database_split_no_room() {
    each_pair(|pair| async move {
        let stranger = Stranger::start(53).await;
        let (alice, visit) = meeting(&pair, &stranger).await;
        let room = visit.room.clone();
        // They can't be packed into less.
        let long = random_text(&SystemRandom, 6_000);
        let far = format!("${long}");
        let related = |kind: &str, to: &str| json!({ "m.relates_to": { "rel_type": kind, "event_id": to } });
        let (first, by_kind) =
            visit.event("org.example", None, related(&long, &visit.join), &[&visit.join], 1);
        let (second, by_id) = visit.event("org.example", None, related("m.thread", &far), &[&first], 2);
        let (third, redacts) =
            visit.event("m.room.redaction", None, json!({ "redacts": far }), &[&second], 3);
        let (_, last) = visit.event("m.room.message", None, say("we are all here"), &[&third], 4);
        // Some are told, the others lie in a gap.
        let answer = visit.send(&[&by_kind]).await;
        assert_eq!(answer[&first], json!({}), "{answer}");
        visit.has_missing(&[&by_id, &redacts]);
        let answer = visit.send(&[&last]).await;
        assert!(!answer.to_string().contains("error"), "{answer}");
        pair.one.until_seen(&alice, &room, "we are all here").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_branches_are_drawn_together() {
    each_pair(|pair| async move {
        let stranger = Stranger::start(24).await;
        let (alice, visit) = meeting(&pair, &stranger).await;
        let room = visit.room.clone();
        for batch in 0..20 {
            let events: Vec<Value> = (0..50)
                .map(|n| {
                    visit.event("m.room.message", None, say(&format!("{batch} {n}")), &[&visit.join], 1).1
                })
                .collect();
            let answer = visit.send(&events.iter().collect::<Vec<_>>()).await;
            assert!(!answer.to_string().contains("error"), "{answer}");
        }
        let event = pair.one.say(&alice, &room, "together").await;
        let path = format!("/_matrix/federation/v1/event/{event}");
        let sent = ok(stranger.ask(&visit.host, Method::GET, &path, None).await);
        let prev = sent["pdus"][0]["prev_events"].as_array().unwrap().len();
        assert!((1..=20).contains(&prev), "{prev} previous events");
        let path = format!("/_matrix/client/v3/rooms/{room}/messages?dir=b&limit=50");
        let messages = ok(pair.one.get(&path, &*alice.token).await);
        assert_eq!(messages["chunk"][0]["content"]["body"], "together");
    })
    .await;
}
