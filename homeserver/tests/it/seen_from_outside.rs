//! Two servers: rooms as those see them who are not in them, and old events.

use hyper::Method;
use serde_json::{Value, json};

use crate::pair::{Pair, each_pair};
use crate::stranger::Stranger;
use crate::support::{User, ok, refused};

async fn put_child(pair: &Pair, user: &User, space: &str, child: &str, content: Value) {
    let path = format!("/_matrix/client/v3/rooms/{space}/state/m.space.child/{child}");
    ok(pair.one.put(&path, &*user.token, content).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_directory_of_another_server() {
    each_pair(|pair| async move {
        let (alice, bob) = (pair.one.register("alice").await, pair.two.register("bob").await);
        for name in ["Hall", "Garden"] {
            let wish = json!({ "preset": "public_chat", "visibility": "public", "name": name });
            pair.one.create_room(&alice, wish).await;
        }
        pair.one.create_room(&alice, json!({ "preset": "private_chat", "name": "Closet" })).await;
        let list = format!("/_matrix/client/v3/publicRooms?server={}", pair.one.name());
        let all = ok(pair.two.get(&list, &*bob.token).await);
        assert_eq!(
            (&all["total_room_count_estimate"], all["chunk"].as_array().unwrap().len()),
            (&json!(2), 2)
        );
        let first = ok(pair.two.get(&format!("{list}&limit=1"), &*bob.token).await);
        let next = first["next_batch"].as_str().unwrap();
        let second = ok(pair.two.get(&format!("{list}&limit=1&since={next}"), &*bob.token).await);
        assert_eq!([&first["chunk"][0], &second["chunk"][0]], [&all["chunk"][0], &all["chunk"][1]]);
        let search = json!({ "filter": { "generic_search_term": "gard" } });
        let found = ok(pair.two.post(&list, &*bob.token, search).await);
        assert_eq!(found["chunk"].as_array().unwrap().len(), 1);
        assert_eq!(found["chunk"][0]["name"], "Garden");
        assert_eq!(found["chunk"][0]["join_rule"], "public");
        let wrong = format!("{list}&since=x");
        refused(pair.two.get(&wrong, &*bob.token).await, 502, "M_UNKNOWN");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn spaces_reach_across_the_border() {
    each_pair(|pair| async move {
        let (alice, bob) = (pair.one.register("alice").await, pair.two.register("bob").await);
        let via = json!({ "via": [pair.one.name()] });
        let space = |name: &str| {
            json!({ "preset": "public_chat", "name": name, "creation_content": { "type": "m.space" } })
        };
        let top = pair.one.create_room(&alice, space("top")).await;
        let inner = pair.one.create_room(&alice, space("inner")).await;
        let hall = pair.one.create_room(&alice, json!({ "preset": "public_chat", "name": "hall" })).await;
        let closet = pair.one.create_room(&alice, json!({ "preset": "private_chat" })).await;
        let rule = json!({ "type": "m.room.join_rules", "content": {
            "join_rule": "restricted", "allow": [{ "type": "m.room_membership", "room_id": top }] } });
        let club = json!({ "name": "club", "initial_state": [rule] });
        let club = pair.one.create_room(&alice, club).await;
        put_child(&pair, &alice, &top, &inner, via.clone()).await;
        put_child(&pair, &alice, &top, &closet, via.clone()).await;
        // Both may be put there within one millisecond.
        let nth = |order: &str| json!({ "via": [pair.one.name()], "order": order });
        put_child(&pair, &alice, &inner, &hall, nth("1")).await;
        put_child(&pair, &alice, &inner, &club, nth("2")).await;

        // A space of one's own names one of the other server.
        let own = pair.two.create_room(&bob, space("own")).await;
        let path = format!("/_matrix/client/v3/rooms/{own}/state/m.space.child/{top}");
        ok(pair.two.put(&path, &*bob.token, via.clone()).await);
        let ids = |body: &Value| -> Vec<String> {
            let rooms = body["rooms"].as_array().unwrap().iter();
            rooms.map(|room| room["room_id"].as_str().unwrap().to_owned()).collect()
        };
        let walk = format!("/_matrix/client/v1/rooms/{own}/hierarchy");
        let seen = ok(pair.two.get(&walk, &*bob.token).await);
        assert_eq!(ids(&seen), [&*own, &top, &inner, &hall]);
        assert_eq!(seen["rooms"][2]["children_state"].as_array().unwrap().len(), 2);
        // Whoever is in the top sees the club.
        ok(pair.two.join_by(&bob, &top, &pair.one.name()).await);
        let seen = ok(pair.two.get(&walk, &*bob.token).await);
        assert_eq!(ids(&seen), [&*own, &top, &inner, &hall, &club]);
        // Page by page it is the same.
        let mut paged = Vec::new();
        let mut from = String::new();
        loop {
            let page = ok(pair.two.get(&format!("{walk}?limit=2{from}"), &*bob.token).await);
            paged.extend(ids(&page));
            let Some(next) = page["next_batch"].as_str() else { break };
            from = format!("&from={next}");
        }
        assert_eq!(paged, ids(&seen));

        let summary = |room: &str, via: &str| format!("/_matrix/client/v1/room_summary/{room}?via={via}");
        let shown = ok(pair.two.get(&summary(&hall, &pair.one.name()), &*bob.token).await);
        assert_eq!((&shown["name"], &shown["membership"]), (&json!("hall"), &json!("leave")));
        assert_eq!(shown["join_rule"], "public");
        for room in [&closet, "!none:example.org"] {
            let path = summary(room, &pair.one.name());
            refused(pair.two.get(&path, &*bob.token).await, 404, "M_NOT_FOUND");
        }
        refused(pair.two.get(&summary(&hall, &pair.one.name()), None).await, 404, "M_NOT_FOUND");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_by_their_time() {
    each_pair(|pair| async move {
        let (alice, bob) = (pair.one.register("alice").await, pair.two.register("bob").await);
        let room = pair.one.create_room(&alice, json!({ "preset": "public_chat" })).await;
        let start = pair.one.cores[0].now_ms();
        pair.one.clock.advance(10_000);
        let first = pair.one.say(&alice, &room, "first").await;
        pair.one.clock.advance(10_000);
        let second = pair.one.say(&alice, &room, "second").await;
        pair.one.clock.advance(10_000);
        let near = |ts: i64, dir: &str| {
            format!("/_matrix/client/v1/rooms/{room}/timestamp_to_event?ts={ts}&dir={dir}")
        };
        let wanted =
            [(start + 5_000, "f", &first), (start + 15_000, "f", &second), (start + 15_000, "b", &first)];
        for (ts, dir, event) in wanted {
            assert_eq!(
                ok(pair.one.get(&near(ts, dir), &*alice.token).await)["event_id"],
                **event,
                "{ts} {dir}"
            );
        }
        refused(pair.one.get(&near(start + 60_000, "f"), &*alice.token).await, 404, "M_NOT_FOUND");
        refused(pair.one.get(&near(1, "b"), &*alice.token).await, 404, "M_NOT_FOUND");
        refused(pair.two.get(&near(1, "f"), &*bob.token).await, 403, "M_FORBIDDEN");

        pair.two.clock.advance(30_000);
        // The other server fetches what it does not have, and reads on from there.
        ok(pair.two.join_by(&bob, &room, &pair.one.name()).await);
        let found = ok(pair.two.get(&near(start + 15_000, "b"), &*bob.token).await);
        assert_eq!(found["event_id"], first);
        assert!(found["origin_server_ts"].as_i64().unwrap() < start + 15_000);
        let context = format!("/_matrix/client/v3/rooms/{room}/context/{first}?limit=0");
        let context = ok(pair.two.get(&context, &*bob.token).await);
        assert_eq!(context["event"]["content"]["body"], "first");
        let from = context["end"].as_str().unwrap();
        let path = format!("/_matrix/client/v3/rooms/{room}/messages?dir=b&from={from}&limit=50");
        let older = ok(pair.two.get(&path, &*bob.token).await);
        let kinds: Vec<&str> =
            older["chunk"].as_array().unwrap().iter().map(|event| event["type"].as_str().unwrap()).collect();
        assert_eq!(kinds.last(), Some(&"m.room.create"), "{older:#}");
        // And on to the present, page by page, over what was fetched.
        let (mut seen, mut from) = (Vec::new(), format!("&from={from}"));
        for _ in 0..10 {
            let path = format!("/_matrix/client/v3/rooms/{room}/messages?dir=f&limit=2{from}");
            let page = ok(pair.two.get(&path, &*bob.token).await);
            seen.extend(page["chunk"].as_array().unwrap().iter().map(|event| event["event_id"].clone()));
            let Some(end) = page["end"].as_str() else { break };
            from = format!("&from={end}");
        }
        let back = format!("/_matrix/client/v3/rooms/{room}/messages?dir=b&limit=50");
        let back = ok(pair.two.get(&back, &*bob.token).await);
        let all = back["chunk"].as_array().unwrap().iter().rev().map(|event| event["event_id"].clone());
        let expected: Vec<Value> = all.skip_while(|event| *event != second).collect();
        assert_eq!((&seen, expected.len() > 1), (&expected, true), "{back:#}");
        // Around an event, what came after it stands too.
        let context = format!("/_matrix/client/v3/rooms/{room}/context/{first}?limit=2");
        let context = ok(pair.two.get(&context, &*bob.token).await);
        assert_eq!(context["events_after"][0]["event_id"], *second, "{context:#}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_tells_who_somebody_is() {
    each_pair(|pair| async move {
        let (alice, eve) = (pair.one.register("alice").await, pair.one.register("eve").await);
        let stranger = Stranger::start(7).await;
        let path = format!("/_matrix/client/v3/user/{}/openid/request_token", alice.id);
        let made = ok(pair.one.post(&path, &*alice.token, json!({})).await);
        assert_eq!((&made["token_type"], &made["expires_in"]), (&json!("Bearer"), &json!(3_600)));
        assert_eq!(made["matrix_server_name"], pair.one.name());
        refused(pair.one.post(&path, &*eve.token, json!({})).await, 403, "M_FORBIDDEN");
        let asked = async |token: &str| {
            let path = format!("/_matrix/federation/v1/openid/userinfo?access_token={token}");
            stranger.send(&pair.one.name(), Method::GET, &path, None, Vec::new()).await
        };
        let token = made["access_token"].as_str().unwrap();
        assert_eq!(ok(asked(token).await), json!({ "sub": alice.id }));
        refused(asked("none").await, 401, "M_UNKNOWN_TOKEN");
        refused(asked(&alice.token).await, 401, "M_UNKNOWN_TOKEN");
        pair.one.clock.advance(3_600_001);
        refused(asked(token).await, 401, "M_UNKNOWN_TOKEN");
    })
    .await;
}

/// The id of a room of version 12 does not say where it is.
#[tokio::test(flavor = "multi_thread")]
async fn a_knock_is_taken_back() {
    each_pair(|pair| async move {
        let (alice, bob) = (pair.one.register("alice").await, pair.two.register("bob").await);
        let rule =
            json!({ "type": "m.room.join_rules", "state_key": "", "content": { "join_rule": "knock" } });
        for version in ["11", "12"] {
            let wish = json!({ "preset": "private_chat", "room_version": version, "initial_state": [rule] });
            let room = pair.one.create_room(&alice, wish).await;
            let path = format!("/_matrix/client/v3/knock/{room}?via={}", pair.one.name());
            ok(pair.two.post(&path, &*bob.token, json!({})).await);
            let member = async || pair.one.state(&alice, &room, "m.room.member", &bob.id).await.1;
            assert_eq!(member().await["membership"], "knock");
            let path = format!("/_matrix/client/v3/rooms/{room}/leave");
            ok(pair.two.post(&path, &*bob.token, json!({})).await);
            assert_eq!(member().await["membership"], "leave", "{version}");
        }
    })
    .await;
}
