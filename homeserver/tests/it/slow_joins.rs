//! A server that lets a user in, but takes its time to say so, holds up nobody else.

use std::sync::{Arc, mpsc};

use hyper::Method;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::pair::each_pair;
use crate::stranger::Stranger;
use crate::support::{Answer, Setup, User, ok};
use crate::visit::Visit;

/// A join that goes on until the stranger says what it knows of the room.
struct SlowJoin {
    room: String,
    join: JoinHandle<Answer>,
    go: mpsc::Sender<Value>,
    /// What the stranger will say.
    answer: Value,
    /// How deep the join stands.
    depth: i64,
}

impl SlowJoin {
    /// Alice joins a room of Bob's through the stranger, at the last replica; the others in the room know of it already.
    async fn begin(
        alice: &User,
        home: &Arc<Setup>,
        bob: &User,
        host: &Setup,
        stranger: &Stranger,
    ) -> SlowJoin {
        let wish = json!({ "preset": "public_chat", "room_version": "11" });
        let room = host.create_room(bob, wish).await;
        let visit = Visit::join(stranger, &host.name(), &room, "eve").await;
        let auth: Vec<String> = ["m.room.create", "m.room.power_levels", "m.room.join_rules"]
            .map(|kind| visit.state_id(kind, ""))
            .into();
        let depth = visit.depth + 1;
        let template = json!({
            "type": "m.room.member", "room_id": room, "sender": alice.id, "state_key": alice.id,
            "content": { "membership": "join" }, "prev_events": [visit.join], "auth_events": auth, "depth": depth,
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
        let join = tokio::spawn({
            let (home, alice) = (home.clone(), alice.clone());
            let path = format!("/_matrix/client/v3/join/{room}?via={}", stranger.name);
            async move {
                let last = home.url_of(home.cores.len() - 1);
                home.call_at(last, Method::POST, &path, Some(&alice.token), Some(json!({}))).await
            }
        });
        let event = told.recv().await.unwrap();
        visit.send(&[&event]).await;
        host.sync_until(bob, "Alice's join", |body| {
            let events = body["rooms"]["join"][&room]["timeline"]["events"].as_array()?;
            events.iter().find(|event| event["state_key"] == *alice.id).map(drop)
        })
        .await;
        let state = visit.state.iter().map(|(_, event)| event).chain([&visit.joined]);
        let state: Vec<Value> = state.cloned().collect();
        let answer = json!({ "origin": stranger.name, "state": state, "auth_chain": [], "event": event });
        SlowJoin { room, join, go, answer, depth }
    }

    /// The stranger answers.
    async fn end(self) {
        self.go.send(self.answer).unwrap();
        ok(self.join.await.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_comes_during_a_join_is_there_after_it() {
    each_pair(|pair| async move {
        let stranger = Stranger::start(48).await;
        let (alice, bob) = (pair.one.register("alice").await, pair.two.register("bob").await);
        let elsewhere = pair.two.create_room(&bob, json!({ "preset": "public_chat" })).await;
        ok(pair.one.join_by(&alice, &elsewhere, &pair.two.name()).await);
        let join = SlowJoin::begin(&alice, &pair.one, &bob, &pair.two, &stranger).await;
        let room = join.room.clone();
        pair.two.say(&bob, &room, "are you there?").await;
        pair.two.say(&bob, &elsewhere, "here you are").await;
        pair.one.until_seen(&alice, &elsewhere, "here you are").await;
        assert!(!join.join.is_finished(), "what is said elsewhere does not wait for the join");
        join.end().await;
        pair.one.until_seen(&alice, &room, "are you there?").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_came_during_a_join_waits_for_the_database() {
    let stranger = Stranger::start(49).await;
    let home = Arc::new(Setup::start_federated(1, None, &[]).await);
    let host = Setup::start_federated(1, None, &[]).await;
    let (alice, bob) = (home.register("alice").await, host.register("bob").await);
    let elsewhere = host.create_room(&bob, json!({ "preset": "public_chat" })).await;
    ok(home.join_by(&alice, &elsewhere, &host.name()).await);
    let join = SlowJoin::begin(&alice, &home, &bob, &host, &stranger).await;
    let room = join.room.clone();
    host.say(&bob, &room, "are you there?").await;
    host.say(&bob, &elsewhere, "here you are").await;
    home.until_seen(&alice, &elsewhere, "here you are").await;
    // There is room for the join, and not for what follows it.
    home.no_room("INSERT ON events", &format!("NEW.depth > {}", join.depth)).await;
    let since = home.since(&alice).await;
    join.end().await;
    home.sync_from_until(Some(&since), &alice, "the join", |body| body["rooms"]["join"].get(&room).map(drop))
        .await;
    let nothing = ok(home.get("/_matrix/client/v3/sync", &*alice.token).await);
    assert!(!nothing.to_string().contains("are you there?"), "the database took it in");
    home.room_again().await;
    home.until_seen(&alice, &room, "are you there?").await;
    home.end().await;
    host.end().await;
}
