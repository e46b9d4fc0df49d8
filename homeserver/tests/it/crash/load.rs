//! What clients do to a server that is about to be killed, and what was acknowledged to them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use reqwest::Client;
use serde_json::{Value, json};
use vodozemac::Curve25519PublicKey;
use vodozemac::olm::{Account, OlmMessage, SessionConfig};

use super::Processes;

/// A user with a device.
#[derive(Clone, Debug)]
pub struct User {
    pub id: String,
    pub device: String,
    pub token: String,
}

/// What writers were told, and what they were not told.
#[derive(Default)]
pub struct Acknowledged {
    /// Transaction id to event id.
    pub events: HashMap<String, String>,
    /// Transaction ids of events of which nothing was heard.
    pub unanswered_events: Vec<String>,
    /// Type of account data to the highest number stored.
    pub account_data: BTreeMap<String, u64>,
    /// Transaction ids of to-device messages.
    pub messages: HashSet<String>,
    /// Those of which nothing was heard.
    pub unanswered_messages: Vec<String>,
    /// One-time keys that were claimed: id to key.
    pub claimed: Vec<(String, String)>,
    /// Claims of which nothing was heard.
    pub unanswered_claims: usize,
}

impl Acknowledged {
    pub fn add(&mut self, other: Acknowledged) {
        self.events.extend(other.events);
        self.unanswered_events.extend(other.unanswered_events);
        self.account_data.extend(other.account_data);
        self.messages.extend(other.messages);
        self.unanswered_messages.extend(other.unanswered_messages);
        self.claimed.extend(other.claimed);
        self.unanswered_claims += other.unanswered_claims;
    }
}

/// The device that publishes keys and gets messages.
pub struct Receiver {
    pub user: User,
    account: Account,
    /// Keys whose upload was acknowledged: id to key.
    pub uploaded: HashMap<String, String>,
    /// What came down its /sync, in order.
    pub received: Vec<String>,
    since: String,
    /// Answers that told of an epoch other than the first one.
    epochs: HashSet<String>,
}

/// A client that knows where the servers are and when to stop.
#[derive(Clone)]
pub struct Caller {
    pub client: Client,
    pub base: String,
    pub token: String,
    pub stop: Arc<AtomicBool>,
    pub answered: Arc<AtomicUsize>,
}

impl Caller {
    pub fn new(processes: &Processes, turn: usize, user: &User) -> Caller {
        Caller {
            client: processes.client.clone(),
            base: processes.url(turn, "/_matrix/client/v3"),
            token: user.token.clone(),
            stop: Arc::default(),
            answered: Arc::default(),
        }
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Option<Value> {
        let answer = request.bearer_auth(&self.token).send().await.ok()?;
        let status = answer.status();
        let body: Value = answer.json().await.ok()?;
        assert!(status == 200 || status.is_server_error(), "{status}: {body}");
        if status == 200 { Some(body) } else { None }
    }

    async fn put(&self, path: &str, body: &Value) -> Option<Value> {
        self.send(self.client.put(format!("{}/{path}", self.base)).json(body)).await
    }

    async fn post(&self, path: &str, body: &Value) -> Option<Value> {
        self.send(self.client.post(format!("{}/{path}", self.base)).json(body)).await
    }

    pub async fn message(&self, room: &str, txn: &str) -> Option<String> {
        let body = json!({ "msgtype": "m.text", "body": txn });
        let answer = self.put(&format!("rooms/{room}/send/m.room.message/{txn}"), &body).await?;
        Some(answer["event_id"].as_str().unwrap().to_owned())
    }

    pub async fn to_device(&self, to: &User, txn: &str) -> Option<Value> {
        let body = json!({ "messages": { &to.id: { &to.device: { "txn": txn } } } });
        self.put(&format!("sendToDevice/test.message/{txn}"), &body).await
    }

    /// Claims a key: `None` without an answer, an empty list where no key is left.
    pub async fn claim(&self, of: &User) -> Option<Vec<(String, String)>> {
        let body = json!({ "one_time_keys": { &of.id: { &of.device: "signed_curve25519" } } });
        let answer = self.post("keys/claim", &body).await?;
        let keys = answer["one_time_keys"][&of.id][&of.device].as_object().cloned().unwrap_or_default();
        let text = |key: Value| key["key"].as_str().unwrap().to_owned();
        Some(keys.into_iter().map(|(id, key)| (id, text(key))).collect())
    }
}

/// One of the writers: an event, account data, a message for the receiver and a claim of its key in each turn.
pub async fn write(caller: Caller, user: User, to: User, room: String, name: String) -> Acknowledged {
    let mut done = Acknowledged::default();
    for number in 0_u64.. {
        if caller.stopped() {
            break;
        }
        let txn = format!("{name}n{number}");
        match caller.message(&room, &txn).await {
            Some(event) => {
                done.events.insert(txn.clone(), event);
                caller.answered.fetch_add(1, Ordering::Relaxed);
            }
            None => done.unanswered_events.push(txn.clone()),
        }
        let (round, writer) = name.split_once('w').unwrap();
        let value = round.trim_start_matches('r').parse::<u64>().unwrap() * 1_000_000 + number;
        let kind = format!("test.writer{writer}");
        let path = format!("user/{}/account_data/{kind}", user.id);
        if caller.put(&path, &json!({ "value": value })).await.is_some() {
            done.account_data.insert(kind, value);
        }
        match caller.to_device(&to, &txn).await {
            Some(_) => drop(done.messages.insert(txn)),
            None => done.unanswered_messages.push(txn),
        }
        match caller.claim(&to).await {
            Some(keys) => done.claimed.extend(keys),
            None => done.unanswered_claims += 1,
        }
    }
    done
}

impl Receiver {
    pub async fn new(processes: &Processes, user: User) -> Receiver {
        let account = Account::new();
        let receiver = Receiver {
            user,
            account,
            uploaded: HashMap::new(),
            received: Vec::new(),
            since: String::new(),
            epochs: HashSet::new(),
        };
        let identity = receiver.account.identity_keys();
        let User { id, device, .. } = &receiver.user;
        let mut keys = json!({
            "algorithms": ["m.olm.v1.curve25519-aes-sha2", "m.megolm.v1.aes-sha2"], "device_id": device,
            "keys": {
                format!("curve25519:{device}"): identity.curve25519.to_base64(),
                format!("ed25519:{device}"): identity.ed25519.to_base64(),
            },
            "user_id": id,
        });
        receiver.sign(&mut keys);
        let caller = Caller::new(processes, 0, &receiver.user);
        caller.post("keys/upload", &json!({ "device_keys": keys })).await.unwrap();
        receiver
    }

    fn sign(&self, object: &mut Value) {
        let signature = self.account.sign(object.to_string()).to_base64();
        let key_id = format!("ed25519:{}", self.user.device);
        object["signatures"] = json!({ &self.user.id: { key_id: signature } });
    }

    /// Uploads keys and reads its /sync, until the server is gone.
    pub async fn run(mut self, caller: Caller) -> Receiver {
        while !caller.stopped() {
            self.upload(&caller).await;
            self.sync(&caller).await;
        }
        self
    }

    /// Uploads new keys, and with them those of which it is not known whether they arrived.
    pub async fn upload(&mut self, caller: &Caller) {
        if self.account.one_time_keys().is_empty() {
            self.account.generate_one_time_keys(6);
        }
        let mut keys = serde_json::Map::new();
        let mut ids = HashMap::new();
        for (id, key) in self.account.one_time_keys() {
            let mut signed = json!({ "key": key.to_base64() });
            self.sign(&mut signed);
            let id = format!("signed_curve25519:{}", id.to_base64());
            ids.insert(id.clone(), key.to_base64());
            keys.insert(id, signed);
        }
        if caller.post("keys/upload", &json!({ "one_time_keys": keys })).await.is_some() {
            self.account.mark_keys_as_published();
            self.uploaded.extend(ids);
        }
    }

    /// One /sync; true when it brought messages.
    pub async fn sync(&mut self, caller: &Caller) -> bool {
        let since = if self.since.is_empty() { String::new() } else { format!("&since={}", self.since) };
        let url = format!("{}/sync?timeout=0{since}", caller.base);
        let Some(answer) = caller.send(caller.client.get(url)).await else { return true };
        self.since = answer["next_batch"].as_str().unwrap().to_owned();
        self.epochs.insert(self.since.split('_').next().unwrap().to_owned());
        let events = answer["to_device"]["events"].as_array().cloned().unwrap_or_default();
        self.received.extend(events.iter().map(|e| e["content"]["txn"].as_str().unwrap().to_owned()));
        !events.is_empty()
    }

    /// Nothing was lost or twice, and nobody took a killed process for a database that was put back.
    pub fn check_messages(&self, done: &Acknowledged) {
        let received: HashSet<&String> = self.received.iter().collect();
        assert_eq!(received.len(), self.received.len(), "a to-device message came twice");
        for txn in done.messages.iter().chain(&done.unanswered_messages) {
            assert!(received.contains(txn), "the to-device message {txn} is lost");
        }
        assert_eq!(self.epochs.len(), 1, "a new epoch began: {:?}", self.epochs);
    }

    /// Each key that was uploaded was given to one claimer, or to one who died with the answer, and opens a session.
    pub fn check_keys(&mut self, done: &Acknowledged) {
        let claimed: HashMap<&String, &String> = done.claimed.iter().map(|(id, key)| (id, key)).collect();
        assert_eq!(claimed.len(), done.claimed.len(), "a one-time key was given twice");
        let lost = self.uploaded.keys().filter(|id| !claimed.contains_key(*id)).count();
        assert!(
            lost <= done.unanswered_claims,
            "{lost} keys lost, {} claims unanswered",
            done.unanswered_claims
        );
        let identity = self.account.identity_keys().curve25519;
        for (id, key) in claimed {
            assert!(self.uploaded.get(id).is_none_or(|uploaded| uploaded == key), "{id} is another key");
            let key = Curve25519PublicKey::from_base64(key).unwrap();
            let theirs = Account::new();
            let mut session =
                theirs.create_outbound_session(SessionConfig::version_1(), identity, key).unwrap();
            let OlmMessage::PreKey(message) = session.encrypt("hello").unwrap() else {
                panic!("no first message")
            };
            let config = SessionConfig::version_1();
            let opened = self.account.create_inbound_session(config, theirs.curve25519_key(), &message);
            assert_eq!(opened.unwrap().plaintext, b"hello");
        }
    }
}
