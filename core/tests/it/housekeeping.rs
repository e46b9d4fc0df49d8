//! A server that runs for years: what has had its time goes, and nobody misses it.

use crate::support::{TestClock, open, open_with, register, setups};
use crate::sync::{self, create_room};
use myelin_core::housekeeping::{DAY, HOUR, KEPT, Tidied};
use myelin_core::rooms::append::Transaction;
use myelin_core::users::sessions;
use myelin_storage::log::{self, Kind};
use myelin_storage::replicas;
use serde_json::value::to_raw_value;

#[tokio::test(flavor = "multi_thread")]
async fn what_has_had_its_time_goes_and_old_tokens_stay_good() {
    for setup in setups("housekeeping").await {
        let clock = TestClock::now();
        let server = open_with(&setup.options, "keeper", clock.clone()).await;
        let gone = open(&setup.options, "gone").await;
        let alice = register(&gone, "alice", "A").await;
        gone.close().await;
        server.fresh().await.expect("the log");
        let room = create_room(&server, &alice.user).await;
        let first = sync::first(&server, &alice).await;
        let content = to_raw_value(&serde_json::json!({ "body": "hello" })).expect("JSON");
        let transaction =
            Transaction { device_pk: alice.device_pk, scope: "send".to_owned(), id: "one".to_owned() };
        let kind = "m.room.message".to_owned();
        let sent = server.send_message(&room, &alice.user, kind, content, Some(transaction)).await;
        let event_id = sent.expect("a message");
        sessions::login_token(&server, alice.user_pk).await.expect("a token");
        let entries = KEPT + 500;
        server
            .commit
            .run(move |tx| {
                Box::pin(async move {
                    (0..entries).for_each(|_| {
                        tx.entry(Kind::Profile, 1, 0);
                    });
                    Ok(())
                })
            })
            .await
            .expect("entries");

        let tidied = server.tidy().await.expect("a pass").expect("it is due");
        let nothing = Tidied { replicas: tidied.replicas, ..Tidied::default() };
        assert_eq!(tidied, nothing, "{}", setup.name);
        clock.advance(HOUR - 1);
        assert_eq!(server.tidy().await.expect("a pass"), None, "{}: once an hour", setup.name);
        clock.advance(DAY + HOUR);
        let tidied = server.tidy().await.expect("a pass").expect("it is due");
        assert!(tidied.entries > 400 && tidied.entries < 1_000, "{} {tidied:?}", setup.name);
        assert_eq!(tidied.transaction_ids, 1, "{}", setup.name);
        assert!(tidied.expired >= 1, "{} {tidied:?}", setup.name);

        let mut connection = server.database.read().await.expect("a connection");
        let oldest = log::oldest(&mut connection).await.expect("the log");
        assert_eq!(oldest, log::head(&mut connection).await.expect("the head") - KEPT + 1, "{}", setup.name);
        let left = replicas::gone(&mut connection, "keeper").await.expect("the replicas");
        assert!(!left.iter().any(|(name, _)| name == "gone"), "{} {left:?}", setup.name);
        drop(connection);
        // A server that starts now has nothing of that time in memory.
        let again = open(&setup.options, "again").await;
        let told = sync::since(&again, &alice, &first.next_batch).await;
        let timeline = &told.rooms.join[&room].history.timeline;
        assert_eq!(timeline.events.len(), 1, "{}", setup.name);
        assert!(timeline.events[0].get().contains(event_id.as_str()) && !timeline.limited, "{}", setup.name);
        again.close().await;
        server.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unread_counts_are_written_down() {
    for setup in setups("unread").await {
        let server = open(&setup.options, "first").await;
        let (alice, bob) = (register(&server, "alice", "A").await, register(&server, "bob", "B").await);
        let room = create_room(&server, &alice.user).await;
        let found = server.rooms.get(&room).await.expect("the room");
        server.join(&found, &bob.user, Default::default()).await.expect("bob joins");
        let mut last = None;
        for index in 0..130 {
            let content = to_raw_value(&serde_json::json!({ "body": index })).expect("JSON");
            let kind = "m.room.message".to_owned();
            last = Some(server.send_message(&room, &alice.user, kind, content, None).await.expect("sent"));
        }
        let count =
            |answer: &myelin_core::sync::answer::Answer| answer.rooms.join[&room].unread_notifications.notify;
        assert_eq!(count(&sync::first(&server, &bob).await), 130, "{}", setup.name);
        server.tick().await.expect("housekeeping");
        server.close().await;

        let server = open(&setup.options, "second").await;
        let mut connection = server.database.read().await.expect("a connection");
        let found = server.rooms.get(&room).await.expect("the room");
        let rows = myelin_storage::rooms::unread::get(&mut connection, bob.user_pk, &[found.pk]).await;
        drop(connection);
        assert_eq!(rows.expect("rows").iter().map(|row| row.notify).sum::<i64>(), 130, "{}", setup.name);
        assert_eq!(count(&sync::first(&server, &bob).await), 130, "{}", setup.name);
        let content = to_raw_value(&serde_json::json!({ "body": "one more" })).expect("JSON");
        let kind = "m.room.message".to_owned();
        server.send_message(&room, &alice.user, kind, content, None).await.expect("sent");
        let counted = sync::first(&server, &bob).await;
        assert_eq!(count(&counted), 131, "{}", setup.name);
        // What was read since the checkpoint does not come back with it.
        sync::read(&server, &bob, &found, &last.expect("an event")).await;
        server.close().await;
        let server = open(&setup.options, "third").await;
        assert_eq!(count(&sync::first(&server, &bob).await), 1, "{}", setup.name);
        server.close().await;
    }
}
