//! Random rooms. A [`Recipe`] is numbers only; the same recipe makes the same graph, and a recipe with fewer steps a
//! smaller one.

use crate::graph::{Branch, Draft, Graph};
use rand::Rng;
use rand::rngs::StdRng;
use ruma::RoomVersionId;
use serde_json::{Map, Value, json};

/// The first makes the room.
pub const USERS: [&str; 6] = [
    "@a:one.example",
    "@b:one.example",
    "@c:two.example",
    "@d:two.example",
    "@e:three.example",
    "@f:three.example",
];

const LEVELS: [i64; 7] = [0, 10, 25, 50, 50, 75, 100];
const FIELDS: [&str; 7] =
    ["ban", "kick", "invite", "redact", "users_default", "events_default", "state_default"];
const TYPES: [&str; 6] = [
    "m.room.power_levels",
    "m.room.topic",
    "m.room.join_rules",
    "m.room.member",
    "m.call.sdp_stream_metadata_changed",
    "org.matrix.call.sdp_stream_metadata_changed",
];
const JOIN_RULES: [&str; 6] = ["public", "public", "invite", "knock", "restricted", "knock_restricted"];

/// What is done in a step.
#[derive(Clone, Copy, Debug)]
enum What {
    Join,
    JoinRestricted,
    Leave,
    Ban,
    Kick,
    Invite,
    Knock,
    Levels,
    JoinRules,
    Topic,
    Own,
    ThirdParty,
    Unstable,
    LevelsElsewhere,
    Merge,
}

/// How often each is tried.
const OFTEN: [(What, u32); 15] = [
    (What::Join, 14),
    (What::JoinRestricted, 6),
    (What::Leave, 5),
    (What::Ban, 9),
    (What::Kick, 8),
    (What::Invite, 9),
    (What::Knock, 3),
    (What::Levels, 18),
    (What::JoinRules, 8),
    (What::Topic, 7),
    (What::Own, 3),
    (What::ThirdParty, 2),
    (What::Unstable, 3),
    (What::LevelsElsewhere, 1),
    (What::Merge, 5),
];

/// Something that somebody tries.
#[derive(Clone, Debug)]
pub struct Step {
    what: What,
    branch: usize,
    other: usize,
    who: usize,
    whom: usize,
    n: usize,
    level: i64,
    ts: u64,
    /// Auth events come from an older state, where that is allowed.
    stale: bool,
}

/// A room to be made.
#[derive(Clone, Debug)]
pub struct Recipe {
    version: RoomVersionId,
    levels: Option<Value>,
    join_rule: Option<&'static str>,
    federate: bool,
    more_creators: bool,
    branches: usize,
    before: Vec<Step>,
    apart: Vec<Step>,
    reject: Option<usize>,
}

impl Recipe {
    pub fn random(rng: &mut StdRng, version: RoomVersionId) -> Self {
        let is_string = ["6", "7", "8", "9"].contains(&version.as_str()) && rng.random_bool(0.1);
        let before = rng.random_range(0..15);
        let apart = rng.random_range(8..60);
        Self {
            levels: rng.random_bool(0.93).then(|| first_levels(rng, is_string)),
            join_rule: rng.random_bool(0.93).then(|| *pick(rng, &JOIN_RULES)),
            federate: rng.random_bool(0.97),
            more_creators: rng.random_bool(0.3),
            branches: rng.random_range(2..6),
            before: (0..before).map(|_| Step::random(rng)).collect(),
            apart: (0..apart).map(|_| Step::random(rng)).collect(),
            reject: rng.random_bool(0.06).then(|| rng.random_range(0..1000)),
            version,
        }
    }

    /// This recipe without each of its steps in turn.
    pub fn smaller(&self) -> impl Iterator<Item = Recipe> {
        let (before, apart) = (self.before.len(), self.apart.len());
        (0..before + apart).rev().map(move |left_out| {
            let mut recipe = self.clone();
            match left_out.checked_sub(before) {
                Some(left_out) => recipe.apart.remove(left_out),
                None => recipe.before.remove(left_out),
            };
            recipe
        })
    }

    /// Makes the room.
    pub fn graph(&self) -> Graph {
        let mut graph = Graph::new(self.version.clone());
        let mut trunk = [self.room(&mut graph)];
        for step in &self.before {
            step.take(&mut graph, &mut trunk);
        }
        let [trunk] = trunk;
        let mut branches = vec![trunk; self.branches];
        for step in &self.apart {
            step.take(&mut graph, &mut branches);
        }
        let states: Vec<_> = branches.into_iter().map(|branch| branch.state).collect();
        let last = if states.len() > 2 { 2 } else { 1 };
        if last > 1 {
            graph.resolutions.push(states[..2].to_vec());
        }
        graph.resolutions.push(states);
        if let Some(which) = self.reject {
            graph.reject(which, last);
        }
        graph
    }

    /// The room as it is before anybody does anything random.
    fn room(&self, graph: &mut Graph) -> Branch {
        let mut branch = Branch::default();
        let creator = USERS[0];
        let is_hash = self.version == RoomVersionId::V12;
        let mut create = json!({ "room_version": self.version });
        if !is_hash && self.version != RoomVersionId::V11 {
            create["creator"] = json!(creator);
        }
        if is_hash && self.more_creators {
            create["additional_creators"] = json!([USERS[4]]);
        }
        if !self.federate {
            create["m.federate"] = json!(false);
        }
        let mut send = |sender, kind, state_key, content, ts| {
            graph.send(&mut branch, Draft { sender, kind, state_key, content, ts, cites: None })
        };
        assert!(send(creator, "m.room.create", "", create, 1), "the room was not made");
        assert!(send(creator, "m.room.member", creator, json!({"membership": "join"}), 2), "nobody is there");
        if let Some(levels) = &self.levels {
            let mut levels = levels.clone();
            if is_hash && let Some(users) = levels["users"].as_object_mut() {
                users.remove(creator);
                if self.more_creators {
                    users.remove(USERS[4]);
                }
            }
            send(creator, "m.room.power_levels", "", levels, 3);
        }
        if let Some(rule) = self.join_rule {
            send(creator, "m.room.join_rules", "", json!({"join_rule": rule, "allow": []}), 4);
        }
        for user in &USERS[1..5] {
            let join = json!({"membership": "join"});
            if !send(user, "m.room.member", user, join.clone(), 5) {
                send(creator, "m.room.member", user, json!({"membership": "invite"}), 5);
                send(user, "m.room.member", user, join, 6);
            }
        }
        branch
    }
}

impl Step {
    fn random(rng: &mut StdRng) -> Self {
        let mut at = rng.random_range(0..OFTEN.iter().map(|(_, often)| often).sum());
        let mut what = What::Merge;
        for (one, often) in OFTEN {
            if at < often {
                what = one;
                break;
            }
            at -= often;
        }
        Self {
            what,
            branch: rng.random_range(0..60),
            other: rng.random_range(0..60),
            who: *pick(rng, &[0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 4, 5]),
            whom: rng.random_range(0..USERS.len()),
            n: rng.random_range(0..1000),
            level: *pick(rng, &LEVELS),
            ts: rng.random_range(10..40),
            stale: rng.random_bool(0.15),
        }
    }

    /// Tries it.
    fn take(&self, graph: &mut Graph, branches: &mut [Branch]) {
        let at = self.branch % branches.len();
        if let What::Merge = self.what {
            let other = branches[self.other % branches.len()].clone();
            if other.state != branches[at].state {
                graph.merge(&mut branches[at], &other);
            }
            return;
        }
        let branch = &mut branches[at];
        let Some((kind, state_key, content)) = self.draft(graph, branch) else { return };
        let cites = match branch.old.len() {
            0 => None,
            old => self.stale.then(|| branch.old[self.other % old].clone()),
        };
        let draft = Draft {
            sender: USERS[self.who],
            kind,
            state_key: &state_key,
            content,
            ts: self.ts,
            cites: cites.as_ref(),
        };
        graph.send(branch, draft);
    }

    fn draft(&self, graph: &Graph, branch: &Branch) -> Option<(&'static str, String, Value)> {
        let (who, whom) = (USERS[self.who].to_owned(), USERS[self.whom].to_owned());
        let member = |membership: &str| json!({ "membership": membership, "reason": self.n.to_string() });
        Some(match self.what {
            What::Join => ("m.room.member", who, member("join")),
            What::JoinRestricted => {
                let content = json!({"membership": "join", "join_authorised_via_users_server": whom});
                ("m.room.member", who, content)
            }
            What::Leave => ("m.room.member", who, member("leave")),
            What::Ban => ("m.room.member", whom, member("ban")),
            What::Kick => ("m.room.member", whom, member("leave")),
            What::Invite => ("m.room.member", whom, member("invite")),
            What::Knock => ("m.room.member", who, member("knock")),
            What::Levels => {
                let found = graph.content(&branch.state, "m.room.power_levels", "");
                ("m.room.power_levels", String::new(), self.levels(found, &whom))
            }
            What::JoinRules => {
                let content = match JOIN_RULES.get(self.n % (4 * JOIN_RULES.len() + 1) / 4) {
                    Some(rule) => json!({"join_rule": rule, "n": self.level}),
                    None => json!({"n": self.level}),
                };
                ("m.room.join_rules", String::new(), content)
            }
            What::Topic => ("m.room.topic", String::new(), json!({"topic": self.n.to_string()})),
            What::Own => ("org.example.own", whom, json!({"n": self.n})),
            What::ThirdParty => {
                let content =
                    json!({"display_name": "x", "key_validity_url": "x", "public_key": "x", "n": self.n});
                ("m.room.third_party_invite", format!("token{}", self.n % 2), content)
            }
            What::Unstable => (TYPES[4 + self.n % 2], String::new(), json!({"n": self.n})),
            What::LevelsElsewhere => ("m.room.power_levels", "elsewhere".to_owned(), json!({"users": {}})),
            What::Merge => return None,
        })
    }

    /// New power levels, out of those before.
    fn levels(&self, before: Option<Value>, whom: &str) -> Value {
        let mut levels = before.unwrap_or_else(|| json!({}));
        let is_string = levels["users"].as_object().is_some_and(|users| users.values().any(Value::is_string));
        let level = level(self.level, is_string);
        let Some(object) = levels.as_object_mut() else { return levels };
        let field = FIELDS[self.n % FIELDS.len()];
        match self.n / FIELDS.len() % 12 {
            0..5 => insert_below(object, "users", whom, level),
            5 => remove_below(object, "users", whom),
            6 | 7 => {
                object.insert(field.to_owned(), level);
            }
            8 => {
                object.remove(field);
            }
            9 => insert_below(object, "events", TYPES[self.other % TYPES.len()], level),
            10 => remove_below(object, "events", TYPES[self.other % TYPES.len()]),
            _ => insert_below(object, "notifications", "room", level),
        }
        levels
    }
}

fn insert_below(object: &mut Map<String, Value>, field: &str, key: &str, level: Value) {
    let below = object.entry(field).or_insert_with(|| json!({}));
    below[key] = level;
}

fn remove_below(object: &mut Map<String, Value>, field: &str, key: &str) {
    if let Some(below) = object.get_mut(field).and_then(Value::as_object_mut) {
        below.remove(key);
    }
}

fn pick<'a, T>(rng: &mut StdRng, from: &'a [T]) -> &'a T {
    &from[rng.random_range(0..from.len())]
}

/// A level as a number or, as old rooms have it, as a string.
fn level(level: i64, is_string: bool) -> Value {
    if is_string { json!(level.to_string()) } else { json!(level) }
}

fn first_levels(rng: &mut StdRng, is_string: bool) -> Value {
    let mut levels = json!({ "users": { USERS[0]: level(100, is_string) } });
    for (user, often) in [(1, 0.9), (2, 0.7), (3, 0.4), (4, 0.2)] {
        if rng.random_bool(often) {
            levels["users"][USERS[user]] = level(*pick(rng, &LEVELS), is_string);
        }
    }
    for field in FIELDS {
        if rng.random_bool(0.35) {
            levels[field] = level(*pick(rng, &[0, 10, 25, 50]), is_string);
        }
    }
    for kind in TYPES {
        if rng.random_bool(0.2) {
            levels["events"][kind] = level(*pick(rng, &[0, 25, 50, 75]), is_string);
        }
    }
    levels
}
