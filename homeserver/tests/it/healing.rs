//! Servers that were apart, or could not store anything for a while, have everything afterwards, once. Each test is a
//! fault that `tools/faults` showed; nothing more is said after the fault that would lead a server to what it lacks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use hyper::Method;
use myelin_federation::Federation;
use myelin_storage::federation::{destinations, outbox};
use myelin_storage::statement::Sql;
use myelin_storage::{log, testing};
use serde_json::{Value, json};

use crate::pair::{Pair, each_pair};
use crate::stranger::Stranger;
use crate::support::{Setup, User, ok};
use crate::visit::Visit;

/// Longer than a server that refused something, or was given up a moment ago, is left alone, in milliseconds.
const LONG: i64 = 120_000;

/// The time has come to try servers again.
fn try_again(setup: &Setup) {
    try_after(setup, LONG);
}

/// So many milliseconds go by, and whose time has come is tried again.
fn try_after(setup: &Setup, time: i64) {
    setup.clock.advance(time);
    setup.federations.iter().flatten().for_each(|federation| federation.sender.retry_due());
}

async fn say_many(setup: &Setup, user: &User, room: &str, what: &str, count: usize) {
    for number in 0..count {
        setup.say(user, room, &format!("{what} {number}")).await;
    }
}

/// Both servers can be reached by nobody, and users of both speak; of one room a catch-up shows twenty events.
async fn apart(pair: &Pair, room: &str, alice: &User, bob: &User, of_bob: usize) {
    pair.one.cut().await;
    pair.two.cut().await;
    say_many(&pair.one, alice, room, "one", 25).await;
    say_many(&pair.two, bob, room, "two", of_bob).await;
    pair.one.until_given_up(&pair.two.name()).await;
    pair.two.until_given_up(&pair.one.name()).await;
}

/// The texts of a room as a user pages back to them.
async fn texts(setup: &Setup, user: &User, room: &str) -> Vec<String> {
    let (mut found, mut from) = (Vec::new(), String::new());
    loop {
        let path = format!("/_matrix/client/v3/rooms/{room}/messages?dir=b&limit=50{from}");
        let page = ok(setup.get(&path, &*user.token).await);
        let bodies = page["chunk"].as_array().unwrap().iter();
        found.extend(bodies.filter_map(|event| event["content"]["body"].as_str().map(ToOwned::to_owned)));
        match page["end"].as_str() {
            Some(end) => from = format!("&from={end}"),
            None => return found,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_sides_of_a_cut_are_heard_on_both() {
    each_pair(|pair| async move {
        let (alice, bob) = (pair.one.register("alice").await, pair.two.register("bob").await);
        let room = pair.one.create_room(&alice, json!({ "preset": "public_chat" })).await;
        ok(pair.two.join_by(&bob, &room, &pair.one.name()).await);
        apart(&pair, &room, &alice, &bob, 20).await;
        // One hears the other first, so none of its own events is among the room's newest when it tells them.
        pair.one.reconnect().await;
        try_again(&pair.two);
        pair.one.until_seen(&alice, &room, "two 19").await;
        pair.two.reconnect().await;
        try_again(&pair.one);
        pair.two.until_seen(&bob, &room, "one 24").await;
        for (setup, user) in [(&pair.one, &alice), (&pair.two, &bob)] {
            let mut texts = texts(setup, user, &room).await;
            texts.sort();
            texts.dedup();
            assert_eq!(texts.len(), 45, "{texts:?}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stands_behind_a_gap_is_no_news() {
    each_pair(|pair| async move {
        let (alice, bob) = (pair.one.register("alice").await, pair.two.register("bob").await);
        let room = pair.two.create_room(&bob, json!({ "preset": "private_chat" })).await;
        say_many(&pair.two, &bob, &room, "old", 12).await;
        let path = format!("/_matrix/client/v3/rooms/{room}/invite");
        ok(pair.two.post(&path, &*bob.token, json!({ "user_id": alice.id })).await);
        ok(pair.one.join_by(&alice, &room, &pair.two.name()).await);
        pair.two.say(&bob, &room, "welcome").await;
        pair.one.until_seen(&alice, &room, "welcome").await;
        apart(&pair, &room, &alice, &bob, 25).await;
        let since = pair.one.since(&alice).await;
        pair.one.reconnect().await;
        pair.two.reconnect().await;
        try_again(&pair.two);
        let mut news = Vec::new();
        pair.one
            .sync_from_until(Some(&since), &alice, "two 24", |body| {
                for event in body["rooms"]["join"][&room]["timeline"]["events"].as_array()? {
                    news.extend(event["content"]["body"].as_str().map(ToOwned::to_owned));
                }
                news.iter().any(|text| text == "two 24").then_some(())
            })
            .await;
        assert!(news.iter().all(|text| text.starts_with("two")), "history came as news: {news:?}");
        let all = texts(&pair.one, &alice, &room).await;
        for (what, count) in [("old", 12), ("one", 25), ("two", 25)] {
            assert_eq!(all.iter().filter(|text| text.starts_with(what)).count(), count, "{what}: {all:?}");
        }
    })
    .await;
}

async fn to_device(setup: &Setup, from: &User, to: &str, number: usize) {
    let message = json!({ "messages": { to: { "*": { "number": number } } } });
    let path = format!("/_matrix/client/v3/sendToDevice/org.example.test/t{number}");
    ok(setup.put(&path, &*from.token, message).await);
}

/// Syncs until a message has come for a device; gives all that came.
async fn until_message(setup: &Setup, user: &User, number: usize) -> Vec<Value> {
    let mut all = Vec::new();
    setup
        .sync_until(user, "a message", |body| {
            let events = body["to_device"]["events"].as_array().cloned().unwrap_or_default();
            all.extend(events.iter().map(|event| event["content"]["number"].clone()));
            all.contains(&json!(number)).then_some(())
        })
        .await;
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_could_not_be_stored_comes_again() {
    each_pair(|pair| async move {
        let (alice, bob) = (pair.one.register("alice").await, pair.two.register("bob").await);
        pair.two.no_room("INSERT ON to_device", "TRUE").await;
        to_device(&pair.one, &alice, &bob.id, 1).await;
        until_waiting(&pair.one, &pair.two.name()).await;
        pair.two.room_again().await;
        try_again(&pair.one);
        assert_eq!(until_message(&pair.two, &bob, 1).await, [json!(1)]);
    })
    .await;
}

/// Waits until a server has asked another in vain, which refused, and leaves it alone for a while.
async fn until_waiting(setup: &Setup, name: &str) {
    until("a server refused something", || {
        setup.federations.iter().flatten().any(|federation| federation.sender.waits_for(name))
    })
    .await;
}

/// Waits until something is so.
async fn until(what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..400 {
        if is_so() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    panic!("it never was so that {what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_gap_whose_states_could_not_be_stored_is_told_of_again() {
    each_pair(|pair| async move {
        let (alice, bob) = (pair.one.register("alice").await, pair.two.register("bob").await);
        let room = pair.one.create_room(&alice, json!({ "preset": "public_chat" })).await;
        ok(pair.two.join_by(&bob, &room, &pair.one.name()).await);
        pair.two.cut().await;
        say_many(&pair.one, &alice, &room, "one", 90).await;
        pair.one.until_given_up(&pair.two.name()).await;
        pair.two.no_room("INSERT ON events", "TRUE").await;
        pair.two.reconnect().await;
        try_again(&pair.one);
        // Given up it was before; now it refuses.
        until_all_know(&pair.one, &pair.two.name(), false).await;
        until_waiting(&pair.one, &pair.two.name()).await;
        pair.two.room_again().await;
        try_again(&pair.one);
        for turn in 0.. {
            let texts = texts(&pair.two, &bob, &room).await;
            if texts.first().is_some_and(|newest| newest == "one 89") {
                break;
            }
            assert!(turn < 200, "what it could not store was forgotten: {:?}", texts.first());
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    })
    .await;
}

/// Waits until all replicas know that a server is away, or that it is not.
async fn until_all_know(setup: &Setup, name: &str, away: bool) {
    let name = ruma::OwnedServerName::try_from(name).unwrap();
    until_all(setup, |federation| federation.client.backoff.has_failed(&name) == away).await;
}

/// Waits until all replicas leave a server alone for some minutes.
async fn until_left_alone(setup: &Setup, name: &str) {
    let name = ruma::OwnedServerName::try_from(name).unwrap();
    let soon = setup.cores[0].now_ms() + 5 * 60_000;
    until_all(setup, |federation| federation.client.backoff.until(&name, soon).is_some()).await;
}

async fn until_all(setup: &Setup, knows: impl Fn(&Federation) -> bool) {
    until("all know how a server is", || {
        setup.federations.iter().flatten().all(|federation| knows(federation))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_noted_as_told_is_told_again_and_comes_once() {
    each_pair(|pair| async move {
        let (alice, bob) = (pair.one.register("alice").await, pair.two.register("bob").await);
        pair.two.no_room("DELETE ON outbox", "TRUE").await;
        to_device(&pair.two, &bob, &alice.id, 1).await;
        assert_eq!(until_message(&pair.one, &alice, 1).await, [json!(1)]);
        until_waiting(&pair.two, &pair.one.name()).await;
        pair.two.room_again().await;
        try_again(&pair.two);
        let database = &pair.two.cores[0].database;
        for turn in 0.. {
            if outbox::servers(&mut database.read().await.unwrap()).await.unwrap().is_empty() {
                break;
            }
            assert!(turn < 400, "the message stays in the outbox");
            tokio::time::sleep(std::time::Duration::from_millis(25)).await;
        }
        to_device(&pair.two, &bob, &alice.id, 2).await;
        let all = until_message(&pair.one, &alice, 2).await;
        assert!(all.iter().filter(|number| **number == json!(1)).count() <= 1, "it came twice: {all:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orderly_end_notes_down_to_where_all_was_told() {
    each_pair(|pair| async move {
        let (alice, bob) = (pair.one.register("alice").await, pair.two.register("bob").await);
        let room = pair.one.create_room(&alice, json!({ "preset": "public_chat" })).await;
        ok(pair.two.join_by(&bob, &room, &pair.one.name()).await);
        pair.one.say(&alice, &room, "good night").await;
        pair.two.until_seen(&bob, &room, "good night").await;
        let core = &pair.one.cores[0];
        for turn in 0.. {
            for federation in pair.one.federations.iter().flatten() {
                federation.end().await;
            }
            let mut connection = core.database.read().await.unwrap();
            let noted = log::meta(&mut connection, "federation_position").await.unwrap();
            if noted == Some(log::head(&mut connection).await.unwrap().to_string()) {
                break;
            }
            // The answer to the message may still be on its way.
            assert!(turn < 400, "{noted:?} is noted, and all was told long ago");
            tokio::time::sleep(std::time::Duration::from_millis(25)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_none_is_no_delivery() {
    each_pair(|pair| async move {
        let stranger = Stranger::start(41).await;
        let alice = pair.one.register("alice").await;
        let send = "PUT /_matrix/federation/v1/send/";
        for (turn, nonsense) in [json!("hello"), json!([]), json!({ "pdus": 5 })].into_iter().enumerate() {
            stranger.answer_all(send, nonsense);
            if turn == 0 {
                to_device(&pair.one, &alice, &stranger.user("eve"), 1).await;
            } else {
                try_again(&pair.one);
            }
            stranger.until_asked(send, turn + 1).await;
            until_waiting(&pair.one, stranger.name.as_str()).await;
        }
        stranger.answer_all(send, json!({ "pdus": {} }));
        try_again(&pair.one);
        stranger.until_asked(send, 4).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_refuses_and_speaks_is_tried_at_once_but_not_over_and_over() {
    each_pair(|pair| async move {
        let stranger = Stranger::start(43).await;
        let alice = pair.one.register("alice").await;
        // It refuses all transactions, and asks for something that nobody needs to store.
        let send = "PUT /_matrix/federation/v1/send/";
        let query = format!("/_matrix/federation/v1/query/profile?user_id={}", alice.id);
        let one = pair.one.name();
        to_device(&pair.one, &alice, &stranger.user("eve"), 1).await;
        for times in 1..4 {
            stranger.until_asked(send, times).await;
            until_waiting(&pair.one, stranger.name.as_str()).await;
            try_again(&pair.one);
        }
        stranger.until_asked(send, 4).await;
        until_waiting(&pair.one, stranger.name.as_str()).await;
        ok(stranger.ask(&one, Method::GET, &query, None).await);
        stranger.until_asked(send, 5).await;
        until_waiting(&pair.one, stranger.name.as_str()).await;
        let began = std::time::Instant::now();
        for _ in 0..10 {
            ok(stranger.ask(&one, Method::GET, &query, None).await);
        }
        // The clock goes on while this is asked: a tenth of a minute is what it has to wait.
        assert!(stranger.times_asked(send) == 5 || began.elapsed().as_secs() > 3);
        // Much less than it would be left alone if it were silent.
        try_after(&pair.one, 7_000);
        stranger.until_asked(send, 6).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_breaks_is_no_absence() {
    each_pair(|pair| async move {
        let stranger = Stranger::start(54).await;
        let alice = pair.one.register("alice").await;
        let send = "PUT /_matrix/federation/v1/send/";
        let (times, failed) = (AtomicUsize::new(0), Arc::new(AtomicBool::new(false)));
        let (one, name, fails) = (pair.one.clone(), stranger.name.clone(), failed.clone());
        stranger.answers_by(send, move |_| {
            let mut federations = one.federations.iter().flatten();
            let has_failed = federations.any(|federation| federation.client.backoff.has_failed(&name));
            fails.fetch_or(has_failed, Ordering::Relaxed);
            let times = times.fetch_add(1, Ordering::Relaxed);
            assert_ne!(times, 1, "this ends the connection, and no test");
            json!({ "pdus": {} })
        });
        to_device(&pair.one, &alice, &stranger.user("eve"), 1).await;
        stranger.until_asked(send, 1).await;
        to_device(&pair.one, &alice, &stranger.user("eve"), 2).await;
        stranger.until_asked(send, 3).await;
        assert!(!failed.load(Ordering::Relaxed), "it was taken for away");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_back_may_speak_to_any_replica() {
    each_pair(|pair| async move {
        let (alice, bob) = (pair.one.register("alice").await, pair.two.register("bob").await);
        let room = pair.one.create_room(&alice, json!({ "preset": "public_chat" })).await;
        ok(pair.two.join_by(&bob, &room, &pair.one.name()).await);
        let two = ruma::OwnedServerName::try_from(pair.two.name()).unwrap();
        for (number, replica) in pair.one.federations.iter().flatten().enumerate() {
            pair.two.cut().await;
            let text = format!("while it was away {number}");
            pair.one.say(&alice, &room, &text).await;
            until_all_know(&pair.one, two.as_str(), true).await;
            pair.two.reconnect().await;
            myelin_federation::origin::spoke(replica, &two).await;
            pair.two.until_seen(&bob, &room, &text).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_back_is_found_by_replicas_that_were_not_told() {
    each_pair(|pair| async move {
        let [first, second] = &pair.one.cores[..] else { return };
        let (alice, bob) = (pair.one.register("alice").await, pair.two.register("bob").await);
        let room = pair.one.create_room(&alice, json!({ "preset": "public_chat" })).await;
        ok(pair.two.join_by(&bob, &room, &pair.one.name()).await);
        pair.two.cut().await;
        pair.one.say(&alice, &room, "while it was away").await;
        let two = pair.two.name();
        until_all_know(&pair.one, &two, true).await;
        until_waiting(&pair.one, &two).await;
        // It was away for so long that it is not tried again by itself.
        try_after(&pair.one, 3_600_000);
        until_left_alone(&pair.one, &two).await;
        pair.two.reconnect().await;
        // As when who heard of it told the others, and none of them was in touch.
        let noted = two.clone();
        let written =
            first.commit.run(move |tx| Box::pin(async move { Ok(destinations::answers(tx, &noted).await?) }));
        written.await.unwrap();
        until_all_know(&pair.one, &two, true).await;
        for (by, of) in [(first, second), (second, first)] {
            // Who was cut itself finds that out by its next questions.
            while testing::cut(&by.database, of.database.replica()).await.is_err() {}
        }
        until_all_know(&pair.one, &two, false).await;
        pair.two.until_seen(&bob, &room, "while it was away").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_database_is_not_the_fault_of_a_request() {
    let setup = Setup::start_federated(1, None, &[]).await;
    let alice = setup.register("alice").await;
    let path = format!("/_matrix/client/v3/user/{}/account_data/org.example.big", alice.id);
    let big = json!({ "text": "x".repeat(60_000) });
    let most = |sql: &'static str| {
        let done = setup.cores[0]
            .commit
            .run(move |tx| Box::pin(async move { Ok(tx.one(Sql::both(sql), &[]).await.map(drop)?) }));
        async { done.await.unwrap() }
    };
    most("PRAGMA max_page_count = 1").await;
    let (status, body) = setup.put(&path, &*alice.token, big.clone()).await;
    assert_eq!((status.as_u16(), &body["errcode"]), (503, &json!("M_UNKNOWN")), "{body}");
    most("PRAGMA max_page_count = 4294967294").await;
    ok(setup.put(&path, &*alice.token, big).await);
    setup.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_no_database_stores_holds_up_no_others() {
    each_pair(|pair: Arc<Pair>| async move {
        let stranger = Stranger::start(42).await;
        let alice = pair.one.register("alice").await;
        let wish = json!({ "preset": "public_chat", "room_version": "11",
                           "power_level_content_override": { "state_default": 0 } });
        let room = pair.one.create_room(&alice, wish).await;
        let visit = Visit::join(&stranger, &pair.one.name(), &room, "eve").await;
        let (bad, with_nul) = visit.event("org.example", Some("\0"), json!({}), &[&visit.join], 1);
        let content = json!({ "msgtype": "m.text", "body": "hello" });
        let (good, message) = visit.event("m.room.message", None, content, &[&visit.join], 1);
        let answer = visit.send(&[&with_nul, &message]).await;
        assert!(answer[&bad]["error"].is_string(), "{answer}");
        assert_eq!(answer[&good], json!({}), "{answer}");
        pair.one.until_seen(&alice, &room, "hello").await;
    })
    .await;
}
