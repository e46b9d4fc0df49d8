//! What every event goes through: made, authorized, put into the state, shown.

#![expect(clippy::unwrap_used, reason = "a benchmark may stop where a test may")]
#![allow(missing_docs, reason = "criterion's macros make public functions")]

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use myelin_core::events::Pdu;
use myelin_core::events::build::PduBuilder;
use myelin_core::events::client_format::{Shape, Unsigned, client_event};
use myelin_core::events::signatures::ServerKey;
use myelin_core::push::rules;
use myelin_core::rooms::authorize::authorize;
use myelin_core::rooms::state::{Node, NodeId, diff, get, insert_many};
use ruma::room_version_rules::RoomVersionRules;
use ruma::{OwnedEventId, OwnedRoomId, RoomVersionId, server_name, user_id};
use serde_json::json;
use serde_json::value::to_raw_value;

const KEYS: u32 = 100_000;

fn builder(kind: &str, state_key: Option<&str>, content: &serde_json::Value) -> PduBuilder {
    let id = |name: &str| OwnedEventId::try_from(format!("${name:0>43}")).unwrap();
    PduBuilder {
        room_id: Some(OwnedRoomId::try_from("!r:a.example").unwrap()),
        sender: user_id!("@alice:a.example").to_owned(),
        kind: kind.to_owned(),
        state_key: state_key.map(str::to_owned),
        content: to_raw_value(content).unwrap(),
        redacts: None,
        origin_server_ts: 1_700_000_000_000,
        depth: 4,
        prev_events: if kind == "m.room.create" { vec![] } else { vec![id("p")] },
        auth_events: if kind == "m.room.create" { vec![] } else { vec![id("a"), id("b"), id("c")] },
    }
}

fn encrypted() -> PduBuilder {
    let content = json!({
        "algorithm": "m.megolm.v1.aes-sha2", "ciphertext": "c".repeat(300), "device_id": "DEVICE",
        "sender_key": "k".repeat(43), "session_id": "s".repeat(43),
    });
    builder("m.room.encrypted", None, &content)
}

fn made(builder: PduBuilder, key: &ServerKey, rules: &RoomVersionRules) -> Arc<Pdu> {
    let (id, json) = builder.build(server_name!("a.example"), key, rules).unwrap();
    Arc::new(Pdu::parse(id, rules, &json).unwrap())
}

fn events(criterion: &mut Criterion) {
    let rules = RoomVersionId::V11.rules().unwrap();
    let key = ServerKey::from_seed("b", &[5; 32]).unwrap();
    criterion.bench_function("build and sign an encrypted message", |bench| {
        bench.iter(|| encrypted().build(server_name!("a.example"), &key, &rules).unwrap());
    });
    let message = made(encrypted(), &key, &rules);
    let json = message.json();
    criterion.bench_function("parse an encrypted message", |bench| {
        bench.iter(|| Pdu::parse(message.event_id.clone(), &rules, black_box(&json)).unwrap());
    });
    criterion.bench_function("show a message to a client", |bench| {
        let unsigned = Unsigned { age: Some(5), ..Unsigned::default() };
        bench.iter(|| client_event(black_box(&message), Shape::Sync, &unsigned).unwrap());
    });

    let alice = "@alice:a.example";
    let state: HashMap<(&str, &str), Arc<Pdu>> = [
        ("m.room.create", "", json!({"room_version": "11"})),
        ("m.room.member", alice, json!({"membership": "join"})),
        ("m.room.power_levels", "", json!({"users": {alice: 100}, "events": {"m.room.name": 50}})),
    ]
    .into_iter()
    .map(|(kind, key_, content)| ((kind, key_), made(builder(kind, Some(key_), &content), &key, &rules)))
    .collect();
    criterion.bench_function("authorize a message", |bench| {
        bench.iter(|| {
            authorize(&rules, &message, |kind, key| state.get(&(kind, key)).cloned()).unwrap();
        });
    });

    let bob = user_id!("@bob:a.example");
    let ruleset = rules::rules_of(bob, None);
    let context = rules::context(&message.room_id, 5, bob, None, None);
    criterion.bench_function("flatten a message for push rules", |bench| {
        bench.iter(|| rules::flatten(black_box(&message)).unwrap());
    });
    let flat = rules::flatten(&message).unwrap();
    criterion.bench_function("evaluate the push rules of a user", |bench| {
        bench.iter(|| rules::evaluate(&ruleset, black_box(&flat), &context));
    });
}

fn state_tree(criterion: &mut Criterion) {
    let mut nodes: HashMap<NodeId, Node> = HashMap::new();
    let mut last = 0;
    let mut alloc = || {
        last += 1;
        last
    };
    let all: Vec<_> = (0..KEYS).map(|index| (index, 1 + i64::from(index))).collect();
    let (root, made) = insert_many(&nodes, 0, &all, &mut alloc).unwrap();
    nodes.extend(made);
    let (other, made) =
        insert_many(&nodes, root, &[(5, 1_000_000), (70_000, 1_000_001)], &mut alloc).unwrap();
    nodes.extend(made);
    criterion.bench_function("state of 100,000 keys: look one up", |bench| {
        bench.iter(|| get(&nodes, root, black_box(77_777)).unwrap());
    });
    criterion.bench_function("state of 100,000 keys: set one", |bench| {
        bench.iter(|| insert_many(&nodes, root, black_box(&[(77_777, 9)]), &mut alloc).unwrap());
    });
    criterion.bench_function("state of 100,000 keys: two changes apart", |bench| {
        bench.iter(|| diff(&nodes, black_box(root), other).unwrap());
    });
    let node = nodes[&root].clone();
    let bytes = node.encode();
    criterion.bench_function("decode a node", |bench| {
        bench.iter(|| Node::decode(root, black_box(&bytes)).unwrap());
    });
}

criterion_group!(benches, events, state_tree);
criterion_main!(benches);
