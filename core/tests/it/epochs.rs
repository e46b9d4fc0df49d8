//! Databases that are taken back to an earlier state: it is noticed, and no one-time key comes out twice.

use crate::keys::{claim_one, device, fallback, one_time, pair};
use crate::support::{open, register, setups};
use myelin_core::Server;
use myelin_core::keys::upload;
use myelin_core::sync::token::Token;
use myelin_core::users::sessions::Session;
use myelin_storage::{Options, epochs, log, testing};
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

fn numbered(range: std::ops::Range<i32>) -> upload::Upload {
    one_time(range.map(|number| (format!("K{number}"), format!("key {number}"))))
}

async fn count(server: &Server, session: &Session) -> i64 {
    upload::counts(server, session.device_pk).await.expect("counts")["signed_curve25519"]
}

/// Claims keys of a device, and notes that none came out before.
async fn claim(server: &Server, session: &Session, times: usize, issued: &mut HashSet<String>) {
    for _ in 0..times {
        let (id, _) = claim_one(server, session).await.expect("a key");
        assert!(issued.insert(id.clone()), "{id} came out twice");
    }
}

/// Before the backup: a device with ten keys and a fallback key, two of them claimed.
async fn before(server: &Server, issued: &mut HashSet<String>) -> Arc<Session> {
    let alice = register(server, "alice", "A").await;
    upload::upload(server, device(&alice), numbered(0..10)).await.expect("an upload");
    upload::upload(server, device(&alice), fallback("F", "fallback")).await.expect("an upload");
    claim(server, &alice, 2, issued).await;
    alice
}

/// Between the backup and its restoration: more keys, and claims of some of the old and some of the new.
async fn between(server: &Server, alice: &Session, issued: &mut HashSet<String>) {
    claim(server, alice, 5, issued).await;
    upload::upload(server, device(alice), numbered(10..14)).await.expect("an upload");
    claim(server, alice, 5, issued).await;
    register(server, "carol", "C").await;
}

/// After it: a new epoch, and none of the keys comes out again, whatever the client repeats.
async fn after(server: &Server, old: i64, reached: i64, alice: &Session, issued: &mut HashSet<String>) {
    assert_ne!(server.epoch(), old);
    assert!(server.log.visible() > reached + 1_000_000, "the head moved far forward");
    assert_eq!(count(server, alice).await, 0);
    let (id, _) = claim_one(server, alice).await.expect("the fallback key");
    assert_eq!(id, "signed_curve25519:F");
    // The client repeats an upload of which it never heard: what may have been handed out is not stored.
    upload::upload(server, device(alice), numbered(0..10)).await.expect("an upload");
    assert_eq!(count(server, alice).await, 0);
    upload::upload(server, device(alice), numbered(100..103)).await.expect("an upload");
    claim(server, alice, 3, issued).await;
    let mut connection = server.database.read().await.expect("a connection");
    let changed = myelin_storage::keys::device_lists::since(&mut connection, reached).await.expect("users");
    assert!(changed.contains(&alice.user_pk), "device lists are announced");
}

fn copy_database(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for name in ["myelin.db", "myelin.db-wal", "myelin.db-shm"] {
        let _ = std::fs::remove_file(to.join(name));
        if from.join(name).exists() {
            std::fs::copy(from.join(name), to.join(name)).expect("a copy");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_copy_of_a_sqlite_database_is_noticed() {
    for (closed, without_witness) in [(true, false), (false, false), (true, true)] {
        let folder = tempfile::tempdir().expect("a folder");
        let backup = folder.path().join("backup");
        let options = testing::sqlite(folder.path());
        let mut issued = HashSet::new();
        let server = open(&options, "a").await;
        let alice = before(&server, &mut issued).await;
        server.close().await;
        copy_database(folder.path(), &backup);
        let server = open(&options, "b").await;
        between(&server, &alice, &mut issued).await;
        let (old, reached) = (server.epoch(), server.log.visible());
        if closed {
            server.close().await;
        } else {
            // As after SIGKILL: nothing was said to the witness, and the files stay as they are.
            std::mem::forget(server);
        }
        copy_database(&backup, folder.path());
        if without_witness {
            std::fs::remove_file(folder.path().join("myelin.db-witness")).expect("a witness");
        }
        let server = open(&options, "c").await;
        assert!(server.epoch_renewed.is_some());
        after(&server, old, reached, &alice, &mut issued).await;
        // Once.
        let renewed = server.epoch();
        server.close().await;
        let server = open(&options, "d").await;
        assert_eq!((server.epoch(), &server.epoch_renewed), (renewed, &None));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_noticed_where_nothing_happened() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = testing::sqlite(folder.path());
    let server = open(&options, "first").await;
    let epoch = server.epoch();
    register(&server, "alice", "A").await;
    server.close().await;
    for turn in 0..6 {
        let server = open(&options, &format!("replica {turn}")).await;
        assert_eq!((server.epoch(), &server.epoch_renewed), (epoch, &None), "{turn}");
        register(&server, &format!("user{turn}"), "A").await;
        if turn % 2 == 0 {
            server.close().await;
        }
    }
}

async fn restored_postgres(server: &str, name: &str) -> (Options, String, String) {
    let options = testing::postgres(server, name).await.expect("a database");
    (options, name.to_owned(), format!("{name}_backup"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgresql_database_that_was_put_back_is_noticed() {
    let Ok(url) = std::env::var(testing::POSTGRES) else { return };
    for replicas in [1, 2] {
        let name = format!("core_epochs_{replicas}_{}", std::process::id());
        let (options, name, backup) = restored_postgres(&url, &name).await;
        let mut issued = HashSet::new();
        let server = open(&options, "a").await;
        let alice = before(&server, &mut issued).await;
        server.close().await;
        drop(server);
        testing::copy_postgres(&url, &name, &backup).await.expect("a backup");
        let server = open(&options, "b").await;
        between(&server, &alice, &mut issued).await;
        let (old, reached) = (server.epoch(), server.log.visible());
        server.close().await;
        drop(server);
        testing::copy_postgres(&url, &backup, &name).await.expect("a restoration");
        let opened = futures_util::future::join_all((0..replicas).map(|index| {
            let options = options.clone();
            async move { open(&options, &format!("c{index}")).await }
        }));
        let servers = opened.await;
        let noticed = servers.iter().filter(|server| server.epoch_renewed.is_some()).count();
        assert_eq!(noticed, 1, "one replica begins the epoch, and the others are in it");
        for server in &servers {
            server.log.catch_up().await.expect("the log");
            assert_eq!(server.epoch(), servers[0].epoch());
        }
        after(&servers[replicas - 1], old, reached, &alice, &mut issued).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_goes_back_under_a_running_server_is_noticed_by_the_next_commit() {
    for setup in setups("went_back").await {
        let server = setup.replica(0);
        let alice = register(server, "alice", "A").await;
        upload::upload(server, device(&alice), numbered(0..3)).await.expect("an upload");
        let (old, reached) = (server.epoch(), server.log.visible());
        testing::take_back(&server.database, reached - 2).await.expect("the past");
        // The next who writes notices.
        upload::upload(server, device(&alice), one_time(pair("new", "new"))).await.expect("an upload");
        assert_ne!(server.epoch(), old, "{}", setup.name);
        assert!(server.log.visible() > reached);
        assert_eq!(count(server, &alice).await, 1, "only what came afterwards");
        for other in &setup.replicas {
            other.log.catch_up().await.expect("the log");
            assert_eq!(other.epoch(), server.epoch());
        }
        let reason =
            &epochs::all(&mut server.database.read().await.expect("a connection")).await.expect("epochs")[0];
        assert!(reason.reason.contains("has seen"), "{reason:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_from_the_future_is_evidence_when_it_is_ours() {
    for setup in setups("evidence").await {
        let server = setup.replica(0);
        register(server, "alice", "A").await;
        let old = server.epoch();
        let future = |pos| Token { epoch: old, pos, typing: 0, to_device: pos };
        let head = server.log.visible();
        let made_up = future(head + 50).to_string();
        for text in [made_up.clone(), format!("{made_up}.0123456789abcdef"), format!("{made_up}.")] {
            server.reach(&future(head + 50), &text).await.expect("an answer");
            assert_eq!(server.epoch(), old, "{}: anybody can write {text}", setup.name);
        }
        // Everything that was reached is none, on whichever replica.
        let reached = server.seal.sealed(&future(head));
        setup.replica(1).reach(&future(head), &reached).await.expect("an answer");
        assert_eq!(setup.replica(1).epoch(), old);
        let ours = server.seal.sealed(&future(head + 50));
        setup.replica(1).reach(&future(head + 50), &ours).await.expect("an answer");
        let renewed = setup.replica(1).epoch();
        assert_ne!(renewed, old, "{}", setup.name);
        assert!(setup.replica(1).log.visible() > head + 50);
        // The same evidence, brought again, is of an epoch that is over.
        server.log.catch_up().await.expect("the log");
        server.reach(&future(head + 50), &ours).await.expect("an answer");
        assert_eq!(server.epoch(), renewed);
        // The log's readers pass over the gap.
        let mut connection = server.database.read().await.expect("a connection");
        let entries = log::after(&mut connection, head, 10).await.expect("entries");
        assert_eq!(entries[0].kind, log::Kind::Epoch);
        assert_eq!(entries[0].object, renewed);
    }
}
