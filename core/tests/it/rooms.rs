//! Rooms: appending under concurrency, on one and on two replicas.

use crate::support::{Setup, TestClock, open_with, setups};
use futures_util::future::join_all;
use myelin_core::rooms::append::Transaction;
use myelin_core::rooms::create::{CreateRoom, Preset};
use myelin_storage::rooms::events;
use ruma::{OwnedRoomId, RoomId, UserId, user_id};
use serde_json::value::RawValue;
use std::collections::HashSet;

fn content(text: &str) -> Box<RawValue> {
    RawValue::from_string(serde_json::json!({ "body": text }).to_string()).expect("JSON")
}

async fn room(setup: &Setup, creator: &UserId, version: Option<&str>) -> OwnedRoomId {
    let version = version.map(|version| version.try_into().expect("a version"));
    let name = Some("A room".to_owned());
    let wish = CreateRoom { version, name, ..CreateRoom::new(creator, Preset::PublicChat) };
    setup.replica(0).create_room(wish).await.expect("a room")
}

/// All events of a room with a position, oldest first.
async fn timeline(setup: &Setup, turn: usize, room_id: &RoomId) -> Vec<(i64, String)> {
    let server = setup.replica(turn);
    server.log.catch_up().await.expect("the log");
    let room = server.rooms.get(room_id).await.expect("the room");
    let mut connection = server.database.read().await.expect("a connection");
    let found =
        events::between(&mut connection, room.pk, 0, i64::MAX, events::Order::OldestFirst, 10_000).await;
    drop(connection);
    let pks: Vec<i64> = found.expect("events").into_iter().map(|(_, pk)| pk).collect();
    let events = server.rooms.events(&pks).await.expect("events");
    events.into_iter().map(|event| (event.pos, event.event_id.to_string())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn rooms_of_every_version_can_be_created_and_joined() {
    let (alice, bob) = (user_id!("@alice:test.example"), user_id!("@bob:test.example"));
    for setup in setups("versions").await {
        for version in ["6", "7", "8", "9", "10", "11", "12"] {
            let room_id = room(&setup, alice, Some(version)).await;
            assert_eq!(room_id.as_str().contains(':'), version != "12", "{version}");
            let server = setup.replica(1);
            server.log.catch_up().await.expect("the log");
            let found = server.rooms.get(&room_id).await.expect("the room");
            server.join(&found, bob, Default::default()).await.expect("bob joins");
            let sent =
                server.send_message(&room_id, bob, "m.room.message".to_owned(), content("hi"), None).await;
            assert!(sent.is_ok(), "{} {version}: {sent:?}", setup.name);
            let kick = server.kick(&found, bob, alice, None).await;
            assert!(kick.is_err(), "{}: bob has no power in {version}", setup.name);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rooms_that_are_created_alike_in_one_moment_are_several() {
    let alice = user_id!("@alice:test.example");
    for setup in setups("alike").await {
        let clock = TestClock::now();
        let mut servers = Vec::new();
        for nth in 0..setup.replicas.len() {
            servers.push(open_with(&setup.options, &format!("still{nth}"), clock.clone()).await);
        }
        let alike = || CreateRoom::new(alice, Preset::PublicChat);
        let created = join_all((0..12).map(|nth| servers[nth % servers.len()].create_room(alike()))).await;
        let ids: HashSet<_> = created.into_iter().map(|room| room.expect("a room")).collect();
        assert_eq!(ids.len(), 12, "{}", setup.name);
        for (nth, room) in ids.iter().enumerate() {
            let server = &servers[nth % servers.len()];
            server.log.catch_up().await.expect("the log");
            let sent =
                server.send_message(room, alice, "m.room.message".to_owned(), content("hi"), None).await;
            assert!(sent.is_ok(), "{}: {sent:?}", setup.name);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_transaction_gets_its_first_answer() {
    let (alice, bob) = (user_id!("@alice:test.example"), user_id!("@bob:test.example"));
    for setup in setups("repeated").await {
        let room_id = room(&setup, alice, None).await;
        let transaction =
            |id: &str| Transaction { device_pk: 1, scope: "send".to_owned(), id: id.to_owned() };
        let send = |turn: usize, id: &'static str| {
            let (server, room_id) = (setup.replica(turn).clone(), &room_id);
            let kind = "m.room.message".to_owned();
            async move { server.send_message(room_id, bob, kind, content(id), Some(transaction(id))).await }
        };
        let found = setup.replica(0).rooms.get(&room_id).await.expect("the room");
        setup.replica(0).join(&found, bob, Default::default()).await.expect("bob joins");
        let first = send(0, "first").await.expect("an event");
        let second = send(1, "second").await.expect("an event");
        assert_eq!(send(1, "first").await.expect("its answer"), first, "{}", setup.name);
        setup.replica(0).kick(&found, alice, bob, None).await.expect("bob is out");
        for turn in [0, 1] {
            setup.replica(turn).log.catch_up().await.expect("the log");
            let again = send(turn, "second").await;
            assert_eq!(again.expect("what was allowed once"), second, "{}", setup.name);
            assert!(send(turn, "third").await.is_err(), "{}", setup.name);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_sends_are_each_in_the_room_once() {
    let alice = user_id!("@alice:test.example");
    for setup in setups("sends").await {
        let room_id = room(&setup, alice, None).await;
        let before = timeline(&setup, 0, &room_id).await.len();
        let sends = (0..200).map(|index| {
            let (server, room_id) = (setup.replica(index).clone(), room_id.clone());
            async move {
                // Each transaction is sent twice, to different replicas: it is one event.
                let id = format!("txn{}", index / 2);
                let transaction = Transaction { device_pk: 1, scope: "send".to_owned(), id };
                let kind = "m.room.message".to_owned();
                server.send_message(&room_id, alice, kind, content("hello"), Some(transaction)).await
            }
        });
        let sent = join_all(sends).await;
        let ids: HashSet<String> = sent
            .into_iter()
            .map(|id| id.unwrap_or_else(|e| panic!("{}: {e}", setup.name)).to_string())
            .collect();
        assert_eq!(ids.len(), 100, "{}", setup.name);
        for turn in 0..setup.replicas.len() {
            let events = timeline(&setup, turn, &room_id).await;
            assert_eq!(events.len() - before, 100, "{}", setup.name);
            assert!(events.iter().all(|(pos, _)| *pos > 0));
        }
    }
}
