//! What other servers may not do: wrong signatures, wrong destinations, rooms that they are not in, other people's users.

use hyper::Method;
use serde_json::{Value, json};

use crate::pair::each_pair;
use crate::stranger::Stranger;
use crate::support::{ok, refused};

/// Requests of all kinds to a room: (method, path, body).
fn requests(room: &str, event: &str, user: &str) -> Vec<(Method, String, Option<Value>)> {
    let v1 = "/_matrix/federation/v1";
    let v2 = "/_matrix/federation/v2";
    let pdu = json!({ "type": "m.room.member", "room_id": room, "sender": user, "state_key": user });
    vec![
        (Method::GET, format!("{v1}/event/{event}"), None),
        (Method::GET, format!("{v1}/state/{room}?event_id={event}"), None),
        (Method::GET, format!("{v1}/state_ids/{room}?event_id={event}"), None),
        (Method::GET, format!("{v1}/event_auth/{room}/{event}"), None),
        (Method::GET, format!("{v1}/backfill/{room}?v={event}&limit=10"), None),
        (
            Method::POST,
            format!("{v1}/get_missing_events/{room}"),
            Some(json!({ "earliest_events": [], "latest_events": [event] })),
        ),
        (Method::GET, format!("{v1}/make_join/{room}/{user}?ver=12"), None),
        (Method::GET, format!("{v1}/make_leave/{room}/{user}"), None),
        (Method::GET, format!("{v1}/make_knock/{room}/{user}?ver=12"), None),
        (Method::PUT, format!("{v2}/send_join/{room}/{event}"), Some(pdu.clone())),
        (Method::PUT, format!("{v2}/send_leave/{room}/{event}"), Some(pdu.clone())),
        (Method::PUT, format!("{v1}/send_knock/{room}/{event}"), Some(pdu.clone())),
        (
            Method::PUT,
            format!("{v2}/invite/{room}/{event}"),
            Some(json!({ "room_version": "12", "event": pdu, "invite_room_state": [] })),
        ),
        (Method::GET, format!("{v1}/query/profile?user_id={user}"), None),
        (Method::GET, format!("{v1}/query/directory?room_alias=%23a:localhost"), None),
        (Method::GET, format!("{v1}/user/devices/{user}"), None),
        (Method::POST, format!("{v1}/user/keys/query"), Some(json!({ "device_keys": {} }))),
        (Method::POST, format!("{v1}/user/keys/claim"), Some(json!({ "one_time_keys": {} }))),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_comes_in_without_a_right_signature() {
    each_pair(|pair| async move {
        let (stranger, other) = (Stranger::start(1).await, Stranger::start(2).await);
        let alice = pair.one.register("alice").await;
        let room = pair.one.create_room(&alice, json!({ "preset": "private_chat" })).await;
        let event = pair.one.say(&alice, &room, "hush").await;
        let (one, two) = (pair.one.name(), pair.two.name());
        let ready = stranger.send(&one, Method::GET, "/_myelin/ready", None, Vec::new()).await;
        assert_eq!(ok(ready)["ready"], true, "this may be asked by anybody");
        for (method, path, body) in requests(&room, &event, &stranger.user("eve")) {
            let bytes = body.as_ref().map(|body| serde_json::to_vec(body).unwrap()).unwrap_or_default();
            let right = stranger.header(&one, &method, &path, &bytes);
            let for_two = stranger.header(&two, &method, &path, &bytes);
            let for_other_path = stranger.header(&one, &method, "/_matrix/federation/v1/event/$x", &bytes);
            let of_other = other.header(&one, &method, &path, &bytes);
            let wrong_name = of_other.replace(other.name.as_str(), stranger.name.as_str());
            let without = right.replace(&format!("destination=\"{one}\","), "destination=\"elsewhere\",");
            for header in [
                None,
                Some("Bearer abc"),
                Some("X-Matrix"),
                Some("X-Matrix origin=x,key=\"ed25519:a\",sig=\"AAAA\""),
                Some(for_two.as_str()),
                Some(for_other_path.as_str()),
                Some(wrong_name.as_str()),
                Some(without.as_str()),
            ] {
                let answer = stranger.send(&one, method.clone(), &path, header, bytes.clone()).await;
                assert_eq!(answer.0, 401, "{method} {path} {header:?}: {}", answer.1);
                assert_eq!(answer.1["errcode"], "M_UNAUTHORIZED");
            }
            // The right signature leads to another answer, which is no success in a room that the server is not in.
            let answer = stranger.send(&one, method.clone(), &path, Some(&right), bytes).await;
            assert_ne!(answer.0, 401, "{method} {path}: {}", answer.1);
            if path.contains(&room) || path.contains(&event) {
                assert!(answer.0.is_client_error(), "{method} {path}: {} {}", answer.0, answer.1);
                assert!(answer.1["errcode"].is_string(), "{method} {path}: {}", answer.1);
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_are_answered_event_by_event_and_once() {
    each_pair(|pair| async move {
        let stranger = Stranger::start(3).await;
        let alice = pair.one.register("alice").await;
        let room = pair.one.create_room(&alice, json!({ "preset": "public_chat" })).await;
        let one = pair.one.name();
        let pdu = |room: &str| {
            json!({
                "type": "m.room.message", "room_id": room, "sender": stranger.user("eve"), "content": {},
                "depth": 5, "origin_server_ts": 5, "prev_events": ["$a"], "auth_events": ["$b"], "hashes": {},
                "signatures": {},
            })
        };
        let transaction = |pdus: Vec<Value>, edus: Vec<Value>| {
            json!({ "origin": stranger.name, "origin_server_ts": 1, "pdus": pdus, "edus": edus })
        };
        let path = "/_matrix/federation/v1/send/t1";
        let typing = json!({
            "edu_type": "m.typing", "content": { "room_id": room, "user_id": alice.id, "typing": true },
        });
        let unknown = json!({ "edu_type": "org.example.unknown", "content": { "a": 1 } });
        let body = transaction(vec![pdu(&room), pdu("!elsewhere"), json!([]), json!({})], vec![typing, unknown]);
        let answer = ok(stranger.ask(&one, Method::PUT, path, Some(&body)).await);
        let answers = answer["pdus"].as_object().unwrap();
        assert_eq!(answers.len(), 1, "{answer}");
        assert!(answers.values().all(|answer| answer["error"].is_string()), "{answer}");
        assert_eq!(ok(stranger.ask(&one, Method::PUT, path, Some(&body)).await), answer, "the same again");
        let many = transaction(vec![pdu(&room); 51], Vec::new());
        refused(stranger.ask(&one, Method::PUT, "/_matrix/federation/v1/send/t2", Some(&many)).await, 400, "M_BAD_JSON");
        let mut foreign = transaction(Vec::new(), Vec::new());
        foreign["origin"] = "elsewhere.example".into();
        refused(
            stranger.ask(&one, Method::PUT, "/_matrix/federation/v1/send/t3", Some(&foreign)).await,
            403,
            "M_FORBIDDEN",
        );
        let sync = ok(pair.one.get("/_matrix/client/v3/sync", &*alice.token).await);
        let ephemeral = &sync["rooms"]["join"][&room]["ephemeral"]["events"];
        assert!(!ephemeral.to_string().contains(&alice.id), "nobody types for others: {ephemeral}");
    })
    .await;
}
