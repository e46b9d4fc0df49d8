//! What clients see of a new epoch.

use serde_json::{Value, json};

use crate::support::{Setup, User, each_setup, ok};

async fn sync(setup: &Setup, user: &User, since: &str) -> Value {
    for core in &setup.cores {
        core.log.catch_up().await.unwrap();
    }
    ok(setup.get(&format!("/_matrix/client/v3/sync?since={since}&timeout=0"), &*user.token).await)
}

fn next(answer: &Value) -> String {
    answer["next_batch"].as_str().unwrap().to_owned()
}

async fn upload(setup: &Setup, user: &User, id: &str) -> Value {
    let key = json!({ "key": id, "signatures": { &user.id: { "ed25519:X": "s" } } });
    let body = json!({ "one_time_keys": { format!("signed_curve25519:{id}"): key } });
    ok(setup.post("/_matrix/client/v3/keys/upload", &*user.token, body).await)
}

async fn publish(setup: &Setup, user: &User) {
    let keys = json!({ "user_id": user.id, "device_id": user.device, "algorithms": [], "keys": {}, "signatures": {} });
    ok(setup.post("/_matrix/client/v3/keys/upload", &*user.token, json!({ "device_keys": keys })).await);
}

async fn send(setup: &Setup, user: &User, room: &str, txn: &str) {
    let path = format!("/_matrix/client/v3/rooms/{room}/send/m.room.message/{txn}");
    ok(setup.put(&path, &*user.token, json!({ "msgtype": "m.text", "body": txn })).await);
}

fn count(answer: &Value) -> &Value {
    &answer["device_one_time_keys_count"]["signed_curve25519"]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_another_epoch_gets_everything_and_acknowledges_nothing() {
    each_setup(|setup| async move {
        let (alice, bob) = (setup.register("alice").await, setup.register("bob").await);
        let body = json!({ "preset": "public_chat", "name": "A room" });
        let created = ok(setup.post("/_matrix/client/v3/createRoom", &*alice.token, body).await);
        let room = created["room_id"].as_str().unwrap();
        ok(setup.post(&format!("/_matrix/client/v3/join/{room}"), &*bob.token, json!({})).await);
        publish(&setup, &alice).await;
        publish(&setup, &bob).await;
        upload(&setup, &alice, "before").await;
        let path = "/_matrix/client/v3/sendToDevice/test.message/one";
        let body = json!({ "messages": { &alice.id: { &alice.device: { "text": "hello" } } } });
        ok(setup.put(path, &*bob.token, body).await);
        let first = sync(&setup, &alice, "").await;
        assert_eq!((count(&first), first["to_device"]["events"].as_array().unwrap().len()), (&json!(1), 1));

        // Bob waits: a /sync of alice's that came before the new epoch would acknowledge her message, and rightly.
        let waiting = {
            let (setup, bob, since) = (setup.clone(), bob.clone(), next(&sync(&setup, &bob, "").await));
            tokio::spawn(async move {
                let path = format!("/_matrix/client/v3/sync?since={since}&timeout=20000");
                ok(setup.get(&path, &*bob.token).await)
            })
        };
        setup.cores[0].renew_epoch("a test").await.unwrap();
        waiting.await.unwrap();
        let again = sync(&setup, &alice, &next(&first)).await;
        let joined = &again["rooms"]["join"][room];
        let state = joined["state"]["events"].as_array().unwrap().iter();
        let shown: Vec<&Value> = state.chain(joined["timeline"]["events"].as_array().unwrap()).collect();
        assert!(shown.iter().any(|event| event["type"] == "m.room.create"), "{again}");
        assert_eq!(count(&again), &json!(0), "the client uploads keys anew");
        assert_eq!(again["to_device"]["events"].as_array().unwrap().len(), 1, "nothing was acknowledged");
        let changed = again["device_lists"]["changed"].as_array().unwrap();
        assert!(changed.contains(&json!(bob.id)) && changed.contains(&json!(alice.id)), "{again}");

        // Everything goes on, on every server.
        assert_eq!(count(&json!({ "device_one_time_keys_count": upload(&setup, &alice, "before").await["one_time_key_counts"] })), &json!(0));
        upload(&setup, &alice, "after").await;
        for txn in ["a", "b", "c", "d"] {
            send(&setup, &bob, room, txn).await;
        }
        let then = sync(&setup, &alice, &next(&again)).await;
        assert_eq!(then["rooms"]["join"][room]["timeline"]["events"].as_array().unwrap().len(), 4, "{then}");
        assert_eq!(count(&then), &json!(1));
        assert!(then["to_device"]["events"].as_array().is_none_or(Vec::is_empty), "{then}");
    })
    .await;
}
