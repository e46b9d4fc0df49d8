//! What is said and decided in a room: messages, redactions, state, power, branches, access lists, upgrades.

use serde_json::json;

use super::home::{Home, Person, escaped, number};
use super::{ALL, BOTH_KINDS, Border, NEWEST};
use crate::support::{ok, refused};

/// A public room here, with somebody from there.
async fn meet(here: &Home, there: &Home, version: &str) -> (Person, Person, String) {
    let (alice, bob) = (here.register("alice").await, there.register("bob").await);
    let room = alice.create_room(json!({ "preset": "public_chat", "room_version": version })).await;
    ok(bob.join(&room, here).await);
    alice.until_member(&room, &bob, "join").await;
    (alice, bob, room)
}

async fn redact(by: &Person, room: &str, event: &str) {
    let path = format!("/rooms/{}/redact/{}/t{}", escaped(room), escaped(event), number());
    ok(by.put(&path, json!({ "reason": "regretted" })).await);
}

async fn until_redacted(by: &Person, room: &str, event: &str) {
    let path = format!("/rooms/{}/event/{}", escaped(room), escaped(event));
    by.until_so("the redaction", async || {
        let event = ok(by.get(&path).await);
        event["content"] == json!({}) && event["unsigned"]["redacted_because"]["type"] == "m.room.redaction"
    })
    .await;
}

/// Gives somebody a level.
async fn raise(by: &Person, room: &str, who: &Person, level: i64) {
    let mut levels = by.state(room, "m.room.power_levels", "").await;
    levels["users"][&who.id] = json!(level);
    ok(by.set(room, "m.room.power_levels", "", levels).await);
    who.until_agreed(by, room).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Synapse"]
async fn what_was_said_is_taken_back() {
    let border = Border::open().await;
    border
        .each(ALL, async |here, there, version| {
            let (alice, bob, room) = meet(&here, &there, version).await;
            // Each of an own event; then the one who may of the other's, one that came before the other did, too.
            for (speaker, hearer) in [(&alice, &bob), (&bob, &alice)] {
                let event = speaker.say(&room, "to be regretted").await;
                hearer.until_seen(&room, "to be regretted").await;
                redact(speaker, &room, &event).await;
                until_redacted(hearer, &room, &event).await;
                until_redacted(speaker, &room, &event).await;
            }
            let (of_alice, of_bob) = (alice.say(&room, "alice's").await, bob.say(&room, "bob's").await);
            alice.until_seen(&room, "bob's").await;
            bob.until_seen(&room, "alice's").await;
            let path = format!("/rooms/{}/redact/{}/t1", escaped(&room), escaped(&of_alice));
            refused(bob.put(&path, json!({})).await, 403, "M_FORBIDDEN");
            redact(&alice, &room, &of_bob).await;
            until_redacted(&bob, &room, &of_bob).await;
            raise(&alice, &room, &bob, 50).await;
            redact(&bob, &room, &of_alice).await;
            until_redacted(&alice, &room, &of_alice).await;
        })
        .await;
    border.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Synapse"]
async fn state_is_changed_by_those_who_may() {
    let border = Border::open().await;
    border
        .each(BOTH_KINDS, async |here, there, version| {
            let (alice, bob, room) = meet(&here, &there, version).await;
            refused(bob.set(&room, "m.room.topic", "", json!({ "topic": "no" })).await, 403, "M_FORBIDDEN");
            raise(&alice, &room, &bob, 50).await;
            ok(bob.set(&room, "m.room.topic", "", json!({ "topic": "bob's" })).await);
            alice.until_agreed(&bob, &room).await;
            assert_eq!(alice.state(&room, "m.room.topic", "").await["topic"], "bob's");
            ok(alice.set(&room, "m.room.topic", "", json!({ "topic": "alice's" })).await);
            ok(alice.set(&room, "org.example", "käy 🔑", json!({ "nested": { "a": [1, null, "ü"] } })).await);
            bob.until_agreed(&alice, &room).await;
            assert_eq!(bob.state(&room, "m.room.topic", "").await["topic"], "alice's");
            assert_eq!(bob.state(&room, "org.example", "käy 🔑").await["nested"]["a"], json!([1, null, "ü"]));
            raise(&alice, &room, &bob, 0).await;
            refused(bob.set(&room, "m.room.topic", "", json!({ "topic": "no" })).await, 403, "M_FORBIDDEN");
            // A room that is closed is closed on both sides.
            ok(alice.set(&room, "m.room.join_rules", "", json!({ "join_rule": "invite" })).await);
            bob.until_agreed(&alice, &room).await;
            let carol = there.register("carol").await;
            refused(carol.join(&room, &there).await, 403, "M_FORBIDDEN");
            refused(carol.join(&room, &here).await, 403, "M_FORBIDDEN");
        })
        .await;
    border.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Synapse"]
async fn both_speak_at_once() {
    let border = Border::open().await;
    border
        .each(BOTH_KINDS, async |here, there, version| {
            let (alice, bob, room) = meet(&here, &there, version).await;
            raise(&alice, &room, &bob, 50).await;
            let speak = async |who: &Person| {
                for number in 0..12 {
                    who.say(&room, &format!("{} {number}", who.home.kind)).await;
                    if number % 3 == 0 {
                        let name = json!({ "name": format!("{} {number}", who.home.kind) });
                        ok(who.set(&room, "m.room.name", "", name).await);
                    }
                }
            };
            tokio::join!(speak(&alice), speak(&bob));
            // What follows the branches comes after them.
            let last = alice.say(&room, "last of here").await;
            bob.until_so("the last of here", async || {
                bob.get(&format!("/rooms/{}/event/{}", escaped(&room), escaped(&last))).await.0 == 200
            })
            .await;
            let last = bob.say(&room, "last of there").await;
            alice
                .until_so("the last of there", async || {
                    alice.get(&format!("/rooms/{}/event/{}", escaped(&room), escaped(&last))).await.0 == 200
                })
                .await;
            alice.until_agreed(&bob, &room).await;
            let all = async |who: &Person| {
                let mut texts = who.texts(&room, 30).await;
                texts.sort();
                texts
            };
            let (hers, his) = (all(&alice).await, all(&bob).await);
            assert_eq!((hers.len(), &hers), (26, &his));
        })
        .await;
    border.close().await;
}

/// While neither hears the other, both change the same things, so that the states must be resolved.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Synapse"]
async fn branches_that_contradict_each_other_become_one() {
    let border = Border::open().await;
    border
        .each(BOTH_KINDS, async |here, there, version| {
            let (alice, bob, room) = meet(&here, &there, version).await;
            raise(&alice, &room, &bob, 90).await;
            let (ours, theirs) = if here.kind == "Myelin" { (&alice, &bob) } else { (&bob, &alice) };
            let carol = border.theirs().register("carol").await;
            ok(carol.join(&room, &here).await);
            ours.until_member(&room, &carol, "join").await;
            // One of ours is kicked by a Synapse user while it is away and speaks.
            let dave = border.ours().register("dave").await;
            ok(dave.join(&room, &here).await);
            theirs.until_member(&room, &dave, "join").await;
            let told = border.synapse.log().len();
            border.setup.cut().await;
            ok(theirs.set(&room, "m.room.topic", "", json!({ "topic": "theirs" })).await);
            ok(theirs.act("kick", &room, Some(&dave)).await);
            theirs.say(&room, "theirs while apart").await;
            ok(ours.set(&room, "m.room.topic", "", json!({ "topic": "ours" })).await);
            ok(ours.set(&room, "m.room.name", "", json!({ "name": "ours" })).await);
            ok(ours.act("ban", &room, Some(&carol)).await);
            ok(dave
                .set(&room, "m.room.member", &dave.id, json!({ "membership": "join", "displayname": "D" }))
                .await);
            ours.say(&room, "ours while apart").await;
            theirs.until_seen(&room, "ours while apart").await;
            border.synapse.until_given_up(&border.setup.name(), told).await;
            border.setup.reconnect().await;
            // Whoever speaks is told at once what it missed.
            ours.speak_until_seen(&room, "theirs while apart").await;
            ours.until_agreed(theirs, &room).await;
            assert_eq!(theirs.state(&room, "m.room.name", "").await["name"], "ours");
            assert_eq!(ours.state(&room, "m.room.member", &carol.id).await["membership"], "ban");
            // The kick comes first, and then the room is open to him.
            assert_eq!(ours.state(&room, "m.room.member", &dave.id).await["membership"], "join");
            theirs.say(&room, "and on").await;
            ours.until_seen(&room, "and on").await;
        })
        .await;
    border.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Synapse"]
async fn a_server_that_the_access_list_denies_is_not_heard() {
    let border = Border::open().await;
    border
        .both_ways(async |here, there| {
            let (alice, bob, room) = meet(&here, &there, NEWEST).await;
            let list = |denied: &[&str]| json!({ "allow": ["*"], "deny": denied, "allow_ip_literals": true });
            let host = there.name.split_once(':').unwrap().0;
            ok(alice.set(&room, "m.room.server_acl", "", list(&["example.org"])).await);
            bob.until_agreed(&alice, &room).await;
            bob.say(&room, "allowed").await;
            alice.until_seen(&room, "allowed").await;
            ok(alice.set(&room, "m.room.server_acl", "", list(&[host])).await);
            bob.until_agreed(&alice, &room).await;
            bob.say(&room, "not allowed").await;
            // Something else of the same server arrives, and nothing of this.
            let other = alice.create_room(json!({ "preset": "public_chat" })).await;
            ok(bob.join(&other, &here).await);
            bob.say(&other, "a sign").await;
            alice.until_seen(&other, "a sign").await;
            assert_eq!(alice.texts(&room, 50).await, ["allowed"]);
            // Nor may its users come in.
            let acl = json!({ "type": "m.room.server_acl", "state_key": "", "content": list(&[host]) });
            let wish = json!({ "preset": "public_chat", "room_version": NEWEST, "initial_state": [acl] });
            let closed = alice.create_room(wish).await;
            refused(bob.join(&closed, &here).await, 403, "M_FORBIDDEN");
        })
        .await;
    border.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Synapse"]
async fn a_room_is_replaced_by_one_of_another_version() {
    let border = Border::open().await;
    border
        .both_ways(async |here, there| {
            for (old, new) in [("10", "11"), ("11", "12")] {
                let (alice, bob, room) = meet(&here, &there, old).await;
                raise(&alice, &room, &bob, 100).await;
                let since = bob.since().await;
                let path = format!("/rooms/{}/upgrade", escaped(&room));
                let upgraded = ok(alice.post(&path, json!({ "new_version": new })).await);
                let replacement = upgraded["replacement_room"].as_str().unwrap();
                let tombstone = bob
                    .until_event(Some(&since), &room, "the tombstone", |event| {
                        event["type"] == "m.room.tombstone"
                    })
                    .await;
                assert_eq!(tombstone["content"]["replacement_room"], replacement);
                ok(bob.join(replacement, &here).await);
                let create = bob.state(replacement, "m.room.create", "").await;
                assert_eq!(
                    (&create["room_version"], &create["predecessor"]["room_id"]),
                    (&json!(new), &json!(room))
                );
                bob.say(replacement, "moved").await;
                alice.until_seen(replacement, "moved").await;
                alice.until_agreed(&bob, replacement).await;
                alice.until_agreed(&bob, &room).await;
            }
        })
        .await;
    border.close().await;
}
