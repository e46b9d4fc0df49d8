//! Rooms and messages.

use crate::world::{Captured, World, reported, server};
use myelin_client::{
    commands::{create, devices, follow, invite, join, leave, login, logout, read, rooms, send, whoami},
    demo::people::{Device, quiet},
    session::{Credentials, Profile, Session},
};

async fn send_text(from: &Device, room: &str, text: &str) {
    let arguments = send::Arguments { room: room.to_owned(), text: text.to_owned() };
    send::run(&from.session, &arguments, &quiet()).await.unwrap();
    from.session.finish(&quiet()).await.unwrap();
}

async fn join_room(device: &Device, room: &str) {
    let arguments = join::Arguments { room: room.to_owned(), via: Vec::new() };
    join::run(&device.session, &arguments, &quiet()).await.unwrap();
}

#[tokio::test]
async fn a_room_from_creation_to_leaving() {
    let Some(server) = server("a_room_from_creation_to_leaving") else { return };
    let world = World::new(server);
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let (alice, bob) = (world.device(&alice, 1).await, world.device(&bob, 1).await);
    let user = bob.user().to_string();

    let arguments = create::Arguments { name: Some("Test room".to_owned()), ..Default::default() };
    let room = create::run(&alice.session, &arguments, &quiet()).await.unwrap();
    let arguments = invite::Arguments { room: "Test room".to_owned(), user: user.clone() };
    invite::run(&alice.session, &arguments, &quiet()).await.unwrap();
    let invitations = reported("room", async |out| rooms::run(&bob.session, out).await).await;
    assert_eq!(invitations.len(), 1);
    assert_eq!(invitations[0]["membership"], "invite");
    join_room(&bob, "Test room").await;

    send_text(&alice, room.as_str(), "first\nline two").await;
    let arguments = read::Arguments { room: room.to_string(), limit: 10 };
    let messages = reported("message", async |out| read::run(&bob.session, &arguments, out).await).await;
    assert_eq!(messages.len(), 1);
    assert_eq!(messages[0]["body"], "first\nline two");
    assert_eq!(messages[0]["encrypted"], true);
    assert_eq!(messages[0]["sender"], alice.user().as_str());

    let listed = reported("room", async |out| rooms::run(&bob.session, out).await).await;
    assert_eq!(listed[0]["encrypted"], true);
    assert_eq!(listed[0]["members"], 2);
    let arguments = leave::Arguments { room: room.to_string() };
    leave::run(&bob.session, &arguments, &quiet()).await.unwrap();
    assert!(reported("room", async |out| rooms::run(&bob.session, out).await).await.is_empty());
    assert!(
        leave::run(&bob.session, &leave::Arguments { room: "no such room".to_owned() }, &quiet())
            .await
            .is_err()
    );
}

#[tokio::test]
async fn following_prints_what_arrives() {
    let Some(server) = server("following_prints_what_arrives") else { return };
    let world = World::new(server);
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let (alice, bob) = (world.device(&alice, 1).await, world.device(&bob, 1).await);
    let arguments = create::Arguments { direct: Some(bob.user().to_string()), ..Default::default() };
    let room = create::run(&alice.session, &arguments, &quiet()).await.unwrap();
    join_room(&bob, room.as_str()).await;

    let captured = Captured::default();
    let out = captured.output();
    let arguments =
        follow::Arguments { room: Some(alice.user().to_string()), count: Some(2), timeout: Some(60) };
    let following = follow::run(&bob.session, &arguments, &out);
    let sending = async {
        send_text(&alice, bob.user().as_str(), "one").await;
        send_text(&alice, bob.user().as_str(), "two").await;
    };
    let (followed, ()) = tokio::join!(following, sending);
    followed.unwrap();
    let bodies: Vec<_> = captured.all("message").iter().map(|message| message["body"].clone()).collect();
    assert_eq!(bodies, ["one", "two"]);
}

#[tokio::test]
async fn an_unencrypted_room_is_said_to_be_one() {
    let Some(server) = server("an_unencrypted_room_is_said_to_be_one") else { return };
    let world = World::new(server);
    let alice = world.person("alice").await;
    let alice = world.device(&alice, 1).await;
    let arguments = create::Arguments { unencrypted: true, ..Default::default() };
    let room = create::run(&alice.session, &arguments, &quiet()).await.unwrap();
    let arguments = send::Arguments { room: room.to_string(), text: "for all to see".to_owned() };
    let sent = reported("sent", async |out| send::run(&alice.session, &arguments, out).await.map(drop)).await;
    assert_eq!(sent[0]["encrypted"], false);
    let listed = reported("room", async |out| rooms::run(&alice.session, out).await).await;
    assert_eq!(listed[0]["encrypted"], false);
}

#[tokio::test]
async fn a_session_survives_the_process_and_ends_with_logout() {
    let Some(server) = server("a_session_survives_the_process_and_ends_with_logout") else { return };
    let world = World::new(server.clone());
    let alice = world.person("alice").await;
    let device = world.device(&alice, 1).await;
    let (user, id) = (device.user().clone(), device.id());
    drop(device);

    // The demo's people choose random passphrases, so this account logs in once more with a known one.
    let credentials = |passphrase: &str| Credentials {
        server: &server,
        user: alice.account(),
        password: alice.password(),
        device_name: "second",
        passphrase: Some(passphrase.to_owned().into()),
    };
    let profile = |name| Profile::lock(world.home(), name).unwrap();
    let session = login::log_in(profile("kept"), credentials("correct"), &quiet()).await.unwrap();
    assert_eq!(session.user, user);
    assert!(Profile::lock(world.home(), "kept").is_err(), "the profile is locked");
    drop(session);
    assert!(Session::open(profile("kept"), Some("wrong".to_owned().into())).await.is_err());
    let session = Session::open(profile("kept"), Some("correct".to_owned().into())).await.unwrap();
    let told = reported("whoami", async |out| whoami::run(&session, out).await).await;
    assert_eq!(told[0]["user"], user.as_str());
    assert_eq!(told[0]["verified"], false);

    let arguments = devices::Arguments { user: None };
    let listed = reported("device", async |out| devices::run(&session, &arguments, out).await).await;
    assert_eq!(listed.len(), 2);
    let first = listed.iter().find(|device| device["device"] == id).unwrap();
    assert_eq!(first["signed_by_owner"], true);

    assert!(
        login::log_in(profile("fresh"), Credentials { password: "no", ..credentials("x") }, &quiet())
            .await
            .is_err()
    );
    logout::run(session, &logout::Arguments { force: true }, &quiet()).await.unwrap();
    assert!(!profile("kept").is_logged_in());
}

#[tokio::test]
async fn logging_out_of_the_last_device_needs_force() {
    let Some(server) = server("logging_out_of_the_last_device_needs_force") else { return };
    let world = World::new(server);
    let alice = world.person("alice").await;
    let device = world.device(&alice, 1).await;
    let error = logout::run(device.session, &logout::Arguments { force: false }, &quiet()).await.unwrap_err();
    assert!(error.to_string().contains("recovery"));
}
