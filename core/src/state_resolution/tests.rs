use proptest::prelude::*;
use ruma::RoomVersionId;
use serde_json::{Value, json};

use super::*;
use crate::rooms::version::room_id_is_hash;

type State = HashMap<Key, OwnedEventId>;
type Events = HashMap<OwnedEventId, Option<Arc<Pdu>>>;

const USERS: [&str; 4] = ["@a:one.example", "@b:one.example", "@c:two.example", "@d:two.example"];

/// A room whose branches are made of events that name the auth events of their branch.
struct Graph {
    rules: RoomVersionRules,
    events: Events,
}

impl Graph {
    fn send(
        &mut self,
        state: &mut State,
        sender: &str,
        kind: &str,
        state_key: &str,
        content: Value,
        ts: u64,
    ) {
        let with_room_id = kind != "m.room.create" || !room_id_is_hash(&self.rules);
        let raw = serde_json::value::to_raw_value(&content).unwrap();
        let sender_id = <&ruma::UserId>::try_from(sender).unwrap();
        let auth: Vec<_> = auth_types(&self.rules, kind, sender_id, Some(state_key), &raw)
            .unwrap()
            .iter()
            .filter_map(|key| state.get(key))
            .collect();
        let mut event = json!({
            "auth_events": auth, "content": content, "depth": 1, "origin_server_ts": ts, "prev_events": [],
            "sender": sender, "state_key": state_key, "type": kind,
        });
        if let Some(last) = self.events.len().checked_sub(1) {
            event["prev_events"] = json!([format!("$e{last}")]);
        }
        if with_room_id {
            event["room_id"] = json!("!e0");
        }
        let id = OwnedEventId::try_from(format!("$e{}", self.events.len())).unwrap();
        let pdu = Arc::new(Pdu::parse(id.clone(), &self.rules, &event.to_string()).unwrap());
        let lookup = |kind: &str, key: &str| {
            let id = state.get(&(kind.to_owned(), key.to_owned()))?;
            self.events[id].clone()
        };
        if crate::rooms::authorize::authorize(&self.rules, &pdu, lookup).is_ok() {
            state.insert((kind.to_owned(), state_key.to_owned()), id.clone());
            self.events.insert(id, Some(pdu));
        }
    }

    fn room(version: RoomVersionId) -> (Self, State) {
        let mut graph = Self { rules: version.rules().unwrap(), events: Events::new() };
        let mut state = State::new();
        let [a, b, c, _] = USERS;
        graph.send(&mut state, a, "m.room.create", "", json!({"creator": a, "room_version": version}), 1);
        graph.send(&mut state, a, "m.room.member", a, json!({"membership": "join"}), 2);
        graph.send(&mut state, a, "m.room.power_levels", "", levels(&graph.rules, &[(b, 60)]), 3);
        graph.send(&mut state, a, "m.room.join_rules", "", json!({"join_rule": "public"}), 4);
        graph.send(&mut state, b, "m.room.member", b, json!({"membership": "join"}), 5);
        graph.send(&mut state, c, "m.room.member", c, json!({"membership": "join"}), 6);
        assert_eq!(state.len(), 6);
        (graph, state)
    }

    fn act(&mut self, state: &mut State, step: &Step) {
        let (who, whom) = (USERS[step.who % 4], USERS[step.whom % 4]);
        let rules = self.rules.clone();
        let (kind, key, content) = match step.what % 9 {
            0 => ("m.room.member", who, json!({"membership": "join", "displayname": step.ts.to_string()})),
            1 => ("m.room.member", whom, json!({"membership": "ban"})),
            2 => ("m.room.member", whom, json!({"membership": "leave"})),
            3 => {
                ("m.room.power_levels", "", levels(&rules, &[(USERS[1], 60), (whom, (step.ts % 70) as i64)]))
            }
            4 => (
                "m.room.join_rules",
                "",
                json!({"join_rule": if step.ts.is_multiple_of(2) { "public" } else { "invite" }}),
            ),
            5 => ("m.room.member", whom, json!({"membership": "invite"})),
            6 => ("m.room.topic", "", json!({"topic": step.ts.to_string()})),
            7 => ("org.matrix.call.sdp_stream_metadata_changed", "", json!({"n": step.ts})),
            _ => ("m.call.sdp_stream_metadata_changed", "", json!({"n": step.ts})),
        };
        self.send(state, who, kind, key, content, step.ts);
    }

    /// ruma's answer to everything, with a state's own events in its auth chain.
    fn plain(&self, states: &[State]) -> State {
        let load = Load::new(&self.events);
        let chains = states.iter().map(|state| {
            let ids: Vec<_> = state.values().cloned().collect();
            load.auth_chain(&ids).into_iter().chain(ids).collect()
        });
        let maps: Vec<StateMap<OwnedEventId>> = states
            .iter()
            .map(|state| {
                state.iter().map(|((t, k), id)| ((ruma_state_type(t), k.clone()), id.clone())).collect()
            })
            .collect();
        let resolved = state_res::resolve(
            &self.rules.authorization,
            self.rules.state_res.v2_rules().unwrap(),
            &maps,
            chains.collect(),
            |id| load.event(id),
            |conflicted| {
                // By the definition: on a way between two conflicted events.
                let ends: Vec<_> = conflicted.values().flatten().cloned().collect();
                let reaches = |id: &OwnedEventId| {
                    ends.contains(id)
                        || load.auth_chain(std::slice::from_ref(id)).iter().any(|up| ends.contains(up))
                };
                Some(load.auth_chain(&ends).into_iter().chain(ends.clone()).filter(reaches).collect())
            },
        );
        resolved.unwrap().into_iter().map(|((t, k), id)| ((raw_state_type(&t), k), id)).collect()
    }

    /// Our answer, events loaded as they are asked for.
    fn ours(&self, states: &[State]) -> State {
        let keys: BTreeSet<&Key> = states.iter().flat_map(State::keys).collect();
        let is_common = |key: &&&Key| states.iter().all(|state| state.get(**key) == states[0].get(**key));
        let common: State =
            keys.iter().filter(is_common).map(|key| ((*key).clone(), states[0][*key].clone())).collect();
        let conflicted: Vec<Vec<OwnedEventId>> = states
            .iter()
            .map(|state| {
                state.iter().filter(|(key, _)| !common.contains_key(*key)).map(|(_, id)| id.clone()).collect()
            })
            .collect();
        let unconflicted: Vec<_> = common.values().cloned().collect();
        let conflict =
            Conflict { rules: &self.rules, states: &conflicted, unconflicted: Some(&unconflicted) };
        let loaded = RefCell::new(Events::new());
        let plan = self.retry(&loaded, |source| Plan::new(conflict, source));
        let part: State =
            plan.keys().filter_map(|key| Some((key.clone(), common.get(key)?.clone()))).collect();
        let mut answer = common.clone();
        for resolved in self.retry(&loaded, |source| plan.resolve(source, &part)) {
            assert!(!common.contains_key(&resolved.key));
            if let Some(id) = resolved.event {
                answer.insert(resolved.key, id);
            }
        }
        answer
    }

    fn retry<T>(&self, loaded: &RefCell<Events>, run: impl Fn(&Events) -> Result<T, ResolveError>) -> T {
        loop {
            let result = run(&loaded.borrow());
            match result {
                Ok(value) => return value,
                Err(ResolveError::Need(ids)) => {
                    for id in ids {
                        let pdu = self.events.get(&id).cloned().flatten();
                        assert!(loaded.borrow_mut().insert(id, pdu).is_none(), "asked twice");
                    }
                }
                Err(failed) => panic!("{failed}"),
            }
        }
    }
}

fn levels(rules: &RoomVersionRules, users: &[(&str, i64)]) -> Value {
    let mut content =
        json!({"users": {}, "invite": 10, "events": {"m.call.sdp_stream_metadata_changed": 10}});
    if !room_id_is_hash(rules) {
        content["users"][USERS[0]] = json!(100);
    }
    for (user, level) in users {
        if *user != USERS[0] {
            content["users"][*user] = json!(level);
        }
    }
    content
}

#[derive(Debug, Clone)]
struct Step {
    branch: usize,
    who: usize,
    whom: usize,
    what: usize,
    ts: u64,
}

fn steps(most: usize) -> impl Strategy<Value = Vec<Step>> {
    let step = (0..4_usize, 0..4_usize, 0..4_usize, 0..9_usize, 10..60_u64)
        .prop_map(|(branch, who, whom, what, ts)| Step { branch, who, whom, what, ts });
    prop::collection::vec(step, 0..most)
}

fn check(version: RoomVersionId, before: &[Step], apart: &[Step], branches: usize) {
    let (mut graph, mut state) = Graph::room(version);
    for step in before {
        graph.act(&mut state, step);
    }
    let mut states = vec![state; branches];
    for step in apart {
        graph.act(&mut states[step.branch % branches], step);
    }
    assert_eq!(graph.ours(&states), graph.plain(&states));
    // Resolved once more against a branch, as a merge of a merge would be.
    let again = [graph.plain(&states), states.swap_remove(0)];
    assert_eq!(graph.ours(&again), graph.plain(&again));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn equals_the_plain_call(before in steps(15), apart in steps(40), branches in 2..5_usize) {
        for version in [RoomVersionId::V6, RoomVersionId::V11, RoomVersionId::V12] {
            check(version, &before, &apart, branches);
        }
    }
}

#[test]
fn a_ban_beats_a_topic() {
    for version in [RoomVersionId::V11, RoomVersionId::V12] {
        let (mut graph, state) = Graph::room(version);
        let (mut one, mut two) = (state.clone(), state);
        graph.send(&mut one, USERS[0], "m.room.member", USERS[1], json!({"membership": "ban"}), 20);
        graph.send(&mut two, USERS[1], "m.room.topic", "", json!({"topic": "x"}), 10);
        assert_ne!(one, two);
        let answer = graph.ours(&[one.clone(), two]);
        let ban = ("m.room.member".to_owned(), USERS[1].to_owned());
        assert_eq!(answer[&ban], one[&ban]);
        assert!(!answer.contains_key(&("m.room.topic".to_owned(), String::new())));
    }
}

#[test]
fn without_join_rules_the_invited_may_join() {
    for version in [RoomVersionId::V6, RoomVersionId::V11, RoomVersionId::V12] {
        let mut graph = Graph { rules: version.rules().unwrap(), events: Events::new() };
        let mut state = State::new();
        let [a, b, c, _] = USERS;
        let member = "m.room.member";
        graph.send(&mut state, a, "m.room.create", "", json!({"creator": a, "room_version": version}), 1);
        graph.send(&mut state, a, member, a, json!({"membership": "join"}), 2);
        graph.send(&mut state, a, member, b, json!({"membership": "invite"}), 3);
        graph.send(&mut state, b, member, b, json!({"membership": "join"}), 4);
        graph.send(&mut state, c, member, c, json!({"membership": "join"}), 5);
        assert_eq!(state.len(), 3, "b is there, and c was not invited");
        let (mut one, mut two) = (state.clone(), state);
        graph.send(&mut one, b, member, b, json!({"membership": "join", "displayname": "one"}), 6);
        graph.send(&mut two, b, member, b, json!({"membership": "join", "displayname": "two"}), 7);
        assert_ne!(one, two);
        assert_eq!(graph.ours(&[one, two.clone()]), two);
    }
}

#[test]
fn differing_keys_of_roots() {
    use crate::rooms::state::insert_many;
    let mut nodes = HashMap::new();
    let mut last = 0;
    let mut insert = |root, entries: &[(Index, EventPk)]| {
        let made = insert_many(&nodes, root, entries, &mut || {
            last += 1;
            last
        })
        .unwrap();
        nodes.extend(made.1);
        made.0
    };
    let base = insert(0, &[(1, 10), (2, 11), (70, 12)]);
    let roots = [base, insert(base, &[(2, 20)]), insert(base, &[(70, 0), (90, 21)])];
    let expected = vec![
        (2, vec![Some(11), Some(20), Some(11)]),
        (70, vec![Some(12), Some(12), None]),
        (90, vec![None, None, Some(21)]),
    ];
    assert_eq!(conflicted(&nodes, &roots), Ok(expected));
    assert_eq!(conflicted(&nodes, &[]), Ok(vec![]));
}
