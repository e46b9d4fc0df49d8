//! Other processes over the same database, and what this one owes its clients for their sake.
//!
//! A client that was answered by one replica may ask the next one: it must see what was acknowledged to it. So where
//! others may live, a request begins with a look at the head of the log, one statement that all requests share which
//! came before it began, and waits until this replica has applied that. A process that knows itself to be alone, and
//! SQLite always, pays a look at the clock, and its commits are told to nobody.
//!
//! *Being alone* is a lease. Whoever is in touch holds a lock in the database that all share; [`EVERY`] so often a
//! replica looks whether it could have it alone ([`EVERY_ALONE`] where it could), and believes so for [`LEASE`]. Who
//! comes and is not alone serves nothing before that time is over. Somebody who was there a moment ago and lost the lock
//! may still be answering, so for [`GRACE`] after others were seen, and after a start, nobody believes to be alone.
//!
//! *Being ready*: who has lost the connection that hears of the others serves nothing until it has a new one.

use crate::error::{Error, Result};
use crate::log::Log;
use myelin_storage::replicas::{self, Confirmed, Heard, Touch};
use myelin_storage::{Database, log};
use parking_lot::Mutex;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};

/// How often a replica looks at the head and for others, if nothing else tells.
const EVERY: Duration = Duration::from_millis(250);
/// The same for one that is alone.
const EVERY_ALONE: Duration = Duration::from_millis(500);
/// How long what was seen then counts.
const LEASE: Duration = Duration::from_secs(1);
/// How long others count as living after they were last seen.
const GRACE: Duration = Duration::from_secs(5);
/// How long one look may take.
const LOOK: Duration = Duration::from_secs(1);
/// The time between two attempts to get in touch again.
const AGAIN: Duration = Duration::from_millis(100);
/// How long a start waits for being ready. After that it goes on, and says not ready.
const START: Duration = Duration::from_secs(10);
/// Notes that may wait to be told; further ones are dropped, since they are not worth waiting for.
const NOTES: usize = 1_024;
/// Notes that are told together.
const NOTES_AT_ONCE: usize = 64;
/// Bytes of notes that are told together; PostgreSQL takes 7,999.
const NOTE_BYTES: usize = 7_500;

/// Other processes over the same database.
pub struct Replicas {
    database: Database,
    standing: Mutex<Seen>,
    ready: watch::Sender<bool>,
    /// Looks at the head that were begun.
    begun: AtomicU64,
    /// The number of the last look that ended well, and the head that it saw.
    looked: tokio::sync::Mutex<(u64, i64)>,
    notes: mpsc::Sender<String>,
    told: Mutex<Option<mpsc::Receiver<String>>>,
}

/// What a replica hears of the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note<'a> {
    /// One of them told something, perhaps this one.
    Told {
        /// When, in microseconds of the database's clock.
        at_us: i64,
        /// What.
        text: &'a str,
    },
    /// It is in touch from now on: what was told before this was missed.
    SomeWereMissed,
}

/// What was seen of the others.
struct Seen {
    /// Why this replica is out of touch, if it is.
    lost: Option<String>,
    /// When the last look that succeeded was begun.
    confirmed: Option<Instant>,
    /// When there were last others, or may have been.
    others: Instant,
}

impl Seen {
    /// Until when this replica may believe to be alone, if so.
    fn alone_until(&self, now: Instant) -> Option<Instant> {
        let are_gone = now.saturating_duration_since(self.others) >= GRACE;
        self.confirmed.filter(|_| are_gone).map(|at| at + LEASE)
    }
}

/// How this process stands to the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Alone,
    Shared,
    Lost,
}

impl Replicas {
    /// Not ready yet, unless the database is this process's own.
    pub fn new(database: Database) -> Replicas {
        let is_own = database.is_sqlite();
        let (notes, told) = mpsc::channel(NOTES);
        let lost = (!is_own).then(|| "it is starting".to_owned());
        Replicas {
            database,
            standing: Mutex::new(Seen { lost, confirmed: None, others: Instant::now() }),
            ready: watch::Sender::new(is_own),
            begun: AtomicU64::new(0),
            looked: tokio::sync::Mutex::new((0, 0)),
            notes,
            told: Mutex::new(Some(told)),
        }
    }

    fn standing(&self) -> Standing {
        if self.database.is_sqlite() {
            return Standing::Alone;
        }
        let (seen, now) = (self.standing.lock(), Instant::now());
        if seen.lost.is_some() {
            return Standing::Lost;
        }
        match seen.alone_until(now).is_some_and(|time| now < time) {
            true => Standing::Alone,
            false => Standing::Shared,
        }
    }

    /// Whether others may serve the same clients.
    pub fn are_there(&self) -> bool {
        self.standing() != Standing::Alone
    }

    /// Whether there may be others at any moment.
    pub fn can_be(&self) -> bool {
        !self.database.is_sqlite()
    }

    /// Returns when everything is applied here that was acknowledged anywhere before this was called.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when this replica is out of touch: nothing of it may be trusted then.
    pub async fn fresh(&self, log: &Log) -> Result<()> {
        match self.standing() {
            Standing::Alone => Ok(()),
            Standing::Lost => {
                Err(Error::Unavailable("this replica has lost touch with the database".to_owned()))
            }
            Standing::Shared => log.wait_for(self.head().await?).await,
        }
    }

    /// The head of the log, as a look saw it that began after this was called.
    async fn head(&self) -> Result<i64> {
        let before = self.begun.load(Ordering::Acquire);
        let look = async {
            let mut looked = self.looked.lock().await;
            if looked.0 > before {
                return Ok::<i64, Error>(looked.1);
            }
            let number = self.begun.fetch_add(1, Ordering::AcqRel) + 1;
            let head = log::head(&mut self.database.read().await?).await?;
            *looked = (number, head);
            Ok(head)
        };
        match timeout(LOOK, look).await {
            Ok(Ok(head)) => Ok(head),
            Ok(Err(error)) => Err(Error::Unavailable(format!("the head of the log cannot be read: {error}"))),
            Err(_) => Err(Error::Unavailable("the database does not answer in time".to_owned())),
        }
    }

    /// Why this replica should be asked nothing, if so: for load balancers.
    pub async fn trouble(&self) -> Option<String> {
        if let Some(lost) = &self.standing.lock().lost {
            return Some(lost.clone());
        }
        self.head().await.err().map(|error| error.to_string())
    }

    /// Waits until this replica is ready, for as long as a start may take.
    pub async fn until_ready(&self) {
        let mut ready = self.ready.subscribe();
        if timeout(START, ready.wait_for(|ready| *ready)).await.is_err() {
            tracing::warn!("this replica is not ready yet; it answers 503 until it is");
        }
    }

    /// Tells all replicas, this one included, something that is not kept: one line. Never waits: what is too much is
    /// dropped.
    pub fn tell(&self, note: String) {
        if note.contains('\n') || self.notes.try_send(note).is_err() {
            tracing::debug!("a note to the other replicas was dropped");
        }
    }

    /// Stays in touch until `stop` says to end: follows what others commit, and hands on what it hears. On SQLite there
    /// is nothing to follow.
    pub async fn follow(&self, log: &Log, hear: impl Fn(Note<'_>) + Sync, mut stop: watch::Receiver<bool>) {
        if self.database.is_sqlite() {
            return;
        }
        let told = self.told.lock().take();
        let follow = async {
            loop {
                let Err(error) = self.keep_touch(log, &hear).await;
                let lost = self.standing.lock().lost.replace(error.to_string());
                self.database.alone_until(None);
                if lost.is_none() {
                    tracing::warn!(%error, "lost touch with the database; trying again");
                }
                self.ready.send_replace(false);
                self.database.suspect_connections();
                sleep(AGAIN).await;
            }
        };
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => {}
            () = follow => {}
            () = self.pass_on(told) => {}
        }
    }

    async fn keep_touch(&self, log: &Log, hear: &(impl Fn(Note<'_>) + Sync)) -> Result<Infallible> {
        let began = Instant::now();
        let touch = timeout(START, self.database.touch()).await.map_err(too_slow)??;
        let mut touch = touch.ok_or_else(|| Error::internal("SQLite has no replicas"))?;
        if !self.confirm(&mut touch).await?.alone {
            // Somebody may have looked just before, and believe to be alone for a while.
            sleep(LEASE + LEASE / 10).await;
        }
        tracing::debug!(after = ?began.elapsed(), "in touch with the database");
        hear(Note::SomeWereMissed);
        loop {
            let next = Instant::now() + if self.are_there() { EVERY } else { EVERY_ALONE };
            let head = self.confirm(&mut touch).await?.head;
            if head > log.visible() {
                log.catch_up().await?;
            }
            if self.standing.lock().lost.take().is_some() {
                tracing::info!("in touch with the database again");
            }
            self.ready.send_if_modified(|ready| !std::mem::replace(ready, true));
            while Instant::now() < next {
                let Ok(heard) = timeout_at(next, touch.next()).await else { break };
                match heard? {
                    // What this process commits it applies itself.
                    Heard::Head { pos, replica }
                        if replica != self.database.replica() && pos > log.visible() =>
                    {
                        log.catch_up().await?;
                    }
                    Heard::Note { at_us, text } => {
                        text.lines().for_each(|text| hear(Note::Told { at_us, text }))
                    }
                    Heard::Head { .. } | Heard::Unknown => {}
                }
            }
        }
    }

    async fn confirm(&self, touch: &mut Touch) -> Result<Confirmed> {
        let began = Instant::now();
        let confirmed = timeout(LOOK, touch.confirm()).await.map_err(too_slow)??;
        let mut seen = self.standing.lock();
        seen.confirmed = Some(began);
        let now = Instant::now();
        if !confirmed.alone {
            seen.others = now;
        }
        self.database.alone_until(seen.alone_until(now).map(Instant::into_std));
        Ok(confirmed)
    }

    /// Tells the notes, several at once where they come faster than they can be told.
    async fn pass_on(&self, notes: Option<mpsc::Receiver<String>>) {
        let Some(mut notes) = notes else { return std::future::pending().await };
        let mut batch = Vec::new();
        while notes.recv_many(&mut batch, NOTES_AT_ONCE).await > 0 {
            for text in together(batch.drain(..)) {
                let tell = async { replicas::tell(&mut self.database.read().await?, &text).await };
                match timeout(LOOK, tell).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => tracing::debug!(%error, "notes to the other replicas were lost"),
                    Err(_) => {
                        tracing::debug!("notes to the other replicas were lost: the database is too slow")
                    }
                }
            }
        }
    }
}

/// Notes in as few texts as PostgreSQL takes, a note a line.
fn together(notes: impl Iterator<Item = String>) -> Vec<String> {
    let mut texts: Vec<String> = Vec::new();
    for note in notes {
        match texts.last_mut() {
            Some(text) if text.len() + 1 + note.len() <= NOTE_BYTES => {
                text.push('\n');
                text.push_str(&note);
            }
            _ => texts.push(note),
        }
    }
    texts
}

fn too_slow(_: tokio::time::error::Elapsed) -> Error {
    Error::Unavailable("the database does not answer in time".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_go_together_as_far_as_they_fit() {
        let notes = || (0..20).map(|number| format!("{number} {}", "x".repeat(1_000)));
        let texts = together(notes());
        assert_eq!(texts.len(), 3);
        assert!(texts.iter().all(|text| text.len() <= NOTE_BYTES));
        let lines: Vec<&str> = texts.iter().flat_map(|text| text.lines()).collect();
        assert_eq!(lines, notes().collect::<Vec<_>>());
        assert!(together(std::iter::empty()).is_empty());
    }
}
