//! Two servers: what their users see of each other.

use ruma::{canonical_json::CanonicalJsonObject, signatures::to_canonical_json_string_for_signing};
use serde_json::{Value, json};
use vodozemac::Ed25519SecretKey;

use crate::pair::each_pair;
use crate::support::{User, ok, refused};

#[tokio::test(flavor = "multi_thread")]
async fn a_room_across_the_border() {
    each_pair(|pair| async move {
        let (alice, bob) = (pair.one.register("alice").await, pair.two.register("bob").await);
        for version in ["6", "10", "11", "12"] {
            let wish = json!({ "preset": "public_chat", "room_version": version, "name": "Hall" });
            let room = pair.one.create_room(&alice, wish).await;
            pair.one.say(&alice, &room, "before").await;
            ok(pair.two.join_by(&bob, &room, &pair.one.name()).await);
            let (_, name) = pair.two.state(&bob, &room, "m.room.name", "").await;
            assert_eq!(name["name"], "Hall");
            pair.one.say(&alice, &room, "from one").await;
            pair.two.until_seen(&bob, &room, "from one").await;
            pair.two.say(&bob, &room, "from two").await;
            pair.one.until_seen(&alice, &room, "from two").await;
            let (_, member) = pair.one.state(&alice, &room, "m.room.member", &bob.id).await;
            assert_eq!(member["membership"], "join");
            let path = format!("/_matrix/client/v3/rooms/{room}/leave");
            ok(pair.two.post(&path, &*bob.token, json!({})).await);
            pair.one
                .sync_until(&alice, "bob leaves", |body| {
                    let events = body["rooms"]["join"][&room]["timeline"]["events"].as_array()?;
                    let left = |event: &&Value| event["content"]["membership"] == "leave";
                    events.iter().find(left).map(drop)
                })
                .await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn invitations_are_taken_and_declined() {
    each_pair(|pair| async move {
        let (alice, bob) = (pair.one.register("alice").await, pair.two.register("bob").await);
        let wish = json!({ "preset": "private_chat", "invite": [bob.id], "name": "Closet" });
        let room = pair.one.create_room(&alice, wish).await;
        refused(
            pair.two.join_by(&pair.two.register("carol").await, &room, &pair.one.name()).await,
            403,
            "M_FORBIDDEN",
        );
        let shown = pair
            .two
            .sync_until(&bob, "the invitation", |body| {
                let state = &body["rooms"]["invite"][&room]["invite_state"]["events"];
                state.as_array().cloned()
            })
            .await;
        assert!(shown.iter().any(|event| event["content"]["name"] == "Closet"), "{shown:?}");
        assert!(shown.iter().any(|event| event["state_key"] == bob.id.as_str()), "{shown:?}");
        let path = format!("/_matrix/client/v3/rooms/{room}/leave");
        ok(pair.two.post(&path, &*bob.token, json!({})).await);
        pair.one
            .sync_until(&alice, "bob declines", |body| {
                let events = body["rooms"]["join"][&room]["timeline"]["events"].as_array()?;
                events.iter().find(|event| event["content"]["membership"] == "leave").map(drop)
            })
            .await;
        let path = format!("/_matrix/client/v3/rooms/{room}/invite");
        ok(pair.one.post(&path, &*alice.token, json!({ "user_id": bob.id })).await);
        // The invitation says where the room is.
        let join = format!("/_matrix/client/v3/rooms/{room}/join");
        pair.two
            .sync_until(&bob, "the second invitation", |body| {
                body["rooms"]["invite"][&room].is_object().then_some(())
            })
            .await;
        ok(pair.two.post(&join, &*bob.token, json!({})).await);
        pair.two.say(&bob, &room, "here I am").await;
        pair.one.until_seen(&alice, &room, "here I am").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_and_messages_for_devices_cross_the_border() {
    each_pair(|pair| async move {
        let (alice, bob) = (pair.one.register("alice").await, pair.two.register("bob").await);
        let room = pair.one.create_room(&alice, json!({ "preset": "private_chat", "invite": [bob.id] })).await;
        ok(pair.two.join_by(&bob, &room, &pair.one.name()).await);
        let upload = json!({
            "device_keys": {
                "user_id": bob.id, "device_id": bob.device, "algorithms": ["m.olm.v1.curve25519-aes-sha2"],
                "keys": { format!("curve25519:{}", bob.device): "abc", format!("ed25519:{}", bob.device): "def" },
                "signatures": { &bob.id: { format!("ed25519:{}", bob.device): "ghi" } },
            },
            "one_time_keys": { "signed_curve25519:A": { "key": "k1", "signatures": {} } },
        });
        let since = pair.one.since(&alice).await;
        ok(pair.two.post("/_matrix/client/v3/keys/upload", &*bob.token, upload).await);
        // Alice hears that Bob's devices changed, by his server.
        pair.one
            .sync_from_until(Some(&since), &alice, "bob's devices", |body| {
                let changed = body["device_lists"]["changed"].as_array()?;
                changed.iter().find(|user| *user == bob.id.as_str()).map(drop)
            })
            .await;
        let query = json!({ "device_keys": { &bob.id: [] } });
        let keys = ok(pair.one.post("/_matrix/client/v3/keys/query", &*alice.token, query).await);
        assert_eq!(keys["device_keys"][&bob.id][&bob.device]["user_id"], bob.id.as_str(), "{keys}");
        let claim = json!({ "one_time_keys": { &bob.id: { &bob.device: "signed_curve25519" } } });
        let path = "/_matrix/client/v3/keys/claim";
        let claimed = ok(pair.one.post(path, &*alice.token, claim.clone()).await);
        let key = &claimed["one_time_keys"][&bob.id][&bob.device]["signed_curve25519:A"]["key"];
        assert_eq!(key, "k1", "{claimed}");
        let again = ok(pair.one.post(path, &*alice.token, claim).await);
        assert!(again["one_time_keys"][&bob.id][&bob.device].as_object().is_none_or(|keys| keys.is_empty()));
        let message = json!({ "messages": { &bob.id: { "*": { "secret": 1 } } } });
        let path = "/_matrix/client/v3/sendToDevice/org.example.test/t1";
        ok(pair.one.put(path, &*alice.token, message).await);
        let event = pair
            .two
            .sync_until(&bob, "the message", |body| body["to_device"]["events"].as_array()?.first().cloned())
            .await;
        assert_eq!((&event["sender"], &event["content"]["secret"]), (&json!(alice.id), &json!(1)));
        let gone = json!({ "device_keys": { "@x:127.0.0.1:1": [] } });
        let keys = ok(pair.one.post("/_matrix/client/v3/keys/query", &*alice.token, gone).await);
        assert!(keys["failures"]["127.0.0.1:1"].is_object(), "{keys}");
    })
    .await;
}

/// A cross-signing key of a user.
fn cross_signing_key(user: &User, usage: &str, key: &Ed25519SecretKey) -> Value {
    let public = key.public_key().to_base64();
    json!({ "user_id": user.id, "usage": [usage], "keys": { format!("ed25519:{public}"): public } })
}

/// An object with a user's signature by a cross-signing key; gives the signature too.
pub fn signed_by(mut object: Value, user: &str, key: &Ed25519SecretKey) -> (Value, String) {
    let canonical: CanonicalJsonObject = serde_json::from_value(object.clone()).unwrap();
    let text = to_canonical_json_string_for_signing(&canonical).unwrap();
    let signature = key.sign(text.as_bytes()).to_base64();
    object["signatures"][user][format!("ed25519:{}", key.public_key().to_base64())] = json!(signature);
    (object, signature)
}

#[tokio::test(flavor = "multi_thread")]
async fn who_verified_somebody_elsewhere_sees_that_and_nobody_else_does() {
    each_pair(|pair| async move {
        let (alice, bob) = (pair.one.register("alice").await, pair.two.register("bob").await);
        let room =
            pair.one.create_room(&alice, json!({ "preset": "private_chat", "invite": [bob.id] })).await;
        ok(pair.two.join_by(&bob, &room, &pair.one.name()).await);
        let mut masters = Vec::new();
        let user_signing = Ed25519SecretKey::new();
        for (setup, user) in [(&pair.one, &alice), (&pair.two, &bob)] {
            let (master, self_signing) = (Ed25519SecretKey::new(), Ed25519SecretKey::new());
            let below = |usage, key| signed_by(cross_signing_key(user, usage, key), &user.id, &master).0;
            let keys = json!({
                "master_key": cross_signing_key(user, "master", &master),
                "self_signing_key": below("self_signing", &self_signing),
                "user_signing_key": below("user_signing", &user_signing),
            });
            let path = "/_matrix/client/v3/keys/device_signing/upload";
            ok(setup.post(path, &*user.token, keys).await);
            masters.push((master.public_key().to_base64(), cross_signing_key(user, "master", &master)));
        }
        let (public, key) = masters.pop().unwrap();
        let since = pair.one.since(&alice).await;
        let (good, signature) = signed_by(key.clone(), &alice.id, &user_signing);
        let mut bad = good.clone();
        bad["usage"] = json!(["master", "more"]);
        let path = "/_matrix/client/v3/keys/signatures/upload";
        let upload = |keys: Value| pair.one.post(path, &*alice.token, json!({ &bob.id: { &public: keys } }));
        let failed = ok(upload(bad).await);
        assert_eq!(failed["failures"][&bob.id][&public]["errcode"], "M_INVALID_SIGNATURE", "{failed}");
        let taken = ok(upload(good).await);
        assert!(taken["failures"].as_object().is_none_or(|failures| failures.is_empty()), "{taken}");
        // Her other devices hear of it.
        pair.one
            .sync_from_until(Some(&since), &alice, "what she signed", |body| {
                let changed = body["device_lists"]["changed"].as_array()?;
                changed.iter().find(|user| *user == bob.id.as_str()).map(drop)
            })
            .await;
        let signer = format!("ed25519:{}", user_signing.public_key().to_base64());
        for (setup, user, sees) in [(&pair.one, &alice, json!(signature)), (&pair.two, &bob, Value::Null)] {
            let query = json!({ "device_keys": { &bob.id: [] } });
            let keys = ok(setup.post("/_matrix/client/v3/keys/query", &*user.token, query).await);
            let master = &keys["master_keys"][&bob.id];
            assert_eq!(master["keys"], key["keys"], "{keys}");
            assert_eq!(master["signatures"][&alice.id][&signer], sees, "{keys}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn typing_receipts_and_profiles_cross_the_border() {
    each_pair(|pair| async move {
        let (alice, bob) = (pair.one.register("alice").await, pair.two.register("bob").await);
        let room = pair.one.create_room(&alice, json!({ "preset": "public_chat" })).await;
        ok(pair.two.join_by(&bob, &room, &pair.one.name()).await);
        let event = pair.one.say(&alice, &room, "read this").await;
        pair.two.until_seen(&bob, &room, "read this").await;
        let path = format!("/_matrix/client/v3/rooms/{room}/receipt/m.read/{event}");
        ok(pair.two.post(&path, &*bob.token, json!({})).await);
        pair.one
            .sync_until(&alice, "bob's receipt", |body| {
                let events = body["rooms"]["join"][&room]["ephemeral"]["events"].as_array()?;
                events.iter().find(|e| e["content"][&event]["m.read"][&bob.id].is_object()).map(drop)
            })
            .await;
        let path = format!("/_matrix/client/v3/rooms/{room}/typing/{}", bob.id);
        ok(pair.two.put(&path, &*bob.token, json!({ "typing": true, "timeout": 30_000 })).await);
        pair.one
            .sync_until(&alice, "bob types", |body| {
                let events = body["rooms"]["join"][&room]["ephemeral"]["events"].as_array()?;
                events.iter().find(|e| e["content"]["user_ids"] == json!([bob.id])).map(drop)
            })
            .await;
        let path = format!("/_matrix/client/v3/profile/{}/displayname", bob.id);
        ok(pair.two.put(&path, &*bob.token, json!({ "displayname": "Robert" })).await);
        assert_eq!(ok(pair.one.get(&path, &*alice.token).await)["displayname"], "Robert");
        let all = format!("/_matrix/client/v3/profile/{}", bob.id);
        assert_eq!(ok(pair.one.get(&all, &*alice.token).await)["displayname"], "Robert");
        let nobody = format!("/_matrix/client/v3/profile/@nobody:{}", pair.two.name());
        refused(pair.one.get(&nobody, &*alice.token).await, 404, "M_NOT_FOUND");
        let alias = format!("#hall:{}", pair.one.name());
        let path = format!("/_matrix/client/v3/directory/room/{}", alias.replace('#', "%23"));
        ok(pair.one.put(&path, &*alice.token, json!({ "room_id": room })).await);
        let found = ok(pair.two.get(&path, &*bob.token).await);
        assert_eq!(found["room_id"], room.as_str());
        let carol = pair.two.register("carol").await;
        let path = format!("/_matrix/client/v3/join/{}", alias.replace('#', "%23"));
        ok(pair.two.post(&path, &*carol.token, json!({})).await);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn history_from_before_the_join_is_fetched() {
    each_pair(|pair| async move {
        let (alice, bob) = (pair.one.register("alice").await, pair.two.register("bob").await);
        let room = pair.one.create_room(&alice, json!({ "preset": "public_chat" })).await;
        for number in 0..45 {
            pair.one.say(&alice, &room, &format!("old {number}")).await;
        }
        ok(pair.two.join_by(&bob, &room, &pair.one.name()).await);
        let (mut seen, mut from) = (Vec::new(), String::new());
        for _ in 0..12 {
            let path = format!("/_matrix/client/v3/rooms/{room}/messages?dir=b&limit=10{from}");
            let page = ok(pair.two.get(&path, &*bob.token).await);
            for event in page["chunk"].as_array().unwrap() {
                seen.extend(event["content"]["body"].as_str().map(ToOwned::to_owned));
            }
            let Some(end) = page["end"].as_str() else { break };
            from = format!("&from={end}");
        }
        let expected: Vec<String> = (0..45).rev().map(|number| format!("old {number}")).collect();
        assert_eq!(seen, expected);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_missed_is_caught_up_with() {
    each_pair(|pair| async move {
        let (alice, bob) = (pair.one.register("alice").await, pair.two.register("bob").await);
        let room = pair.one.create_room(&alice, json!({ "preset": "public_chat" })).await;
        ok(pair.two.join_by(&bob, &room, &pair.one.name()).await);
        pair.two.cut().await;
        for number in 0..5 {
            pair.one.say(&alice, &room, &format!("missed {number}")).await;
        }
        let message = json!({ "messages": { &bob.id: { "*": { "secret": 2 } } } });
        ok(pair.one.put("/_matrix/client/v3/sendToDevice/org.example.test/t1", &*alice.token, message).await);
        pair.one.until_given_up(&pair.two.name()).await;
        pair.one.say(&alice, &room, "missed too").await;
        pair.two.reconnect().await;
        // Whoever speaks to us is tried again at once.
        pair.two.say(&bob, &room, "I am back").await;
        let mut seen = Vec::new();
        pair.two
            .sync_until(&bob, "what was missed", |body| {
                for event in body["rooms"]["join"][&room]["timeline"]["events"].as_array()? {
                    seen.extend(event["content"]["body"].as_str().map(ToOwned::to_owned));
                }
                seen.iter().any(|text| text == "missed too").then_some(())
            })
            .await;
        let missed: Vec<&String> = seen.iter().filter(|text| text.starts_with("missed")).collect();
        assert_eq!(missed.len(), 6, "{seen:?}");
        let mut secrets = 0;
        let found = pair.two.sync_until(&bob, "the message", |body| {
            secrets += body["to_device"]["events"].as_array()?.len();
            (secrets > 0).then_some(())
        });
        found.await;
        assert_eq!(secrets, 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_put_out_while_their_server_was_away_hears_of_it() {
    each_pair(|pair| async move {
        let (alice, bob) = (pair.one.register("alice").await, pair.two.register("bob").await);
        let room = pair.one.create_room(&alice, json!({ "preset": "public_chat" })).await;
        ok(pair.two.join_by(&bob, &room, &pair.one.name()).await);
        let since = pair.two.since(&bob).await;
        pair.two.cut().await;
        pair.one.say(&alice, &room, "goodbye").await;
        let kick = json!({ "user_id": bob.id, "reason": "noise" });
        ok(pair.one.post(&format!("/_matrix/client/v3/rooms/{room}/kick"), &*alice.token, kick).await);
        for number in 0..30 {
            pair.one.say(&alice, &room, &format!("not for bob {number}")).await;
        }
        pair.one.until_given_up(&pair.two.name()).await;
        pair.two.reconnect().await;
        let profile = format!("/_matrix/client/v3/profile/{}", alice.id);
        ok(pair.two.get(&profile, &*bob.token).await);
        let left = pair.two.sync_from_until(Some(&since), &bob, "that he is out", |body| {
            body["rooms"]["leave"][&room]["timeline"]["events"].as_array().cloned()
        });
        let texts = Value::from(left.await).to_string();
        assert!(texts.contains("noise") && !texts.contains("not for bob"), "{texts}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_of_one_room_join_another_and_some_knock() {
    each_pair(|pair| async move {
        let (alice, bob) = (pair.one.register("alice").await, pair.two.register("bob").await);
        let (carol, one) = (pair.two.register("carol").await, pair.one.name());
        let club = pair.one.create_room(&alice, json!({ "preset": "public_chat" })).await;
        let rule = json!({
            "join_rule": "knock_restricted", "allow": [{ "type": "m.room_membership", "room_id": club }],
        });
        let rule = json!({ "type": "m.room.join_rules", "state_key": "", "content": rule });
        let wish = json!({ "preset": "private_chat", "room_version": "11", "initial_state": [rule] });
        let room = pair.one.create_room(&alice, wish).await;
        refused(pair.two.join_by(&bob, &room, &one).await, 403, "M_FORBIDDEN");
        ok(pair.two.join_by(&bob, &club, &one).await);
        ok(pair.two.join_by(&bob, &room, &one).await);
        let (_, member) = pair.two.state(&bob, &room, "m.room.member", &bob.id).await;
        assert_eq!(member["join_authorised_via_users_server"], alice.id.as_str());
        // The second server is in both rooms by now, and lets her in itself.
        ok(pair.two.join_by(&carol, &club, &one).await);
        ok(pair.two.join_by(&carol, &room, &one).await);
        let dave = pair.two.register("dave").await;
        let wish = json!({ "preset": "private_chat", "initial_state": [
            { "type": "m.room.join_rules", "state_key": "", "content": { "join_rule": "knock" } },
        ] });
        let closed = pair.one.create_room(&alice, wish).await;
        let path = format!("/_matrix/client/v3/knock/{closed}?via={one}");
        ok(pair.two.post(&path, &*dave.token, json!({ "reason": "please" })).await);
        pair.two
            .sync_until(&dave, "the knock", |body| body["rooms"]["knock"][&closed].is_object().then_some(()))
            .await;
        let path = format!("/_matrix/client/v3/rooms/{closed}/invite");
        pair.one
            .sync_until(&alice, "the knock", |body| {
                let events = body["rooms"]["join"][&closed]["timeline"]["events"].as_array()?;
                events.iter().find(|event| event["content"]["reason"] == "please").map(drop)
            })
            .await;
        ok(pair.one.post(&path, &*alice.token, json!({ "user_id": dave.id })).await);
        pair.two
            .sync_until(&dave, "the invitation", |body| {
                body["rooms"]["invite"][&closed].is_object().then_some(())
            })
            .await;
        // Taken back before it was answered.
        let since = pair.two.since(&dave).await;
        let path = format!("/_matrix/client/v3/rooms/{closed}/kick");
        ok(pair.one.post(&path, &*alice.token, json!({ "user_id": dave.id })).await);
        pair.two
            .sync_from_until(Some(&since), &dave, "the end of the invitation", |body| {
                body["rooms"]["leave"][&closed].is_object().then_some(())
            })
            .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invitation_ends_by_who_gave_it_or_got_it() {
    each_pair(|pair| async move {
        let (alice, carol) = (pair.one.register("alice").await, pair.one.register("carol").await);
        let bob = pair.two.register("bob").await;
        let wish = json!({ "preset": "trusted_private_chat", "room_version": "11", "invite": [carol.id] });
        let room = pair.one.create_room(&alice, wish).await;
        ok(pair.one.post(&format!("/_matrix/client/v3/rooms/{room}/join"), &*carol.token, json!({})).await);
        let invited = |body: &Value| body["rooms"]["invite"][&room].is_object().then_some(());
        let left = |body: &Value| -> Option<Value> {
            let left = &body["rooms"]["leave"][&room];
            left["timeline"]["events"].as_array()?.first().cloned()
        };
        let invite = async || {
            let path = format!("/_matrix/client/v3/rooms/{room}/invite");
            ok(pair.one.post(&path, &*alice.token, json!({ "user_id": bob.id })).await);
            pair.two.sync_until(&bob, "the invitation", invited).await;
            pair.two.since(&bob).await
        };
        let kick = async |by: &User| {
            let path = format!("/_matrix/client/v3/rooms/{room}/kick");
            ok(pair.one.post(&path, &*by.token, json!({ "user_id": bob.id })).await);
        };
        let since = invite().await;
        kick(&alice).await;
        let end = pair.two.sync_from_until(Some(&since), &bob, "the end of it", left).await;
        assert_eq!((&end["sender"], &end["content"]["membership"]), (&json!(alice.id), &json!("leave")));
        let filter = "/_matrix/client/v3/sync?filter=%7B%22room%22:%7B%22include_leave%22:true%7D%7D";
        let all = ok(pair.two.get(filter, &*bob.token).await);
        assert_eq!(left(&all).unwrap()["event_id"], end["event_id"]);
        // Bob ends one himself, and where nobody is left in the room.
        let since = invite().await;
        ok(pair.one.post(&format!("/_matrix/client/v3/rooms/{room}/leave"), &*carol.token, json!({})).await);
        ok(pair.one.post(&format!("/_matrix/client/v3/rooms/{room}/leave"), &*alice.token, json!({})).await);
        ok(pair.two.post(&format!("/_matrix/client/v3/rooms/{room}/leave"), &*bob.token, json!({})).await);
        let end = pair.two.sync_from_until(Some(&since), &bob, "the end of it", left).await;
        assert_eq!(end["sender"], bob.id);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_elses_kick_ends_no_invitation() {
    each_pair(|pair| async move {
        let (alice, carol) = (pair.one.register("alice").await, pair.one.register("carol").await);
        let bob = pair.two.register("bob").await;
        let common = pair.one.create_room(&alice, json!({ "preset": "public_chat" })).await;
        ok(pair.two.join_by(&bob, &common, &pair.one.name()).await);
        let wish = json!({ "preset": "trusted_private_chat", "room_version": "11", "invite": [carol.id] });
        let room = pair.one.create_room(&alice, wish).await;
        ok(pair.one.post(&format!("/_matrix/client/v3/rooms/{room}/join"), &*carol.token, json!({})).await);
        let body = json!({ "user_id": bob.id });
        let path = format!("/_matrix/client/v3/rooms/{room}/invite");
        ok(pair.one.post(&path, &*carol.token, body.clone()).await);
        ok(pair.one.post(&format!("/_matrix/client/v3/rooms/{room}/kick"), &*alice.token, body).await);
        pair.one.say(&alice, &common, "afterwards").await;
        pair.two.until_seen(&bob, &common, "afterwards").await;
        let all = ok(pair.two.get("/_matrix/client/v3/sync", &*bob.token).await);
        assert!(
            all["rooms"]["invite"][&room].is_object(),
            "whether Alice may end it can't be told from here"
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_not_here_can_be_redacted() {
    each_pair(|pair| async move {
        let (alice, bob) = (pair.one.register("alice").await, pair.two.register("bob").await);
        let room = pair.one.create_room(&alice, json!({ "preset": "public_chat" })).await;
        let early = pair.one.say(&alice, &room, "regretted").await;
        let levels = json!({ "users": { &bob.id: 100, &alice.id: 100 } });
        let levels = if pair.one.state(&alice, &room, "m.room.create", "").await.1["room_version"] == "12" {
            json!({ "users": { &bob.id: 100 } })
        } else {
            levels
        };
        let path = format!("/_matrix/client/v3/rooms/{room}/state/m.room.power_levels/");
        ok(pair.one.put(&path, &*alice.token, levels).await);
        let since = pair.two.since(&bob).await;
        ok(pair.two.join_by(&bob, &room, &pair.one.name()).await);
        // Who joins should look at the own devices' lists, too: others met them there.
        pair.two
            .sync_from_until(Some(&since), &bob, "the devices", |body| {
                let changed = body["device_lists"]["changed"].as_array()?;
                let told = |id: &str| changed.iter().any(|user| user == id);
                (told(&alice.id) && told(&bob.id)).then_some(())
            })
            .await;
        let path = format!("/_matrix/client/v3/rooms/{room}/redact/{early}/t1");
        ok(pair.two.put(&path, &*bob.token, json!({ "reason": "asked to" })).await);
        let path = format!("/_matrix/client/v3/rooms/{room}/event/{early}");
        for _ in 0..400 {
            let event = ok(pair.one.get(&path, &*alice.token).await);
            if event["content"] == json!({}) {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        panic!("the event was not redacted");
    })
    .await;
}

/// What was said is for those who were there then, whenever it is sent.
#[tokio::test(flavor = "multi_thread")]
async fn who_was_in_a_room_at_an_event() {
    each_pair(|pair| async move {
        let (alice, bob) = (pair.one.register("alice").await, pair.two.register("bob").await);
        let wish = json!({ "preset": "public_chat", "room_version": "11" });
        let room = pair.one.create_room(&alice, wish).await;
        let before = pair.one.say(&alice, &room, "before").await;
        ok(pair.two.join_by(&bob, &room, &pair.one.name()).await);
        let between = pair.one.say(&alice, &room, "between").await;
        pair.two.until_seen(&bob, &room, "between").await;
        let since = pair.one.since(&alice).await;
        ok(pair.two.post(&format!("/_matrix/client/v3/rooms/{room}/leave"), &*bob.token, json!({})).await);
        pair.one
            .sync_from_until(Some(&since), &alice, "bob leaves", |body| {
                let events = body["rooms"]["join"][&room]["timeline"]["events"].as_array()?;
                events.iter().find(|event| event["content"]["membership"] == "leave").map(drop)
            })
            .await;
        let after = pair.one.say(&alice, &room, "after").await;
        let core = &pair.one.cores[0];
        core.fresh().await.unwrap();
        let room = core.rooms.get(<&ruma::RoomId>::try_from(&*room).unwrap()).await.unwrap();
        for (event, were_there) in [(before, 1), (between, 2), (after, 1)] {
            let id = <&ruma::EventId>::try_from(&*event).unwrap();
            let root = core.rooms.event_by_id(id).await.unwrap().unwrap().state_root;
            let servers = core.servers_at(&room, root).await.unwrap();
            assert_eq!(servers.len(), were_there, "{servers:?}");
            assert!(servers.contains(core.name()));
        }
    })
    .await;
}
