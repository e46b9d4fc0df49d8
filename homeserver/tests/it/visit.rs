//! A stranger that is in a room of a server, and can send what it likes there.

use hyper::Method;
use myelin_core::events::hashes;
use myelin_core::rooms::version;
use ruma::canonical_json::CanonicalJsonObject;
use ruma::room_version_rules::RoomVersionRules;
use serde_json::{Value, json};

use crate::pair::Pair;
use crate::stranger::Stranger;
use crate::support::{User, ok};

/// The stranger's view of a room of version 11.
pub struct Visit<'a> {
    /// The stranger.
    pub stranger: &'a Stranger,
    /// The server that the room is on.
    pub host: String,
    /// The room.
    pub room: String,
    /// Its user in there.
    pub user: String,
    /// The id of the user's join.
    pub join: String,
    /// The join.
    pub joined: Value,
    /// How deep that stands.
    pub depth: i64,
    /// The state before the join: events by type and state key, with their ids.
    pub state: Vec<(String, Value)>,
    rules: RoomVersionRules,
    transactions: std::cell::Cell<usize>,
}

impl<'a> Visit<'a> {
    /// Joins a room that everybody may join.
    pub async fn join(stranger: &'a Stranger, host: &str, room: &str, name: &str) -> Visit<'a> {
        let rules = version::rules_of("11").unwrap();
        let user = stranger.user(name);
        let path = format!("/_matrix/federation/v1/make_join/{room}/{user}?ver=11");
        let template = ok(stranger.ask(host, Method::GET, &path, None).await);
        let depth = template["event"]["depth"].as_i64().unwrap();
        let (join, event) = sign(stranger, &rules, template["event"].clone());
        let path = format!("/_matrix/federation/v2/send_join/{room}/{join}");
        let answer = ok(stranger.ask(host, Method::PUT, &path, Some(&event)).await);
        let state =
            answer["state"].as_array().unwrap().iter().map(|event| (id(&rules, event), event.clone()));
        let state = state.collect();
        let (host, room, transactions) = (host.to_owned(), room.to_owned(), std::cell::Cell::new(0));
        Visit { stranger, host, room, user, join, joined: event, depth, state, rules, transactions }
    }

    /// The id of a piece of the room's state.
    pub fn state_id(&self, kind: &str, key: &str) -> String {
        let (id, _) =
            self.state.iter().find(|(_, event)| event["type"] == kind && event["state_key"] == key).unwrap();
        id.clone()
    }

    /// An event of the user that follows others, `deeper` than the join.
    pub fn event(
        &self,
        kind: &str,
        state_key: Option<&str>,
        content: Value,
        prev: &[&str],
        deeper: i64,
    ) -> (String, Value) {
        let auth = [
            self.state_id("m.room.create", ""),
            self.state_id("m.room.power_levels", ""),
            self.state_id("m.room.join_rules", ""),
            self.join.clone(),
        ];
        let auth = if kind == "m.room.member" { &auth[..] } else { &[&auth[..2], &auth[3..]].concat()[..] };
        self.event_with(kind, state_key, content, prev, auth, deeper)
    }

    /// The same with other auth events.
    pub fn event_with(
        &self,
        kind: &str,
        state_key: Option<&str>,
        content: Value,
        prev: &[&str],
        auth: &[String],
        deeper: i64,
    ) -> (String, Value) {
        let mut event = json!({
            "type": kind, "room_id": self.room, "sender": self.user, "content": content, "prev_events": prev,
            "auth_events": auth, "depth": self.depth + deeper, "origin_server_ts": 1_700_000_000_000_i64 + deeper,
        });
        if let Some(key) = state_key {
            event["state_key"] = key.into();
        }
        sign(self.stranger, &self.rules, event)
    }

    /// Sends events in a transaction; gives what became of each.
    pub async fn send(&self, events: &[&Value]) -> Value {
        self.transactions.set(self.transactions.get() + 1);
        let path = format!("/_matrix/federation/v1/send/visit{}", self.transactions.get());
        let body = json!({ "origin": self.stranger.name, "origin_server_ts": 1, "pdus": events, "edus": [] });
        ok(self.stranger.ask(&self.host, Method::PUT, &path, Some(&body)).await)["pdus"].clone()
    }

    /// Tells something in a transaction.
    pub async fn tell(&self, kind: &str, content: Value) {
        self.transactions.set(self.transactions.get() + 1);
        let path = format!("/_matrix/federation/v1/send/visit{}", self.transactions.get());
        let edu = json!({ "edu_type": kind, "content": content });
        let body = json!({ "origin": self.stranger.name, "origin_server_ts": 1, "pdus": [], "edus": [edu] });
        ok(self.stranger.ask(&self.host, Method::PUT, &path, Some(&body)).await);
    }

    /// What the stranger answers to `/get_missing_events`.
    pub fn has_missing(&self, events: &[&Value]) {
        let path = format!("POST /_matrix/federation/v1/get_missing_events/{}", self.room);
        self.stranger.answer(&path, json!({ "events": events }));
    }

    /// The stranger hands an event out.
    pub fn hands_out(&self, id: &str, event: &Value) {
        let answer = json!({ "origin": self.stranger.name, "origin_server_ts": 1, "pdus": [event] });
        self.stranger.answer(&format!("GET /_matrix/federation/v1/event/{id}"), answer);
    }
}

fn id(rules: &RoomVersionRules, event: &Value) -> String {
    let event: CanonicalJsonObject = serde_json::from_value(event.clone()).unwrap();
    hashes::event_id(&event, rules).unwrap().to_string()
}

fn sign(stranger: &Stranger, rules: &RoomVersionRules, event: Value) -> (String, Value) {
    let mut event: CanonicalJsonObject = serde_json::from_value(event).unwrap();
    stranger.key.hash_and_sign(&stranger.name, &mut event, rules).unwrap();
    let event = serde_json::to_value(event).unwrap();
    (id(rules, &event), event)
}

/// A stranger whose user Eve is in a room with Alice.
pub async fn meeting<'a>(pair: &Pair, stranger: &'a Stranger) -> (User, Visit<'a>) {
    let alice = pair.one.register("alice").await;
    let room = pair.one.create_room(&alice, open()).await;
    let visit = Visit::join(stranger, &pair.one.name(), &room, "eve").await;
    (alice, visit)
}

/// How a room is made of which there are visits.
pub fn open() -> Value {
    json!({ "preset": "public_chat", "room_version": "11" })
}
