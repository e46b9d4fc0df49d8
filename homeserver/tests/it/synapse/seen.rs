//! What is seen across the border: typing, receipts, profiles, directories, spaces, summaries, history.

use serde_json::{Value, json};

use super::home::{Home, Person, escaped, number};
use super::{BOTH_KINDS, Border, NEWEST};
use crate::support::{ok, refused};

async fn meet(here: &Home, there: &Home) -> (Person, Person, String) {
    let (alice, bob) = (here.register("alice").await, there.register("bob").await);
    let room = alice.create_room(json!({ "preset": "public_chat", "room_version": NEWEST })).await;
    ok(bob.join(&room, here).await);
    alice.until_member(&room, &bob, "join").await;
    (alice, bob, room)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Synapse"]
async fn who_types_and_who_has_read() {
    let border = Border::open().await;
    border
        .both_ways(async |here, there| {
            let (alice, bob, room) = meet(&here, &there).await;
            for (writer, reader) in [(&alice, &bob), (&bob, &alice)] {
                let text = format!("read this, {}", reader.id);
                let event = writer.say(&room, &text).await;
                reader.until_seen(&room, &text).await;
                let since = writer.since().await;
                let ephemeral = async |what: &str, found: &dyn Fn(&Value) -> bool| {
                    writer
                        .until(Some(&since), what, |body| {
                            let events = body["rooms"]["join"][&room]["ephemeral"]["events"].as_array()?;
                            events.iter().find(|event| found(event)).map(drop)
                        })
                        .await;
                };
                let path = format!("/rooms/{}/typing/{}", escaped(&room), escaped(&reader.id));
                ok(reader.put(&path, json!({ "typing": true, "timeout": 30_000 })).await);
                ephemeral("who types", &|event| event["content"]["user_ids"] == json!([reader.id])).await;
                ok(reader.put(&path, json!({ "typing": false })).await);
                ephemeral("who types no more", &|event| event["content"]["user_ids"] == json!([])).await;
                let path = format!("/rooms/{}/receipt/m.read/{}", escaped(&room), escaped(&event));
                ok(reader.post(&path, json!({})).await);
                ephemeral("the receipt", &|e| e["content"][&event]["m.read"][&reader.id].is_object()).await;
                // One in a thread.
                let text = format!("read this too, {}", reader.id);
                let event = writer.say(&room, &text).await;
                reader.until_seen(&room, &text).await;
                let path = format!("/rooms/{}/receipt/m.read/{}", escaped(&room), escaped(&event));
                ok(reader.post(&path, json!({ "thread_id": "main" })).await);
                ephemeral("the receipt in a thread", &|e| {
                    e["content"][&event]["m.read"][&reader.id]["thread_id"] == "main"
                })
                .await;
            }
            // A private one stays at home.
            let event = alice.say(&room, "read this in private").await;
            bob.until_seen(&room, "read this in private").await;
            let since = alice.since().await;
            let path = |kind: &str| format!("/rooms/{}/receipt/{kind}/{}", escaped(&room), escaped(&event));
            ok(bob.post(&path("m.read.private"), json!({})).await);
            ok(bob.post(&path("m.read"), json!({})).await);
            let shown = alice
                .until(Some(&since), "the receipt", |body| {
                    let events = body["rooms"]["join"][&room]["ephemeral"]["events"].as_array()?;
                    events.iter().find(|e| e["content"][&event]["m.read"][&bob.id].is_object()).cloned()
                })
                .await;
            assert!(!shown.to_string().contains("m.read.private"), "{shown}");
        })
        .await;
    border.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Synapse"]
async fn profiles_are_looked_up_and_followed() {
    let border = Border::open().await;
    border
        .both_ways(async |here, there| {
            let (alice, bob, room) = meet(&here, &there).await;
            for (who, sees) in [(&bob, &alice), (&alice, &bob)] {
                let path = |key: &str| format!("/profile/{}/{key}", escaped(&who.id));
                ok(who.put(&path("displayname"), json!({ "displayname": "Robert ü" })).await);
                ok(who.put(&path("avatar_url"), json!({ "avatar_url": "mxc://example.org/abc" })).await);
                assert_eq!(ok(sees.get(&path("displayname")).await)["displayname"], "Robert ü");
                let whole = ok(sees.get(path("").trim_end_matches('/')).await);
                assert_eq!(whole["avatar_url"], "mxc://example.org/abc", "{whole}");
                sees.until_so("the new name in the room", async || {
                    let member = sees.state(&room, "m.room.member", &who.id).await;
                    (&member["displayname"], &member["avatar_url"])
                        == (&json!("Robert ü"), &json!("mxc://example.org/abc"))
                })
                .await;
                let nobody = format!("/profile/@nobody:{}", who.home.name);
                refused(sees.get(&nobody).await, 404, "M_NOT_FOUND");
            }
            alice.until_agreed(&bob, &room).await;
        })
        .await;
    border.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Synapse"]
async fn directories_spaces_and_summaries() {
    let border = Border::open().await;
    border
        .both_ways(async |here, there| {
            let (alice, bob) = (here.register("alice").await, there.register("bob").await);
            let name = format!("Hall {}", number());
            let hall =
                json!({ "preset": "public_chat", "visibility": "public", "name": name, "topic": "talk" });
            let hall = alice.create_room(hall).await;
            let list = format!("/publicRooms?server={}", here.name);
            let search = json!({ "filter": { "generic_search_term": name }, "limit": 10 });
            let found = ok(bob.post(&list, search).await);
            let rooms = found["chunk"].as_array().unwrap();
            let room = rooms.iter().find(|room| room["room_id"] == *hall).unwrap();
            assert_eq!((&room["name"], &room["topic"]), (&json!(name), &json!("talk")));
            assert_eq!(room["num_joined_members"], 1);
            assert!(room["join_rule"].as_str().is_none_or(|rule| rule == "public"), "{room}");
            let all = ok(bob.get(&list).await);
            assert!(all["chunk"].as_array().unwrap().iter().any(|room| room["room_id"] == *hall), "{all}");

            let space =
                json!({ "preset": "public_chat", "name": "top", "creation_content": { "type": "m.space" } });
            let top = alice.create_room(space.clone()).await;
            let inner = alice.create_room(space.clone()).await;
            let closet = alice.create_room(json!({ "preset": "private_chat", "name": "closet" })).await;
            let rule = json!({ "type": "m.room.join_rules", "state_key": "", "content": {
                "join_rule": "restricted", "allow": [{ "type": "m.room_membership", "room_id": top }],
            } });
            let club = json!({ "preset": "private_chat", "name": "club", "initial_state": [rule] });
            let club = alice.create_room(club).await;
            let via = json!({ "via": [here.name] });
            for (parent, child) in [(&top, &inner), (&top, &closet), (&top, &club), (&inner, &hall)] {
                ok(alice.set(parent, "m.space.child", child, via.clone()).await);
            }
            let own = bob.create_room(space).await;
            ok(bob.set(&own, "m.space.child", &top, via).await);
            let walk = format!("/_matrix/client/v1/rooms/{}/hierarchy", escaped(&own));
            let ids = async || -> Vec<String> {
                let body = ok(bob.get(&walk).await);
                let rooms = body["rooms"].as_array().unwrap().iter();
                let mut ids: Vec<String> =
                    rooms.map(|room| room["room_id"].as_str().unwrap().to_owned()).collect();
                ids.sort();
                ids
            };
            let sorted = |rooms: &[&String]| {
                let mut rooms: Vec<String> = rooms.iter().map(|room| (*room).clone()).collect();
                rooms.sort();
                rooms
            };
            assert_eq!(ids().await, sorted(&[&own, &top, &inner, &hall]));

            let summary = |room: &str| {
                let path = "/_matrix/client/unstable/im.nheko.summary";
                let path = if there.kind == "Synapse" { path } else { "/_matrix/client/v1/room_summary" };
                let middle = if there.kind == "Synapse" { "/summary" } else { "" };
                format!("{path}{middle}/{}?via={}", escaped(room), here.name)
            };
            let shown = ok(bob.get(&summary(&hall)).await);
            assert_eq!((&shown["name"], &shown["room_id"]), (&json!(name), &json!(hall)));
            refused(bob.get(&summary(&closet)).await, 404, "M_NOT_FOUND");

            // Whoever is in the top sees the club.
            ok(bob.join(&top, &here).await);
            alice.until_member(&top, &bob, "join").await;
            bob.until_so("the club in the space", async || ids().await.contains(&club)).await;
        })
        .await;
    border.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Synapse"]
async fn history_from_before_the_join_is_fetched() {
    let border = Border::open().await;
    border
        .each(BOTH_KINDS, async |here, there, version| {
            let (alice, bob) = (here.register("alice").await, there.register("bob").await);
            let room = alice.create_room(json!({ "preset": "public_chat", "room_version": version })).await;
            let mut said = Vec::new();
            for number in 0..45 {
                let text = format!("old {number}");
                said.push((alice.say(&room, &text).await, text));
            }
            ok(bob.join(&room, &here).await);
            let expected: Vec<&String> = said.iter().rev().map(|(_, text)| text).collect();
            let texts = bob.texts(&room, 10).await;
            assert_eq!(texts.iter().collect::<Vec<_>>(), expected);
            // One event, with what stands around it.
            let (event, text) = &said[20];
            let path = format!("/rooms/{}/context/{}?limit=4", escaped(&room), escaped(event));
            let context = ok(bob.get(&path).await);
            assert_eq!(context["event"]["content"]["body"], **text);
            // Synapse leaves out what it fetched in another batch.
            if there.kind == "Myelin" {
                assert_eq!(context["events_before"][0]["content"]["body"], *said[19].1, "{context:#}");
                assert_eq!(context["events_after"][0]["content"]["body"], *said[21].1, "{context:#}");
            }
        })
        .await;
    border.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Synapse"]
async fn history_is_for_those_who_may_see_it() {
    let border = Border::open().await;
    border
        .both_ways(async |here, there| {
            for (visibility, sees) in
                [("joined", false), ("invited", false), ("shared", true), ("world_readable", true)]
            {
                let (alice, bob) = (here.register("alice").await, there.register("bob").await);
                let history = json!({
                    "type": "m.room.history_visibility", "state_key": "",
                    "content": { "history_visibility": visibility },
                });
                let wish =
                    json!({ "preset": "public_chat", "room_version": NEWEST, "initial_state": [history] });
                let room = alice.create_room(wish).await;
                alice.say(&room, "before").await;
                ok(bob.join(&room, &here).await);
                alice.until_member(&room, &bob, "join").await;
                alice.say(&room, "after").await;
                bob.until_seen(&room, "after").await;
                let texts = bob.texts(&room, 10).await;
                let expected: &[&str] = if sees { &["after", "before"] } else { &["after"] };
                assert_eq!(texts, expected, "{visibility}");
            }
        })
        .await;
    border.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Synapse"]
async fn events_are_found_by_their_time() {
    let border = Border::open().await;
    border
        .both_ways(async |here, there| {
            let (alice, bob) = (here.register("alice").await, there.register("bob").await);
            let room = alice.create_room(json!({ "preset": "public_chat", "room_version": NEWEST })).await;
            let first = alice.say(&room, "first").await;
            // Both follow the machine's clock: a moment between them needs no more than a millisecond of it.
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            let second = alice.say(&room, "second").await;
            let time = async |event: &str| {
                let path = format!("/rooms/{}/event/{}", escaped(&room), escaped(event));
                ok(alice.get(&path).await)["origin_server_ts"].as_i64().unwrap()
            };
            let (at_first, at_second) = (time(&first).await, time(&second).await);
            for number in 0..30 {
                alice.say(&room, &format!("later {number}")).await;
            }
            ok(bob.join(&room, &here).await);
            let near = |ts: i64, dir: &str| {
                format!("/_matrix/client/v1/rooms/{}/timestamp_to_event?ts={ts}&dir={dir}", escaped(&room))
            };
            for (ts, dir, event) in [(at_second - 1, "b", &first), (at_first + 1, "f", &second)] {
                let found = ok(bob.get(&near(ts, dir)).await);
                assert_eq!(found["event_id"], **event, "{dir}");
                let path = format!("/rooms/{}/context/{}?limit=0", escaped(&room), escaped(event));
                let context = ok(bob.get(&path).await);
                let from = escaped(context["end"].as_str().unwrap());
                let path = format!("/rooms/{}/messages?dir=b&limit=50&from={from}", escaped(&room));
                let older = ok(bob.get(&path).await);
                let kinds: Vec<&Value> =
                    older["chunk"].as_array().unwrap().iter().map(|e| &e["type"]).collect();
                assert!(kinds.contains(&&json!("m.room.create")), "{older:#}");
            }
        })
        .await;
    border.close().await;
}
