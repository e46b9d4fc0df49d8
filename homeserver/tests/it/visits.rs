//! What a server makes of events that another one sends into a room, and does not always explain.

use hyper::Method;
use serde_json::{Value, json};

use crate::pair::each_pair;
use crate::stranger::Stranger;
use crate::support::{ok, refused};
use crate::visit::{Visit, meeting, open};

fn say(text: &str) -> Value {
    json!({ "msgtype": "m.text", "body": text })
}

#[tokio::test(flavor = "multi_thread")]
async fn who_pushes_an_event_must_have_what_it_follows() {
    each_pair(|pair| async move {
        let stranger = Stranger::start(11).await;
        let (alice, visit) = meeting(&pair, &stranger).await;
        let room = visit.room.clone();
        let (hidden, _) = visit.event("m.room.message", None, say("hidden"), &[&visit.join], 1);
        let (id, event) = visit.event("m.room.message", None, say("shown"), &[&hidden], 2);
        for missing in [json!({ "events": [] }), json!({})] {
            let path = format!("POST /_matrix/federation/v1/get_missing_events/{room}");
            stranger.answer(&path, missing);
            let answer = visit.send(&[&event]).await;
            assert_eq!(answer[&id], json!({}));
            assert!(stranger.was_asked(&path));
        }
        assert!(
            !stranger.was_asked("GET /_matrix/federation/v1/state"),
            "nobody's word is taken for a state"
        );
        refused(
            pair.one.get(&format!("/_matrix/client/v3/rooms/{room}/event/{id}"), &*alice.token).await,
            404,
            "M_NOT_FOUND",
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_gap_the_state_is_asked_for_and_the_timeline_begins_anew() {
    each_pair(|pair| async move {
        let stranger = Stranger::start(12).await;
        let (alice, visit) = meeting(&pair, &stranger).await;
        let room = visit.room.clone();
        let since = pair.one.since(&alice).await;
        pair.one.say(&alice, &room, "before the gap").await;
        // Each of Eve's names is allowed by the one before. The second is not to be had.
        let auth = ["create", "power_levels", "join_rules"]
            .map(|kind| visit.state_id(&format!("m.room.{kind}"), ""));
        let named = |name: &str, after: &str, deeper: i64| {
            let content = json!({ "membership": "join", "displayname": name });
            let auth = [&auth[..], &[after.to_owned()]].concat();
            visit.event_with("m.room.member", Some(&visit.user), content, &[after], &auth, deeper)
        };
        let (first, first_event) = named("A", &visit.join, 1);
        let (second, _) = named("B", &first, 2);
        let (third, third_event) = named("C", &second, 3);
        let (far, far_event) = visit.event("m.room.message", None, say("far"), &[&third], 4);
        let (near, near_event) = visit.event("m.room.message", None, say("near"), &[&far], 5);
        let (last, last_event) = visit.event("m.room.message", None, say("last"), &[&near], 6);
        visit.has_missing(&[&near_event]);
        let rest: Vec<&str> = visit.state.iter().map(|(id, _)| &**id).collect();
        let told = [&rest[..], &[&*third]].concat();
        let state = json!({ "pdu_ids": told, "auth_chain_ids": [first, second] });
        stranger.answer(&format!("GET /_matrix/federation/v1/state_ids/{room}"), state);
        for (id, event) in [(&first, &first_event), (&third, &third_event), (&far, &far_event)] {
            visit.hands_out(id, event);
        }
        let answer = visit.send(&[&last_event]).await;
        assert!(stranger.was_asked(&format!("GET /_matrix/federation/v1/event/{second}")));
        assert!(
            answer[&last]["error"].is_string(),
            "Eve is not in the state that Eve's server tells: {answer}"
        );
        let (_, member) = pair.one.state(&alice, &room, "m.room.member", &visit.user).await;
        assert_eq!((&member["membership"], &member["displayname"]), (&json!("join"), &Value::Null));

        // With a state that holds together, it goes on.
        let told = [&rest[..], &[&*visit.join]].concat();
        let state = json!({ "pdu_ids": told, "auth_chain_ids": [] });
        stranger.answer(&format!("GET /_matrix/federation/v1/state_ids/{room}"), state);
        let (lost, lost_event) = visit.event("m.room.message", None, say("lost"), &[&visit.join], 1);
        let (far, far_event) = visit.event("m.room.message", None, say("far"), &[&lost], 2);
        let (_, near_event) = visit.event("m.room.message", None, say("behind the gap"), &[&far], 3);
        visit.has_missing(&[&far_event]);
        visit.hands_out(&lost, &lost_event);
        let answer = visit.send(&[&near_event]).await;
        assert!(!answer.to_string().contains("error"), "{answer}");
        let sync = format!("/_matrix/client/v3/sync?since={since}");
        let timeline =
            ok(pair.one.get(&sync, &*alice.token).await)["rooms"]["join"][&room]["timeline"].clone();
        let texts: Vec<&str> = timeline["events"]
            .as_array()
            .unwrap()
            .iter()
            .map(|event| event["content"]["body"].as_str().unwrap())
            .collect();
        assert_eq!((texts, &timeline["limited"]), (vec!["far", "behind the gap"], &json!(true)));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_may_not_see_it_gets_redacted() {
    each_pair(|pair| async move {
        let stranger = Stranger::start(13).await;
        let alice = pair.one.register("alice").await;
        let history =
            json!({ "type": "m.room.history_visibility", "content": { "history_visibility": "joined" } });
        let mut wish = open();
        wish["initial_state"] = json!([history]);
        let room = pair.one.create_room(&alice, wish).await;
        pair.one.say(&alice, &room, "secret").await;
        let visit = Visit::join(&stranger, &pair.one.name(), &room, "eve").await;
        let create = visit.state_id("m.room.create", "");
        let path = format!("/_matrix/federation/v1/get_missing_events/{room}");
        let between = json!({ "earliest_events": [create], "latest_events": [visit.join], "limit": 20 });
        let answer = ok(stranger.ask(&visit.host, Method::POST, &path, Some(&between)).await);
        let events = answer["events"].as_array().unwrap();
        let kinds: Vec<&str> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
        let expected = ["member", "power_levels", "join_rules", "history_visibility", "message"];
        assert_eq!(kinds, expected.map(|kind| format!("m.room.{kind}")));
        assert_eq!(events.last().unwrap()["content"], json!({}));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn older_forms_are_answered_in_a_list() {
    each_pair(|pair| async move {
        let stranger = Stranger::start(14).await;
        let (alice, visit) = meeting(&pair, &stranger).await;
        let room = visit.room.clone();
        let (id, event) = visit.event("m.room.message", None, say("no member event"), &[&visit.join], 1);
        for form in ["v1/send_join", "v2/send_join", "v1/send_leave", "v2/send_leave", "v1/send_knock"] {
            let path = format!("/_matrix/federation/{form}/{room}/{id}");
            refused(stranger.ask(&visit.host, Method::PUT, &path, Some(&event)).await, 400, "M_BAD_JSON");
        }
        let state = |kind: &str| visit.state_id(&format!("m.room.{kind}"), "");
        let own = |membership: &str, auth: &[String], after: &str, deeper: i64| {
            let content = json!({ "membership": membership });
            visit.event_with("m.room.member", Some(&visit.user), content, &[after], auth, deeper)
        };
        let auth = [state("create"), state("power_levels"), visit.join.clone()];
        let (id, event) = own("leave", &auth, &visit.join, 1);
        let path = format!("/_matrix/federation/v1/send_leave/{room}/{id}");
        assert_eq!(ok(stranger.ask(&visit.host, Method::PUT, &path, Some(&event)).await), json!([200, {}]));
        let auth = [state("create"), state("power_levels"), state("join_rules"), id.clone()];
        let (id, event) = own("join", &auth, &id, 2);
        let path = format!("/_matrix/federation/v1/send_join/{room}/{id}");
        let answer = ok(stranger.ask(&visit.host, Method::PUT, &path, Some(&event)).await);
        assert_eq!(answer[0], 200);
        assert!(answer[1]["state"].as_array().unwrap().len() > 4, "{answer}");
        let member = json!({
            "type": "m.room.member", "room_id": room, "sender": visit.user, "state_key": alice.id, "origin": stranger.name,
            "origin_server_ts": 1, "content": { "membership": "invite" }, "unsigned": { "invite_room_state": [] },
        });
        let path = "/_matrix/federation/v1/invite/!a:b/$c";
        refused(stranger.ask(&visit.host, Method::PUT, path, Some(&member)).await, 400, "M_INCOMPATIBLE_ROOM_VERSION");
    })
    .await;
}
