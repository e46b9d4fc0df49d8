//! matrix-js-sdk, which can do everything that our client can.

use super::{
    Foreign, Peer, compare, credentials, device, hears, is_verified, join_room, messages, send_text,
};
use crate::world::{World, reported, server};
use myelin_client::{
    commands::{create, recovery, verify},
    demo::people::{Device, Person, quiet},
};
use serde_json::{Value, json};

/// A first device of an account, with cross-signing keys.
async fn first_device(world: &World, name: &'static str) -> (Person, Peer, Foreign) {
    let person = world.stranger(name);
    let mut peer = Peer::javascript(world);
    let who = peer.register(world, &person).await;
    peer.call("cross_sign", credentials(world, &person)).await;
    (person, peer, who)
}

async fn direct_chat(ours: &Device, peer: &mut Peer, with: &Foreign) -> String {
    let arguments = create::Arguments { direct: Some(with.user.clone()), ..Default::default() };
    let room = create::run(&ours.session, &arguments, &quiet()).await.unwrap().to_string();
    peer.join(&room, ours.user().as_str()).await;
    room
}

/// Both sides show the other as verified, and nothing to warn of.
async fn both_are_verified(ours: &Device, peer: &mut Peer, other: &Foreign, room: &str) {
    assert!(is_verified(ours, &other.user).await);
    let theirs = device(ours, &other.user, &other.device).await;
    assert_eq!((&theirs["signed_by_owner"], &theirs["verified"]), (&json!(true), &json!(true)));

    let user = ours.user().as_str();
    peer.call("wait_until_verified", json!({ "user": user })).await;
    let trust = peer.call("trust", json!({ "user": user })).await;
    assert_eq!(trust["devices"][ours.id()]["verified"], true);

    send_text(ours, room, "verified").await;
    assert_eq!(peer.hears(room, "verified", user).await["shield"], 0);
    peer.send(room, "verified too").await;
    assert_eq!(hears(ours, room, "verified too", &other.user).await["warning"], Value::Null);
}

/// What a peer sees of a room: the texts, or null for what it can't decrypt.
async fn bodies(peer: &mut Peer, room: &str) -> Vec<Value> {
    let seen = peer.call("messages", json!({ "room": room })).await;
    seen.as_array().unwrap().iter().map(|message| message["body"].clone()).collect()
}

#[tokio::test]
async fn a_direct_chat_that_our_client_verifies() {
    let Some(server) = server("a_direct_chat_that_our_client_verifies") else { return };
    let world = World::new(server);
    let alice = world.person("alice").await;
    let alice = world.device(&alice, 1).await;
    let (_, mut peer, carol) = first_device(&world, "carol").await;
    let room = direct_chat(&alice, &mut peer, &carol).await;

    send_text(&alice, &room, "hello").await;
    peer.hears(&room, "hello", alice.user().as_str()).await;
    let event = peer.send(&room, "hello yourself").await;
    hears(&alice, &room, "hello yourself", &carol.user).await;
    peer.call("redact", json!({ "room": room, "event": event })).await;
    assert_eq!(messages(&alice, &room).await.last().unwrap()["redacted"], true);

    let listed = device(&alice, &carol.user, &carol.device).await;
    assert_eq!((&listed["signed_by_owner"], &listed["verified"]), (&json!(true), &json!(false)));
    assert!(!is_verified(&alice, &carol.user).await);
    let ask = verify::Arguments { user: Some(carol.user.clone()), ..Default::default() };
    compare(&alice, ask, &mut peer, ("accept_verification", json!({}))).await;
    both_are_verified(&alice, &mut peer, &carol, &room).await;
}

#[tokio::test]
async fn a_direct_chat_that_javascript_verifies() {
    let Some(server) = server("a_direct_chat_that_javascript_verifies") else { return };
    let world = World::new(server);
    let alice = world.person("alice").await;
    let alice = world.device(&alice, 1).await;
    let (_, mut peer, carol) = first_device(&world, "carol").await;
    let created = peer.call("create", json!({ "direct": true, "invite": [alice.user()] })).await;
    let room = created.as_str().unwrap();
    join_room(&alice, room).await;
    peer.call("joined", json!({ "room": room, "user": alice.user() })).await;

    let accept = verify::Arguments { accept: true, ..Default::default() };
    let asking = ("verify", json!({ "room": room, "user": alice.user() }));
    compare(&alice, accept, &mut peer, asking).await;
    both_are_verified(&alice, &mut peer, &carol, room).await;
}

#[tokio::test]
async fn our_recovery_key_restores_javascript() {
    let Some(server) = server("our_recovery_key_restores_javascript") else { return };
    let world = World::new(server);
    let alice = world.person("alice").await;
    let first = world.device(&alice, 1).await;
    let room = create::run(&first.session, &create::Arguments::default(), &quiet()).await.unwrap();
    send_text(&first, room.as_str(), "earlier").await;
    let key = recovery::enable(&first.session, false, &quiet()).await.unwrap();

    let mut peer = Peer::javascript(&world);
    let second = peer.log_in(&world, &alice).await;
    assert_eq!(bodies(&mut peer, room.as_str()).await, [Value::Null]);
    assert!(peer.ask("restore", json!({ "key": "EsTc not a key" })).await.is_err());
    let restored = peer.call("restore", json!({ "key": key })).await;
    assert_eq!(restored, json!({ "imported": 1, "total": 1 }));
    assert_eq!(bodies(&mut peer, room.as_str()).await, ["earlier"]);

    // It has the identity too: it signed itself, and the first device believes it.
    peer.call("wait_for_identity", json!({})).await;
    let listed = device(&first, first.user().as_str(), &second.device).await;
    assert_eq!((&listed["signed_by_owner"], &listed["verified"]), (&json!(true), &json!(true)));
    peer.send(room.as_str(), "restored").await;
    assert_eq!(hears(&first, room.as_str(), "restored", &second.user).await["warning"], Value::Null);
}

#[tokio::test]
async fn the_recovery_key_of_javascript_restores_our_client() {
    let Some(server) = server("the_recovery_key_of_javascript_restores_our_client") else { return };
    let world = World::new(server);
    let (person, mut peer, carol) = first_device(&world, "carol").await;
    let key = peer.call("enable_recovery", json!({})).await.as_str().unwrap().to_owned();
    let created = peer.call("create", json!({ "name": "Diary", "invite": [] })).await;
    let room = created.as_str().unwrap();
    peer.send(room, "earlier").await;
    peer.call("backed_up", json!({ "count": 1 })).await;

    let ours = world.device(&person, 1).await;
    assert_eq!(messages(&ours, room).await[0]["readable"], false);
    let restored = reported("restored", async |out| recovery::restore(&ours.session, &key, out).await).await;
    assert_eq!(restored[0]["verified"], true);
    assert_eq!(restored[0]["backup"], true);
    hears(&ours, room, "earlier", &carol.user).await;
    let trust = peer.call("trust", json!({ "user": carol.user })).await;
    assert_eq!(trust["devices"][ours.id()]["verified"], true);

    // With the first device gone, ours goes on in the same backup, and the key still opens all of it.
    peer.call("logout", json!({})).await;
    send_text(&ours, room, "later").await;
    let mut third = Peer::javascript(&world);
    third.log_in(&world, &person).await;
    assert_eq!(third.call("restore", json!({ "key": key })).await, json!({ "imported": 2, "total": 2 }));
    assert_eq!(bodies(&mut third, room).await, ["earlier", "later"]);
}

#[tokio::test]
async fn our_first_device_verifies_one_of_javascript() {
    let Some(server) = server("our_first_device_verifies_one_of_javascript") else { return };
    let world = World::new(server);
    let alice = world.person("alice").await;
    let first = world.device(&alice, 1).await;
    let room = create::run(&first.session, &create::Arguments::default(), &quiet()).await.unwrap();
    send_text(&first, room.as_str(), "earlier").await;

    let mut peer = Peer::javascript(&world);
    let second = peer.log_in(&world, &alice).await;
    let accept = verify::Arguments { accept: true, ..Default::default() };
    compare(&first, accept, &mut peer, ("verify", json!({}))).await;
    // Our client has handed over the cross-signing keys and the key of the backup.
    peer.call("wait_for_identity", json!({})).await;
    peer.call("restore_with_shared_key", json!({})).await;
    assert_eq!(bodies(&mut peer, room.as_str()).await, ["earlier"]);
    let listed = device(&first, first.user().as_str(), &second.device).await;
    assert_eq!((&listed["signed_by_owner"], &listed["verified"]), (&json!(true), &json!(true)));
}

#[tokio::test]
async fn a_first_device_of_javascript_verifies_ours() {
    let Some(server) = server("a_first_device_of_javascript_verifies_ours") else { return };
    let world = World::new(server);
    let (person, mut peer, carol) = first_device(&world, "carol").await;
    peer.call("enable_recovery", json!({})).await;
    let created = peer.call("create", json!({ "invite": [] })).await;
    let room = created.as_str().unwrap();
    peer.send(room, "earlier").await;
    peer.call("backed_up", json!({ "count": 1 })).await;

    let ours = world.device(&person, 1).await;
    let asking = verify::Arguments::default();
    let told = compare(&ours, asking, &mut peer, ("accept_verification", json!({}))).await;
    assert_eq!(told.all("keys_received").len(), 1);
    hears(&ours, room, "earlier", &carol.user).await;
    let trust = peer.call("trust", json!({ "user": carol.user })).await;
    assert_eq!(trust["devices"][ours.id()]["verified"], true);
}
