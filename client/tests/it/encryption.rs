//! Verification, recovery and safety numbers.

use crate::world::{Captured, World, reported, server};
use myelin_client::{
    commands::{create, fingerprint, join, read, recovery, send, verify},
    demo::people::{Device, quiet},
};

async fn talk(from: &Device, room: &str, text: &str) {
    let arguments = send::Arguments { room: room.to_owned(), text: text.to_owned() };
    send::run(&from.session, &arguments, &quiet()).await.unwrap();
    from.session.finish(&quiet()).await.unwrap();
}

async fn readable(device: &Device, room: &str) -> Vec<bool> {
    let arguments = read::Arguments { room: room.to_owned(), limit: 10 };
    let messages = reported("message", async |out| read::run(&device.session, &arguments, out).await).await;
    messages.iter().map(|message| message["readable"] == true).collect()
}

#[tokio::test]
async fn a_second_device_reads_history_after_verification() {
    let Some(server) = server("a_second_device_reads_history_after_verification") else { return };
    let world = World::new(server);
    let alice = world.person("alice").await;
    let first = world.device(&alice, 1).await;
    let room = create::run(&first.session, &create::Arguments::default(), &quiet()).await.unwrap();
    talk(&first, room.as_str(), "earlier").await;
    let second = world.device(&alice, 2).await;
    assert_eq!(readable(&second, room.as_str()).await, [false]);

    let (asks, accepts) = (Captured::default(), Captured::default());
    let (asks_out, accepts_out) = (asks.output(), accepts.output());
    let ask = verify::Arguments { yes: true, timeout: 120, ..Default::default() };
    let accept = verify::Arguments { yes: true, accept: true, timeout: 120, ..Default::default() };
    tokio::try_join!(
        verify::run(&first.session, &accept, &accepts_out),
        verify::run(&second.session, &ask, &asks_out),
    )
    .unwrap();
    assert_eq!(asks.all("emojis"), accepts.all("emojis"));
    assert_eq!(asks.all("emojis")[0]["emojis"].as_array().unwrap().len(), 7);
    assert_eq!(asks.all("keys_received").len(), 1);
    assert_eq!(readable(&second, room.as_str()).await, [true]);
}

#[tokio::test]
async fn a_second_device_reads_history_after_recovery() {
    let Some(server) = server("a_second_device_reads_history_after_recovery") else { return };
    let world = World::new(server);
    let alice = world.person("alice").await;
    let first = world.device(&alice, 1).await;
    let room = create::run(&first.session, &create::Arguments::default(), &quiet()).await.unwrap();
    talk(&first, room.as_str(), "earlier").await;
    let key = recovery::enable(&first.session, false, &quiet()).await.unwrap();
    assert!(recovery::enable(&first.session, false, &quiet()).await.is_err(), "not twice by accident");

    let second = world.device(&alice, 2).await;
    assert_eq!(readable(&second, room.as_str()).await, [false]);
    assert!(recovery::restore(&second.session, "not the key", &quiet()).await.is_err());
    let restored =
        reported("restored", async |out| recovery::restore(&second.session, &key, out).await).await;
    assert_eq!(restored[0]["verified"], true);
    assert_eq!(restored[0]["backup"], true);
    assert_eq!(readable(&second, room.as_str()).await, [true]);
}

#[tokio::test]
async fn two_people_see_one_safety_number() {
    let Some(server) = server("two_people_see_one_safety_number") else { return };
    let world = World::new(server);
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let (alice, bob) = (world.device(&alice, 1).await, world.device(&bob, 1).await);
    let arguments = create::Arguments { direct: Some(bob.user().to_string()), ..Default::default() };
    let room = create::run(&alice.session, &arguments, &quiet()).await.unwrap();
    let arguments = join::Arguments { room: room.to_string(), via: Vec::new() };
    join::run(&bob.session, &arguments, &quiet()).await.unwrap();
    let with = |device: &Device| fingerprint::Arguments { user: Some(device.user().to_string()) };
    let hers = fingerprint::run(&alice.session, &with(&bob), &quiet()).await.unwrap().unwrap();
    let his = fingerprint::run(&bob.session, &with(&alice), &quiet()).await.unwrap().unwrap();
    assert_eq!(hers, his);
}
