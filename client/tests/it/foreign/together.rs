//! Our client, matrix-js-sdk and matrix-nio in one encrypted room.

use super::{Peer, credentials, hears, send_text};
use crate::world::{World, server};
use myelin_client::{commands::create, demo::people::quiet};
use serde_json::json;

#[tokio::test]
async fn three_clients_in_one_room() {
    let Some(server) = server("three_clients_in_one_room") else { return };
    let world = World::new(server);
    let alice = world.person("alice").await;
    let alice = world.device(&alice, 1).await;
    let (mut javascript, mut python) = (Peer::javascript(&world), Peer::python(&world));
    let person = world.stranger("carol");
    let carol = javascript.register(&world, &person).await;
    javascript.call("cross_sign", credentials(&world, &person)).await;
    let paul = python.register(&world, &world.stranger("paul")).await;

    let invite = vec![carol.user.clone(), paul.user.clone()];
    let arguments = create::Arguments { name: Some("Club".to_owned()), invite, ..Default::default() };
    let room = create::run(&alice.session, &arguments, &quiet()).await.unwrap().to_string();
    let user = alice.user().as_str();
    javascript.join(&room, user).await;
    python.join(&room, user).await;
    python.call("joined", json!({ "room": room, "user": carol.user })).await;
    javascript.call("joined", json!({ "room": room, "user": paul.user })).await;

    send_text(&alice, &room, "from Rust").await;
    javascript.hears(&room, "from Rust", user).await;
    python.hears(&room, "from Rust", user).await;
    javascript.send(&room, "from JavaScript").await;
    hears(&alice, &room, "from JavaScript", &carol.user).await;
    python.hears(&room, "from JavaScript", &carol.user).await;
    python.send(&room, "from Python").await;
    hears(&alice, &room, "from Python", &paul.user).await;
    javascript.hears(&room, "from Python", &paul.user).await;
}
