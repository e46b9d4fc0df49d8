//! Several servers over one database are one server to their clients.

use std::time::{Duration, Instant};

use hyper::{Method, StatusCode};
use myelin_storage::testing;
use serde_json::{Value, json};

use crate::support::{Answer, Setup, User, each_setup, ok, refused};

async fn get_at(setup: &Setup, server: usize, path: &str, user: Option<&User>) -> Answer {
    let token = user.map(|user| &*user.token);
    setup.call_at(setup.url_of(server), Method::GET, path, token, None).await
}

async fn room(setup: &Setup, user: &User) -> String {
    let body = json!({ "preset": "public_chat" });
    let created = ok(setup.post("/_matrix/client/v3/createRoom", &*user.token, body).await);
    created["room_id"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_has_acknowledged_the_next_one_shows() {
    each_setup(|setup| async move {
        let last = setup.cores.len() - 1;
        let alice = setup.register("alice").await;
        for turn in 0..12 {
            let (room, rooms) = (room(&setup, &alice).await, "/_matrix/client/v3/joined_rooms");
            for server in 0..=last {
                let known = ok(get_at(&setup, server, rooms, Some(&alice)).await);
                assert!(known["joined_rooms"].as_array().unwrap().contains(&json!(room)), "{turn}");
            }
            let path = format!("/_matrix/client/v3/rooms/{room}/send/m.room.message/t{turn}");
            let body = json!({ "msgtype": "m.text", "body": "hello" });
            let token = Some(&*alice.token);
            let sent = setup.call_at(setup.url_of(0), Method::PUT, &path, token, Some(body)).await;
            let event_id = ok(sent)["event_id"].clone();
            let path = format!("/_matrix/client/v3/rooms/{room}/messages?dir=b&limit=1");
            let told = ok(get_at(&setup, last, &path, Some(&alice)).await);
            assert_eq!(told["chunk"][0]["event_id"], event_id, "{turn}: {told}");
            let body = Some(json!({ "name": format!("Room {turn}") }));
            let path = format!("/_matrix/client/v3/rooms/{room}/state/m.room.name/");
            ok(setup.call_at(setup.url_of(last), Method::PUT, &path, token, body).await);
            let named = ok(get_at(&setup, 0, &path, Some(&alice)).await);
            assert_eq!(named["name"], format!("Room {turn}"));
            let initial = ok(get_at(&setup, last, "/_matrix/client/v3/sync", Some(&alice)).await);
            assert!(initial["rooms"]["join"][&room].is_object(), "{turn}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn typing_is_seen_everywhere() {
    each_setup(|setup| async move {
        let last = setup.cores.len() - 1;
        let (alice, bob) = (setup.register("alice").await, setup.register("bob").await);
        let room = room(&setup, &alice).await;
        ok(setup.post(&format!("/_matrix/client/v3/join/{room}"), &*bob.token, json!({})).await);
        let path = format!("/_matrix/client/v3/rooms/{room}/typing/{}", alice.id);
        let mut since = String::new();
        for (server, body, typing) in [
            (0, json!({ "typing": true, "timeout": 30_000 }), json!([alice.id])),
            (last, json!({ "typing": false }), json!([])),
            (0, json!({ "typing": true, "timeout": 500 }), json!([alice.id])),
            // The time is over: nobody says so.
            (last, Value::Null, json!([])),
        ] {
            let listens = {
                let (setup, bob) = (setup.clone(), bob.clone());
                async move {
                    // Listens at the other server than the one that is told.
                    if since.is_empty() {
                        let first =
                            get_at(&setup, last - server, "/_matrix/client/v3/sync", Some(&bob)).await;
                        since = ok(first)["next_batch"].as_str().unwrap().to_owned();
                    }
                    loop {
                        let path = format!("/_matrix/client/v3/sync?since={since}&timeout=10000");
                        let told = ok(get_at(&setup, last - server, &path, Some(&bob)).await);
                        since = told["next_batch"].as_str().unwrap().to_owned();
                        let ephemeral = &told["rooms"]["join"].as_object();
                        let room = ephemeral.and_then(|rooms| rooms.values().next().cloned());
                        let events = room.map_or(Value::Null, |room| room["ephemeral"]["events"].clone());
                        if events[0]["type"] == "m.typing" {
                            return (since, events[0]["content"]["user_ids"].clone());
                        }
                    }
                }
            };
            let listens = tokio::spawn(listens);
            tokio::time::sleep(Duration::from_millis(100)).await;
            if !body.is_null() {
                let token = Some(&*alice.token);
                ok(setup.call_at(setup.url_of(server), Method::PUT, &path, token, Some(body)).await);
            }
            let began = Instant::now();
            let told = listens.await.unwrap();
            assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
            assert_eq!(told.1, typing);
            since = told.0;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_lost_touch_serves_nothing() {
    each_setup(|setup| async move {
        let alice = setup.register("alice").await;
        let ready = ok(get_at(&setup, 0, "/_myelin/ready", None).await);
        assert_eq!(ready["ready"], true, "{ready}");
        let health = reqwest::get(format!("{}/health", setup.url_of(0))).await.unwrap();
        assert_eq!((health.status(), &*health.text().await.unwrap()), (StatusCode::OK, "OK"));
        if setup.cores.len() < 2 {
            return;
        }
        let (first, second) = (&setup.cores[0].database, &setup.cores[1].database);
        // A cut alone is mended at once, and no request fails for long.
        assert!(testing::cut(second, first.replica()).await.unwrap() > 0);
        let mended = until_ready(&setup, 0).await;
        assert!(mended < Duration::from_secs(5), "{mended:?}");
        ok(get_at(&setup, 0, "/_matrix/client/v3/joined_rooms", Some(&alice)).await);

        // While no connection can be made the second server lives on those that it has: enough to read and to write.
        drop((second.read().await.unwrap(), second.read().await.unwrap(), second.read().await.unwrap()));
        testing::take_connections(second, false).await.unwrap();
        testing::cut(second, first.replica()).await.unwrap();
        let began = Instant::now();
        while get_at(&setup, 0, "/_myelin/ready", None).await.0 == StatusCode::OK {
            assert!(began.elapsed() < Duration::from_secs(3), "the cut is not noticed");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let told = refused(get_at(&setup, 0, "/_myelin/ready", None).await, 503, "M_UNKNOWN");
        assert_eq!(told["ready"], false);
        let health = reqwest::get(format!("{}/health", setup.url_of(0))).await.unwrap();
        assert_eq!(health.status(), StatusCode::SERVICE_UNAVAILABLE);
        refused(get_at(&setup, 0, "/_matrix/client/v3/account/whoami", Some(&alice)).await, 503, "M_UNKNOWN");
        ok(get_at(&setup, 0, "/_matrix/client/versions", None).await);
        // The other one goes on.
        let path = format!("/_matrix/client/v3/user/{}/account_data/m.test", alice.id);
        let (token, body) = (Some(&*alice.token), json!({ "while": "away" }));
        let put = setup.call_at(setup.url_of(1), Method::PUT, &path, token, Some(body.clone())).await;
        ok(put);
        testing::take_connections(second, true).await.unwrap();
        until_ready(&setup, 0).await;
        assert_eq!(ok(get_at(&setup, 0, &path, Some(&alice)).await), body);
    })
    .await;
}

async fn until_ready(setup: &Setup, server: usize) -> Duration {
    let began = Instant::now();
    while get_at(setup, server, "/_myelin/ready", None).await.0 != StatusCode::OK {
        assert!(began.elapsed() < Duration::from_secs(20), "the replica does not come back");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    began.elapsed()
}
