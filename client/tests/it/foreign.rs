//! Conversations with foreign clients, whose programs are in `client/foreign`.
//!
//! Each foreign device is a process that takes one command a line on its standard input and answers with one
//! line. `tools/foreign-clients FOLDER` installs what the processes need, `MYELIN_TEST_FOREIGN` names that folder.

use crate::world::{Captured, World, reported};
use myelin_client::{
    commands::{devices, fingerprint, join, read, send, verify},
    demo::people::{Device, Person, quiet, random},
};
use serde_json::{Value, json};
use std::{
    fs::File,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};

mod javascript;
mod python;
mod together;

/// Longer than a peer itself waits for anything.
const PATIENCE: Duration = Duration::from_secs(150);

/// One device of a foreign client.
pub struct Peer {
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    log: PathBuf,
    _process: Child,
}

impl Peer {
    /// A device of matrix-js-sdk.
    pub fn javascript(world: &World) -> Self {
        let folder = installed();
        let mut command = Command::new(folder.join("node"));
        // The program is a link, beside what it imports.
        command.arg("--preserve-symlinks-main").arg(folder.join("javascript/peer.mjs"));
        Self::start(world, command)
    }

    /// A device of matrix-nio.
    pub fn python(world: &World) -> Self {
        let mut command = Command::new(installed().join("python/bin/python"));
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("foreign/python/peer.py"));
        Self::start(world, command)
    }

    fn start(world: &World, mut command: Command) -> Self {
        let log = world.home().join(format!("peer-{}.log", random(6)));
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&log).unwrap())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("a foreign client did not start ({error}): {}", how_to_install()));
        let input = process.stdin.take().unwrap();
        let output = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { input, output, log, _process: process }
    }

    /// What a command answers; an error of the command is an error of the test.
    pub async fn call(&mut self, command: &str, arguments: Value) -> Value {
        match self.ask(command, arguments).await {
            Ok(value) => value,
            Err(error) => panic!("{command}: {error}\n{}", self.end_of_log()),
        }
    }

    /// What a command answers, or its error.
    pub async fn ask(&mut self, command: &str, mut arguments: Value) -> Result<Value, String> {
        arguments["do"] = command.into();
        self.input.write_all(format!("{arguments}\n").as_bytes()).await.unwrap();
        let line = tokio::time::timeout(PATIENCE, self.output.next_line()).await;
        let line = line.unwrap_or_else(|_| panic!("{command} did not end\n{}", self.end_of_log())).unwrap();
        let line = line.unwrap_or_else(|| panic!("{command} ended the peer\n{}", self.end_of_log()));
        let mut answer: Value = serde_json::from_str(&line).unwrap();
        match answer["error"].as_str() {
            Some(error) => Err(error.to_owned()),
            None => Ok(answer["ok"].take()),
        }
    }

    /// Makes a person's account and logs in.
    pub async fn register(&mut self, world: &World, person: &Person) -> Foreign {
        Foreign::of(&self.call("register", credentials(world, person)).await)
    }

    /// Logs in as a new device of an account that exists.
    pub async fn log_in(&mut self, world: &World, person: &Person) -> Foreign {
        Foreign::of(&self.call("login", credentials(world, person)).await)
    }

    /// Joins and waits until a user who is there already is known to be.
    pub async fn join(&mut self, room: &str, with: &str) {
        self.call("join", json!({ "room": room })).await;
        self.call("joined", json!({ "room": room, "user": with })).await;
    }

    /// Sends a text and answers the event's identifier.
    pub async fn send(&mut self, room: &str, body: &str) -> String {
        self.call("send", json!({ "room": room, "body": body })).await.as_str().unwrap().to_owned()
    }

    /// Waits for a text and checks that it came encrypted, and from whom.
    pub async fn hears(&mut self, room: &str, body: &str, sender: &str) -> Value {
        let message = self.call("wait_for", json!({ "room": room, "body": body })).await;
        assert_eq!(message["sender"], sender);
        assert_eq!(message["encrypted"], true);
        message
    }

    fn end_of_log(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

/// Who a peer is.
pub struct Foreign {
    pub user: String,
    pub device: String,
}

impl Foreign {
    fn of(answer: &Value) -> Self {
        let text = |key: &str| answer[key].as_str().unwrap().to_owned();
        Self { user: text("user"), device: text("device") }
    }
}

fn how_to_install() -> &'static str {
    "install the foreign clients with `tools/foreign-clients FOLDER` and set MYELIN_TEST_FOREIGN to that folder"
}

fn installed() -> PathBuf {
    // Not a reason to pass: whoever tests against a server is to test against these clients too.
    std::env::var_os("MYELIN_TEST_FOREIGN")
        .map(PathBuf::from)
        .unwrap_or_else(|| panic!("{}", how_to_install()))
}

pub fn credentials(world: &World, person: &Person) -> Value {
    json!({ "server": world.server(), "account": person.account(), "password": person.password() })
}

/// Sends a text with our client.
pub async fn send_text(from: &Device, room: &str, text: &str) {
    let arguments = send::Arguments { room: room.to_owned(), text: text.to_owned() };
    send::run(&from.session, &arguments, &quiet()).await.unwrap();
    from.session.finish(&quiet()).await.unwrap();
}

/// Joins with our client.
pub async fn join_room(device: &Device, room: &str) {
    let arguments = join::Arguments { room: room.to_owned(), via: Vec::new() };
    join::run(&device.session, &arguments, &quiet()).await.unwrap();
}

/// A room's messages, as our client reports them.
pub async fn messages(device: &Device, room: &str) -> Vec<Value> {
    let arguments = read::Arguments { room: room.to_owned(), limit: 50 };
    reported("message", async |out| read::run(&device.session, &arguments, out).await).await
}

/// The last message as our client reports it, after a check that it came encrypted, and from whom.
pub async fn hears(device: &Device, room: &str, body: &str, sender: &str) -> Value {
    let message = messages(device, room).await.pop().unwrap();
    assert_eq!(message["body"], body);
    assert_eq!(message["sender"], sender);
    assert_eq!(message["encrypted"], true);
    message
}

/// What our client reports about one device.
pub async fn device(of: &Device, user: &str, id: &str) -> Value {
    let arguments = devices::Arguments { user: Some(user.to_owned()) };
    let listed = reported("device", async |out| devices::run(&of.session, &arguments, out).await).await;
    listed.into_iter().find(|device| device["device"] == id).unwrap()
}

/// Whether our client says that a user is verified.
pub async fn is_verified(device: &Device, user: &str) -> bool {
    let arguments = fingerprint::Arguments { user: Some(user.to_owned()) };
    let told = reported("fingerprint", async |out| {
        fingerprint::run(&device.session, &arguments, out).await.map(drop)
    });
    told.await[0]["verified"] == true
}

/// A verification between our client and a peer, either of which may be the one that asks. Checks that both
/// show the same emojis, and answers what our client reported.
pub async fn compare(
    ours: &Device,
    arguments: verify::Arguments,
    peer: &mut Peer,
    theirs: (&str, Value),
) -> Captured {
    let captured = Captured::default();
    let out = captured.output();
    let arguments = verify::Arguments { yes: true, timeout: 120, ..arguments };
    let (verified, shown) =
        tokio::join!(verify::run(&ours.session, &arguments, &out), peer.call(theirs.0, theirs.1));
    verified.unwrap();
    let reported = captured.all("emojis");
    let mine = reported[0]["emojis"].as_array().unwrap().iter().map(|emoji| plain(&emoji["symbol"]));
    let foreign = shown["emojis"].as_array().unwrap().iter().map(plain);
    assert_eq!(mine.collect::<Vec<_>>(), foreign.collect::<Vec<_>>());
    captured
}

/// An emoji without the selector that asks for a coloured picture, which not everybody writes.
fn plain(symbol: &Value) -> String {
    symbol.as_str().unwrap().replace('\u{fe0f}', "")
}
