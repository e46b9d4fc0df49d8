//! The scenes of the demo, in their order.

use super::{
    evidence::{Evidence, Sent},
    people::{Device, Person, quiet, random},
    verification,
};
use crate::{
    commands::{create, fingerprint, join, recovery, send},
    output::Output,
};
use anyhow::{Context, Result};
use matrix_sdk::ruma::OwnedRoomId;
use serde_json::json;
use std::path::{Path, PathBuf};

/// Where the demo plays.
pub struct Scene {
    /// The homeservers: the first person's, and the second one's if it is another.
    pub servers: Vec<String>,
    /// What they store, as far as it is known where.
    pub stores: Vec<Store>,
    /// The registration token, where the servers ask for one.
    pub token: Option<String>,
    /// Where the devices of the demo keep their stores.
    pub devices: PathBuf,
}

/// Files of a server, which must hold every message, and none that can be read.
pub struct Store {
    /// What the table calls them.
    pub label: &'static str,
    /// Files and folders.
    pub paths: Vec<PathBuf>,
}

impl Store {
    /// A server's folder.
    pub fn new(label: &'static str, folder: &Path) -> Self {
        Self { label, paths: vec![folder.to_owned()] }
    }

    /// Where given servers keep their data: which path is whose is not known.
    pub fn given(paths: Vec<PathBuf>) -> Vec<Self> {
        if paths.is_empty() { Vec::new() } else { vec![Self { label: "the server's files", paths }] }
    }
}

/// The rooms of the demo.
struct Rooms {
    direct: OwnedRoomId,
    group: OwnedRoomId,
}

/// Plays the whole conversation and gathers the evidence.
pub async fn play(scene: &Scene, out: &Output) -> Result<Evidence> {
    let first_server = scene.servers.first().context("no server")?;
    let alice = Person::new("alice", first_server, scene.token.clone());
    let bob = Person::new("bob", scene.servers.last().unwrap_or(first_server), scene.token.clone());
    let mut evidence = Evidence::default();

    headline(out, 1, "Two people make accounts; each one's first device makes the cross-signing keys")?;
    let alice_1 = first_device(&alice, scene, out).await?;
    let bob_1 = first_device(&bob, scene, out).await?;

    headline(out, 2, "alice opens a direct chat and a group room, both encrypted; bob joins")?;
    let rooms = meet(&alice_1, &bob_1, out).await?;

    headline(out, 3, "They verify each other by QR code, and compare the safety number")?;
    verification::by_qr_code(&alice_1, &bob_1, out).await?;
    compare_safety_numbers(&alice_1, &bob_1, &mut evidence, out).await?;

    headline(out, 4, "They talk")?;
    say(&alice_1, &rooms.direct, "direct", "Shall we meet at the old mill", &mut evidence, out).await?;
    say(&bob_1, &rooms.direct, "direct", "At seven, by the water", &mut evidence, out).await?;
    say(&alice_1, &rooms.group, "group", "The key is under the third stone", &mut evidence, out).await?;
    say(&bob_1, &rooms.group, "group", "I will bring the lantern", &mut evidence, out).await?;
    evidence.read(&alice_1, "", &[], out).await?;
    evidence.read(&bob_1, "", &[], out).await?;

    headline(out, 5, "bob makes a recovery key")?;
    let recovery_key = recovery::enable(&bob_1.session, false, &quiet()).await?;
    out.report("recovery_key", json!({ "person": "bob" }), "bob writes his recovery key down.")?;

    headline(out, 6, "Both log in on a second device, which can read nothing yet")?;
    let alice_2 = second_device(&alice, scene, out).await?;
    let bob_2 = second_device(&bob, scene, out).await?;
    let earlier: Vec<usize> = (0..evidence.sent.len()).collect();
    evidence.read(&alice_2, " before verification", &earlier, out).await?;
    evidence.read(&bob_2, " before recovery", &earlier, out).await?;

    headline(out, 7, "alice verifies her second device against the first one by emojis")?;
    verification::by_emojis(&alice_2, &alice_1, out).await?;
    confirm_signed(&alice_2, &mut evidence, out).await?;

    headline(out, 8, "bob's second device restores everything with the recovery key")?;
    bob_2.session.catch_up(&quiet()).await?;
    recovery::restore(&bob_2.session, &recovery_key, &quiet()).await?;
    confirm_signed(&bob_2, &mut evidence, out).await?;

    headline(out, 9, "They go on talking from their second devices")?;
    let all = [&alice_1, &alice_2, &bob_1, &bob_2];
    know_each_other(&all).await?;
    say(&alice_2, &rooms.direct, "direct", "I am on the other telephone now", &mut evidence, out).await?;
    say(&bob_2, &rooms.group, "group", "So am I and I see all we said", &mut evidence, out).await?;
    for device in all {
        evidence.read(device, "", &[], out).await?;
    }
    evidence.search(&alice_1.session, scene, out).await?;
    Ok(evidence)
}

fn headline(out: &Output, number: u32, text: &str) -> Result<()> {
    out.report("scene", json!({ "number": number, "title": text }), format!("\n{number}. {text}"))
}

async fn first_device(person: &Person, scene: &Scene, out: &Output) -> Result<Device> {
    person.register().await?;
    let device = person.log_in(1, &scene.devices).await?;
    tell_login(&device, out)?;
    Ok(device)
}

async fn second_device(person: &Person, scene: &Scene, out: &Output) -> Result<Device> {
    let device = person.log_in(2, &scene.devices).await?;
    tell_login(&device, out)?;
    Ok(device)
}

fn tell_login(device: &Device, out: &Output) -> Result<()> {
    let fields = json!({ "label": device.label, "user": device.user(), "device": device.id() });
    out.report("device", fields, format!("{} is {} on device {}.", device.label, device.user(), device.id()))
}

/// A direct chat and a group room; both people are in both at the end.
async fn meet(alice: &Device, bob: &Device, out: &Output) -> Result<Rooms> {
    let direct = create::Arguments { direct: Some(bob.user().to_string()), ..Default::default() };
    let direct = create::run(&alice.session, &direct, &quiet()).await?;
    let group = create::Arguments {
        name: Some("Mill club".to_owned()),
        invite: vec![bob.user().to_string()],
        ..Default::default()
    };
    let group = create::run(&alice.session, &group, &quiet()).await?;
    for (room, kind) in [(&direct, "direct"), (&group, "group")] {
        bob.until("the invitation arrives", async |session| {
            Ok(session.client.invited_rooms().iter().any(|invited| invited.room_id() == room))
        })
        .await?;
        join::run(&bob.session, &join::Arguments { room: room.to_string(), via: Vec::new() }, &quiet())
            .await?;
        for device in [alice, bob] {
            device
                .until("both are in the room", async |session| {
                    let room = session.client.get_room(room).context("the room is not known")?;
                    room.sync_members().await?;
                    Ok(room.joined_members_count() == 2
                        && room.latest_encryption_state().await?.is_encrypted())
                })
                .await?;
        }
        out.report(
            "room",
            json!({ "room": room, "kind": kind }),
            format!("Both are in the {kind} room {room}."),
        )?;
    }
    Ok(Rooms { direct, group })
}

async fn compare_safety_numbers(
    alice: &Device,
    bob: &Device,
    evidence: &mut Evidence,
    out: &Output,
) -> Result<()> {
    let number = async |from: &Device, to: &Device| -> Result<String> {
        let arguments = fingerprint::Arguments { user: Some(to.user().to_string()) };
        fingerprint::run(&from.session, &arguments, &quiet()).await?.context("no safety number")
    };
    let (hers, his) = (number(alice, bob).await?, number(bob, alice).await?);
    let lines = crate::safety_number::in_lines(&hers);
    out.report("safety_number", json!({ "safety_number": hers }), format!("alice and bob see\n\n{lines}\n"))?;
    evidence.expect("alice and bob see the same safety number", hers == his);
    for (from, to) in [(alice, bob), (bob, alice)] {
        let identity = from.session.client.encryption().request_user_identity(to.user()).await?;
        let verified = identity.is_some_and(|identity| identity.is_verified());
        evidence.expect(format!("{} has verified {}", from.label, to.user()), verified);
    }
    Ok(())
}

async fn say(
    from: &Device,
    room: &OwnedRoomId,
    kind: &'static str,
    text: &str,
    evidence: &mut Evidence,
    out: &Output,
) -> Result<()> {
    // A random part, so that what is searched for later stands nowhere by chance.
    let text = format!("{text} {}", random(8));
    let arguments = send::Arguments { room: room.to_string(), text: text.clone() };
    let event = send::run(&from.session, &arguments, &quiet()).await?;
    from.session.finish(&quiet()).await?;
    let number = evidence.sent.len() + 1;
    let fields = json!({ "number": number, "from": from.label, "room": room, "event": event, "text": text });
    out.report("message_sent", fields, format!("({number}) {} in the {kind} room: {text}", from.label))?;
    evidence.sent.push(Sent { room: room.clone(), kind, from: from.label.clone(), event, text });
    Ok(())
}

async fn confirm_signed(device: &Device, evidence: &mut Evidence, out: &Output) -> Result<()> {
    device.session.catch_up(&quiet()).await?;
    let encryption = device.session.client.encryption();
    let signed = encryption.get_own_device().await?.is_some_and(|own| own.is_cross_signed_by_owner());
    let complete = encryption.cross_signing_status().await.is_some_and(|status| status.is_complete());
    let backup = encryption.backups().are_enabled().await;
    evidence.expect(format!("{} is signed by its owner's identity", device.label), signed);
    evidence.expect(format!("{} has the private cross-signing keys", device.label), complete);
    evidence.expect(format!("{} has the key of the backup", device.label), backup);
    let fields = json!({ "label": device.label, "signed": signed, "secrets": complete, "backup": backup });
    let state = |ok| if ok { "yes" } else { "NO" };
    let text = format!(
        "{}: signed by its owner {}, cross-signing keys {}, key of the backup {}.",
        device.label,
        state(signed),
        state(complete),
        state(backup)
    );
    out.report("device_verified", fields, text)
}

/// Waits until every device knows all devices, so that each message is encrypted for all of them.
async fn know_each_other(devices: &[&Device]) -> Result<()> {
    for device in devices {
        device
            .until("it knows the other devices", async |session| {
                for other in devices {
                    let id = other.session.client.device_id().context("no device")?;
                    let known = session.client.encryption().get_device(other.user(), id).await?;
                    if !known.is_some_and(|known| known.is_cross_signed_by_owner()) {
                        return Ok(false);
                    }
                }
                Ok(true)
            })
            .await?;
    }
    Ok(())
}
