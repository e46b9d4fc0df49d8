//! Durable before acknowledged: real processes are killed (SIGKILL) at random moments under load, started again, and
//! everything that was acknowledged is there, once: events, account data, to-device messages, and one-time keys, of which
//! none is given twice. Nor is a killed process taken for a database that was put back. `MYELIN_TEST_CRASH_ROUNDS` sets another number of rounds than 20.

mod load;

use std::collections::HashMap;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use myelin_storage::testing;
use reqwest::Client;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::free_port;

use self::load::{Acknowledged, Caller, Receiver, User};

/// Events that are acknowledged at least before a kill.
const LEAST: usize = 8;

/// A server in processes of its own.
struct Processes {
    database: String,
    folder: TempDir,
    ports: Vec<u16>,
    running: Vec<Child>,
    client: Client,
}

impl Processes {
    async fn new(database: Option<String>, replicas: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database =
            database.unwrap_or_else(|| format!("sqlite:{}", folder.path().join("crash.db").display()));
        let ports = (0..replicas).map(|_| free_port()).collect();
        let client = Client::builder().timeout(Duration::from_secs(20)).build().unwrap();
        let mut processes = Self { database, folder, ports, running: Vec::new(), client };
        processes.start().await;
        processes
    }

    async fn start(&mut self) {
        for port in &self.ports {
            let child = Command::new(env!("CARGO_BIN_EXE_myelin"))
                .arg("serve")
                // The tests' own variables are no settings.
                .env_clear()
                .env("MYELIN_SERVER_NAME", "crash.example")
                .env("MYELIN_DATA_DIR", self.folder.path())
                .env("MYELIN_DATABASE_URL", &self.database)
                .env("MYELIN_LISTENERS_0_BIND", format!("127.0.0.1:{port}"))
                .env("MYELIN_REGISTRATION_MODE", "open")
                .env("MYELIN_LIMITS_RATE_LIMITS", "false")
                .env("MYELIN_LIMITS_PASSWORD_HASHING_MEMORY_KIB", "64")
                .env("MYELIN_LIMITS_PASSWORD_HASHING_ITERATIONS", "1")
                .env("MYELIN_LOG_LEVEL", "error")
                .stdout(Stdio::null())
                .spawn()
                .unwrap();
            self.running.push(child);
        }
        let began = Instant::now();
        for turn in 0..self.ports.len() {
            let url = self.url(turn, "/_matrix/client/versions");
            while self.client.get(&url).send().await.is_err() {
                assert!(began.elapsed() < Duration::from_secs(60), "the server does not start");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }

    /// SIGKILL for all of them.
    fn kill(&mut self) {
        for mut child in self.running.drain(..) {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    fn url(&self, turn: usize, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.ports[turn % self.ports.len()])
    }

    async fn get(&self, path: &str, token: &str) -> Value {
        let answer = self.client.get(self.url(0, path)).bearer_auth(token).send().await.unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
        answer.json().await.unwrap()
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Eight writers, and a device that publishes keys and reads its messages, until the moment of the kill. It comes some
/// time after the first acknowledgements, however busy the machine is.
async fn load(
    processes: &Processes,
    alice: &User,
    receiver: Receiver,
    room: &str,
    round: usize,
) -> (Acknowledged, Receiver) {
    let shared = Caller::new(processes, 0, alice);
    let caller = |turn: usize, user: &User| Caller {
        stop: shared.stop.clone(),
        answered: shared.answered.clone(),
        ..Caller::new(processes, turn, user)
    };
    let bob = receiver.user.clone();
    let mut writers = Vec::new();
    for writer in 0..8_usize {
        let name = format!("r{round}w{writer}");
        let (caller, room) = (caller(writer, alice), room.to_owned());
        writers.push(tokio::spawn(load::write(caller, alice.clone(), bob.clone(), room, name)));
    }
    let receiver = tokio::spawn(receiver.run(caller(round, &bob)));
    let began = Instant::now();
    while shared.answered.load(Ordering::Relaxed) < LEAST {
        assert!(began.elapsed() < Duration::from_secs(60), "the server answers nothing");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // Another moment in each round.
    tokio::time::sleep(Duration::from_millis((round as u64 * 37) % 190)).await;
    shared.stop.store(true, Ordering::Relaxed);
    let pids: Vec<u32> = processes.running.iter().map(Child::id).collect();
    for pid in pids {
        Command::new("kill").args(["-KILL", &pid.to_string()]).status().unwrap();
    }
    let mut all = Acknowledged::default();
    for writer in writers {
        all.add(writer.await.unwrap());
    }
    (all, receiver.await.unwrap())
}

/// The bodies of all messages of a room, with their event ids.
async fn history(processes: &Processes, token: &str, room: &str) -> Vec<(String, String)> {
    let (mut found, mut from) = (Vec::new(), String::new());
    loop {
        let path = format!("/_matrix/client/v3/rooms/{room}/messages?dir=b&limit=500{from}");
        let page = processes.get(&path, token).await;
        for event in page["chunk"].as_array().unwrap() {
            if event["type"] == "m.room.message" {
                let text = |value: &Value| value.as_str().unwrap().to_owned();
                found.push((text(&event["content"]["body"]), text(&event["event_id"])));
            }
        }
        match page["end"].as_str() {
            Some(end) => from = format!("&from={end}"),
            None => return found,
        }
    }
}

/// Registers a user.
async fn register(processes: &Processes, name: &str) -> User {
    let body =
        json!({ "username": name, "password": "a long password", "auth": { "type": "m.login.dummy" } });
    let url = processes.url(0, "/_matrix/client/v3/register");
    let answer: Value = processes.client.post(url).json(&body).send().await.unwrap().json().await.unwrap();
    let text = |key: &str| answer[key].as_str().unwrap().to_owned();
    User { id: text("user_id"), device: text("device_id"), token: text("access_token") }
}

/// What was acknowledged is there, and what was perhaps written is repeated and is not there twice.
async fn check_events(processes: &Processes, alice: &User, room: &str, done: &mut Acknowledged) -> usize {
    let caller = Caller::new(processes, 1, alice);
    for txn in done.unanswered_events.clone() {
        let event = caller.message(room, &txn).await.expect("an answer");
        done.events.insert(txn, event);
    }
    let found = history(processes, &alice.token, room).await;
    let by_body: HashMap<&str, &str> = found.iter().map(|(body, id)| (&**body, &**id)).collect();
    assert_eq!(by_body.len(), found.len(), "an event is there twice");
    for (txn, event_id) in &done.events {
        assert_eq!(by_body.get(&**txn), Some(&&**event_id), "an acknowledged event is lost");
    }
    for (kind, value) in &done.account_data {
        let path = format!("/_matrix/client/v3/user/{}/account_data/{kind}", alice.id);
        let stored = processes.get(&path, &alice.token).await;
        assert!(
            stored["value"].as_u64().unwrap() >= *value,
            "{kind}: {stored} where {value} was acknowledged"
        );
    }
    found.len()
}

async fn rounds(database: Option<String>, replicas: usize) {
    let count = std::env::var("MYELIN_TEST_CRASH_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(20);
    let mut processes = Processes::new(database, replicas).await;
    let (alice, bob) = (register(&processes, "alice").await, register(&processes, "bob").await);
    let url = processes.url(0, "/_matrix/client/v3/createRoom");
    let room = processes.client.post(url).bearer_auth(&alice.token).json(&json!({})).send().await.unwrap();
    let room: Value = room.json().await.unwrap();
    let room = room["room_id"].as_str().unwrap();
    let mut receiver = Receiver::new(&processes, bob.clone()).await;
    let mut done = Acknowledged::default();
    for round in 0..count {
        let (acknowledged, back) = load(&processes, &alice, receiver, room, round).await;
        done.add(acknowledged);
        receiver = back;
        processes.kill();
        processes.start().await;
    }
    assert!(done.events.len() > 5 * count, "hardly any load: {} events", done.events.len());
    assert!(done.messages.len() > count && done.claimed.len() > count, "hardly any load");
    let found = check_events(&processes, &alice, room, &mut done).await;
    let caller = Caller::new(&processes, 0, &alice);
    for txn in &done.unanswered_messages {
        caller.to_device(&bob, txn).await.expect("an answer");
    }
    let bobs = Caller::new(&processes, 1, &bob);
    receiver.upload(&bobs).await;
    while receiver.sync(&bobs).await {}
    receiver.check_messages(&done);
    while let Some(keys) = caller.claim(&bob).await.filter(|keys| !keys.is_empty()) {
        done.claimed.extend(keys);
    }
    receiver.check_keys(&done);
    println!(
        "{count} rounds, {} events acknowledged, {found} in the room, {} messages, {} keys claimed, {} unanswered",
        done.events.len(),
        receiver.received.len(),
        done.claimed.len(),
        done.unanswered_claims
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_on_sqlite() {
    rounds(None, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_on_postgres() {
    let Ok(server) = std::env::var(testing::POSTGRES) else {
        println!("not run: {} is not set", testing::POSTGRES);
        return;
    };
    for replicas in [1, 2] {
        let name = format!("crash_{replicas}_{}", std::process::id());
        let options = testing::postgres(&server, &name).await.unwrap();
        rounds(Some(options.url), replicas).await;
    }
}
