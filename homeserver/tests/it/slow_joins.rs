//! A server that lets a user in, but takes its time to say so, holds up nobody else.

use std::sync::mpsc;

use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::pair::each_pair;
use crate::stranger::Stranger;
use crate::support::ok;
use crate::visit::Visit;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_comes_during_a_join_is_there_after_it() {
    each_pair(|pair| async move {
        let stranger = Stranger::start(48).await;
        let (alice, bob) = (pair.one.register("alice").await, pair.two.register("bob").await);
        let elsewhere = pair.two.create_room(&bob, json!({ "preset": "public_chat" })).await;
        ok(pair.one.join_by(&alice, &elsewhere, &pair.two.name()).await);
        let wish = json!({ "preset": "public_chat", "room_version": "11" });
        let room = pair.two.create_room(&bob, wish).await;
        let visit = Visit::join(&stranger, &pair.two.name(), &room, "eve").await;

        let auth: Vec<String> = ["m.room.create", "m.room.power_levels", "m.room.join_rules"]
            .map(|kind| visit.state_id(kind, ""))
            .into();
        let template = json!({
            "type": "m.room.member", "room_id": room, "sender": alice.id, "state_key": alice.id,
            "content": { "membership": "join" }, "prev_events": [visit.join], "auth_events": auth,
            "depth": visit.depth + 1,
        });
        let make = format!("GET /_matrix/federation/v1/make_join/{room}/{}", alice.id);
        stranger.answer(&make, json!({ "room_version": "11", "event": template }));
        let (go, wait) = mpsc::channel::<Value>();
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel::<Value>();
        let wait = Mutex::new(wait);
        stranger.answers_by(&format!("PUT /_matrix/federation/v2/send_join/{room}/"), move |event| {
            tell.send(event).unwrap();
            tokio::task::block_in_place(|| wait.lock().recv().unwrap())
        });

        let joining = tokio::spawn({
            let (one, alice, room, via) =
                (pair.one.clone(), alice.clone(), room.clone(), stranger.name.to_string());
            async move { one.join_by(&alice, &room, &via).await }
        });
        let event = told.recv().await.unwrap();
        visit.send(&[&event]).await;
        pair.two
            .sync_until(&bob, "Alice's join", |body| {
                let events = body["rooms"]["join"][&room]["timeline"]["events"].as_array()?;
                events.iter().find(|event| event["state_key"] == *alice.id).map(drop)
            })
            .await;
        pair.two.say(&bob, &room, "are you there?").await;
        pair.two.say(&bob, &elsewhere, "here you are").await;
        pair.one.until_seen(&alice, &elsewhere, "here you are").await;
        assert!(!joining.is_finished(), "what is said elsewhere does not wait for the join");

        let state = visit.state.iter().map(|(_, event)| event).chain([&visit.joined]);
        let state: Vec<Value> = state.cloned().collect();
        go.send(json!({ "origin": stranger.name, "state": state, "auth_chain": [], "event": event }))
            .unwrap();
        ok(joining.await.unwrap());
        pair.one.until_seen(&alice, &room, "are you there?").await;
    })
    .await;
}
