//! /sync without HTTP, and what it costs.

use crate::support::{open, register, setups};
use myelin_core::Server;
use myelin_core::rooms::cache::Room;
use myelin_core::rooms::create::{CreateRoom, Preset};
use myelin_core::rooms::receipts::Audience;
use myelin_core::rooms::serialize::Reader;
use myelin_core::sync::answer::Answer;
use myelin_core::sync::filter::Members;
use myelin_core::sync::look::{Ask, StateAfter};
use myelin_core::sync::token::Token;
use myelin_core::users::sessions::Session;
use ruma::api::client::filter::FilterDefinition;
use ruma::{EventId, OwnedRoomId, UserId};
use serde_json::value::to_raw_value;
use std::sync::Arc;
use std::time::Duration;

/// A public room.
pub async fn create_room(server: &Arc<Server>, creator: &UserId) -> OwnedRoomId {
    let name = Some("A room".to_owned());
    let wish = CreateRoom { name, ..CreateRoom::new(creator, Preset::PublicChat) };
    server.create_room(wish).await.expect("a room")
}

async fn look(server: &Server, session: &Session, since: Option<&str>) -> Answer {
    let filter = FilterDefinition::default();
    let ask = Ask {
        reader: Reader { user: &session.user, user_pk: session.user_pk, device_pk: session.device_pk },
        since: since.map(|since| Token::parse(since).expect("a token")),
        filter: &filter,
        members: Members::All,
        full_state: false,
        state_after: StateAfter::Off,
    };
    let online = server.online.enter(session.user_pk, server.now_ms());
    server.sync(&online, &ask).await.expect("an answer")
}

/// The first /sync of a device.
pub async fn first(server: &Server, session: &Session) -> Answer {
    look(server, session, None).await
}

/// A later one.
pub async fn since(server: &Server, session: &Session, token: &str) -> Answer {
    look(server, session, Some(token)).await
}

/// Reads a room up to an event.
pub async fn read(server: &Server, session: &Session, room: &Room, event_id: &EventId) {
    let read = server.read(room, session.user_pk, Audience::Public, String::new(), event_id);
    read.await.expect("a receipt");
}

async fn send(server: &Arc<Server>, room: &OwnedRoomId, user: &UserId) {
    let content = to_raw_value(&serde_json::json!({ "body": "hello" })).expect("JSON");
    let sent = server.send_message(room, user, "m.room.message".to_owned(), content, None);
    sent.await.expect("a message");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_sync_touches_no_sql() {
    for setup in setups("sync_empty").await {
        let server = open(&setup.options, "counted").await;
        let (alice, bob) = (register(&server, "alice", "A").await, register(&server, "bob", "B").await);
        let mut rooms = Vec::new();
        for _ in 0..3 {
            rooms.push(create_room(&server, &alice.user).await);
        }
        let elsewhere = create_room(&server, &bob.user).await;
        let told = first(&server, &alice).await;
        let told = since(&server, &alice, &told.next_batch).await;
        // A device's last use is noted by the way, and PostgreSQL looks after other replicas meanwhile.
        tokio::time::sleep(Duration::from_millis(300)).await;
        send(&server, &elsewhere, &bob.user).await;
        let before = server.database.statements();
        let empty = since(&server, &alice, &told.next_batch).await;
        assert!(empty.is_empty(), "{}", setup.name);
        let pos = |answer: &Answer| Token::parse(&answer.next_batch).expect("a token").pos;
        assert!(pos(&empty) > pos(&told), "{}: there is an entry that concerns others", setup.name);
        assert_eq!(server.database.statements(), before, "{}", setup.name);
        send(&server, &rooms[0], &alice.user).await;
        assert!(!since(&server, &alice, &told.next_batch).await.is_empty(), "{}", setup.name);
        server.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_send_costs_the_same_whoever_is_in_the_room() {
    for setup in setups("send_members").await.into_iter().filter(|setup| setup.replicas.len() == 1) {
        let server = setup.replica(0);
        let alice = register(server, "alice", "A").await;
        let (small, large) = (create_room(server, &alice.user).await, create_room(server, &alice.user).await);
        let room = server.rooms.get(&large).await.expect("the room");
        for index in 0..60 {
            let user = UserId::parse(format!("@user{index}:test.example")).expect("a user");
            server.join(&room, &user, Default::default()).await.expect("a join");
        }
        let mut costs = Vec::new();
        for room in [&small, &large] {
            send(server, room, &alice.user).await;
            tokio::time::sleep(Duration::from_millis(300)).await;
            let before = server.database.statements();
            send(server, room, &alice.user).await;
            costs.push(server.database.statements() - before);
        }
        assert_eq!(costs[0], costs[1], "{}", setup.name);
        assert!(costs[0] < 20, "{}: {costs:?}", setup.name);
    }
}
