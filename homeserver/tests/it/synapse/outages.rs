//! Servers that are killed, and start again: what was missed is caught up with, whoever missed it.

use serde_json::{Value, json};

use super::NEWEST;
use super::home::{Person, escaped, number};
use super::process::{Myelin, Synapse};
use crate::support::ok;

/// More than one answer to a question for missing events holds.
const MANY: usize = 70;

/// Two servers that a test may kill.
struct Both {
    ours: Myelin,
    theirs: Synapse,
}

/// People who are in two rooms, one of each server.
struct People {
    alice: Person,
    bob: Person,
    rooms: [String; 2],
}

impl Both {
    async fn start() -> Self {
        let (ours, theirs) = tokio::join!(Myelin::start(), Synapse::start());
        Self { ours, theirs }
    }

    async fn people(&self) -> People {
        let (ours, theirs) = (&self.ours.home, &self.theirs.home());
        let (alice, bob) = (ours.register("alice").await, theirs.register("bob").await);
        let wish = json!({ "preset": "public_chat", "room_version": NEWEST });
        let rooms = [alice.create_room(wish.clone()).await, bob.create_room(wish).await];
        ok(bob.join(&rooms[0], ours).await);
        ok(alice.join(&rooms[1], theirs).await);
        for room in &rooms {
            alice.until_agreed(&bob, room).await;
        }
        People { alice, bob, rooms }
    }
}

impl People {
    /// All that somebody says and does while the other's server is away.
    async fn act(&self, who: &Person, whom: &Person) {
        for number in 0..MANY {
            who.say(&self.rooms[0], &format!("missed {number}")).await;
        }
        for number in 0..3 {
            who.say(&self.rooms[1], &format!("missed {number}")).await;
        }
        let path = format!("/profile/{}/displayname", escaped(&who.id));
        ok(who.put(&path, json!({ "displayname": "Another" })).await);
        for number_of_message in 0..3 {
            let path = format!("/sendToDevice/org.example.test/t{}", number());
            let messages = json!({ &whom.id: { "*": { "n": number_of_message } } });
            ok(who.put(&path, json!({ "messages": messages })).await);
        }
        let device = who.log_in().await;
        let keys = json!({ "device_keys": {
            "user_id": device.id, "device_id": device.device, "algorithms": [], "keys": {}, "signatures": {},
        } });
        ok(device.post("/keys/upload", keys).await);
    }

    /// Checks that somebody who was away has seen all of that since a moment before.
    async fn caught_up(&self, whom: &Person, since: &str, who: &Person) {
        let (mut messages, mut changed) = (Vec::new(), false);
        whom.until(Some(since), "the messages for the device, and the new device", |body| {
            let events = body["to_device"]["events"].as_array().into_iter().flatten();
            messages.extend(events.map(|event| event["content"]["n"].clone()));
            let lists = body["device_lists"]["changed"].as_array().into_iter().flatten();
            changed |= lists.into_iter().any(|user| *user == *who.id);
            (messages.len() >= 3 && changed).then_some(())
        })
        .await;
        assert_eq!(messages, [0, 1, 2]);
        for room in &self.rooms {
            whom.until_so("the new name in the room", async || {
                whom.state(room, "m.room.member", &who.id).await["displayname"] == "Another"
            })
            .await;
            whom.until_agreed(who, room).await;
        }
        for (room, count) in [(&self.rooms[0], MANY), (&self.rooms[1], 3)] {
            let mut texts = whom.texts(room, 40).await;
            texts.retain(|text| text.starts_with("missed"));
            let expected: Vec<String> = (0..count).rev().map(|number| format!("missed {number}")).collect();
            assert_eq!(texts, expected);
        }
    }

    /// What is said now arrives at once, both ways.
    async fn talk(&self) {
        for (who, whom) in [(&self.alice, &self.bob), (&self.bob, &self.alice)] {
            for room in &self.rooms {
                let text = format!("hello from {}", who.home.kind);
                who.say(room, &text).await;
                whom.until_seen(room, &text).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Synapse"]
async fn synapse_is_killed_and_catches_up() {
    let mut both = Both::start().await;
    let people = both.people().await;
    let since = people.bob.since().await;
    both.theirs.kill();
    people.act(&people.alice, &people.bob).await;
    both.theirs.resume().await;
    // Whoever speaks is told at once what it missed.
    people.bob.say(&people.rooms[1], "I am back").await;
    people.caught_up(&people.bob, &since, &people.alice).await;
    people.talk().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Synapse"]
async fn myelin_is_killed_and_catches_up() {
    let mut both = Both::start().await;
    let people = both.people().await;
    let since = people.alice.since().await;
    let told = both.theirs.log().len();
    both.ours.kill();
    people.act(&people.bob, &people.alice).await;
    both.theirs.until_given_up(&both.ours.home.name, told).await;
    both.ours.resume().await;
    people.alice.say(&people.rooms[1], "I am back").await;
    people.caught_up(&people.alice, &since, &people.bob).await;
    people.talk().await;
}

/// What one could not tell before it was killed it tells afterwards.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Synapse"]
async fn what_waited_for_the_other_survives_a_restart() {
    let mut both = Both::start().await;
    let people = both.people().await;
    let since = people.bob.since().await;
    both.theirs.kill();
    people.act(&people.alice, &people.bob).await;
    both.ours.kill();
    both.theirs.resume().await;
    both.ours.resume().await;
    people.bob.say(&people.rooms[0], "we are back").await;
    people.caught_up(&people.bob, &since, &people.alice).await;

    let since = people.alice.since().await;
    both.ours.kill();
    let path = format!("/sendToDevice/org.example.test/t{}", number());
    let messages = json!({ &people.alice.id: { "*": { "n": "last" } } });
    ok(people.bob.put(&path, json!({ "messages": messages })).await);
    people.bob.say(&people.rooms[1], "before both were gone").await;
    both.theirs.kill();
    both.ours.resume().await;
    both.theirs.resume().await;
    people.alice.say(&people.rooms[1], "we are back again").await;
    let event = people
        .alice
        .until(Some(&since), "the message for the device", |body| {
            body["to_device"]["events"].as_array()?.first().cloned()
        })
        .await;
    assert_eq!(event["content"]["n"], Value::from("last"));
    people.alice.until_seen(&people.rooms[1], "before both were gone").await;
    people.talk().await;
}
