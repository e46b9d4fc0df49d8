//! The committer: the one door through which everything is written.
//!
//! Writers submit units; the committer merges what waits (at most [`MERGE`]) into one durable commit. That commit is the
//! moment at which an operation has happened: afterwards the entries are applied to the caches, become visible, wake
//! who waits, and only then are the units answered. A unit that fails is taken back alone and does not hurt the others:
//! rows that the database refuses make the committer write the batch's planned units one by one, and a closure that
//! panics is a closure that failed. A caller that goes away does not take its unit with it.

use crate::epoch;
use crate::error::{Error, Result};
use crate::log::Log;
use crate::ports::{Clock, Random};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use myelin_storage::changes::{self, Changes, Outcome};
use myelin_storage::{Database, Entry, Tx};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc, oneshot};

/// Units in one commit.
const MERGE: usize = 256;
/// Units that may wait; further callers wait until there is room.
const WAITING: usize = 1_024;
/// Units after which the write-ahead log is moved into the database: some megabytes.
const CHECKPOINT: usize = 128;
/// How long deletions that nobody waits for may wait for a commit that goes their way.
const LAZY: Duration = Duration::from_secs(1);

type Work = Box<dyn for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, bool> + Send>;
type Done = Box<dyn FnOnce(Result<()>) + Send>;
type Publish = Box<dyn FnOnce(&Outcome) + Send>;

enum Unit {
    /// Rows that can be merged with those of other units.
    Planned { changes: Box<Changes>, publish: Publish, done: oneshot::Sender<Result<Outcome>> },
    /// Statements that depend on what they read. `work` says whether it succeeded; `done` answers.
    InTransaction { work: Work, done: Done },
}

/// Takes units; cheap to clone.
#[derive(Clone)]
pub struct Committer {
    queue: mpsc::Sender<Unit>,
    seen: Arc<Seen>,
}

/// To-device messages that devices have seen: their deletion goes along with the next commit, or is made after a while.
/// Lost in a crash it does no harm: the device says so again.
#[derive(Default)]
struct Seen {
    upto: Mutex<HashMap<i64, i64>>,
    some: Notify,
}

/// What a commit is made with.
pub struct Means {
    /// Where it goes.
    pub database: Database,
    /// Who hears of it.
    pub log: Arc<Log>,
    /// For an epoch that begins.
    pub clock: Arc<dyn Clock>,
    /// For an epoch that begins.
    pub random: Arc<dyn Random>,
}

impl Committer {
    /// Starts the committer's task. It ends when the last [`Committer`] is dropped and the queue is empty.
    pub fn start(means: Means) -> (Committer, tokio::task::JoinHandle<()>) {
        let (queue, units) = mpsc::channel(WAITING);
        let seen = Arc::<Seen>::default();
        let task = tokio::spawn(run(means, units, seen.clone()));
        (Committer { queue, seen }, task)
    }

    /// Writes rows. `publish` runs after the commit and before its entries become visible: it puts into caches what
    /// the rows say.
    ///
    /// # Errors
    /// [`myelin_storage::Error::GuardLost`] when a room is no longer as the changes expect it.
    pub async fn write(
        &self,
        changes: Changes,
        publish: impl FnOnce(&Outcome) + Send + 'static,
    ) -> Result<Outcome> {
        let (done, answer) = oneshot::channel();
        let unit = Unit::Planned { changes: Box::new(changes), publish: Box::new(publish), done };
        self.queue.send(unit).await.map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())?
    }

    /// Notes that a device has seen its messages up to a position: one of the next commits deletes them.
    pub fn seen(&self, device_pk: i64, upto: i64) {
        let mut all = self.seen.upto.lock();
        let known = all.entry(device_pk).or_insert(upto);
        *known = upto.max(*known);
        drop(all);
        self.seen.some.notify_one();
    }

    /// Runs a closure inside the next commit, under a savepoint, and gives what it returned once that is durable.
    pub async fn run<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, Result<T>> + Send + 'static,
    {
        let (send, answer) = oneshot::channel();
        let slot = Arc::new(Mutex::new(None));
        let filled = slot.clone();
        let work: Work = Box::new(move |tx| {
            Box::pin(async move {
                let result = work(tx).await;
                let succeeded = result.is_ok();
                *filled.lock() = Some(result);
                succeeded
            })
        });
        let done: Done = Box::new(move |outcome| {
            let result = match outcome {
                Ok(()) => slot.lock().take().unwrap_or_else(|| Err(Error::internal("a unit panicked"))),
                Err(error) => Err(error),
            };
            // The caller may have gone away; what it asked for has happened all the same.
            let _ = send.send(result);
        });
        self.queue.send(Unit::InTransaction { work, done }).await.map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())?
    }
}

fn stopping() -> Error {
    Error::Unavailable("the server is stopping".to_owned())
}

impl Seen {
    /// Comes back when there was something to delete for a while.
    async fn due(&self) {
        self.some.notified().await;
        tokio::time::sleep(LAZY).await;
    }

    /// What there is to delete.
    fn take(&self) -> Option<Unit> {
        let seen: Vec<_> = std::mem::take(&mut *self.upto.lock()).into_iter().collect();
        if seen.is_empty() {
            return None;
        }
        let changes = Box::new(Changes { seen, ..Changes::default() });
        Some(Unit::Planned { changes, publish: Box::new(|_| {}), done: oneshot::channel().0 })
    }
}

async fn run(means: Means, mut units: mpsc::Receiver<Unit>, seen: Arc<Seen>) {
    let mut batch = Vec::with_capacity(MERGE);
    let mut since_checkpoint = 0;
    loop {
        let is_open = tokio::select! {
            received = units.recv_many(&mut batch, MERGE) => received > 0,
            () = seen.due() => true,
        };
        batch.extend(seen.take());
        if batch.is_empty() {
            match is_open {
                true => continue,
                false => return,
            }
        }
        since_checkpoint += batch.len();
        commit(&means, std::mem::take(&mut batch)).await;
        // A bounded write-ahead log; on SQLite the committer's connection is the one that may move it.
        if since_checkpoint >= CHECKPOINT || (units.is_empty() && since_checkpoint >= CHECKPOINT / 4) {
            since_checkpoint = 0;
            if let Err(error) = means.database.checkpoint(false).await {
                tracing::warn!(%error, "a checkpoint failed and will be tried again");
            }
        }
    }
}

/// One commit: plan's rows together, closures one by one, then the answers.
async fn commit(means: &Means, units: Vec<Unit>) {
    let mut planned = Vec::new();
    let mut closures = Vec::new();
    for unit in units {
        match unit {
            Unit::Planned { changes, publish, done } => planned.push((changes, publish, done)),
            Unit::InTransaction { work, done } => closures.push((work, done)),
        }
    }
    let all: Vec<&Changes> = planned.iter().map(|(changes, ..)| &**changes).collect();
    let (works, dones): (Vec<_>, Vec<_>) = closures.into_iter().unzip();
    let written = write(means, &all, works).await;
    let written = match written {
        Ok(written) => written,
        Err(error) => {
            tracing::error!(%error, "a commit failed");
            let fail = || Error::Unavailable("the database could not store this".to_owned());
            planned.into_iter().for_each(|(.., done)| drop(done.send(Err(fail()))));
            dones.into_iter().for_each(|done| done(Err(fail())));
            return;
        }
    };
    let mut answers = Vec::with_capacity(planned.len());
    for ((_, publish, done), outcome) in planned.into_iter().zip(written.outcomes) {
        if let Ok(outcome) = &outcome {
            publish(outcome);
        }
        answers.push((done, outcome));
    }
    if let Err(error) = means.log.apply(&written.entries).await {
        // What is committed is committed; the log is read again by whoever needs it next.
        tracing::error!(%error, "committed entries could not be applied yet");
    }
    for (done, outcome) in answers {
        let _ = done.send(outcome.map_err(Error::from));
    }
    for (done, refused) in dones.into_iter().zip(written.refused) {
        done(refused.map_or(Ok(()), |error| Err(error.into())));
    }
}

struct Written {
    outcomes: Vec<myelin_storage::Result<Outcome>>,
    /// What the database refused of each closure, although the closure came to a good end.
    refused: Vec<Option<myelin_storage::Error>>,
    entries: Vec<Entry>,
}

async fn write(means: &Means, planned: &[&Changes], works: Vec<Work>) -> Result<Written> {
    let database = &means.database;
    let only_rows = works.is_empty();
    let (mut tx, outcomes) = write_planned(means, planned, !only_rows).await?;
    let alone = planned.is_empty() && works.len() == 1;
    let mut refused = Vec::with_capacity(works.len());
    for work in works {
        if alone {
            // Alone in its transaction a unit needs no savepoint: all of it goes, or none.
            if !succeeds(work, &mut tx).await {
                tx.abandon().await?;
                return Ok(Written { outcomes, refused: vec![None], entries: Vec::new() });
            }
            refused.push(None);
        } else {
            let mark = tx.mark().await?;
            let written = match succeeds(work, &mut tx).await {
                true => tx.flush().await.map(|()| true),
                false => Ok(false),
            };
            match &written {
                Ok(true) => tx.release().await?,
                _ => tx.back_to(mark).await?,
            }
            refused.push(written.err());
        }
    }
    let batch = tx.batch();
    match tx.commit().await {
        Ok(entries) => Ok(Written { outcomes, refused, entries }),
        Err(error) if error.is_outage() && database.has_batch(batch).await? => {
            // The connection broke after the commit: it happened, and the entries are in the log.
            tracing::warn!(%error, "a commit's answer was lost; the commit itself was not");
            Ok(Written { outcomes, refused, entries: log_of(database).await? })
        }
        Err(error) if only_rows && !error.is_outage() => {
            // PostgreSQL was given the rows only now.
            let (tx, outcomes) = one_by_one(means, planned, &error).await?;
            Ok(Written { outcomes, refused, entries: tx.commit().await? })
        }
        Err(error) => Err(error.into()),
    }
}

/// Begins a transaction. Where its head is behind what this process has seen, the database was taken back meanwhile.
async fn begin(means: &Means) -> Result<Tx> {
    let mut tx = means.database.write().await?;
    let (head, seen) = (tx.position(), means.log.visible());
    if head < seen {
        let reason = format!("the database is at position {head}, and this process has seen {seen}");
        epoch::begin(&mut tx, epoch::Plan::new(&*means.random, &*means.clock, seen, &reason)).await?;
    }
    Ok(tx)
}

/// What the database holds of planned units that are not committed yet.
type Planned = (Tx, Vec<myelin_storage::Result<Outcome>>);

/// Begins a transaction with the rows of all units, or, when the database refuses them, of those that it accepts. Without
/// `flush` it may refuse them later.
async fn write_planned(means: &Means, planned: &[&Changes], flush: bool) -> Result<Planned> {
    let mut tx = begin(means).await?;
    let applied = match changes::apply(&mut tx, planned).await {
        Ok(outcomes) if flush => tx.flush().await.map(|()| outcomes),
        other => other,
    };
    match applied {
        Ok(outcomes) => Ok((tx, outcomes)),
        Err(error) => {
            tx.abandon().await?;
            match error.is_outage() {
                true => Err(error.into()),
                false => one_by_one(means, planned, &error).await,
            }
        }
    }
}

/// Begins a transaction with the rows of those units that the database accepts.
async fn one_by_one(means: &Means, planned: &[&Changes], refused: &myelin_storage::Error) -> Result<Planned> {
    tracing::warn!(error = %refused, units = planned.len(), "rows were refused; writing the units one by one");
    let mut tx = begin(means).await?;
    let mut outcomes = Vec::with_capacity(planned.len());
    for unit in planned {
        let mark = tx.mark().await?;
        let applied = match changes::apply(&mut tx, &[unit]).await {
            Ok(outcome) => tx.flush().await.map(|()| outcome),
            Err(error) => Err(error),
        };
        match applied {
            Ok(outcome) => {
                tx.release().await?;
                outcomes.extend(outcome);
            }
            Err(error) => {
                tx.back_to(mark).await?;
                outcomes.push(Err(error));
            }
        }
    }
    Ok((tx, outcomes))
}

/// Whether a unit's closure came to a good end. A panic is none, and ends nothing but its unit.
async fn succeeds(work: Work, tx: &mut Tx) -> bool {
    AssertUnwindSafe(work(tx)).catch_unwind().await.unwrap_or_else(|_| {
        tracing::error!("a unit panicked inside its transaction; it is taken back");
        false
    })
}

/// The newest entries, for a commit whose own are not known: applying entries twice does no harm.
async fn log_of(database: &Database) -> Result<Vec<Entry>> {
    let mut connection = database.read().await?;
    let head = myelin_storage::log::head(&mut connection).await?;
    Ok(myelin_storage::log::after(&mut connection, head - 4_096, 4_096).await?)
}
