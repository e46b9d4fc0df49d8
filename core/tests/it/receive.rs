//! Events that another server made: the checks on receipt, branches, outliers, gaps.

use crate::foreign::{Foreign, State, Wish, current, extremities, member, message, state, state_at};
use crate::support::{register, setups};
use futures_util::future::join_all;
use myelin_core::Server;
use myelin_core::keys::device_lists;
use myelin_core::rooms::append::receive::{Arrival, Received};
use myelin_core::rooms::cache::{Room, Stored};
use myelin_core::rooms::serialize::Reader;
use myelin_core::sync::filter::Members;
use myelin_core::sync::look::{Ask, StateAfter};
use myelin_core::sync::token::Token;
use myelin_core::users::sessions::Session;
use myelin_storage::changes::{HISTORY, OUTLIER, REDACTED};
use myelin_storage::rooms::memberships;
use ruma::OwnedEventId;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;

const ADA: &str = "@ada:other.example";
const BOB: &str = "@bob:other.example";
const CAT: &str = "@cat:third.example";
const OURS: &str = "@alice:test.example";

fn simple(name: &str, version: &str) -> Foreign {
    Foreign::room(name, version, ADA, &[BOB, CAT], json!({ "users": { (BOB): 50 } }))
}

fn key(kind: &str, state_key: &str) -> (String, String) {
    (kind.to_owned(), state_key.to_owned())
}

async fn stored(server: &Server, id: &OwnedEventId) -> Stored {
    server.rooms.event_by_id(id).await.expect("read").expect("the event")
}

fn accepted(answer: &Received) -> bool {
    matches!(answer, Received::Accepted(_))
}

/// Our user joins, and the other server hears of it.
async fn join(server: &Arc<Server>, foreign: &mut Foreign) -> Arc<Room> {
    let room = foreign.enter(server).await;
    let user = ruma::OwnedUserId::try_from(OURS).expect("a user");
    server.join(&room, &user, Default::default()).await.expect("joined");
    for id in extremities(server, &room).await {
        if !foreign.events.contains_key(&id) {
            foreign.adopt(&stored(server, &id).await.pdu);
        }
    }
    room
}

/// What /sync tells our user, as JSON, and the next token.
async fn sync(server: &Server, session: &Session, since: Option<&str>, lazy: bool) -> (Value, String) {
    server.log.catch_up().await.expect("the log");
    let online = server.online.enter(session.user_pk, server.now_ms());
    let filter = Default::default();
    let ask = Ask {
        reader: Reader { user: &session.user, user_pk: session.user_pk, device_pk: session.device_pk },
        since: since.map(|text| Token::parse(text).expect("a token")),
        filter: &filter,
        members: if lazy { Members::Lazy } else { Members::All },
        full_state: false,
        state_after: StateAfter::Off,
    };
    let answer = server.sync(&online, &ask).await.expect("an answer");
    let next = answer.next_batch.clone();
    (serde_json::to_value(answer).expect("JSON"), next)
}

fn ids(events: &Value) -> Vec<String> {
    let events = events.as_array().cloned().unwrap_or_default();
    events.iter().map(|event| event["event_id"].as_str().expect("an id").to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_made_elsewhere_comes_in_and_lives_on() {
    for setup in setups("receive_room").await {
        for version in ["6", "7", "8", "9", "10", "11", "12"] {
            let (server, mut foreign) = (setup.replica(0), simple(&format!("room{version}"), version));
            foreign.deliver_all(server).await;
            let room = join(server, &mut foreign).await;
            let id = foreign.last();
            let next = foreign.make(message(CAT, "welcome"), &[id]);
            assert!(accepted(&foreign.deliver(setup.replica(1), &next).await), "{} {version}", setup.name);
            server.log.catch_up().await.expect("the log");
            assert_eq!(current(server, &room).await, foreign.events[&next].after, "{version}");
            assert_eq!(extremities(server, &room).await, BTreeSet::from([next]));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn branches_are_merged_by_our_next_event_and_sync_tells() {
    for setup in setups("receive_merge").await {
        let (server, mut foreign) = (setup.replica(0), simple("merge", "11"));
        foreign.deliver_all(server).await;
        let session = register(server, "alice", "PHONE").await;
        let room = join(server, &mut foreign).await;
        let (_, token) = sync(server, &session, None, false).await;
        let base = foreign.last();
        // On one branch a ban by the creator; on the other what the banned one did meanwhile.
        let ban = foreign.make(member(ADA, BOB, "ban"), std::slice::from_ref(&base));
        let topic = foreign
            .make(state(BOB, "m.room.topic", "", json!({ "topic": "x" })), std::slice::from_ref(&base));
        let name =
            foreign.make(state(CAT, "m.room.avatar", "", json!({ "url": "y" })), std::slice::from_ref(&base));
        assert!(accepted(&foreign.deliver(server, &topic).await));
        assert_eq!(current(server, &room).await.get(&key("m.room.topic", "")), Some(&topic));
        let (_, token) = sync(server, &session, Some(&token), false).await;
        assert!(accepted(&foreign.deliver(setup.replica(1), &ban).await), "{}", setup.name);
        assert!(matches!(foreign.deliver(server, &name).await, Received::Rejected(..)));
        server.log.catch_up().await.expect("the log");
        assert_eq!(extremities(server, &room).await, BTreeSet::from([ban.clone(), topic.clone()]));
        let now = current(server, &room).await;
        let resolved = foreign.resolve(&[&foreign.events[&ban].after, &foreign.events[&topic].after]);
        assert_eq!(now, resolved);
        assert_eq!(now.get(&key("m.room.topic", "")), None, "the ban came first");
        // The ban's own event is told in the timeline; the topic cannot be taken back in this form of /sync.
        let (answer, token) = sync(server, &session, Some(&token), false).await;
        let told = &answer["rooms"]["join"][room.id.as_str()];
        assert_eq!(ids(&told["timeline"]["events"]), [ban.to_string()], "{answer}");
        let body = RawValue::from_string(json!({ "body": "hi" }).to_string()).expect("JSON");
        let sent = server
            .send_message(&room.id, &session.user, "m.room.message".to_owned(), body, None)
            .await
            .expect("sent");
        let event = stored(server, &sent).await;
        let prev: BTreeSet<OwnedEventId> = event.prev_events.iter().cloned().collect();
        assert_eq!(prev, BTreeSet::from([ban, topic]));
        assert_eq!(state_at(server, &room, event.state_root).await, resolved);
        assert_eq!(extremities(server, &room).await, BTreeSet::from([sent.clone()]));
        let (answer, _) = sync(server, &session, Some(&token), false).await;
        let told = &answer["rooms"]["join"][room.id.as_str()];
        assert_eq!(ids(&told["timeline"]["events"]), [sent.to_string()]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn state_that_moves_without_an_event_reaches_sync_members_and_device_lists() {
    for setup in setups("receive_moves").await {
        let (server, mut foreign) = (setup.replica(0), simple("moves", "11"));
        foreign.deliver_all(server).await;
        let session = register(server, "alice", "PHONE").await;
        let room = join(server, &mut foreign).await;
        let base = foreign.last();
        // Bob's new name is soft-failed here, since a ban is known; the other server merges a graph in which the ban
        // was lifted, and in which the name and a member that we never saw as such stand.
        let ban = foreign.make(member(ADA, CAT, "ban"), std::slice::from_ref(&base));
        let word = foreign.make(message(CAT, "on the old branch"), std::slice::from_ref(&base));
        let known = foreign.make(
            state(CAT, "m.room.member", CAT, json!({ "membership": "join", "displayname": "Cat" })),
            std::slice::from_ref(&base),
        );
        assert!(accepted(&foreign.deliver(server, &ban).await));
        for id in [&word, &known] {
            let answer = foreign.deliver(server, id).await;
            assert!(matches!(answer, Received::SoftFailed(..)), "{}: {answer:?}", setup.name);
            assert_eq!(stored(server, id).await.pos, 0);
        }
        assert_eq!(extremities(server, &room).await, BTreeSet::from([ban.clone()]));
        let (_, token) = sync(server, &session, None, false).await;
        // A branch from before the ban on which Bob sets a topic and leaves: Bob's leaving comes by way of a merge.
        let topic = foreign
            .make(state(BOB, "m.room.topic", "", json!({ "topic": "x" })), std::slice::from_ref(&known));
        let leave = foreign.make(member(BOB, BOB, "leave"), std::slice::from_ref(&topic));
        assert!(accepted(&foreign.deliver(server, &topic).await));
        let from = server.log.visible();
        assert!(accepted(&foreign.deliver(setup.replica(1), &leave).await));
        let end = foreign.make(message(ADA, "merged"), &[ban.clone(), leave.clone()]);
        assert!(accepted(&foreign.deliver(server, &end).await));
        server.log.catch_up().await.expect("the log");
        let now = current(server, &room).await;
        assert_eq!(now, foreign.events[&end].after);
        assert_eq!(now[&key("m.room.member", CAT)], ban);
        assert_eq!(now[&key("m.room.member", BOB)], leave);
        let (answer, _) = sync(server, &session, Some(&token), false).await;
        let told = &answer["rooms"]["join"][room.id.as_str()];
        let expected = [topic.to_string(), leave.to_string(), end.to_string()];
        assert_eq!(ids(&told["timeline"]["events"]), expected, "{answer}");
        let bob = server.ids.user(BOB).await.expect("a number");
        let row =
            memberships::get(&mut server.database.read().await.expect("a connection"), bob, room.pk).await;
        assert_eq!(row.expect("read").expect("a row").membership, memberships::LEAVE);
        let lists = device_lists::changes(server, session.user_pk, from, server.log.visible()).await;
        assert_eq!(lists.expect("lists").left, [BOB.to_owned()], "{}", setup.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_soft_failed_event_that_wins_later_is_told_as_state() {
    for setup in setups("receive_wins").await {
        let (server, mut foreign) = (setup.replica(0), simple("wins", "11"));
        foreign.deliver_all(server).await;
        let session = register(server, "alice", "PHONE").await;
        let room = join(server, &mut foreign).await;
        let base = foreign.last();
        // Bob, who may, closes the room; Dan joined before he could know.
        let dan = "@dan:third.example";
        let close = foreign.make(
            state(BOB, "m.room.join_rules", "", json!({ "join_rule": "invite" })),
            std::slice::from_ref(&base),
        );
        let joined = foreign.make(member(dan, dan, "join"), std::slice::from_ref(&base));
        assert!(accepted(&foreign.deliver(server, &close).await));
        assert!(matches!(foreign.deliver(server, &joined).await, Received::SoftFailed(..)));
        let (_, token) = sync(server, &session, None, false).await;
        let (_, lazy) = sync(server, &session, None, true).await;
        let from = server.log.visible();
        // On the branch with the join the creator takes Bob's power away, which undoes what he did with it elsewhere.
        let levels = foreign.make(
            state(ADA, "m.room.power_levels", "", json!({ "users": { (ADA): 100 } })),
            std::slice::from_ref(&joined),
        );
        assert!(accepted(&foreign.deliver(setup.replica(1), &levels).await), "{}", setup.name);
        server.log.catch_up().await.expect("the log");
        let merged = foreign.resolve(&[&foreign.events[&close].after, &foreign.events[&levels].after]);
        assert_eq!(current(server, &room).await, merged);
        let won = merged.get(&key("m.room.member", dan)) == Some(&joined);
        assert!(won, "the join stands in the resolved state");
        for (token, lazy) in [(token, false), (lazy, true)] {
            let (answer, _) = sync(server, &session, Some(&token), lazy).await;
            let told = &answer["rooms"]["join"][room.id.as_str()];
            assert_eq!(ids(&told["timeline"]["events"]), [levels.to_string()], "{answer}");
            assert!(
                ids(&told["state"]["events"]).contains(&joined.to_string()),
                "{} {lazy}: {answer}",
                setup.name
            );
            assert_eq!(told["summary"]["m.joined_member_count"], 5, "{answer}");
        }
        let lists = device_lists::changes(server, session.user_pk, from, server.log.visible()).await;
        assert_eq!(lists.expect("lists").changed, [dan.to_owned()], "{}", setup.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rejected_events_have_no_effect_and_may_be_followed() {
    for setup in setups("receive_rejected").await {
        for version in ["6", "12"] {
            let (server, mut foreign) = (setup.replica(0), simple(&format!("rejected{version}"), version));
            foreign.deliver_all(server).await;
            let room = foreign.enter(server).await;
            let before = current(server, &room).await;
            let base = foreign.last();
            let topic = foreign
                .make(state(CAT, "m.room.topic", "", json!({ "topic": "no" })), std::slice::from_ref(&base));
            assert!(matches!(foreign.deliver(server, &topic).await, Received::Rejected(..)));
            assert_eq!(stored(server, &topic).await.pos, 0);
            assert_eq!(extremities(server, &room).await, BTreeSet::from([base]));
            let again = foreign.deliver(setup.replica(1), &topic).await;
            assert_eq!(
                again,
                Received::Known(topic.clone()),
                "{}: by a replica that has not met it",
                setup.name
            );
            let next = foreign.make(message(BOB, "behind it"), std::slice::from_ref(&topic));
            assert!(accepted(&foreign.deliver(setup.replica(1), &next).await));
            server.log.catch_up().await.expect("the log");
            assert_eq!(extremities(server, &room).await, BTreeSet::from([next.clone()]));
            assert_eq!(current(server, &room).await, before);
            // Judged by a rejected event, an event is rejected too.
            let auth = [&foreign.events[&next].pdu.auth_events[..], &[topic]].concat();
            let state_before = foreign.events[&next].after.clone();
            let bad = foreign.make_with(message(BOB, "?"), &[next], auth, state_before, 20);
            assert!(matches!(foreign.deliver(server, &bad).await, Received::Rejected(..)));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_genuine_is_refused_or_redacted() {
    for setup in setups("receive_genuine").await {
        let (server, mut foreign) = (setup.replica(0), simple("genuine", "11"));
        foreign.deliver_all(server).await;
        let room = foreign.enter(server).await;
        let last = foreign.last();
        let id = foreign.make(message(BOB, "as I wrote it"), &[last]);
        let mut json = foreign.events[&id].json.clone();
        let refused = |answer: Received| assert!(matches!(answer, Received::Refused(_)), "{answer:?}");
        // Another depth: another id, for which the signature is not.
        json.insert("depth".to_owned(), ruma::Int::from(77).into());
        refused(
            server
                .receive(&room, json.clone(), &foreign.keys(), &Arrival::default())
                .await
                .expect("an answer"),
        );
        json = foreign.events[&id].json.clone();
        refused(
            server
                .receive(&room, json.clone(), &Default::default(), &Arrival::default())
                .await
                .expect("an answer"),
        );
        json.remove("sender");
        refused(server.receive(&room, json, &foreign.keys(), &Arrival::default()).await.expect("an answer"));
        let other = simple("another", "11");
        let of_other = other.last();
        let other_room = other.enter(server).await;
        let json = foreign.events[&id].json.clone();
        refused(
            server.receive(&other_room, json, &foreign.keys(), &Arrival::default()).await.expect("an answer"),
        );
        assert!(server.rooms.find_event(&id).await.expect("read").is_none(), "nothing was kept");
        // Other content under the same id: the redacted form is kept.
        let mut json = foreign.events[&id].json.clone();
        let forged = ruma::canonical_json::CanonicalJsonValue::Object(Default::default());
        json.insert("content".to_owned(), forged);
        let answer =
            server.receive(&room, json, &foreign.keys(), &Arrival::default()).await.expect("an answer");
        assert_eq!(answer, Received::Accepted(id.clone()));
        assert_eq!(stored(server, &id).await.content.get(), "{}");
        assert_eq!(foreign.deliver(server, &id).await, Received::Known(id.clone()));
        // Events of another room neither allow an event nor come before it.
        other.deliver_all(server).await;
        let before = foreign.events[&id].after.clone();
        let auth = [&foreign.events[&id].pdu.auth_events[..], std::slice::from_ref(&of_other)].concat();
        let bad = foreign.make_with(message(BOB, "?"), std::slice::from_ref(&id), auth, before.clone(), 20);
        assert!(matches!(foreign.deliver(server, &bad).await, Received::Rejected(..)));
        let auth = foreign.events[&id].pdu.auth_events.to_vec();
        let bad = foreign.make_with(message(BOB, "?"), &[id, of_other], auth, before, 20);
        refused(foreign.deliver(server, &bad).await);
        // A room has one create event.
        let content = json!({ "creator": ADA, "room_version": "11", "second": true });
        let second = foreign.make(state(ADA, "m.room.create", "", content), &[]);
        refused(foreign.deliver(server, &second).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_is_said_and_a_given_state_bridges_a_gap() {
    for setup in setups("receive_missing").await {
        for version in ["11", "12"] {
            let (server, mut foreign) = (setup.replica(0), simple(&format!("missing{version}"), version));
            let base = foreign.last();
            let topic = foreign.make(state(BOB, "m.room.topic", "", json!({ "topic": "x" })), &[base]);
            let late = foreign.make(message(CAT, "hello"), std::slice::from_ref(&topic));
            let Received::Missing { auth, prev } = foreign.deliver(server, &late).await else {
                panic!("everything is missing")
            };
            assert_eq!(prev, std::slice::from_ref(&topic));
            let named = &foreign.events[&late].pdu.auth_events;
            assert_eq!(auth.len(), if version == "12" { named.len() + 1 } else { named.len() });
            // The whole state and what it is judged by, newest first: the order does not matter.
            let room = foreign.enter(server).await;
            let before = foreign.events[&late].before.clone();
            let mut events: Vec<_> =
                foreign.order.iter().rev().map(|id| foreign.events[id].json.clone()).collect();
            events.retain(|json| json != &foreign.events[&late].json);
            let answers = server.receive_outliers(&room, events, &foreign.keys()).await.expect("answers");
            assert!(answers.iter().all(accepted), "{answers:?}");
            assert_eq!(stored(server, &topic).await.flags, OUTLIER);
            let given = Arrival { states: vec![before.values().cloned().collect()], ..Arrival::default() };
            let answer = foreign.deliver_as(setup.replica(1), &late, &given).await;
            assert!(accepted(&answer), "{} {version}: {answer:?}", setup.name);
            server.log.catch_up().await.expect("the log");
            assert_eq!(current(server, &room).await, foreign.events[&late].after);
            let mut connection = server.database.read().await.expect("a connection");
            let members = memberships::of_room(&mut connection, room.pk, memberships::JOIN).await;
            drop(connection);
            assert_eq!(members.expect("members").len(), 3);
            // The outlier comes with what is before it: it is in the timeline then, and moves nothing.
            let ada = stored(server, &foreign.order[1]).await;
            assert_eq!((ada.pos, ada.flags), (0, OUTLIER));
            for id in foreign.order.clone().iter().filter(|id| **id != late) {
                let answer = foreign.deliver(setup.replica(1), id).await;
                assert!(accepted(&answer), "{} {version} {id}: {answer:?}", setup.name);
            }
            server.log.catch_up().await.expect("the log");
            let topic = stored(server, &topic).await;
            assert!(topic.pos > 0 && topic.flags == 0, "{}: {} {}", setup.name, topic.pos, topic.flags);
            assert_eq!(extremities(server, &room).await, BTreeSet::from([late.clone()]), "{version}");
            assert_eq!(current(server, &room).await, foreign.events[&late].after);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn history_is_kept_and_comes_down_no_sync() {
    for setup in setups("receive_history").await {
        let (server, mut foreign) = (setup.replica(0), simple("history", "11"));
        let base = foreign.last();
        let old = foreign.make(message(CAT, "long ago"), &[base]);
        let late = foreign.make(message(CAT, "now"), std::slice::from_ref(&old));
        let room = foreign.enter(server).await;
        let before: Vec<OwnedEventId> = foreign.events[&late].before.values().cloned().collect();
        let events = before.iter().map(|id| foreign.events[id].json.clone()).collect();
        server.receive_outliers(&room, events, &foreign.keys()).await.expect("answers");
        let given = Arrival { states: vec![before.clone()], ..Arrival::default() };
        assert!(accepted(&foreign.deliver_as(server, &late, &given).await));
        let visible = server.log.visible();
        let given =
            Arrival { states: vec![before], history_before: Some(late.clone()), ..Arrival::default() };
        assert!(accepted(&foreign.deliver_as(server, &old, &given).await), "{}", setup.name);
        assert_eq!(server.log.visible(), visible, "nobody hears of it");
        let event = stored(server, &old).await;
        assert_eq!((event.pos, event.flags), (0, HISTORY));
        assert_eq!(extremities(server, &room).await, BTreeSet::from([late]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_comes_often_at_once_is_there_once() {
    for setup in setups("receive_twice").await {
        let (server, mut foreign) = (setup.replica(0), simple("twice", "11"));
        foreign.deliver_all(server).await;
        let mut fresh = Vec::new();
        for round in 0..10 {
            let last = foreign.last();
            fresh.push(foreign.make(message(BOB, &round.to_string()), &[last]));
        }
        let foreign = Arc::new(foreign);
        let deliveries = (0..40).map(|index| {
            let (server, foreign, fresh) = (setup.replica(index).clone(), foreign.clone(), fresh.clone());
            tokio::spawn(async move {
                let mut accepted_here = 0;
                for id in &fresh {
                    loop {
                        match foreign.deliver(&server, id).await {
                            Received::Accepted(_) => accepted_here += 1,
                            Received::Known(_) => {}
                            Received::Missing { .. } => continue,
                            other => panic!("{other:?}"),
                        }
                        break;
                    }
                }
                accepted_here
            })
        });
        let accepted: i32 = join_all(deliveries).await.into_iter().map(|count| count.expect("ran")).sum();
        assert_eq!(accepted, 10, "{}", setup.name);
        server.log.catch_up().await.expect("the log");
        let room = foreign.enter(server).await;
        assert_eq!(extremities(server, &room).await, BTreeSet::from([foreign.last()]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_branches_lying_depths_and_long_chains_are_bounded() {
    for setup in setups("receive_many").await {
        let (server, mut foreign) = (setup.replica(0), simple("many", "11"));
        foreign.deliver_all(server).await;
        let session = register(server, "alice", "PHONE").await;
        let room = join(server, &mut foreign).await;
        let base = foreign.last();
        let mut ends = BTreeSet::new();
        for index in 0..25 {
            let depth = if index == 24 { (1 << 53) - 1 } else { 5 };
            let content = json!({ "n": index });
            let text = index.to_string();
            let wish = Wish { sender: BOB, kind: "org.example.piece", state_key: Some(&text), content };
            let id = foreign.make_at(wish, std::slice::from_ref(&base), depth);
            assert!(accepted(&foreign.deliver(setup.replica(index), &id).await), "{}", setup.name);
            ends.insert(id);
        }
        server.log.catch_up().await.expect("the log");
        assert_eq!(extremities(server, &room).await, ends);
        let all: Vec<State> = ends.iter().map(|id| foreign.events[id].after.clone()).collect();
        let all = foreign.resolve(&all.iter().collect::<Vec<_>>());
        assert_eq!(current(server, &room).await, all);
        for (round, left) in [16, 7, 1].into_iter().enumerate() {
            let sent = server
                .send_state(
                    &room.id,
                    &session.user,
                    "org.example.ours".to_owned(),
                    String::new(),
                    body(round),
                )
                .await;
            // Without power for state the attempt leaves nothing; a message goes.
            assert!(sent.is_err());
            let kind = "m.room.message".to_owned();
            let sent =
                server.send_message(&room.id, &session.user, kind, body(round), None).await.expect("sent");
            let event = stored(server, &sent).await;
            assert!(event.prev_events.len() <= 10 && event.depth < (1 << 53));
            foreign.adopt(&event.pdu);
            let before = state_at(server, &room, event.state_root).await;
            assert_eq!(before, foreign.events[&sent].before, "{}", setup.name);
            assert_eq!(extremities(server, &room).await.len(), left, "{}", setup.name);
            assert_eq!(current(server, &room).await.len(), all.len());
        }
        if setup.name == "sqlite" {
            for index in 0..1_000 {
                let last = foreign.last();
                foreign.make_at(message(BOB, &index.to_string()), &[last], 9);
            }
            let chain = &foreign.order[foreign.order.len() - 1_000..];
            let last = &chain[999];
            let missing = foreign.deliver(server, last).await;
            assert_eq!(missing, Received::Missing { auth: Vec::new(), prev: vec![chain[998].clone()] });
            for id in chain {
                assert!(accepted(&foreign.deliver(server, id).await));
            }
            assert_eq!(extremities(server, &room).await, BTreeSet::from([last.clone()]));
        }
    }
}

fn body(round: usize) -> Box<RawValue> {
    RawValue::from_string(json!({ "body": round.to_string() }).to_string()).expect("JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redaction_may_come_before_its_target() {
    for setup in setups("receive_redaction").await {
        for version in ["6", "11"] {
            let (server, mut foreign) = (setup.replica(0), simple(&format!("redaction{version}"), version));
            foreign.deliver_all(server).await;
            let base = foreign.last();
            let target = foreign.make(message(CAT, "a secret"), std::slice::from_ref(&base));
            let other = foreign.make(message(CAT, "another"), std::slice::from_ref(&base));
            let wish = |sender, target: &OwnedEventId| Wish {
                sender,
                kind: "m.room.redaction",
                state_key: None,
                content: json!({ "redacts": target }),
            };
            let by_power = foreign.make(wish(BOB, &target), std::slice::from_ref(&base));
            let without = foreign.make(wish("@cat2:other.example", &other), std::slice::from_ref(&base));
            assert!(accepted(&foreign.deliver(server, &by_power).await));
            assert!(!accepted(&foreign.deliver(server, &without).await), "who is not in the room");
            for id in [&target, &other] {
                assert!(accepted(&foreign.deliver(setup.replica(1), id).await));
            }
            server.log.catch_up().await.expect("the log");
            let event = stored(server, &target).await;
            assert_eq!((event.content.get(), event.flags), ("{}", REDACTED), "{} {version}", setup.name);
            assert_ne!(stored(server, &other).await.content.get(), "{}");
            let now = foreign.make(wish(CAT, &other), std::slice::from_ref(&other));
            assert!(accepted(&foreign.deliver(setup.replica(1), &now).await));
            server.log.catch_up().await.expect("the log");
            assert_eq!(stored(server, &other).await.content.get(), "{}", "{} {version}", setup.name);
        }
    }
}
