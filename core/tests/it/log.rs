//! The log: whoever reads it in pages, in memory or as a cache misses no position, and sees none twice or out of order.

use crate::support::{Setup, setups};
use myelin_core::Server;
use myelin_core::log::Reader;
use myelin_storage::log::{self, Kind};
use myelin_storage::{Database, Entry, testing};
use parking_lot::Mutex;
use proptest::prelude::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use tokio::task::JoinHandle;

const WRITERS: i64 = 16;
const COMMITS: i64 = 30;

/// Checks that entries come one after the other.
struct Follower {
    what: String,
    cursor: i64,
}

impl Follower {
    fn take(&mut self, entries: &[Entry]) {
        for entry in entries {
            assert_eq!(entry.pos, self.cursor + 1, "{}", self.what);
            self.cursor = entry.pos;
        }
    }
}

/// A cache, and a waker.
struct Hearing(Mutex<Follower>);

impl Reader for Hearing {
    fn handle(&self, entries: &[Entry]) {
        self.0.lock().take(entries);
    }
}

/// Writes entries in commits of one to three, some of which are taken back.
fn writer(server: Arc<Server>, number: i64) -> JoinHandle<()> {
    tokio::spawn(async move {
        for commit in 0..COMMITS {
            let work = server.commit.run(move |tx| {
                Box::pin(async move {
                    for entry in 0..=commit % 3 {
                        tx.entry(Kind::Profile, number, entry);
                    }
                    match commit % 7 {
                        3 => Err(myelin_core::Error::not_found("on purpose")),
                        _ => Ok(()),
                    }
                })
            });
            assert_eq!(work.await.is_err(), commit % 7 == 3);
        }
    })
}

/// Reads pages of the database until it has reached `end`, which is -1 while that is not known.
fn pager(server: Arc<Server>, mut follower: Follower, page: i64, end: Arc<AtomicI64>) -> JoinHandle<()> {
    tokio::spawn(async move {
        while follower.cursor != end.load(Ordering::Acquire) {
            let mut connection = server.database.read().await.expect("a connection");
            let entries = log::after(&mut connection, follower.cursor, page).await.expect("a page");
            drop(connection);
            follower.take(&entries);
            tokio::task::yield_now().await;
        }
    })
}

/// Reads what a replica has applied, and waits for more.
fn listener(server: Arc<Server>, mut follower: Follower, end: Arc<AtomicI64>) -> JoinHandle<()> {
    tokio::spawn(async move {
        while follower.cursor != end.load(Ordering::Acquire) {
            let seen = server.log.since(follower.cursor, |entries| entries.copied().collect::<Vec<_>>());
            follower.take(&seen.expect("the tail reaches so far"));
            let next = server.log.wait_for(follower.cursor + 1);
            let _ = tokio::time::timeout(std::time::Duration::from_millis(20), next).await;
        }
    })
}

async fn read_while_writing(setup: &Setup) {
    let end = Arc::new(AtomicI64::new(-1));
    let mut readers = Vec::new();
    let mut hearing = Vec::new();
    for (index, server) in setup.replicas.iter().enumerate() {
        let follower = |what: &str| {
            let what = format!("{}, replica {index}, {what}", setup.name);
            Follower { what, cursor: server.log.visible() }
        };
        for reader in [Hearing(Mutex::new(follower("cache"))), Hearing(Mutex::new(follower("waker")))] {
            hearing.push(Arc::new(reader));
        }
        if let [.., cache, waker] = hearing.as_slice() {
            server.log.add_cache(cache.clone());
            server.log.add_waker(waker.clone());
        }
        for page in [1, 7, 1_000] {
            readers.push(pager(server.clone(), follower(&format!("pages of {page}")), page, end.clone()));
        }
        readers.push(listener(server.clone(), follower("memory"), end.clone()));
    }
    let writers: Vec<_> =
        (0..WRITERS).map(|number| writer(setup.replica(number as usize).clone(), number)).collect();
    for writer in writers {
        writer.await.expect("a writer");
    }
    let head = log::head(&mut setup.replica(0).database.read().await.expect("a connection"))
        .await
        .expect("the head");
    end.store(head, Ordering::Release);
    for reader in readers {
        reader.await.expect("a reader");
    }
    for server in &setup.replicas {
        server.log.catch_up().await.expect("the log");
    }
    for hearing in hearing {
        assert_eq!(hearing.0.lock().cursor, head, "{}", setup.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_reader_misses_a_position_while_sixteen_write() {
    for setup in setups("log").await {
        read_while_writing(&setup).await;
    }
}

/// What may happen to a log.
#[derive(Clone, Debug)]
enum Step {
    /// A commit, with units of so many entries of which some are taken back.
    Commit(Vec<(usize, bool)>),
    /// A transaction that is dropped.
    Abandon(usize),
    /// A reader reads a page.
    Read { reader: usize, limit: i64 },
    /// What all readers have read is trimmed.
    Trim,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => prop::collection::vec((0..5_usize, any::<bool>()), 1..6).prop_map(Step::Commit),
        1 => (0..4_usize).prop_map(Step::Abandon),
        4 => (0..3_usize, 1..9_i64).prop_map(|(reader, limit)| Step::Read { reader, limit }),
        1 => Just(Step::Trim),
    ];
    prop::collection::vec(step, 1..60)
}

/// Does the steps, and checks what readers see against a list of what was committed.
async fn walk(database: &Database, steps: Vec<Step>) {
    let mut committed: Vec<Entry> = Vec::new();
    let mut cursors = [0_i64; 3];
    for step in steps {
        match step {
            Step::Commit(units) => {
                let mut tx = database.write().await.expect("a transaction");
                for (entries, keep) in units {
                    let mark = tx.mark().await.expect("a mark");
                    for object in 0..entries {
                        tx.entry(Kind::Profile, 1, object as i64);
                    }
                    if keep {
                        tx.release().await.expect("a release");
                    } else {
                        tx.back_to(mark).await.expect("the way back");
                    }
                }
                committed.extend(tx.commit().await.expect("a commit"));
            }
            Step::Abandon(entries) => {
                let mut tx = database.write().await.expect("a transaction");
                for _ in 0..entries {
                    tx.entry(Kind::Profile, 2, 0);
                }
                tx.abandon().await.expect("the way back");
            }
            Step::Read { reader, limit } => {
                let mut connection = database.read().await.expect("a connection");
                let page = log::after(&mut connection, cursors[reader], limit).await.expect("a page");
                let start = committed.partition_point(|entry| entry.pos <= cursors[reader]);
                let wanted: Vec<Entry> = committed[start..].iter().take(limit as usize).copied().collect();
                assert_eq!(page, wanted);
                cursors[reader] = page.last().map_or(cursors[reader], |entry| entry.pos);
            }
            Step::Trim => {
                let upto = cursors.into_iter().min().unwrap_or(0);
                let mut tx = database.write().await.expect("a transaction");
                log::trim(&mut tx, upto, i64::MAX).await.expect("trimming");
                tx.commit().await.expect("a commit");
                let mut connection = database.read().await.expect("a connection");
                assert_eq!(log::oldest(&mut connection).await.expect("the oldest"), upto + 1);
            }
        }
    }
    let positions: Vec<i64> = committed.iter().map(|entry| entry.pos).collect();
    assert_eq!(positions, (1..=committed.len() as i64).collect::<Vec<_>>());
    let head = log::head(&mut database.read().await.expect("a connection")).await.expect("the head");
    assert_eq!(head, committed.len() as i64);
}

#[test]
fn any_order_of_commits_reads_and_trims_shows_each_position_once() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let server = std::env::var(testing::POSTGRES).ok();
    let case = std::sync::atomic::AtomicUsize::new(0);
    let config = ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(steps in steps())| {
        let case = case.fetch_add(1, Ordering::Relaxed);
        runtime.block_on(async {
            let folder = tempfile::tempdir().expect("a folder");
            let sqlite = testing::open(&testing::sqlite(folder.path()), "a").await.expect("a database");
            walk(&sqlite, steps.clone()).await;
            // Making a database takes a moment: a few of them.
            if let Some(server) = server.as_ref().filter(|_| case < 4) {
                let name = format!("core_log_property_{}", std::process::id());
                let options = testing::postgres(server, &name).await.expect("a database");
                let postgres = testing::open(&options, "a").await.expect("a database");
                walk(&postgres, steps).await;
                postgres.close().await;
            }
        });
    });
}
