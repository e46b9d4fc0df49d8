//! Durable before acknowledged: real processes are killed (SIGKILL) at random moments under load, started again, and
//! everything that was acknowledged is there, once. `MYELIN_TEST_CRASH_ROUNDS` sets another number of rounds than 20.

use std::collections::{BTreeMap, HashMap};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use myelin_storage::testing;
use reqwest::Client;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A server in processes of its own.
struct Processes {
    database: String,
    folder: TempDir,
    ports: Vec<u16>,
    running: Vec<Child>,
    client: Client,
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
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

async fn put(client: &Client, url: &str, token: &str, body: &Value) -> Option<Value> {
    let answer = client.put(url).bearer_auth(token).json(body).send().await.ok()?;
    if answer.status() == 200 { answer.json().await.ok() } else { None }
}

/// What was acknowledged.
#[derive(Default)]
struct Acknowledged {
    /// Transaction id to event id.
    events: HashMap<String, String>,
    /// Type of account data to the highest number stored.
    account_data: BTreeMap<String, u64>,
}

/// Eight writers until the moment of the kill; each tells what was acknowledged to it.
async fn load(processes: &Processes, token: &str, user: &str, room: &str, round: usize) -> Vec<Acknowledged> {
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = Vec::new();
    for writer in 0..8_usize {
        let (client, stop, token) = (processes.client.clone(), stop.clone(), token.to_owned());
        let base = processes.url(writer, "/_matrix/client/v3");
        let (room, user) = (room.to_owned(), user.to_owned());
        writers.push(tokio::spawn(async move {
            let mut done = Acknowledged::default();
            for number in 0.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let txn = format!("r{round}w{writer}n{number}");
                let url = format!("{base}/rooms/{room}/send/m.room.message/{txn}");
                if let Some(answer) = put(&client, &url, &token, &json!({ "body": txn })).await {
                    done.events.insert(txn, answer["event_id"].as_str().unwrap().to_owned());
                }
                let kind = format!("test.writer{writer}");
                let url = format!("{base}/user/{user}/account_data/{kind}");
                let value = (round * 1_000_000) as u64 + number;
                if put(&client, &url, &token, &json!({ "value": value })).await.is_some() {
                    done.account_data.insert(kind, value);
                }
            }
            done
        }));
    }
    // Another moment in each round.
    tokio::time::sleep(Duration::from_millis(60 + (round as u64 * 37) % 190)).await;
    stop.store(true, Ordering::Relaxed);
    let pids: Vec<u32> = processes.running.iter().map(Child::id).collect();
    for pid in pids {
        Command::new("kill").args(["-KILL", &pid.to_string()]).status().unwrap();
    }
    let mut all = Vec::new();
    for writer in writers {
        all.push(writer.await.unwrap());
    }
    all
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

async fn rounds(database: Option<String>, replicas: usize) {
    let count = std::env::var("MYELIN_TEST_CRASH_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(20);
    let mut processes = Processes::new(database, replicas).await;
    let register = json!({ "username": "alice", "password": "a long password",
        "auth": { "type": "m.login.dummy" } });
    let url = processes.url(0, "/_matrix/client/v3/register");
    let alice: Value = processes.client.post(url).json(&register).send().await.unwrap().json().await.unwrap();
    let (token, user) = (alice["access_token"].as_str().unwrap(), alice["user_id"].as_str().unwrap());
    let url = processes.url(0, "/_matrix/client/v3/createRoom");
    let room = processes.client.post(url).bearer_auth(token).json(&json!({})).send().await.unwrap();
    let room: Value = room.json().await.unwrap();
    let room = room["room_id"].as_str().unwrap();
    let mut acknowledged = Acknowledged::default();
    for round in 0..count {
        for done in load(&processes, token, user, room, round).await {
            acknowledged.events.extend(done.events);
            acknowledged.account_data.extend(done.account_data);
        }
        processes.kill();
        processes.start().await;
    }
    let found = history(&processes, token, room).await;
    let by_body: HashMap<&str, &str> = found.iter().map(|(body, id)| (&**body, &**id)).collect();
    assert_eq!(by_body.len(), found.len(), "an event is there twice");
    for (txn, event_id) in &acknowledged.events {
        assert_eq!(by_body.get(&**txn), Some(&&**event_id), "an acknowledged event is lost");
    }
    assert!(acknowledged.events.len() > count, "hardly any load: {}", acknowledged.events.len());
    for (kind, value) in &acknowledged.account_data {
        let stored =
            processes.get(&format!("/_matrix/client/v3/user/{user}/account_data/{kind}"), token).await;
        assert!(
            stored["value"].as_u64().unwrap() >= *value,
            "{kind}: {stored} where {value} was acknowledged"
        );
    }
    println!(
        "{count} rounds, {} events acknowledged, {} in the room",
        acknowledged.events.len(),
        found.len()
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
