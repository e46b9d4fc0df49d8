//! Another homeserver, without network: it makes rooms and events with a key of its own, and knows by ruma's plain
//! calls what every server must think of them.

use myelin_core::Server;
use myelin_core::events::build::PduBuilder;
use myelin_core::events::canonical;
use myelin_core::events::pdu::{Pdu, raw_state_type, ruma_state_type};
use myelin_core::events::signatures::ServerKey;
use myelin_core::rooms::append::receive::{Arrival, Received};
use myelin_core::rooms::authorize::{auth_types, authorize, check_auth_events};
use myelin_core::rooms::cache::Room;
use myelin_core::rooms::version;
use ruma::canonical_json::CanonicalJsonObject;
use ruma::room_version_rules::RoomVersionRules;
use ruma::serde::Base64;
use ruma::signatures::PublicKeyMap;
use ruma::state_res::{StateMap, resolve, utils::event_id_set::EventIdSet};
use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId, RoomVersionId, UserId};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

/// A state by type and state key.
pub type State = BTreeMap<(String, String), OwnedEventId>;

/// An event with what everybody must think of it.
pub struct Made {
    pub pdu: Arc<Pdu>,
    pub json: CanonicalJsonObject,
    pub before: State,
    pub after: State,
}

/// The other server. It signs in the name of all servers but ours.
pub struct Foreign {
    pub room: OwnedRoomId,
    pub version: RoomVersionId,
    rules: RoomVersionRules,
    key: ServerKey,
    pub events: HashMap<OwnedEventId, Made>,
    /// In the order in which they were made.
    pub order: Vec<OwnedEventId>,
    ts: u64,
}

/// An event to be made.
pub struct Wish<'a> {
    pub sender: &'a str,
    pub kind: &'a str,
    pub state_key: Option<&'a str>,
    pub content: Value,
}

pub fn state<'a>(sender: &'a str, kind: &'a str, state_key: &'a str, content: Value) -> Wish<'a> {
    Wish { sender, kind, state_key: Some(state_key), content }
}

pub fn member<'a>(sender: &'a str, target: &'a str, membership: &str) -> Wish<'a> {
    state(sender, "m.room.member", target, json!({ "membership": membership }))
}

pub fn message<'a>(sender: &'a str, text: &str) -> Wish<'a> {
    let content = json!({ "msgtype": "m.text", "body": text });
    Wish { sender, kind: "m.room.message", state_key: None, content }
}

impl Foreign {
    /// A room by `creator`, public, in which `members` are joined; its events follow each other in a line. `name` tells
    /// it from others.
    pub fn room(name: &str, version: &str, creator: &str, members: &[&str], levels: Value) -> Foreign {
        let version = RoomVersionId::try_from(version).expect("a version");
        let rules = version.rules().expect("rules");
        let key = ServerKey::from_seed("other", &[7; 32]).expect("a key");
        let mut foreign = Foreign {
            room: OwnedRoomId::try_from(format!("!{name}:other.example")).expect("an id"),
            version,
            rules,
            key,
            events: HashMap::new(),
            order: Vec::new(),
            ts: 1_000,
        };
        let content = json!({ "creator": creator, "room_version": foreign.version, "name": name });
        let mut last = foreign.make(state(creator, "m.room.create", "", content), &[]);
        if version::room_id_is_hash(&foreign.rules) {
            foreign.room = foreign.events[&last].pdu.room_id.clone();
        }
        last = foreign.make(member(creator, creator, "join"), &[last]);
        let mut content = levels;
        if !version::creators_are_privileged(&foreign.rules) {
            content["users"][creator] = json!(100);
        }
        last = foreign.make(state(creator, "m.room.power_levels", "", content), &[last]);
        let public = json!({ "join_rule": "public" });
        last = foreign.make(state(creator, "m.room.join_rules", "", public), &[last]);
        for user in members {
            last = foreign.make(member(user, user, "join"), &[last]);
        }
        foreign
    }

    pub fn last(&self) -> OwnedEventId {
        self.order.last().expect("an event").clone()
    }

    /// The keys of everybody for whom this server signs.
    pub fn keys(&self) -> PublicKeyMap {
        let public = Base64::parse(self.key.public_base64()).expect("base64");
        let set = BTreeMap::from([(self.key.id().to_string(), public)]);
        ["other.example", "third.example"].map(|name| (name.to_owned(), set.clone())).into()
    }

    /// Makes an event behind others and judges it.
    pub fn make(&mut self, wish: Wish<'_>, prev: &[OwnedEventId]) -> OwnedEventId {
        let depth = prev.iter().map(|id| self.events[id].pdu.depth).max().unwrap_or(0) + 1;
        self.make_at(wish, prev, depth)
    }

    /// The same with a depth that may be a lie.
    pub fn make_at(&mut self, wish: Wish<'_>, prev: &[OwnedEventId], depth: i64) -> OwnedEventId {
        let states: Vec<&State> = prev.iter().map(|id| &self.events[id].after).collect();
        let before = self.resolve(&states);
        let auth = self.auth_events(&wish, &before);
        self.make_with(wish, prev, auth, before, depth)
    }

    fn auth_events(&self, wish: &Wish<'_>, before: &State) -> Vec<OwnedEventId> {
        let sender = <&UserId>::try_from(wish.sender).expect("a user");
        let content = serde_json::value::to_raw_value(&wish.content).expect("JSON");
        let types = auth_types(&self.rules, wish.kind, sender, wish.state_key, &content).expect("types");
        types.iter().filter_map(|key| before.get(key).cloned()).collect()
    }

    /// Makes an event with auth events of one's own choice.
    pub fn make_with(
        &mut self,
        wish: Wish<'_>,
        prev: &[OwnedEventId],
        auth_events: Vec<OwnedEventId>,
        before: State,
        depth: i64,
    ) -> OwnedEventId {
        self.ts += 1;
        let sender = OwnedUserId::try_from(wish.sender).expect("a user");
        let redacts = wish.content["redacts"].as_str().and_then(|id| OwnedEventId::try_from(id).ok());
        let builder = PduBuilder {
            room_id: (wish.kind != "m.room.create" || !version::room_id_is_hash(&self.rules))
                .then(|| self.room.clone()),
            sender: sender.clone(),
            kind: wish.kind.to_owned(),
            state_key: wish.state_key.map(ToOwned::to_owned),
            content: serde_json::value::to_raw_value(&wish.content).expect("JSON"),
            redacts,
            origin_server_ts: self.ts,
            depth,
            prev_events: prev.to_vec(),
            auth_events,
        };
        let (id, json) = builder.build(sender.server_name(), &self.key, &self.rules).expect("an event");
        self.judge(id.clone(), &json, before);
        id
    }

    /// Takes an event of another server in.
    pub fn adopt(&mut self, pdu: &Pdu) {
        let states: Vec<&State> = pdu.prev_events.iter().map(|id| &self.events[id].after).collect();
        let before = self.resolve(&states);
        self.judge(pdu.event_id.clone(), &pdu.json(), before);
    }

    fn judge(&mut self, id: OwnedEventId, json: &str, before: State) {
        let mut pdu = Pdu::parse(id.clone(), &self.rules, json).expect("an event");
        let find = |id: &ruma::EventId| self.events.get(id).map(|made| made.pdu.clone());
        let by_id = |id: &OwnedEventId| self.events.get(id).map(|made| made.pdu.clone());
        let create = self.order.first().and_then(by_id);
        let named = |kind: &str, key: &str| {
            let mut auth = pdu.auth_events.iter().filter_map(by_id).chain(create.clone());
            auth.find(|event| event.is(kind, key))
        };
        let stands = |kind: &str, key: &str| by_id(before.get(&(kind.to_owned(), key.to_owned()))?);
        let verdict = check_auth_events(&self.rules, &pdu, find)
            .and_then(|()| authorize(&self.rules, &pdu, named))
            .and_then(|()| authorize(&self.rules, &pdu, stands));
        pdu.rejected = verdict.is_err();
        let mut after = before.clone();
        if let (Some(key), false) = (&pdu.state_key, pdu.rejected) {
            after.insert((pdu.kind.to_string(), key.to_string()), id.clone());
        }
        let json = canonical::parse(json).expect("JSON");
        self.events.insert(id.clone(), Made { pdu: Arc::new(pdu), json, before, after });
        self.order.push(id);
    }

    /// ruma's answer to whole states and whole auth chains, to which a state's own events belong.
    pub fn resolve(&self, states: &[&State]) -> State {
        match states {
            [] => return State::new(),
            [one] => return (*one).clone(),
            _ => {}
        }
        let chain = |ids: &mut dyn Iterator<Item = &OwnedEventId>| {
            let mut chain = HashSet::new();
            let mut open: Vec<OwnedEventId> = ids.cloned().collect();
            while let Some(id) = open.pop() {
                for auth in &self.events[&id].pdu.auth_events {
                    if chain.insert(auth.clone()) {
                        open.push(auth.clone());
                    }
                }
            }
            chain
        };
        let with_own = |state: &&State| {
            let all = chain(&mut state.values()).into_iter().chain(state.values().cloned());
            all.collect::<EventIdSet<OwnedEventId>>()
        };
        let chains = states.iter().map(with_own).collect();
        let maps: Vec<StateMap<OwnedEventId>> = states
            .iter()
            .map(|state| {
                state.iter().map(|((t, k), id)| ((ruma_state_type(t), k.clone()), id.clone())).collect()
            })
            .collect();
        let resolved = resolve(
            &self.rules.authorization,
            self.rules.state_res.v2_rules().expect("v2"),
            &maps,
            chains,
            |id| self.events.get(id).map(|made| made.pdu.clone()),
            |conflicted| {
                let ends: HashSet<OwnedEventId> = conflicted.values().flatten().cloned().collect();
                let reaches = |id: &OwnedEventId| {
                    ends.contains(id) || !chain(&mut [id.clone()].iter()).is_disjoint(&ends)
                };
                let all = chain(&mut ends.iter()).into_iter().chain(ends.iter().cloned());
                Some(all.filter(reaches).collect())
            },
        );
        let resolved = resolved.expect("a state");
        resolved.into_iter().map(|((t, k), id)| ((raw_state_type(&t), k), id)).collect()
    }

    /// Our server's side of the room.
    pub async fn enter(&self, server: &Server) -> Arc<Room> {
        server.enter_room(&self.room, &self.version).await.expect("the room")
    }

    /// Gives an event to our server.
    pub async fn deliver(&self, server: &Server, id: &OwnedEventId) -> Received {
        self.deliver_as(server, id, &Arrival::default()).await
    }

    pub async fn deliver_as(&self, server: &Server, id: &OwnedEventId, arrival: &Arrival) -> Received {
        let room = self.enter(server).await;
        let json = self.events[id].json.clone();
        server.receive(&room, json, &self.keys(), arrival).await.expect("an answer")
    }

    /// Gives all events that were made so far, in their order, and expects them to be taken.
    pub async fn deliver_all(&self, server: &Server) {
        for id in &self.order {
            let answer = self.deliver(server, id).await;
            assert!(matches!(answer, Received::Accepted(_) | Received::Known(_)), "{id}: {answer:?}");
        }
    }
}

/// The state that our server takes for the current one.
pub async fn current(server: &Server, room: &Room) -> State {
    let root = server.current_root(room).await.expect("a root");
    state_at(server, room, root).await
}

pub async fn state_at(server: &Server, room: &Room, root: i64) -> State {
    let mut state = State::new();
    for (kind, key, pk) in server.full_state(room, root).await.expect("a state") {
        let event = server.rooms.event(pk).await.expect("read").expect("an event");
        state.insert((kind.to_string(), key.to_string()), event.event_id.clone());
    }
    state
}

/// The extremities that our server sees.
pub async fn extremities(server: &Server, room: &Room) -> BTreeSet<OwnedEventId> {
    let snapshot = server.rooms.snapshot(room).await.expect("a snapshot");
    snapshot.extremities.iter().map(|(_, id)| id.clone()).collect()
}
