//! The committer: what fails fails alone.

use crate::foreign::Foreign;
use crate::support::{Setup, setups};
use futures_util::future::join_all;
use myelin_core::{Error, Server};
use myelin_storage::changes::{Changes, NewToDevice};
use myelin_storage::{log, to_device};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Keeps the committer busy until told to go on: what is submitted meanwhile becomes one batch.
async fn hold(server: &Arc<Server>) -> oneshot::Sender<()> {
    let (entered, inside) = oneshot::channel();
    let (release, released) = oneshot::channel::<()>();
    let server = server.clone();
    tokio::spawn(async move {
        let work = server.commit.run(move |_| {
            Box::pin(async move {
                let _ = entered.send(());
                let _ = released.await;
                Ok(())
            })
        });
        work.await.expect("the holding unit");
    });
    inside.await.expect("the committer is held");
    release
}

/// A planned unit: a message for a device, and a node of a state tree.
fn unit(device_pk: i64, node: i64, text: &str) -> Changes {
    let json = format!("{{\"text\":\"{text}\"}}");
    Changes {
        nodes: vec![(node, 1, vec![1])],
        to_device: vec![NewToDevice { user_pk: 1, device_pk, json }],
        ..Changes::default()
    }
}

fn submit(server: &Arc<Server>, changes: Changes) -> JoinHandle<myelin_core::Result<i64>> {
    let server = server.clone();
    tokio::spawn(async move { server.commit.write(changes, |_| ()).await.map(|outcome| outcome.last) })
}

async fn messages(server: &Server, device_pk: i64) -> usize {
    let mut connection = server.database.read().await.expect("a connection");
    to_device::pending(&mut connection, device_pk, 0, i64::MAX, 100).await.expect("messages").len()
}

/// The positions of the log have no gaps.
async fn assert_no_gaps(setup: &Setup) {
    let mut connection = setup.replica(0).database.read().await.expect("a connection");
    let first = log::oldest(&mut connection).await.expect("the oldest");
    let head = log::head(&mut connection).await.expect("the head");
    let entries = log::after(&mut connection, 0, 10_000).await.expect("entries");
    let positions: Vec<i64> = entries.iter().map(|entry| entry.pos).collect();
    assert_eq!(positions, (first..=head).collect::<Vec<_>>(), "{}", setup.name);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unit_whose_rows_are_refused_fails_alone() {
    for setup in setups("refused").await {
        for turn in 0..setup.replicas.len() {
            let server = setup.replica(turn);
            let (node, device) = (1_000_000 + 1_000 * turn as i64, 100 * (turn as i64 + 1));
            let release = hold(server).await;
            let mut units = Vec::new();
            // The third and the fifth want the node of the first.
            for (index, number) in [0, 1, 0, 2, 0, 3].into_iter().enumerate() {
                units.push(submit(server, unit(device + index as i64, node + number, "x")));
                // In this order.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            let closure = {
                let server = server.clone();
                tokio::spawn(async move {
                    server.commit.run(|tx| Box::pin(async move { Ok(tx.position()) })).await
                })
            };
            tokio::time::sleep(Duration::from_millis(20)).await;
            release.send(()).expect("the committer waits");
            let outcomes = join_all(units).await;
            for (index, outcome) in outcomes.into_iter().enumerate() {
                let outcome = outcome.expect("no panic");
                let refused = index == 2 || index == 4;
                assert_eq!(outcome.is_err(), refused, "{} {index}: {outcome:?}", setup.name);
                if let Err(error) = outcome {
                    assert!(matches!(error, Error::Storage(_)), "{error:?}");
                }
                let stored = messages(server, device + index as i64).await;
                assert_eq!(stored, usize::from(!refused), "{} {index}", setup.name);
            }
            closure.await.expect("no panic").expect("the closure is not touched");
        }
        assert_no_gaps(&setup).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unit_that_panics_fails_alone() {
    for setup in setups("panics").await {
        for (turn, alone) in [(0, true), (1, false)] {
            let server = setup.replica(turn);
            let device = 100 * (turn as i64 + 1);
            let release = if alone { None } else { Some(hold(server).await) };
            let panics = {
                let server = server.clone();
                tokio::spawn(async move {
                    let work = server.commit.run(move |tx| {
                        Box::pin(async move {
                            log::set_meta(tx, &format!("panic {device}"), "written").await?;
                            tx.entry(log::Kind::Profile, 1, 0);
                            if device > 0 {
                                panic!("on purpose");
                            }
                            Ok(())
                        })
                    });
                    work.await
                })
            };
            tokio::time::sleep(Duration::from_millis(20)).await;
            let neighbour = submit(server, unit(device + 1, 2_000_000 + device, "y"));
            tokio::time::sleep(Duration::from_millis(20)).await;
            if let Some(release) = release {
                release.send(()).expect("the committer waits");
            }
            let outcome = panics.await.expect("the caller does not panic");
            assert!(matches!(outcome, Err(Error::Internal(_))), "{outcome:?}");
            neighbour.await.expect("no panic").expect("the neighbour is written");
            let mut connection = server.database.read().await.expect("a connection");
            let written = log::meta(&mut connection, &format!("panic {device}")).await.expect("an answer");
            assert_eq!(written, None, "{}", setup.name);
            drop(connection);
            assert_eq!(messages(server, device + 1).await, 1, "{}", setup.name);
            // The committer goes on.
            submit(server, unit(device + 2, 3_000_000 + device, "z"))
                .await
                .expect("no panic")
                .expect("a write");
        }
        assert_no_gaps(&setup).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unit_loses_by_an_event_that_is_not_unheard_of() {
    const SOMEBODY: &str = "@ada:other.example";
    for setup in setups("commit_unheard").await {
        let (server, foreign) = (setup.replica(0), Foreign::room("unheard", "11", SOMEBODY, &[], json!({})));
        foreign.deliver_all(server).await;
        let (room, known) = (foreign.enter(server).await.pk, foreign.last().to_string());
        let heard = Changes {
            gaps: vec![(room, "$followed".to_owned(), 1)],
            redactions: vec![("$redacted".to_owned(), 1, room, false)],
            ..Changes::default()
        };
        submit(server, heard).await.expect("a task").expect("written");
        let release = hold(server).await;
        let mut units = Vec::new();
        for (event, of, is_lost) in [
            (known.as_str(), room, true),
            ("$followed", room, true),
            ("$followed", room + 1, false),
            ("$redacted", room, true),
            ("$unheard", room, false),
        ] {
            let node = i64::from(i16::MAX) + i64::try_from(units.len()).expect("a number");
            let unheard_of = vec![("$other".to_owned()), event.to_owned()];
            let unheard_of = unheard_of.into_iter().map(|id| (of, id)).collect();
            let planned = Changes { unheard_of, ..unit(1, node, event) };
            units.push((event, is_lost, submit(setup.replica(0), planned)));
            tokio::task::yield_now().await;
        }
        release.send(()).expect("the committer goes on");
        let mut written = 0;
        for (event, is_lost, done) in units {
            let done = done.await.expect("a task");
            let lost = matches!(done, Err(Error::Storage(myelin_storage::Error::GuardLost)));
            assert_eq!((lost, done.is_ok()), (is_lost, !is_lost), "{} {event}", setup.name);
            written += usize::from(done.is_ok());
        }
        assert_eq!(messages(server, 1).await, written, "{}", setup.name);
        assert_no_gaps(&setup).await;
    }
}
