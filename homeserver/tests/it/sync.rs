//! `/sync` over HTTP.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Setup, User, each_setup, ok};

async fn sync(setup: &Setup, user: &User, query: &str) -> Value {
    ok(setup.get(&format!("/_matrix/client/v3/sync?{query}"), &*user.token).await)
}

async fn room(setup: &Setup, user: &User) -> String {
    let body = json!({ "preset": "public_chat", "name": "A room" });
    let created = ok(setup.post("/_matrix/client/v3/createRoom", &*user.token, body).await);
    created["room_id"].as_str().unwrap().to_owned()
}

async fn join(setup: &Setup, user: &User, room: &str) {
    ok(setup.post(&format!("/_matrix/client/v3/join/{room}"), &*user.token, json!({})).await);
}

async fn send(setup: &Setup, user: &User, room: &str, txn: &str, content: Value) -> String {
    let path = format!("/_matrix/client/v3/rooms/{room}/send/m.room.message/{txn}");
    ok(setup.put(&path, &*user.token, content).await)["event_id"].as_str().unwrap().to_owned()
}

fn text(body: &str) -> Value {
    json!({ "msgtype": "m.text", "body": body })
}

fn types(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|event| event["type"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_reaches_who_waits_and_an_empty_answer_comes_in_time() {
    each_setup(|setup| async move {
        let (alice, bob) = (setup.register("alice").await, setup.register("bob").await);
        let room = room(&setup, &alice).await;
        join(&setup, &bob, &room).await;
        let first = sync(&setup, &bob, "").await;
        let joined = &first["rooms"]["join"][&room];
        let known = [&joined["state"]["events"], &joined["timeline"]["events"]];
        assert!(known.iter().any(|list| types(list).contains(&"m.room.create")), "{first}");
        assert_eq!(joined["summary"]["m.joined_member_count"], 2);
        let since = first["next_batch"].as_str().unwrap().to_owned();

        let empty = sync(&setup, &bob, &format!("since={since}&timeout=0")).await;
        assert!(empty.get("rooms").is_none(), "{empty}");

        let waiting = {
            let (setup, bob, since) = (setup.clone(), bob.clone(), since.clone());
            tokio::spawn(async move { sync(&setup, &bob, &format!("since={since}&timeout=20000")).await })
        };
        tokio::time::sleep(Duration::from_millis(200)).await;
        let began = Instant::now();
        let event_id = send(&setup, &alice, &room, "one", text("hello")).await;
        let told = waiting.await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(5));
        let joined = &told["rooms"]["join"][&room];
        assert_eq!(joined["timeline"]["events"][0]["event_id"], event_id, "{told}");
        assert_eq!(joined["timeline"]["limited"], false);
        assert_eq!(joined["unread_notifications"]["notification_count"], 1, "{told}");

        let mine = sync(&setup, &alice, "").await;
        let events = mine["rooms"]["join"][&room]["timeline"]["events"].as_array().unwrap().clone();
        assert_eq!(events.last().unwrap()["unsigned"]["transaction_id"], "one");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn receipts_invites_leaving_and_limits() {
    each_setup(|setup| async move {
        let (alice, bob) = (setup.register("alice").await, setup.register("bob").await);
        let room = room(&setup, &alice).await;
        let since = |answer: &Value| format!("since={}", answer["next_batch"].as_str().unwrap());
        let before = sync(&setup, &bob, "").await;
        let path = format!("/_matrix/client/v3/rooms/{room}/invite");
        ok(setup.post(&path, &*alice.token, json!({ "user_id": bob.id })).await);
        let invited = sync(&setup, &bob, &since(&before)).await;
        let shown = types(&invited["rooms"]["invite"][&room]["invite_state"]["events"]);
        assert!(shown.contains(&"m.room.name") && shown.contains(&"m.room.member"), "{invited}");
        join(&setup, &bob, &room).await;
        let entered = sync(&setup, &bob, &since(&invited)).await;
        assert!(entered["rooms"]["join"][&room].is_object(), "{entered}");

        let mut last = String::new();
        for index in 0..12 {
            last = send(&setup, &alice, &room, &format!("t{index}"), text("x")).await;
        }
        let told = sync(&setup, &bob, &since(&entered)).await;
        let timeline = &told["rooms"]["join"][&room]["timeline"];
        assert_eq!((timeline["limited"].clone(), types(&timeline["events"]).len()), (json!(true), 10));
        assert_eq!(told["rooms"]["join"][&room]["unread_notifications"]["notification_count"], 12);

        let path = format!("/_matrix/client/v3/rooms/{room}/receipt/m.read/{last}");
        ok(setup.post(&path, &*bob.token, json!({})).await);
        let read = sync(&setup, &bob, &since(&told)).await;
        let joined = &read["rooms"]["join"][&room];
        assert_eq!(types(&joined["ephemeral"]["events"]), ["m.receipt"], "{read}");
        assert_eq!(joined["unread_notifications"]["notification_count"], 0);

        let path = format!("/_matrix/client/v3/rooms/{room}/leave");
        ok(setup.post(&path, &*bob.token, json!({})).await);
        send(&setup, &alice, &room, "late", text("not for bob")).await;
        let left = sync(&setup, &bob, &since(&read)).await;
        assert_eq!(types(&left["rooms"]["leave"][&room]["timeline"]["events"]), ["m.room.member"], "{left}");
    })
    .await;
}
