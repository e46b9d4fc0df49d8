//! Whatever the order in which a graph arrives, its state is the same.

use crate::foreign::{Foreign, current, extremities, member, message, state, state_at};
use crate::support::{Setup, setups};
use myelin_core::rooms::append::receive::Received;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use ruma::OwnedEventId;
use serde_json::json;
use std::collections::BTreeSet;

const USERS: [&str; 4] = ["@a:other.example", "@b:other.example", "@c:third.example", "@d:third.example"];

/// Events that anybody may try; what is not allowed is rejected by everybody.
fn grow(foreign: &mut Foreign, random: &mut StdRng, count: usize) {
    let mut recent = vec![foreign.last()];
    for step in 0..count {
        let mut prev = BTreeSet::new();
        for _ in 0..random.random_range(1..=3) {
            prev.insert(recent[random.random_range(0..recent.len())].clone());
        }
        let (who, whom) = (USERS[random.random_range(0..4)], USERS[random.random_range(1..4)]);
        let mut levels =
            json!({ "users": { (USERS[1]): 60, (whom): random.random_range(0..70) }, "invite": 10 });
        if foreign.version.as_str() != "12" {
            levels["users"][USERS[0]] = json!(100);
        }
        let rule = if random.random_bool(0.5) { "public" } else { "invite" };
        let wish = match random.random_range(0..8) {
            0 => member(whom, whom, "join"),
            1 => member(who, whom, "ban"),
            2 => member(who, whom, "leave"),
            3 => state(who, "m.room.power_levels", "", levels),
            4 => state(who, "m.room.join_rules", "", json!({ "join_rule": rule })),
            5 => member(who, whom, "invite"),
            6 => state(who, "m.room.topic", "", json!({ "topic": step })),
            _ => message(who, "hello"),
        };
        let prev: Vec<OwnedEventId> = prev.into_iter().collect();
        let made = foreign.make(wish, &prev);
        recent.push(made);
        if recent.len() > 5 {
            recent.remove(random.random_range(0..recent.len()));
        }
    }
}

/// Everything that nothing follows, merged by the creator, whom nobody can remove.
fn merge(foreign: &mut Foreign) -> OwnedEventId {
    let followed: BTreeSet<OwnedEventId> =
        foreign.events.values().flat_map(|made| made.pdu.prev_events.iter().cloned()).collect();
    let mut ends: Vec<OwnedEventId> =
        foreign.order.iter().filter(|id| !followed.contains(*id)).cloned().collect();
    while ends.len() > 1 {
        let some: Vec<OwnedEventId> = ends.drain(..ends.len().min(10)).collect();
        ends.push(foreign.make(message(USERS[0], "merge"), &some));
    }
    ends.pop().expect("an end")
}

/// Gives the events in a random order to random replicas; what misses others comes again later.
async fn scatter(setup: &Setup, foreign: &Foreign, random: &mut StdRng) {
    let mut waiting = foreign.order.clone();
    while !waiting.is_empty() {
        let index = random.random_range(0..waiting.len());
        let id = waiting[index].clone();
        let server = setup.replica(random.random_range(0..2));
        match foreign.deliver(server, &id).await {
            Received::Missing { auth, prev } => {
                let named = &foreign.events[&id].pdu;
                assert!(prev.iter().all(|id| named.prev_events.contains(id) && waiting.contains(id)));
                assert!(auth.iter().all(|id| waiting.contains(id)));
            }
            Received::Refused(reason) => panic!("{id}: {reason}"),
            Received::Known(id) => panic!("{id} is not known yet"),
            Received::Accepted(id) | Received::SoftFailed(id, _) | Received::Rejected(id, _) => {
                waiting.retain(|other| *other != id);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_order_of_arrival_gives_the_same_state() {
    let rounds: u64 = std::env::var("MYELIN_TEST_ORDERS").map_or(6, |text| text.parse().expect("a number"));
    for setup in setups("orders").await {
        for seed in 0..rounds {
            let version = ["6", "11", "12"][(seed % 3) as usize];
            let mut random = StdRng::seed_from_u64(seed);
            let levels = json!({ "users": { (USERS[1]): 60 }, "invite": 10 });
            let mut foreign = Foreign::room(&format!("orders{seed}"), version, USERS[0], &USERS[1..], levels);
            grow(&mut foreign, &mut random, 40);
            let last = merge(&mut foreign);
            scatter(&setup, &foreign, &mut random).await;
            let server = setup.replica(1);
            server.log.catch_up().await.expect("the log");
            let room = foreign.enter(server).await;
            let what = format!("{} version {version} seed {seed}", setup.name);
            for id in &foreign.order {
                let event = server.rooms.event_by_id(id).await.expect("read").expect("the event");
                let made = &foreign.events[id];
                assert_eq!(event.rejected, made.pdu.rejected, "{what}: {id}");
                assert_eq!(event.pos > 0, !event.rejected && !event.soft_failed, "{what}: {id}");
                let before = state_at(server, &room, event.state_root).await;
                assert_eq!(before, made.before, "{what}: the state before {id}");
            }
            assert_eq!(extremities(server, &room).await, BTreeSet::from([last.clone()]), "{what}");
            assert_eq!(current(server, &room).await, foreign.events[&last].after, "{what}");
        }
    }
}
