//! Encrypted conversations between somebody on Myelin and somebody on Synapse, by our client on both sides.
//!
//! `MYELIN_TEST_BIN` names our server's program, `MYELIN_TEST_SYNAPSE` the virtual environment with Synapse; the tests are
//! ignored where nobody asks for them, `tools/test` does.

use crate::{
    foreign::{device, is_verified, join_room, messages, send_text},
    world::{Captured, World},
};
use myelin_client::{
    commands::{create, verify},
    demo::{
        authority::{Authority, Certificate},
        conversation::{self, Scene, Store},
        people::{Device, quiet},
        server::{Plan, Server},
        verification,
    },
};
use serde_json::{Value, json};
use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tokio::process::{Child, Command};

/// How long a start, or a message across the border, may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a variable says; without it the test fails, for whoever runs it wants it.
fn needed(variable: &str) -> PathBuf {
    std::env::var_os(variable).map(PathBuf::from).unwrap_or_else(|| panic!("{variable} is not set"))
}

/// A Synapse, in a process that ends with its standard input.
struct Synapse {
    url: String,
    data: PathBuf,
    ports: [u16; 2],
    authority: PathBuf,
    certificate: Certificate,
    child: Option<Child>,
}

impl Synapse {
    async fn start(folder: &Path, authority: &Authority) -> Self {
        let ports = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port());
        let mut synapse = Self {
            url: format!("http://127.0.0.1:{}", ports[0]),
            data: folder.join("synapse"),
            ports,
            authority: authority.file.clone(),
            certificate: authority.certify("synapse").unwrap(),
            child: None,
        };
        synapse.resume().await;
        synapse
    }

    /// Starts the process, on the files of the last one.
    async fn resume(&mut self) {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tools/synapse/serve.py");
        let child = Command::new(needed("MYELIN_TEST_SYNAPSE").join("bin/python"))
            .arg(program)
            .arg(&self.data)
            .args(self.ports.map(|port| port.to_string()))
            .args([&self.authority, &self.certificate.chain, &self.certificate.key])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let child = self.child.insert(child);
        let (http, began) = (matrix_sdk::reqwest::Client::new(), Instant::now());
        let url = format!("{}/_matrix/client/versions", self.url);
        while !http.get(&url).send().await.is_ok_and(|answer| answer.status().is_success()) {
            let ended = child.try_wait().unwrap();
            assert!(ended.is_none() && began.elapsed() < PATIENCE, "Synapse does not start");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// SIGKILL.
    async fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().await.unwrap();
        }
    }
}

/// Myelin and Synapse, which trust each other.
struct Servers {
    folder: TempDir,
    ours: Server,
    theirs: Synapse,
}

impl Servers {
    async fn start() -> Self {
        // RUST_LOG shows what the clients do.
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).try_init();
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new(folder.path()).unwrap();
        let program = needed("MYELIN_TEST_BIN");
        let plan = Plan {
            program: Some(&program),
            folder: folder.path(),
            label: "myelin",
            authority: Some(&authority),
        };
        let out = quiet();
        let (ours, theirs) =
            tokio::join!(Server::start(plan, &out), Synapse::start(folder.path(), &authority));
        Self { ours: ours.unwrap(), theirs, folder }
    }

    /// Plays the demo with the first person on one server and the second on the other.
    async fn play(&self, servers: [&str; 2]) {
        let captured = Captured::default();
        let stores = vec![
            Store::new("Myelin's files", &self.ours.data),
            Store::new("Synapse's files", &self.theirs.data),
        ];
        let scene = Scene {
            servers: servers.map(ToOwned::to_owned).to_vec(),
            stores,
            token: None,
            devices: self.folder.path().join("devices"),
        };
        let out = captured.output();
        let evidence = conversation::play(&scene, &out).await.unwrap();
        evidence.conclude(&out).unwrap();
        let result = &captured.all("result")[0];
        assert_eq!(result["problems"], json!([]), "{result:#}");
    }
}

#[tokio::test]
#[ignore = "needs Synapse"]
async fn alice_on_myelin_and_bob_on_synapse() {
    let servers = Servers::start().await;
    servers.play([&servers.ours.url, &servers.theirs.url]).await;
    servers.ours.stop(&quiet()).await.unwrap();
}

#[tokio::test]
#[ignore = "needs Synapse"]
async fn alice_on_synapse_and_bob_on_myelin() {
    let servers = Servers::start().await;
    servers.play([&servers.theirs.url, &servers.ours.url]).await;
    servers.ours.stop(&quiet()).await.unwrap();
}

/// Waits until a message is there in plain text.
async fn until_heard(by: &Device, room: &str, text: &str) -> Value {
    let began = Instant::now();
    loop {
        let seen = messages(by, room).await;
        if let Some(message) = seen.iter().find(|message| message["body"] == text) {
            assert_eq!(message["encrypted"], true);
            return message.clone();
        }
        assert!(began.elapsed() < PATIENCE, "{} never heard {text:?}: {seen:#?}", by.label);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Two people compare emojis.
async fn verify_each_other(asks: &Device, accepts: &Device) {
    let (asking, accepting) = (Captured::default(), Captured::default());
    let (asking_out, accepting_out) = (asking.output(), accepting.output());
    let common = || verify::Arguments { yes: true, timeout: 120, ..Default::default() };
    let ask = verify::Arguments { user: Some(accepts.user().to_string()), ..common() };
    let accept = verify::Arguments { accept: true, ..common() };
    tokio::try_join!(
        verify::run(&accepts.session, &accept, &accepting_out),
        verify::run(&asks.session, &ask, &asking_out),
    )
    .unwrap();
    assert_eq!(asking.all("emojis"), accepting.all("emojis"));
    assert!(is_verified(asks, accepts.user().as_str()).await);
    assert!(is_verified(accepts, asks.user().as_str()).await);
}

#[tokio::test]
#[ignore = "needs Synapse"]
async fn emojis_a_new_device_and_an_outage() {
    let mut servers = Servers::start().await;
    let (here, there) = (World::new(servers.ours.url.clone()), World::new(servers.theirs.url.clone()));
    let (alice, bob) = (here.person("alice").await, there.person("bob").await);
    let (alice_1, bob_1) = (here.device(&alice, 1).await, there.device(&bob, 1).await);
    let arguments = create::Arguments { direct: Some(bob_1.user().to_string()), ..Default::default() };
    let room = create::run(&alice_1.session, &arguments, &quiet()).await.unwrap().to_string();
    bob_1
        .until("the invitation arrives", async |session| Ok(!session.client.invited_rooms().is_empty()))
        .await
        .unwrap();
    join_room(&bob_1, &room).await;
    alice_1
        .until("bob is in the room", async |session| {
            let joined = session.client.joined_rooms();
            Ok(joined.iter().any(|room| room.joined_members_count() == 2))
        })
        .await
        .unwrap();
    send_text(&alice_1, &room, "hello").await;
    until_heard(&bob_1, &room, "hello").await;
    send_text(&bob_1, &room, "hello yourself").await;
    until_heard(&alice_1, &room, "hello yourself").await;
    verify_each_other(&alice_1, &bob_1).await;

    // While Synapse is away, Alice goes on writing, and makes herself a second device.
    servers.theirs.kill().await;
    for number in 0..3 {
        send_text(&alice_1, &room, &format!("while you were away {number}")).await;
    }
    let alice_2 = here.device(&alice, 2).await;
    verification::by_emojis(&alice_2, &alice_1, &quiet()).await.unwrap();
    servers.theirs.resume().await;
    // Whoever speaks is told at once what it missed.
    send_text(&bob_1, &room, "I am back").await;
    for number in 0..3 {
        let message = until_heard(&bob_1, &room, &format!("while you were away {number}")).await;
        assert_eq!(message["warning"], Value::Null, "{message:#}");
    }
    for device in [&alice_1, &alice_2] {
        until_heard(device, &room, "hello").await;
    }
    until_heard(&alice_1, &room, "I am back").await;
    // Bob hears of the new device, and that it is hers.
    let (id, user) = (alice_2.id(), alice_2.user().to_string());
    bob_1
        .until("alice's new device is known", async |session| {
            let known = session.client.encryption().get_device(alice_2.user(), id.as_str().into()).await?;
            Ok(known.is_some_and(|known| known.is_cross_signed_by_owner()))
        })
        .await
        .unwrap();
    let listed = device(&bob_1, &user, &id).await;
    assert_eq!((&listed["signed_by_owner"], &listed["verified"]), (&json!(true), &json!(true)));
    send_text(&bob_1, &room, "to both of yours").await;
    for device in [&alice_1, &alice_2] {
        until_heard(device, &room, "to both of yours").await;
    }
    send_text(&alice_2, &room, "from my other telephone").await;
    let message = until_heard(&bob_1, &room, "from my other telephone").await;
    assert_eq!(message["warning"], Value::Null, "{message:#}");
    servers.ours.stop(&quiet()).await.unwrap();
}
