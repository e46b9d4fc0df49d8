//! Rooms seen from outside: the directory, knocking, replaced rooms, spaces.

use serde_json::{Value, json};

use crate::pair::each_pair;
use crate::support::{Answer, Setup, User, each_setup, ok, refused};

const V3: &str = "/_matrix/client/v3";

async fn join(setup: &Setup, user: &User, room: &str) -> Answer {
    setup.post(&format!("{V3}/join/{room}"), &*user.token, json!({})).await
}

async fn set(setup: &Setup, user: &User, room: &str, kind: &str, key: &str, content: Value) -> Answer {
    setup.put(&format!("{V3}/rooms/{room}/state/{kind}/{key}"), &*user.token, content).await
}

async fn content(setup: &Setup, user: &User, room: &str, kind: &str, key: &str) -> Value {
    ok(setup.state(user, room, kind, key).await)
}

async fn search(setup: &Setup, user: &User, body: Value) -> Value {
    ok(setup.post(&format!("{V3}/publicRooms"), &*user.token, body).await)
}

fn ids(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|room| room["room_id"].as_str().unwrap()).collect()
}

/// A published room with this name.
async fn published(setup: &Setup, user: &User, name: &str, more: Value) -> String {
    let mut wish = json!({ "name": name, "preset": "public_chat", "visibility": "public" });
    for (key, value) in more.as_object().unwrap() {
        wish[key] = value.clone();
    }
    setup.create_room(user, wish).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_directory_shows_what_is_open() {
    each_setup(|setup| async move {
        let (alice, bob) = (setup.register("alice").await, setup.register("bob").await);
        let list = format!("{V3}/publicRooms");
        assert_eq!(ok(setup.get(&list, None).await), json!({ "chunk": [], "total_room_count_estimate": 0 }));
        let guests = json!([
            { "type": "m.room.guest_access", "content": { "guest_access": "can_join" } },
            { "type": "m.room.avatar", "content": { "url": "mxc://a/b" } },
        ]);
        let more = json!({ "topic": "About WOOD", "room_alias_name": "hall", "initial_state": guests });
        let hall = published(&setup, &alice, "Hall", more).await;
        ok(join(&setup, &bob, &hall).await);
        let readable = json!([{
            "type": "m.room.history_visibility", "content": { "history_visibility": "world_readable" },
        }]);
        let more = json!({ "preset": "private_chat", "initial_state": readable });
        let glass = published(&setup, &alice, "Glass house", more).await;
        let more = json!({ "creation_content": { "type": "m.space" } });
        let space = published(&setup, &alice, "Space", more).await;
        published(&setup, &alice, "Closet", json!({ "preset": "private_chat" })).await;
        published(&setup, &alice, "Unlisted", json!({ "visibility": "private" })).await;

        let all = ok(setup.get(&list, None).await);
        assert_eq!(all["chunk"].as_array().unwrap().len(), 3, "{all}");
        assert_eq!(all["total_room_count_estimate"], 3);
        assert!(all.get("next_batch").is_none() && all.get("prev_batch").is_none(), "{all}");
        let expected = json!({
            "room_id": hall, "num_joined_members": 2, "name": "Hall", "topic": "About WOOD",
            "canonical_alias": "#hall:localhost", "avatar_url": "mxc://a/b", "join_rule": "public",
            "world_readable": false, "guest_can_join": true,
        });
        assert_eq!(all["chunk"][0], expected);
        for (term, found) in [("hALL", &hall), ("wood", &hall), ("#hall", &hall), ("glass", &glass)] {
            let body = search(&setup, &bob, json!({ "filter": { "generic_search_term": term } })).await;
            assert_eq!(ids(&body["chunk"]), [found.as_str()], "{term}");
        }
        let body = search(&setup, &bob, json!({ "filter": { "generic_search_term": "closet" } })).await;
        assert_eq!(body, json!({ "chunk": [], "total_room_count_estimate": 0 }));
        let body = search(&setup, &bob, json!({ "filter": { "room_types": ["m.space"] } })).await;
        assert_eq!((ids(&body["chunk"]), &body["chunk"][0]["room_type"]), (vec![&*space], &json!("m.space")));
        let body = search(&setup, &bob, json!({ "filter": { "room_types": [null] } })).await;
        assert_eq!(ids(&body["chunk"]), [hall.as_str(), &glass]);
        assert_eq!(body["chunk"][1]["world_readable"], true);
        let body = search(&setup, &bob, json!({ "third_party_instance_id": "irc" })).await;
        assert_eq!(body["chunk"], json!([]));

        // Whoever leaves is not counted, and an empty room is not shown.
        ok(setup.post(&format!("{V3}/rooms/{hall}/leave"), &*bob.token, json!({})).await);
        ok(setup.post(&format!("{V3}/rooms/{glass}/leave"), &*alice.token, json!({})).await);
        let hidden = json!({ "visibility": "private" });
        ok(setup.put(&format!("{V3}/directory/list/room/{space}"), &*alice.token, hidden).await);
        let all = ok(setup.get(&list, None).await);
        assert_eq!((ids(&all["chunk"]), &all["chunk"][0]["num_joined_members"]), (vec![&*hall], &json!(1)));

        ok(setup.get(&format!("{list}?server=localhost"), None).await);
        refused(setup.get(&format!("{list}?server=elsewhere"), None).await, 403, "M_FORBIDDEN");
        let path = format!("{list}?server=elsewhere");
        refused(setup.post(&path, &*bob.token, json!({})).await, 403, "M_FORBIDDEN");
        refused(setup.get(&format!("{list}?since=x"), None).await, 400, "M_INVALID_PARAM");
        refused(setup.post(&list, None, json!({})).await, 401, "M_MISSING_TOKEN");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_directory_comes_in_pages() {
    each_setup(|setup| async move {
        let alice = setup.register("alice").await;
        let mut guests = Vec::new();
        for name in ["bob", "carol", "dave", "eve"] {
            guests.push(setup.register(name).await);
        }
        let mut rooms = Vec::new();
        for members in 0..5 {
            let room = published(&setup, &alice, "Room", json!({})).await;
            for guest in guests.iter().take(members) {
                ok(join(&setup, guest, &room).await);
            }
            rooms.insert(0, room);
        }
        let page = async |token: &Value| {
            let mut body = json!({ "limit": 2 });
            if token.is_string() {
                body["since"] = token.clone();
            }
            search(&setup, &alice, body).await
        };
        let first = page(&Value::Null).await;
        assert_eq!(ids(&first["chunk"]), rooms[..2]);
        assert!(first.get("prev_batch").is_none(), "{first}");
        let second = page(&first["next_batch"]).await;
        assert_eq!(ids(&second["chunk"]), rooms[2..4]);
        let third = page(&second["next_batch"]).await;
        assert_eq!(ids(&third["chunk"]), rooms[4..]);
        assert!(third.get("next_batch").is_none(), "{third}");
        assert_eq!(third["total_room_count_estimate"], 5);
        assert_eq!(page(&third["prev_batch"]).await["chunk"], second["chunk"]);
        assert_eq!(page(&second["prev_batch"]).await, first);
        let path = format!("{V3}/publicRooms?limit=1&since={}", first["next_batch"].as_str().unwrap());
        assert_eq!(ids(&ok(setup.get(&path, None).await)["chunk"]), rooms[2..3]);
    })
    .await;
}

fn join_rule(rule: &str) -> Value {
    json!({ "type": "m.room.join_rules", "content": { "join_rule": rule } })
}

#[tokio::test(flavor = "multi_thread")]
async fn knocking_asks_to_be_let_in() {
    each_setup(|setup| async move {
        let (alice, bob) = (setup.register("alice").await, setup.register("bob").await);
        let knock = |room: &str| format!("{V3}/knock/{room}");
        let wish =
            json!({ "initial_state": [join_rule("knock")], "name": "Door", "room_alias_name": "door" });
        let room = setup.create_room(&alice, wish).await;
        let reason = json!({ "reason": "please" });
        let answer = ok(setup.post(&knock("%23door:localhost"), &*bob.token, reason).await);
        assert_eq!(answer["room_id"], room);
        let member = content(&setup, &alice, &room, "m.room.member", &bob.id).await;
        assert_eq!((&member["membership"], &member["reason"]), (&json!("knock"), &json!("please")));
        let synced = ok(setup.get(&format!("{V3}/sync"), &*bob.token).await);
        let shown = synced["rooms"]["knock"][&room]["knock_state"]["events"].as_array().unwrap().clone();
        assert!(shown.iter().any(|event| event["content"]["name"] == "Door"), "{synced}");
        refused(join(&setup, &bob, &room).await, 403, "M_FORBIDDEN");
        let invite = json!({ "user_id": bob.id });
        ok(setup.post(&format!("{V3}/rooms/{room}/invite"), &*alice.token, invite).await);
        ok(join(&setup, &bob, &room).await);
        refused(setup.post(&knock(&room), &*bob.token, json!({})).await, 403, "M_FORBIDDEN");
        let ban = json!({ "user_id": bob.id });
        ok(setup.post(&format!("{V3}/rooms/{room}/ban"), &*alice.token, ban).await);
        refused(setup.post(&knock(&room), &*bob.token, json!({})).await, 403, "M_FORBIDDEN");

        // A knock is taken back as a room is left.
        let carol = setup.register("carol").await;
        ok(setup.post(&knock(&room), &*carol.token, json!({})).await);
        ok(setup.post(&format!("{V3}/rooms/{room}/leave"), &*carol.token, json!({})).await);
        let member = content(&setup, &alice, &room, "m.room.member", &carol.id).await;
        assert_eq!(member["membership"], "leave");

        let closed = setup.create_room(&alice, json!({})).await;
        refused(setup.post(&knock(&closed), &*bob.token, json!({})).await, 403, "M_FORBIDDEN");
        let old = json!({ "room_version": "6", "initial_state": [join_rule("knock")] });
        let old = setup.create_room(&alice, old).await;
        refused(setup.post(&knock(&old), &*carol.token, json!({})).await, 403, "M_FORBIDDEN");
        refused(setup.post(&knock("!none:localhost"), &*bob.token, json!({})).await, 404, "M_NOT_FOUND");
        refused(setup.post(&knock("%23none:localhost"), &*bob.token, json!({})).await, 404, "M_NOT_FOUND");
        refused(setup.post(&knock("none"), &*bob.token, json!({})).await, 400, "M_INVALID_PARAM");
    })
    .await;
}

async fn upgrade(setup: &Setup, user: &User, room: &str, body: Value) -> Answer {
    setup.post(&format!("{V3}/rooms/{room}/upgrade"), &*user.token, body).await
}

/// A published room with an alias, a ban and state of each kind.
async fn full_room(setup: &Setup, alice: &User, version: &str, alias: &str) -> String {
    let state = json!([
        { "type": "m.room.avatar", "content": { "url": "mxc://a/b" } },
        { "type": "m.room.encryption", "content": { "algorithm": "m.megolm.v1.aes-sha2" } },
        { "type": "m.room.server_acl", "content": { "allow": ["*"], "deny": ["evil.example"] } },
        { "type": "m.room.guest_access", "content": { "guest_access": "can_join" } },
        { "type": "m.room.history_visibility", "content": { "history_visibility": "joined" } },
        { "type": "org.example.other", "content": { "x": 1 } },
    ]);
    let wish = json!({
        "room_version": version, "room_alias_name": alias, "topic": "Topic", "initial_state": state,
        "creation_content": { "m.federate": false },
    });
    let room = published(setup, alice, "Old hall", wish).await;
    let ban = json!({ "user_id": "@eve:localhost", "reason": "noise" });
    ok(setup.post(&format!("{V3}/rooms/{room}/ban"), &*alice.token, ban).await);
    room
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgraded_room_goes_on() {
    each_setup(|setup| async move {
        let (alice, bob) = (setup.register("alice").await, setup.register("bob").await);
        for (from, to) in [("6", "11"), ("10", "12"), ("12", "12"), ("12", "11")] {
            let alias = format!("hall-{from}-{to}");
            let old = full_room(&setup, &alice, from, &alias).await;
            ok(join(&setup, &bob, &old).await);
            let body = json!({ "new_version": to });
            let new = ok(upgrade(&setup, &alice, &old, body).await)["replacement_room"].clone();
            let new = new.as_str().unwrap();

            let tombstone = content(&setup, &bob, &old, "m.room.tombstone", "").await;
            assert_eq!(tombstone["replacement_room"], new);
            assert!(tombstone["body"].is_string(), "{tombstone}");
            let create = content(&setup, &alice, new, "m.room.create", "").await;
            assert_eq!(create["predecessor"]["room_id"], old, "{from} to {to}");
            assert_eq!((&create["room_version"], &create["m.federate"]), (&json!(to), &json!(false)));
            let state = ok(setup.get(&format!("{V3}/rooms/{old}/state"), &*bob.token).await);
            let buried = state.as_array().unwrap().iter().find(|event| event["type"] == "m.room.tombstone");
            let last = if to == "12" { &Value::Null } else { &buried.unwrap()["event_id"] };
            assert_eq!(&create["predecessor"]["event_id"], last);

            for kind in [
                "name",
                "topic",
                "avatar",
                "encryption",
                "server_acl",
                "guest_access",
                "history_visibility",
                "join_rules",
            ] {
                let kind = format!("m.room.{kind}");
                let copied = content(&setup, &alice, new, &kind, "").await;
                assert_eq!(copied, content(&setup, &bob, &old, &kind, "").await, "{kind}");
            }
            refused(setup.state(&alice, new, "org.example.other", "").await, 404, "M_NOT_FOUND");
            let ban = content(&setup, &alice, new, "m.room.member", "@eve:localhost").await;
            assert_eq!((&ban["membership"], &ban["reason"]), (&json!("ban"), &json!("noise")));
            refused(setup.state(&alice, new, "m.room.member", &bob.id).await, 404, "M_NOT_FOUND");
            let levels = content(&setup, &alice, new, "m.room.power_levels", "").await;
            // A creator who was above all levels has the highest that anything there needs: that of a tombstone.
            let own = match (from, to) {
                (_, "12") => Value::Null,
                ("12", _) => json!(150),
                _ => json!(100),
            };
            assert_eq!((&levels["users"][&alice.id], &levels["events_default"]), (&own, &json!(0)));

            let path = format!("{V3}/directory/room/%23{alias}:localhost");
            assert_eq!(ok(setup.get(&path, None).await)["room_id"], new);
            let named = content(&setup, &alice, new, "m.room.canonical_alias", "").await;
            assert_eq!(named, json!({ "alias": format!("#{alias}:localhost") }));
            assert_eq!(content(&setup, &bob, &old, "m.room.canonical_alias", "").await, json!({}));
            for (room, visibility) in [(&*old, "private"), (new, "public")] {
                let path = format!("{V3}/directory/list/room/{room}");
                assert_eq!(ok(setup.get(&path, None).await)["visibility"], visibility);
            }
            let send = |txn: &str| format!("{V3}/rooms/{old}/send/m.room.message/{from}{to}{txn}");
            refused(setup.put(&send("1"), &*bob.token, json!({ "body": "x" })).await, 403, "M_FORBIDDEN");
            let closed = content(&setup, &bob, &old, "m.room.power_levels", "").await;
            assert_eq!((&closed["events_default"], &closed["invite"]), (&json!(50), &json!(50)));
            // A room may be replaced again.
            let again = ok(upgrade(&setup, &alice, new, json!({ "new_version": to })).await);
            assert_ne!(again["replacement_room"], new);
            ok(join(&setup, &bob, again["replacement_room"].as_str().unwrap()).await);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn moderators_and_creators_upgrade() {
    each_setup(|setup| async move {
        let (alice, bob) = (setup.register("alice").await, setup.register("bob").await);
        let carol = setup.register("carol").await;
        let users = json!({ alice.id.clone(): 100, bob.id.clone(): 50, carol.id.clone(): 50 });
        let levels = json!({
            "users": users, "events": { "m.room.tombstone": 50, "m.room.name": 75 }, "ban": 90,
        });
        let wish =
            json!({ "room_version": "11", "preset": "public_chat", "power_level_content_override": levels });
        let old = setup.create_room(&alice, wish).await;
        ok(join(&setup, &bob, &old).await);
        // What the moderator may not send comes along all the same, and his level is the old one in the end.
        ok(set(&setup, &alice, &old, "m.room.name", "", json!({ "name": "Name" })).await);
        let ban = json!({ "user_id": "@eve:localhost" });
        ok(setup.post(&format!("{V3}/rooms/{old}/ban"), &*alice.token, ban).await);
        let new = ok(upgrade(&setup, &bob, &old, json!({ "new_version": "11" })).await);
        let new = new["replacement_room"].as_str().unwrap();
        assert_eq!(content(&setup, &bob, new, "m.room.name", "").await["name"], "Name");
        assert_eq!(content(&setup, &bob, new, "m.room.power_levels", "").await["users"], users);
        assert_eq!(content(&setup, &bob, new, "m.room.member", "@eve:localhost").await["membership"], "ban");

        let body = json!({ "new_version": "12", "additional_creators": [carol.id] });
        let new = ok(upgrade(&setup, &bob, &old, body).await);
        let new = new["replacement_room"].as_str().unwrap();
        let create = content(&setup, &bob, new, "m.room.create", "").await;
        assert_eq!(create["additional_creators"], json!([carol.id]));
        let levels = content(&setup, &bob, new, "m.room.power_levels", "").await;
        assert_eq!(levels["users"], json!({ alice.id.clone(): 100 }));
        ok(join(&setup, &carol, new).await);
        ok(set(&setup, &carol, new, "m.room.power_levels", "", json!({})).await);
        // Versions without further creators have no use for them.
        let body = json!({ "new_version": "11", "additional_creators": [alice.id] });
        let third = ok(upgrade(&setup, &carol, new, body).await);
        let third = third["replacement_room"].as_str().unwrap();
        let create = content(&setup, &carol, third, "m.room.create", "").await;
        assert!(create.get("additional_creators").is_none(), "{create}");
        let levels = content(&setup, &carol, third, "m.room.power_levels", "").await;
        assert_eq!(levels["users"], json!({ bob.id.clone(): 100, carol.id.clone(): 100 }));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_end_a_room_may_not_upgrade_it() {
    each_setup(|setup| async move {
        let (alice, bob) = (setup.register("alice").await, setup.register("bob").await);
        let old = published(&setup, &alice, "Hall", json!({})).await;
        let body = json!({ "new_version": "12" });
        refused(upgrade(&setup, &bob, &old, body.clone()).await, 403, "M_FORBIDDEN");
        ok(join(&setup, &bob, &old).await);
        refused(upgrade(&setup, &bob, &old, body.clone()).await, 403, "M_FORBIDDEN");
        let unknown = json!({ "new_version": "none" });
        refused(upgrade(&setup, &alice, &old, unknown).await, 400, "M_UNSUPPORTED_ROOM_VERSION");
        refused(upgrade(&setup, &alice, &old, json!({})).await, 400, "M_BAD_JSON");
        let wrong = json!({ "new_version": "12", "additional_creators": ["bob"] });
        refused(upgrade(&setup, &alice, &old, wrong).await, 400, "M_BAD_JSON");
        refused(upgrade(&setup, &alice, "!none:localhost", body).await, 404, "M_NOT_FOUND");
        refused(setup.state(&alice, &old, "m.room.tombstone", "").await, 404, "M_NOT_FOUND");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_elsewhere_follow_an_upgrade() {
    each_pair(|pair| async move {
        let (alice, bob) = (pair.one.register("alice").await, pair.two.register("bob").await);
        for (from, to) in [("10", "11"), ("11", "12")] {
            let wish = json!({ "preset": "public_chat", "room_version": from, "name": "Hall" });
            let old = pair.one.create_room(&alice, wish).await;
            ok(pair.two.join_by(&bob, &old, &pair.one.name()).await);
            let new = ok(upgrade(&pair.one, &alice, &old, json!({ "new_version": to })).await);
            let new = new["replacement_room"].as_str().unwrap();
            pair.two
                .sync_until(&bob, "the tombstone", |body| {
                    let room = &body["rooms"]["join"][&old];
                    let lists = [&room["timeline"]["events"], &room["state"]["events"]];
                    let mut events = lists.into_iter().filter_map(Value::as_array).flatten();
                    events.find(|event| event["content"]["replacement_room"] == new).map(drop)
                })
                .await;
            ok(pair.two.join_by(&bob, new, &pair.one.name()).await);
            assert_eq!(content(&pair.two, &bob, new, "m.room.name", "").await["name"], "Hall");
        }
    })
    .await;
}

async fn child(setup: &Setup, user: &User, space: &str, room: &str, more: Value) {
    let mut content = json!({ "via": ["localhost"] });
    for (key, value) in more.as_object().unwrap() {
        content[key] = value.clone();
    }
    ok(set(setup, user, space, "m.space.child", room, content).await);
}

async fn space(setup: &Setup, user: &User, preset: &str) -> String {
    let wish = json!({ "preset": preset, "creation_content": { "type": "m.space" } });
    setup.create_room(user, wish).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_space_is_walked_in_its_order() {
    each_setup(|setup| async move {
        let (alice, bob) = (setup.register("alice").await, setup.register("bob").await);
        let top = space(&setup, &alice, "public_chat").await;
        let inner = space(&setup, &alice, "public_chat").await;
        let mut rooms = Vec::new();
        for _ in 0..4 {
            rooms.push(setup.create_room(&alice, json!({ "preset": "public_chat" })).await);
        }
        let [a, b, c, d] = <[String; 4]>::try_from(rooms).unwrap();
        let hidden = setup.create_room(&alice, json!({})).await;
        let restricted = json!({ "join_rule": "restricted",
            "allow": [{ "type": "m.room_membership", "room_id": top }] });
        let members = json!({ "initial_state": [{ "type": "m.room.join_rules", "content": restricted }] });
        let members = setup.create_room(&alice, members).await;
        child(&setup, &alice, &top, &a, json!({})).await;
        child(&setup, &alice, &top, &inner, json!({ "order": "b", "suggested": true })).await;
        child(&setup, &alice, &top, &b, json!({ "order": "a" })).await;
        child(&setup, &alice, &top, &hidden, json!({ "order": "c" })).await;
        child(&setup, &alice, &top, &members, json!({ "order": "d" })).await;
        child(&setup, &alice, &top, &d, json!({ "via": [] })).await;
        child(&setup, &alice, &top, "!elsewhere:else.example", json!({})).await;
        child(&setup, &alice, &inner, &c, json!({ "suggested": true })).await;
        child(&setup, &alice, &inner, &top, json!({})).await;
        let path = format!("/_matrix/client/v1/rooms/{top}/hierarchy");

        let all = ok(setup.get(&path, &*bob.token).await);
        assert_eq!(ids(&all["rooms"]), [&top, &b, &inner, &c, &a]);
        assert!(all.get("next_batch").is_none(), "{all}");
        let children = all["rooms"][0]["children_state"].as_array().unwrap();
        assert_eq!(children.len(), 6, "{children:?}");
        let keys: Vec<_> = children[0].as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, ["content", "origin_server_ts", "sender", "state_key", "type"]);
        assert_eq!(
            (&all["rooms"][1]["children_state"], &all["rooms"][0]["room_type"]),
            (&json!([]), &json!("m.space"))
        );
        ok(join(&setup, &bob, &top).await);
        let inside = ok(setup.get(&path, &*bob.token).await);
        assert_eq!(ids(&inside["rooms"]), [&top, &b, &inner, &c, &members, &a]);
        assert_eq!(inside["rooms"][4]["allowed_room_ids"], json!([top]));

        let mut pages = Vec::new();
        let mut from = String::new();
        loop {
            let page = ok(setup.get(&format!("{path}?limit=2{from}"), &*bob.token).await);
            pages.extend(page["rooms"].as_array().unwrap().clone());
            let Some(token) = page["next_batch"].as_str() else { break };
            from = format!("&from={token}");
        }
        assert_eq!(json!(pages), inside["rooms"]);
        let shallow = ok(setup.get(&format!("{path}?max_depth=1"), &*bob.token).await);
        assert_eq!(ids(&shallow["rooms"]), [&top, &b, &inner, &members, &a]);
        let suggested = ok(setup.get(&format!("{path}?suggested_only=true"), &*bob.token).await);
        assert_eq!(ids(&suggested["rooms"]), [&top, &inner, &c]);
        assert_eq!(suggested["rooms"][0]["children_state"].as_array().unwrap().len(), 1);
        let room = ok(setup.get(&format!("/_matrix/client/v1/rooms/{a}/hierarchy"), &*bob.token).await);
        assert_eq!(ids(&room["rooms"]), [&a]);

        for wrong in ["from=x", "limit=0", "limit=-1", "max_depth=x"] {
            refused(setup.get(&format!("{path}?{wrong}"), &*bob.token).await, 400, "M_INVALID_PARAM");
        }
        refused(setup.get(&format!("{path}?max_depth=1{from}"), &*bob.token).await, 400, "M_INVALID_PARAM");
        for closed in [&*hidden, "!none:localhost"] {
            let path = format!("/_matrix/client/v1/rooms/{closed}/hierarchy");
            refused(setup.get(&path, &*bob.token).await, 403, "M_FORBIDDEN");
        }
        // What a space had goes with it when it is replaced.
        ok(set(&setup, &alice, &top, "m.space.child", &a, json!({})).await);
        let new = ok(upgrade(&setup, &alice, &top, json!({ "new_version": "12" })).await);
        let new = new["replacement_room"].as_str().unwrap();
        assert_eq!(content(&setup, &alice, new, "m.room.create", "").await["type"], "m.space");
        assert_eq!(content(&setup, &alice, new, "m.space.child", &b).await["order"], "a");
        refused(setup.state(&alice, new, "m.space.child", &a).await, 404, "M_NOT_FOUND");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_summary_is_for_those_who_may_come() {
    each_setup(|setup| async move {
        let (alice, bob) = (setup.register("alice").await, setup.register("bob").await);
        let summary = |room: &str| format!("/_matrix/client/v1/room_summary/{room}");
        let encryption =
            json!({ "type": "m.room.encryption", "content": { "algorithm": "m.megolm.v1.aes-sha2" } });
        let wish = json!({ "room_alias_name": "door", "name": "Door", "room_version": "11",
            "initial_state": [join_rule("knock"), encryption] });
        let door = setup.create_room(&alice, wish).await;
        let expected = json!({
            "room_id": door, "name": "Door", "canonical_alias": "#door:localhost", "num_joined_members": 1,
            "join_rule": "knock", "world_readable": false, "guest_can_join": true, "room_version": "11",
            "encryption": "m.megolm.v1.aes-sha2",
        });
        assert_eq!(ok(setup.get(&summary(&door), None).await), expected);
        for (user, membership) in [(&alice, "join"), (&bob, "leave")] {
            let mut expected = expected.clone();
            expected["membership"] = membership.into();
            assert_eq!(ok(setup.get(&summary("%23door:localhost"), &*user.token).await), expected);
        }
        let closed = setup.create_room(&alice, json!({})).await;
        for token in [None, Some(&*bob.token)] {
            refused(setup.get(&summary(&closed), token).await, 404, "M_NOT_FOUND");
        }
        let invite = json!({ "user_id": bob.id });
        ok(setup.post(&format!("{V3}/rooms/{closed}/invite"), &*alice.token, invite).await);
        assert_eq!(ok(setup.get(&summary(&closed), &*bob.token).await)["membership"], "invite");
        refused(setup.get(&summary("!none:localhost"), &*bob.token).await, 404, "M_NOT_FOUND");
        refused(setup.get(&summary("none"), &*bob.token).await, 400, "M_INVALID_PARAM");
        refused(setup.get(&summary(&door), "none").await, 401, "M_UNKNOWN_TOKEN");
    })
    .await;
}
