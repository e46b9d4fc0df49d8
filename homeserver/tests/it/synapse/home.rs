//! A server as its clients see it, whichever it is.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hyper::Method;
use reqwest::Client;
use serde_json::{Value, json};

use crate::support::{Answer, ok};

/// How long something may take until it is seen.
const PATIENCE: Duration = Duration::from_secs(60);

/// The path before most of the API.
const V3: &str = "/_matrix/client/v3";

/// A server.
#[derive(Clone)]
pub struct Home {
    /// Which software it is.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    url: String,
    client: Client,
}

/// A user on a device.
#[derive(Clone)]
pub struct Person {
    /// The server.
    pub home: Home,
    /// The user id.
    pub id: String,
    /// The device id.
    pub device: String,
    token: String,
}

/// A number that is used once.
pub fn number() -> usize {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    NUMBER.fetch_add(1, Ordering::Relaxed)
}

/// A part of a path.
pub fn escaped(part: &str) -> String {
    let special = |byte: u8| !(byte.is_ascii_alphanumeric() || b"-._~".contains(&byte));
    part.bytes()
        .map(|byte| if special(byte) { format!("%{byte:02X}") } else { char::from(byte).to_string() })
        .collect()
}

impl Home {
    /// A server at an address.
    pub fn new(kind: &'static str, name: String, url: String) -> Self {
        let client = Client::builder().timeout(Duration::from_secs(90)).build().unwrap();
        Self { kind, name, url, client }
    }

    /// Whether it serves.
    pub async fn answers(&self) -> bool {
        let request = self.client.get(format!("{}/_matrix/client/versions", self.url));
        request.send().await.is_ok_and(|answer| answer.status().is_success())
    }

    /// Sends a request.
    pub async fn call(&self, method: Method, path: &str, token: Option<&str>, body: Option<Value>) -> Answer {
        let mut request = self.client.request(method, format!("{}{path}", self.url));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.unwrap_or_else(|error| panic!("{}: {path}: {error:?}", self.kind));
        let status = answer.status();
        let text = answer.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}: {text}")))
    }

    /// Registers somebody whose name begins like this; the password is the name.
    pub async fn register(&self, name: &str) -> Person {
        let name = format!("{name}-{}", number());
        let body = json!({ "username": name, "password": name, "auth": { "type": "m.login.dummy" } });
        let answer = ok(self.call(Method::POST, &format!("{V3}/register"), None, Some(body)).await);
        Person::of(self, &answer)
    }
}

impl Person {
    fn of(home: &Home, answer: &Value) -> Self {
        let text = |name: &str| answer[name].as_str().unwrap().to_owned();
        Self {
            home: home.clone(),
            id: text("user_id"),
            device: text("device_id"),
            token: text("access_token"),
        }
    }

    /// The user's name without the server's.
    pub fn localpart(&self) -> &str {
        self.id[1..].split_once(':').unwrap().0
    }

    /// Logs in on a new device.
    pub async fn log_in(&self) -> Person {
        let body = json!({
            "type": "m.login.password", "identifier": { "type": "m.id.user", "user": self.localpart() },
            "password": self.localpart(),
        });
        Person::of(
            &self.home,
            &ok(self.home.call(Method::POST, &format!("{V3}/login"), None, Some(body)).await),
        )
    }

    /// GET of a path behind `/_matrix/client/v3`, or of a whole one.
    pub async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, None).await
    }

    /// POST.
    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.call(Method::POST, path, Some(body)).await
    }

    /// PUT.
    pub async fn put(&self, path: &str, body: Value) -> Answer {
        self.call(Method::PUT, path, Some(body)).await
    }

    /// Any request.
    pub async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        let path = if path.starts_with("/_matrix/") { path.to_owned() } else { format!("{V3}{path}") };
        self.home.call(method, &path, Some(&self.token), body).await
    }

    /// Creates a room.
    pub async fn create_room(&self, wish: Value) -> String {
        ok(self.post("/createRoom", wish).await)["room_id"].as_str().unwrap().to_owned()
    }

    /// Joins a room, or what has this alias, through a server.
    pub async fn join(&self, room: &str, via: &Home) -> Answer {
        self.post(&format!("/join/{}?via={}&server_name={}", escaped(room), via.name, via.name), json!({}))
            .await
    }

    /// `leave`, `invite`, `kick`, `ban` or `unban`; of somebody, where that is asked for.
    pub async fn act(&self, action: &str, room: &str, on: Option<&Person>) -> Answer {
        let body = on.map_or_else(|| json!({}), |on| json!({ "user_id": on.id }));
        self.post(&format!("/rooms/{}/{action}", escaped(room)), body).await
    }

    /// Sends a text; gives the event's id.
    pub async fn say(&self, room: &str, text: &str) -> String {
        let path = format!("/rooms/{}/send/m.room.message/t{}", escaped(room), number());
        let body = ok(self.put(&path, json!({ "msgtype": "m.text", "body": text })).await);
        body["event_id"].as_str().unwrap().to_owned()
    }

    /// Changes a piece of state.
    pub async fn set(&self, room: &str, kind: &str, key: &str, content: Value) -> Answer {
        self.put(&format!("/rooms/{}/state/{kind}/{}", escaped(room), escaped(key)), content).await
    }

    /// A piece of a room's state; null where there is none.
    pub async fn state(&self, room: &str, kind: &str, key: &str) -> Value {
        let (status, body) =
            self.get(&format!("/rooms/{}/state/{kind}/{}", escaped(room), escaped(key))).await;
        if status == 404 { Value::Null } else { ok((status, body)) }
    }

    /// The ids of a room's state, by type and key.
    pub async fn whole_state(&self, room: &str) -> Vec<String> {
        let events = ok(self.get(&format!("/rooms/{}/state", escaped(room))).await);
        let text = |event: &Value| {
            format!("{} {} {}", event["type"], event["state_key"], event["event_id"].as_str().unwrap())
        };
        let mut ids: Vec<String> = events.as_array().unwrap().iter().map(text).collect();
        ids.sort();
        ids
    }

    /// The token from which the next sync goes on.
    pub async fn since(&self) -> String {
        ok(self.get("/sync").await)["next_batch"].as_str().unwrap().to_owned()
    }

    /// Syncs, from the start or from a token on, until `found` finds something in an answer.
    pub async fn until<T>(
        &self,
        since: Option<&str>,
        what: &str,
        mut found: impl FnMut(&Value) -> Option<T>,
    ) -> T {
        let began = Instant::now();
        let mut since = since.map(|since| format!("&since={}", escaped(since))).unwrap_or_default();
        let mut last = Value::Null;
        while began.elapsed() < PATIENCE {
            let body = ok(self.get(&format!("/sync?timeout=3000{since}")).await);
            if let Some(found) = found(&body) {
                return found;
            }
            since = format!("&since={}", escaped(body["next_batch"].as_str().unwrap()));
            last = body;
        }
        panic!("{} on {} never saw {what}; the last answer: {last:#}", self.id, self.home.kind);
    }

    /// Waits for an event in a room's timeline.
    pub async fn until_event(
        &self,
        since: Option<&str>,
        room: &str,
        what: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Value {
        self.until(since, what, |body| {
            let events = body["rooms"]["join"][room]["timeline"]["events"].as_array()?;
            events.iter().find(|event| wanted(event)).cloned()
        })
        .await
    }

    /// Waits for a text in a room.
    pub async fn until_seen(&self, room: &str, text: &str) -> Value {
        self.until_event(None, room, text, |event| event["content"]["body"] == text).await
    }

    /// Speaks until a text of the other server is seen. It tells what it has once it hears of this one again; while it is
    /// about to give this one up, Synapse does not notice.
    pub async fn speak_until_seen(&self, room: &str, text: &str) {
        for _ in 0..20 {
            self.say(room, "is anybody there?").await;
            let since = self.since().await;
            self.get(&format!("/sync?timeout=2000&since={}", escaped(&since))).await;
            if self.texts(room, 50).await.iter().any(|seen| seen == text) {
                return;
            }
        }
        panic!("{} on {} never saw: {text}", self.id, self.home.kind);
    }

    /// Waits until somebody's membership in a room, in which this person is, is such.
    pub async fn until_member(&self, room: &str, whose: &Person, membership: &str) {
        let what = format!("{membership} of {}", whose.id);
        self.until_so(&what, async || {
            self.state(room, "m.room.member", &whose.id).await["membership"] == membership
        })
        .await;
    }

    /// Waits for what is said of this person's own membership: `invite`, `knock`, `leave` or `join`.
    pub async fn until_in(&self, since: Option<&str>, kind: &str, room: &str) -> Value {
        let what = format!("the room under {kind}");
        self.until(since, &what, |body| {
            let shown = &body["rooms"][kind][room];
            shown.is_object().then(|| shown.clone())
        })
        .await
    }

    /// Looks again and again, whenever a sync has ended, until something is so.
    pub async fn until_so(&self, what: &str, is_so: impl AsyncFn() -> bool) {
        let began = Instant::now();
        let mut since = self.since().await;
        while !is_so().await {
            assert!(began.elapsed() < PATIENCE, "{} on {} waited in vain: {what}", self.id, self.home.kind);
            let body = ok(self.get(&format!("/sync?timeout=250&since={}", escaped(&since))).await);
            since = body["next_batch"].as_str().unwrap().to_owned();
        }
    }

    /// Waits until a room's state is the same here and on another server.
    pub async fn until_agreed(&self, other: &Person, room: &str) {
        let began = Instant::now();
        loop {
            let (ours, theirs) = (self.whole_state(room).await, other.whole_state(room).await);
            if ours == theirs {
                return;
            }
            if began.elapsed() > PATIENCE {
                let only = |a: &[String], b: &[String]| {
                    a.iter().filter(|id| !b.contains(id)).cloned().collect::<Vec<_>>()
                };
                panic!(
                    "the states differ: {} has {:#?}, {} has {:#?}",
                    self.home.kind,
                    only(&ours, &theirs),
                    other.home.kind,
                    only(&theirs, &ours),
                );
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The texts of a room, newest first, as pages of so many events bring them.
    pub async fn texts(&self, room: &str, page: usize) -> Vec<String> {
        let (mut texts, mut from) = (Vec::new(), String::new());
        for _ in 0..40 {
            let path = format!("/rooms/{}/messages?dir=b&limit={page}{from}", escaped(room));
            let body = ok(self.get(&path).await);
            for event in body["chunk"].as_array().unwrap() {
                texts.extend(event["content"]["body"].as_str().map(ToOwned::to_owned));
            }
            let Some(end) = body["end"].as_str() else { return texts };
            from = format!("&from={}", escaped(end));
        }
        panic!("the pages of {room} on {} do not end", self.home.kind);
    }
}
