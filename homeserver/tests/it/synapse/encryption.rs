//! Keys of devices and users, and messages for devices, across the border.

use serde_json::{Value, json};
use std::collections::BTreeSet;
use vodozemac::Ed25519SecretKey;

use super::Border;
use super::home::{Home, Person, escaped, number};
use crate::federation::signed_by;
use crate::support::ok;

/// An encrypted room here, with somebody from there.
async fn meet(here: &Home, there: &Home) -> (Person, Person, String) {
    let (alice, bob) = (here.register("alice").await, there.register("bob").await);
    let encryption = json!({
        "type": "m.room.encryption", "state_key": "", "content": { "algorithm": "m.megolm.v1.aes-sha2" },
    });
    let wish = json!({ "preset": "private_chat", "invite": [bob.id], "initial_state": [encryption] });
    let room = alice.create_room(wish).await;
    bob.until_in(None, "invite", &room).await;
    ok(bob.act("join", &room, None).await);
    alice.until_member(&room, &bob, "join").await;
    (alice, bob, room)
}

/// Publishes a device's keys and some one-time keys, whose ids begin like this.
async fn publish(who: &Person, one_time: &str, count: usize, fallback: bool) {
    let device = &who.device;
    let key = |name: &str| json!({ "key": format!("key {name}"), "signatures": { &who.id: { format!("ed25519:{device}"): "s" } } });
    let names = (0..count).map(|number| format!("{one_time}{number}"));
    let one_time_keys: serde_json::Map<String, Value> =
        names.map(|name| (format!("signed_curve25519:{name}"), key(&name))).collect();
    let mut upload = json!({
        "device_keys": {
            "user_id": who.id, "device_id": device,
            "algorithms": ["m.olm.v1.curve25519-aes-sha2", "m.megolm.v1.aes-sha2"],
            "keys": { format!("curve25519:{device}"): format!("c {device}"), format!("ed25519:{device}"): format!("e {device}") },
            "signatures": { &who.id: { format!("ed25519:{device}"): "s" } },
        },
        "one_time_keys": one_time_keys,
    });
    if fallback {
        let mut key = key("fallback");
        key["fallback"] = json!(true);
        upload["fallback_keys"] = json!({ "signed_curve25519:fallback": key });
    }
    ok(who.post("/keys/upload", upload).await);
}

async fn query(who: &Person, whose: &Person) -> Value {
    ok(who.post("/keys/query", json!({ "device_keys": { &whose.id: [] } })).await)
}

/// Claims a key of a device; gives the name of what was got.
async fn claim(who: &Person, whose: &Person) -> Option<String> {
    let claim = json!({ "one_time_keys": { &whose.id: { &whose.device: "signed_curve25519" } } });
    let claimed = ok(who.post("/keys/claim", claim).await);
    assert!(claimed["failures"].as_object().is_none_or(|failures| failures.is_empty()), "{claimed}");
    let keys = claimed["one_time_keys"][&whose.id][&whose.device].as_object()?;
    keys.keys().next().cloned()
}

/// Waits until somebody is told to look at another's devices again.
async fn until_changed(who: &Person, since: &str, whose: &Person) {
    who.until(Some(since), &format!("that the devices of {} changed", whose.id), |body| {
        let changed = body["device_lists"]["changed"].as_array()?;
        changed.iter().find(|user| **user == *whose.id).map(drop)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Synapse"]
async fn each_one_time_key_is_given_once() {
    let border = Border::open().await;
    border
        .both_ways(async |here, there| {
            let (alice, bob, _) = meet(&here, &there).await;
            publish(&bob, "A", 12, true).await;
            // At once by several, from both sides.
            let (local, further) = (there.register("local").await, alice.log_in().await);
            let mut got = Vec::new();
            for _ in 0..4 {
                let (one, two, three) =
                    tokio::join!(claim(&alice, &bob), claim(&further, &bob), claim(&local, &bob));
                got.extend([one, two, three].map(Option::unwrap));
            }
            let once: BTreeSet<&String> = got.iter().collect();
            assert_eq!(once.len(), 12, "{got:?}");
            for _ in 0..2 {
                assert_eq!(claim(&alice, &bob).await.as_deref(), Some("signed_curve25519:fallback"));
            }
            let unused = bob.until(None, "the counts", |body| {
                body["device_unused_fallback_key_types"].as_array().cloned()
            });
            assert!(unused.await.is_empty());
            // A device without any, and one that is not there.
            let carol = there.register("carol").await;
            publish(&carol, "B", 0, false).await;
            assert_eq!(claim(&alice, &carol).await, None);
            let mut nobody = carol.clone();
            nobody.id = format!("@nobody:{}", there.name);
            assert_eq!(claim(&alice, &nobody).await, None);
        })
        .await;
    border.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Synapse"]
async fn device_lists_are_followed() {
    let border = Border::open().await;
    border
        .both_ways(async |here, there| {
            let (alice, bob, room) = meet(&here, &there).await;
            for (who, other) in [(&bob, &alice), (&alice, &bob)] {
                let since = other.since().await;
                publish(who, "A", 1, false).await;
                until_changed(other, &since, who).await;
                let keys = &query(other, who).await["device_keys"][&who.id];
                assert_eq!(
                    keys[&who.device]["keys"][format!("ed25519:{}", who.device)],
                    format!("e {}", who.device)
                );
                // A name.
                let since = other.since().await;
                let path = format!("/devices/{}", escaped(&who.device));
                ok(who.put(&path, json!({ "display_name": "telephone" })).await);
                // A second device; then it goes.
                let second = who.log_in().await;
                publish(&second, "A", 1, false).await;
                until_changed(other, &since, who).await;
                other
                    .until_so("both devices", async || {
                        query(other, who).await["device_keys"][&who.id]
                            .as_object()
                            .is_some_and(|all| all.len() == 2)
                    })
                    .await;
                let since = other.since().await;
                ok(second.post("/logout", json!({})).await);
                until_changed(other, &since, who).await;
                other
                    .until_so("one device", async || {
                        query(other, who).await["device_keys"][&who.id]
                            .as_object()
                            .is_some_and(|all| all.len() == 1)
                    })
                    .await;
            }
            // Who shares no room any more is told that, and who comes back is to look again.
            let since = alice.since().await;
            ok(bob.act("leave", &room, None).await);
            alice
                .until(Some(&since), "that bob has left", |body| {
                    let left = body["device_lists"]["left"].as_array()?;
                    left.iter().find(|user| **user == *bob.id).map(drop)
                })
                .await;
            ok(alice.act("invite", &room, Some(&bob)).await);
            bob.until_in(None, "invite", &room).await;
            let (hers, his) = (alice.since().await, bob.since().await);
            ok(bob.act("join", &room, None).await);
            until_changed(&alice, &hers, &bob).await;
            until_changed(&bob, &his, &alice).await;
        })
        .await;
    border.close().await;
}

/// A user's cross-signing keys.
struct Identity {
    master: Ed25519SecretKey,
    self_signing: Ed25519SecretKey,
    user_signing: Ed25519SecretKey,
}

fn name_of(key: &Ed25519SecretKey) -> String {
    format!("ed25519:{}", key.public_key().to_base64())
}

impl Identity {
    fn key(who: &Person, usage: &str, key: &Ed25519SecretKey) -> Value {
        json!({ "user_id": who.id, "usage": [usage], "keys": { name_of(key): key.public_key().to_base64() } })
    }

    /// Makes one and publishes it.
    async fn publish(who: &Person) -> Self {
        let [master, self_signing, user_signing] = std::array::from_fn(|_| Ed25519SecretKey::new());
        let below = |usage, key| signed_by(Self::key(who, usage, key), &who.id, &master).0;
        let mut keys = json!({
            "master_key": Self::key(who, "master", &master),
            "self_signing_key": below("self_signing", &self_signing),
            "user_signing_key": below("user_signing", &user_signing),
        });
        let path = "/keys/device_signing/upload";
        let (status, body) = who.post(path, keys.clone()).await;
        if status == 401 {
            // A second one needs the password.
            keys["auth"] = json!({
                "type": "m.login.password", "identifier": { "type": "m.id.user", "user": who.localpart() },
                "password": who.localpart(), "session": body["session"],
            });
            ok(who.post(path, keys).await);
        } else {
            ok((status, body));
        }
        Self { master, self_signing, user_signing }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Synapse"]
async fn identities_are_seen_and_followed() {
    let border = Border::open().await;
    border
        .both_ways(async |here, there| {
            let (alice, bob, _) = meet(&here, &there).await;
            for (who, other) in [(&bob, &alice), (&alice, &bob)] {
                publish(who, "A", 1, false).await;
                // The second one replaces the first, and that is heard of.
                for _ in 0..2 {
                    query(other, who).await;
                    let since = other.since().await;
                    let identity = Identity::publish(who).await;
                    until_changed(other, &since, who).await;
                    let (master, signing) = (name_of(&identity.master), name_of(&identity.self_signing));
                    other
                        .until_so("the identity", async || {
                            let keys = query(other, who).await;
                            keys["master_keys"][&who.id]["keys"][&master].is_string()
                                && keys["self_signing_keys"][&who.id]["keys"][&signing].is_string()
                                && keys["self_signing_keys"][&who.id]["signatures"][&who.id][&master]
                                    .is_string()
                        })
                        .await;
                    assert!(
                        query(other, who).await["user_signing_keys"][&who.id].is_null(),
                        "that is private"
                    );
                    // The device is signed.
                    let since = other.since().await;
                    let mut device = query(who, who).await["device_keys"][&who.id][&who.device].clone();
                    let object = device.as_object_mut().unwrap();
                    object.remove("unsigned");
                    let (device, _) = signed_by(device, &who.id, &identity.self_signing);
                    let upload = json!({ &who.id: { &who.device: device } });
                    let taken = ok(who.post("/keys/signatures/upload", upload).await);
                    assert!(
                        taken["failures"].as_object().is_none_or(|failures| failures.is_empty()),
                        "{taken}"
                    );
                    until_changed(other, &since, who).await;
                    other
                        .until_so("the signature", async || {
                            let keys = query(other, who).await;
                            keys["device_keys"][&who.id][&who.device]["signatures"][&who.id][&signing]
                                .is_string()
                        })
                        .await;
                    // The other vouches for the user; that is theirs to see.
                    let vouching = Identity::publish(other).await;
                    let key = Identity::key(who, "master", &identity.master);
                    let (key, _) = signed_by(key, &other.id, &vouching.user_signing);
                    let public = identity.master.public_key().to_base64();
                    let taken =
                        ok(other.post("/keys/signatures/upload", json!({ &who.id: { public: key } })).await);
                    assert!(
                        taken["failures"].as_object().is_none_or(|failures| failures.is_empty()),
                        "{taken}"
                    );
                    let signer = name_of(&vouching.user_signing);
                    let seen = |keys: &Value| {
                        keys["master_keys"][&who.id]["signatures"][&other.id][&signer].is_string()
                    };
                    assert!(seen(&query(other, who).await));
                    assert!(!seen(&query(who, who).await));
                }
            }
        })
        .await;
    border.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Synapse"]
async fn messages_for_devices_arrive_once_and_in_order() {
    let border = Border::open().await;
    border
        .both_ways(async |here, there| {
            let (alice, bob, _) = meet(&here, &there).await;
            let (more_of_alice, more_of_bob) = (alice.log_in().await, bob.log_in().await);
            for (from, to, more) in [(&alice, &bob, &more_of_bob), (&bob, &alice, &more_of_alice)] {
                let count = 150;
                for number_of_message in 0..count {
                    let path = format!("/sendToDevice/org.example.test/t{}", number());
                    let messages = json!({ &to.id: { &to.device: { "n": number_of_message } } });
                    ok(from.put(&path, json!({ "messages": messages })).await);
                }
                let path = format!("/sendToDevice/org.example.all/t{}", number());
                ok(from.put(&path, json!({ "messages": { &to.id: { "*": { "n": "all" } } } })).await);
                let mut got = Vec::new();
                to.until(None, "the messages", |body| {
                    for event in body["to_device"]["events"].as_array()? {
                        assert_eq!(event["sender"], *from.id);
                        got.push(event["content"]["n"].clone());
                    }
                    (got.last() == Some(&json!("all"))).then_some(())
                })
                .await;
                let mut expected: Vec<Value> = (0..count).map(|number| json!(number)).collect();
                expected.push(json!("all"));
                assert_eq!(got, expected);
                let only = more
                    .until(None, "the message for all", |body| {
                        body["to_device"]["events"].as_array().filter(|events| !events.is_empty()).cloned()
                    })
                    .await;
                assert_eq!((only.len(), &only[0]["content"]["n"]), (1, &json!("all")));
            }
        })
        .await;
    border.close().await;
}
