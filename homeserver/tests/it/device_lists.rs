//! Device lists across the border: others' lists are kept and followed, and ours can be followed.

use hyper::Method;
use myelin_core::keys::device_lists::newest_link;
use myelin_core::ports::{SystemRandom, random_text};
use myelin_storage::federation::outbox;
use ruma::UserId;
use serde_json::{Value, json};

use crate::pair::{Pair, each_pair};
use crate::stranger::Stranger;
use crate::support::{User, ok, refused};
use crate::visit::{Visit, meeting};

const QUERY: &str = "POST /_matrix/federation/v1/user/keys/query";

/// Device keys as a client makes them, but for the signatures.
fn keys(user: &str, device: &str, key: &str) -> Value {
    json!({
        "user_id": user, "device_id": device, "algorithms": ["m.olm.v1.curve25519-aes-sha2"],
        "keys": { format!("curve25519:{device}"): key, format!("ed25519:{device}"): key },
        "signatures": { user: { format!("ed25519:{device}"): "sig" } },
    })
}

/// What Alice gets when she asks for somebody's keys.
async fn query(pair: &Pair, alice: &User, user: &str) -> Value {
    let body = json!({ "device_keys": { user: [] } });
    ok(pair.one.post("/_matrix/client/v3/keys/query", &*alice.token, body).await)
}

/// Whether a sync from a token tells Alice to look at somebody's keys.
async fn until_told(pair: &Pair, alice: &User, since: &str, user: &str) {
    pair.one
        .sync_from_until(Some(since), alice, "that the list changed", |body| {
            let changed = body["device_lists"]["changed"].as_array()?;
            changed.iter().find(|changed| *changed == user).map(drop)
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_kept_and_follows_its_server() {
    each_pair(|pair| async move {
        let stranger = Stranger::start(41).await;
        let (alice, visit) = meeting(&pair, &stranger).await;
        let eve = visit.user.clone();
        let devices = format!("GET /_matrix/federation/v1/user/devices/{eve}");
        stranger.answer(QUERY, json!({ "device_keys": { &eve: { "A": keys(&eve, "A", "a1") } } }));
        let first = query(&pair, &alice, &eve).await;
        assert_eq!(first["device_keys"][&eve]["A"], keys(&eve, "A", "a1"), "{first}");
        stranger.forgets(QUERY);
        let kept = query(&pair, &alice, &eve).await;
        assert_eq!(kept["device_keys"], first["device_keys"], "it is here");
        assert_eq!(kept["failures"], Value::Null);

        // Nobody knows what came before this change, so the whole list is fetched.
        let whole = |stream: i64, names: &[&str]| {
            let devices: Vec<Value> = names
                .iter()
                .map(|name| json!({ "device_id": name, "keys": keys(&eve, name, "k"), "device_display_name": "x" }))
                .collect();
            json!({ "user_id": eve, "stream_id": stream, "devices": devices })
        };
        stranger.answer(&devices, whole(10, &["A", "B"]));
        let since = pair.one.since(&alice).await;
        let update = |device: &str, stream: i64, prev: &[i64]| {
            json!({
                "user_id": eve, "device_id": device, "stream_id": stream, "prev_id": prev,
                "keys": keys(&eve, device, "k"), "device_display_name": "y",
            })
        };
        visit.tell("m.device_list_update", update("B", 10, &[9])).await;
        until_told(&pair, &alice, &since, &eve).await;
        until_devices(&pair, &alice, &eve, &["A", "B"]).await;
        assert!(stranger.was_asked(&devices));

        // Changes that follow what is here need no question.
        stranger.forgets(&devices);
        let (since, questions) = (pair.one.since(&alice).await, stranger.questions());
        visit.tell("m.device_list_update", update("C", 11, &[10])).await;
        let gone = json!({ "user_id": eve, "device_id": "A", "stream_id": 12, "prev_id": [11], "deleted": true });
        visit.tell("m.device_list_update", gone).await;
        until_told(&pair, &alice, &since, &eve).await;
        let now = query(&pair, &alice, &eve).await;
        let of_eve = now["device_keys"][&eve].as_object().unwrap();
        assert_eq!(of_eve.keys().collect::<Vec<_>>(), ["B", "C"], "{now}");
        assert_eq!(of_eve["C"]["unsigned"], json!({ "device_display_name": "y" }));
        assert_eq!(stranger.questions(), questions, "nothing was asked for");

        // So do keys that vouch for devices, and a change that is told twice.
        let since = pair.one.since(&alice).await;
        let master = json!({ "user_id": eve, "usage": ["master"], "keys": { "ed25519:M": "M" } });
        visit.tell("m.signing_key_update", json!({ "user_id": eve, "master_key": master })).await;
        visit.tell("m.device_list_update", update("C", 12, &[11])).await;
        until_told(&pair, &alice, &since, &eve).await;
        let now = query(&pair, &alice, &eve).await;
        assert_eq!(now["master_keys"][&eve], master, "{now}");
        assert_eq!(stranger.questions(), questions, "nothing was asked for");
    })
    .await;
}

/// Waits until Alice sees these devices of somebody.
async fn until_devices(pair: &Pair, alice: &User, user: &str, devices: &[&str]) {
    for _ in 0..200 {
        let found = query(pair, alice, user).await;
        let found = found["device_keys"][user].as_object().cloned().unwrap_or_default();
        if found.keys().eq(devices) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("{user} never had {devices:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_missed_is_fetched_when_the_server_is_back() {
    each_pair(|pair| async move {
        let stranger = Stranger::start(42).await;
        let (alice, visit) = meeting(&pair, &stranger).await;
        let eve = visit.user.clone();
        stranger.answer(QUERY, json!({ "device_keys": { &eve: { "A": keys(&eve, "A", "a1") } } }));
        query(&pair, &alice, &eve).await;
        stranger.forgets(QUERY);
        let told = |stream: i64| {
            json!({ "user_id": eve, "device_id": "B", "stream_id": stream, "prev_id": [stream - 1] })
        };
        visit.tell("m.device_list_update", told(5)).await;
        let old = query(&pair, &alice, &eve).await;
        assert!(old["device_keys"][&eve]["A"].is_object(), "what was known last: {old}");
        assert!(old["failures"][stranger.name.as_str()].is_object(), "and that it may be old: {old}");

        let since = pair.one.since(&alice).await;
        let device = json!({ "device_id": "B", "keys": keys(&eve, "B", "b") });
        let list = json!({ "user_id": eve, "stream_id": 5, "devices": [device] });
        stranger.answer(&format!("GET /_matrix/federation/v1/user/devices/{eve}"), list);
        // Whatever its server says next, it is there again.
        visit.tell("org.example.nothing", json!({})).await;
        until_told(&pair, &alice, &since, &eve).await;
        until_devices(&pair, &alice, &eve, &["B"]).await;

        // Who shares no room any more is asked for each time.
        let leave = json!({ "membership": "leave" });
        let auth = [("m.room.create", ""), ("m.room.power_levels", "")].map(|(kind, key)| visit.state_id(kind, key));
        let auth = [&auth[..], std::slice::from_ref(&visit.join)].concat();
        let (id, event) =
            visit.event_with("m.room.member", Some(&eve), leave, &[&visit.join], &auth, 1);
        assert_eq!(visit.send(&[&event]).await[&id], json!({}));
        let now = query(&pair, &alice, &eve).await;
        assert!(now["device_keys"][&eve].is_null(), "{now}");
        let tidied = pair.one.cores[0].tidy().await.unwrap().unwrap();
        assert_eq!(tidied.device_lists, 1, "and not kept");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_are_not_the_devices_own_are_left_out() {
    each_pair(|pair| async move {
        let stranger = Stranger::start(43).await;
        let (alice, visit) = meeting(&pair, &stranger).await;
        let eve = visit.user.clone();
        let other = stranger.user("mallory");
        let answer = json!({
            "device_keys": { &eve: { "A": keys(&eve, "A", "a"), "B": keys(&other, "B", "b"), "C": 5 } },
            "master_keys": { &eve: { "user_id": other, "usage": ["master"], "keys": { "ed25519:M": "M" } } },
        });
        stranger.answer(QUERY, answer);
        query(&pair, &alice, &eve).await;
        stranger.forgets(QUERY);
        let kept = query(&pair, &alice, &eve).await;
        assert_eq!(
            kept["device_keys"][&eve].as_object().unwrap().keys().collect::<Vec<_>>(),
            ["A"],
            "{kept}"
        );
        assert_eq!(kept["master_keys"], Value::Null, "{kept}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn our_own_lists_are_told_as_a_chain() {
    each_pair(|pair| async move {
        let stranger = Stranger::start(44).await;
        let (alice, visit) = meeting(&pair, &stranger).await;
        let path = format!("/_matrix/federation/v1/user/devices/{}", alice.id);
        let list = ok(stranger.ask(&visit.host, Method::GET, &path, None).await);
        let known = list["stream_id"].as_i64().unwrap();
        stranger.listens();
        let upload = json!({ "device_keys": keys(&alice.id, &alice.device, "k") });
        ok(pair.one.post("/_matrix/client/v3/keys/upload", &*alice.token, upload).await);
        let by =
            |prev: i64| move |update: &Value| (update["prev_id"] == json!([prev])).then(|| update.clone());
        let first = stranger.hears("m.device_list_update", by(known)).await;
        assert_eq!(first["keys"], keys(&alice.id, &alice.device, "k"), "{first}");
        assert!(first["device_display_name"].is_null(), "names are nobody else's business: {first}");
        assert_eq!((&first["device_id"], &first["user_id"]), (&json!(alice.device), &json!(alice.id)));

        let path = format!("/_matrix/client/v3/devices/{}", alice.device);
        ok(pair.one.put(&path, &*alice.token, json!({ "display_name": "Alice's" })).await);
        let second = stranger.hears("m.device_list_update", by(first["stream_id"].as_i64().unwrap())).await;
        let path = format!("/_matrix/federation/v1/user/devices/{}", alice.id);
        let list = ok(stranger.ask(&visit.host, Method::GET, &path, None).await);
        assert_eq!(list["stream_id"], second["stream_id"], "who fetches the list can go on from there");
        assert!(list["devices"][0]["device_display_name"].is_null(), "{list}");

        ok(pair.one.post("/_matrix/client/v3/logout", &*alice.token, json!({})).await);
        let third = stranger.hears("m.device_list_update", by(second["stream_id"].as_i64().unwrap())).await;
        assert_eq!(third["deleted"], true, "{third}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_met_in_a_room_hears_of_the_list() {
    each_pair(|pair| async move {
        let stranger = Stranger::start(47).await;
        let (alice, visit) = meeting(&pair, &stranger).await;
        stranger.listens();
        let bob = pair.one.register("bob").await;
        let bob_id = <&UserId>::try_from(bob.id.as_str()).unwrap();
        let registered = newest_link(&pair.one.cores[0], bob_id).await.unwrap();
        let of_bob = |update: &Value| {
            let is_newer = update["stream_id"].as_i64().unwrap() > registered;
            (update["user_id"] == json!(bob.id) && is_newer).then(|| update.clone())
        };
        ok(pair.one.post(&format!("/_matrix/client/v3/join/{}", visit.room), &*bob.token, json!({})).await);
        let met = stranger.hears("m.device_list_update", of_bob).await;
        assert_eq!((&met["prev_id"], &met["device_id"]), (&json!([]), &json!(bob.device)), "{met}");

        let wish = json!({ "preset": "public_chat", "room_version": "11" });
        let both = pair.one.create_room(&alice, wish).await;
        Visit::join(&stranger, &pair.one.name(), &both, "adam").await;
        ok(pair.one.post(&format!("/_matrix/client/v3/join/{both}"), &*bob.token, json!({})).await);
        let upload = json!({ "device_keys": keys(&bob.id, &bob.device, "k") });
        ok(pair.one.post("/_matrix/client/v3/keys/upload", &*bob.token, upload).await);
        let mut before = 0;
        stranger
            .hears("m.device_list_update", |update| {
                let update = of_bob(update)?;
                before += 1;
                (!update["keys"].is_null()).then_some(())
            })
            .await;
        assert_eq!(before, 2, "whose server shares a room already is told of changes only");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_joins_is_announced_once_and_again_only_with_what_they_say() {
    each_pair(|pair| async move {
        let (alice, bob) = (pair.one.register("alice").await, pair.two.register("bob").await);
        let room = pair.one.create_room(&alice, json!({ "preset": "public_chat" })).await;
        let before = pair.one.since(&alice).await;
        ok(pair.two.join_by(&bob, &room, &pair.one.name()).await);
        until_told(&pair, &alice, &before, &bob.id).await;
        let (since, of_bob) = (pair.one.since(&alice).await, pair.two.since(&bob).await);
        let upload = json!({ "device_keys": keys(&alice.id, &alice.device, "k") });
        ok(pair.one.post("/_matrix/client/v3/keys/upload", &*alice.token, upload).await);
        let told = pair.two.sync_from_until(Some(&of_bob), &bob, "Alice's change", |body| {
            body["device_lists"]["changed"].as_array()?.contains(&json!(alice.id)).then_some(())
        });
        told.await;
        // His server was spoken to, which is no reason to say of him what the join has said.
        let (_, body) = pair.one.get(&format!("/_matrix/client/v3/sync?since={since}"), &*alice.token).await;
        assert_eq!(body["device_lists"]["changed"], json!([alice.id]), "{body}");
        pair.two.say(&bob, &room, "hello").await;
        until_told(&pair, &alice, &since, &bob.id).await;
    })
    .await;
}

/// Waits until what the outbox has for a server is as it should be.
async fn until_outbox(pair: &Pair, stranger: &Stranger, is_right: impl Fn(&[(i64, String)]) -> bool) {
    for _ in 0..200 {
        let mut connection = pair.one.cores[0].database.read().await.unwrap();
        let waiting = outbox::waiting(&mut connection, stranger.name.as_str(), 0, 10).await.unwrap();
        drop(connection);
        if is_right(&waiting) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("the outbox was never right");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_away_finds_one_change_of_each_user() {
    each_pair(|pair| async move {
        let stranger = Stranger::start(45).await;
        let (alice, visit) = meeting(&pair, &stranger).await;
        for name in ["one", "two", "three"] {
            let path = format!("/_matrix/client/v3/devices/{}", alice.device);
            ok(pair.one.put(&path, &*alice.token, json!({ "display_name": name })).await);
        }
        let alice_id = <&UserId>::try_from(alice.id.as_str()).unwrap();
        let newest = newest_link(&pair.one.cores[0], alice_id).await.unwrap();
        let newest = format!(r#""stream_id":{newest}"#);
        let whole = |(_, edu): &(i64, String)| edu.contains(r#""prev_id":[]"#) && edu.contains(&newest);
        until_outbox(&pair, &stranger, |waiting| waiting.len() == 1 && waiting.iter().all(whole)).await;
        stranger.listens();
        visit.tell("org.example.nothing", json!({})).await;
        let update = stranger.hears("m.device_list_update", |update| Some(update.clone())).await;
        until_outbox(&pair, &stranger, <[_]>::is_empty).await;
        let path = format!("/_matrix/client/v3/devices/{}", alice.device);
        ok(pair.one.put(&path, &*alice.token, json!({ "display_name": "four" })).await);
        let next = stranger
            .hears("m.device_list_update", |next| {
                (next["stream_id"].as_i64() > update["stream_id"].as_i64()).then(|| next.clone())
            })
            .await;
        assert_eq!(update["prev_id"], json!([]), "it is told to fetch the list: {update}");
        assert_ne!(next["prev_id"], json!([]), "and can follow from there: {next}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_too_long_for_a_database_hold_up_nothing() {
    each_pair(|pair| async move {
        let stranger = Stranger::start(52).await;
        let (alice, visit) = meeting(&pair, &stranger).await;
        let eve = visit.user.clone();
        // It can't be packed into less.
        let long = random_text(&SystemRandom, 6_000);
        let devices = json!({ &long: keys(&eve, &long, "k"), "A": keys(&eve, "A", "k") });
        stranger.answer(QUERY, json!({ "device_keys": { &eve: devices } }));
        query(&pair, &alice, &eve).await;
        stranger.forgets(QUERY);
        let kept = query(&pair, &alice, &eve).await;
        let of_eve = kept["device_keys"][&eve].as_object().unwrap();
        assert!(of_eve.keys().eq(["A"]), "{kept}");

        let update = |device: &str, stream: i64| {
            json!({
                "user_id": eve, "device_id": device, "stream_id": stream, "prev_id": [stream - 1],
                "keys": keys(&eve, device, "k"),
            })
        };
        let devices = format!("GET /_matrix/federation/v1/user/devices/{eve}");
        let whole = json!([{ "device_id": "A", "keys": keys(&eve, "A", "k") }]);
        stranger.answer(&devices, json!({ "user_id": eve, "stream_id": 1, "devices": whole }));
        visit.tell("m.device_list_update", update("A", 1)).await;
        stranger.until_asked(&devices, 1).await;
        until_devices(&pair, &alice, &eve, &["A"]).await;
        // It follows what is here.
        stranger.forgets(&devices);
        visit.tell("m.device_list_update", update(&long, 2)).await;
        visit.tell("m.device_list_update", update("B", 3)).await;
        until_devices(&pair, &alice, &eve, &["A", "B"]).await;

        let read = json!({ "data": { "ts": 1, "thread_id": format!("${long}") }, "event_ids": [visit.join] });
        let message = |id: &str, number: i64| {
            json!({
                "sender": eve, "type": "org.example", "message_id": id,
                "messages": { &alice.id: { "*": { "number": number } } },
            })
        };
        visit.tell("m.receipt", json!({ &visit.room: { "m.read": { &eve: read } } })).await;
        visit.tell("m.direct_to_device", message(&long, 1)).await;
        visit.tell("m.direct_to_device", message("short", 2)).await;
        let told = |body: &Value| {
            let events = body["to_device"]["events"].as_array()?;
            (!events.is_empty()).then(|| events.clone())
        };
        let events = pair.one.sync_until(&alice, "a message", told).await;
        assert!(events.iter().map(|event| &event["content"]["number"]).eq([&json!(2)]), "{events:?}");

        let path = format!("/_matrix/federation/v1/send/{long}");
        let body = json!({ "origin": stranger.name, "origin_server_ts": 1, "pdus": [], "edus": [] });
        refused(stranger.ask(&visit.host, Method::PUT, &path, Some(&body)).await, 400, "M_INVALID_PARAM");
    })
    .await;
}
