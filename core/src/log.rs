//! The log as the core sees it: what this replica has applied, the newest entries in memory, and who waits.
//!
//! Whoever commits, and [`crate::replicas`] for what others commit, hand entries to [`Log::apply`]. It takes them in the
//! order of their positions, without gaps, tells the caches, makes them visible, and then tells the wakers. So a
//! request that has loaded [`Log::visible`] finds every cache at least as new as that position.

use crate::error::{Error, Result};
use myelin_storage::log::{self, Kind};
use myelin_storage::{Database, Entry};
use parking_lot::RwLock;
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::{Mutex, watch};

/// Entries that are kept in memory: about half a megabyte.
const TAIL: usize = 16_384;
/// Entries that are read at once when this replica is behind.
const PAGE: i64 = 4_096;

/// Something in memory that follows the log. It must not wait: what takes time belongs into a task of its own.
pub trait Reader: Send + Sync + 'static {
    /// Takes entries into account. They come in order, each once.
    fn handle(&self, entries: &[Entry]);
}

/// The log, shared by everybody.
pub struct Log {
    database: Database,
    tail: RwLock<Tail>,
    visible: watch::Sender<i64>,
    applying: Mutex<()>,
    caches: RwLock<Vec<Arc<dyn Reader>>>,
    wakers: RwLock<Vec<Arc<dyn Reader>>>,
}

/// The newest entries. `from` is the position behind which everything is here.
struct Tail {
    from: i64,
    entries: VecDeque<Entry>,
}

impl Log {
    /// Starts at the head of the database's log, with the entries before it as far as they are kept.
    pub async fn open(database: Database) -> Result<Log> {
        let mut connection = database.read().await?;
        let head = log::head(&mut connection).await?;
        let from = (head - TAIL as i64).max(log::oldest(&mut connection).await? - 1);
        let entries = log::after(&mut connection, from, TAIL as i64).await?;
        drop(connection);
        Ok(Log {
            database,
            tail: RwLock::new(Tail { from, entries: entries.into() }),
            visible: watch::Sender::new(head),
            applying: Mutex::new(()),
            caches: RwLock::default(),
            wakers: RwLock::default(),
        })
    }

    /// Adds a cache: it takes entries into account before they become visible.
    pub fn add_cache(&self, cache: Arc<dyn Reader>) {
        self.caches.write().push(cache);
    }

    /// Adds somebody who wakes those that wait: it hears of entries when they have become visible.
    pub fn add_waker(&self, waker: Arc<dyn Reader>) {
        self.wakers.write().push(waker);
    }

    /// The newest position that is applied here.
    pub fn visible(&self) -> i64 {
        *self.visible.borrow()
    }

    /// Follows the newest position that is applied here.
    pub fn follow(&self) -> watch::Receiver<i64> {
        self.visible.subscribe()
    }

    /// Entries behind a position up to the visible one, at most `limit`, from memory or from the database. `None` when
    /// the log no longer reaches back so far.
    pub async fn read(&self, after: i64, limit: usize) -> Result<Option<Vec<Entry>>> {
        let recent = self.since(after, |entries| entries.take(limit).copied().collect());
        if let Some(recent) = recent {
            return Ok(Some(recent));
        }
        let visible = self.visible();
        let mut connection = self.database.read().await?;
        if log::oldest(&mut connection).await? > after + 1 {
            return Ok(None);
        }
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut page = log::after(&mut connection, after, limit).await?;
        page.retain(|entry| entry.pos <= visible);
        Ok(Some(page))
    }

    /// Waits until this replica has applied `pos`, which another one may have given out.
    pub async fn wait_for(&self, pos: i64) -> Result<()> {
        if self.visible() >= pos {
            return Ok(());
        }
        // Notifications can be late or lost: look for ourselves before waiting for them.
        self.catch_up().await?;
        let mut seen = self.visible.subscribe();
        let waiting = seen.wait_for(|visible| *visible >= pos);
        match tokio::time::timeout(std::time::Duration::from_secs(5), waiting).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(Error::Unavailable("this replica has not seen that position yet".to_owned())),
        }
    }

    /// Entries behind `after` up to the visible position, by a closure for each; `None` when the tail no longer
    /// reaches back so far.
    pub fn since<T>(
        &self,
        after: i64,
        look: impl FnOnce(&mut dyn Iterator<Item = &Entry>) -> T,
    ) -> Option<T> {
        let tail = self.tail.read();
        if after < tail.from {
            return None;
        }
        let visible = self.visible();
        let start = tail.entries.partition_point(|entry| entry.pos <= after);
        let mut found = tail.entries.range(start..).take_while(|entry| entry.pos <= visible);
        Some(look(&mut found))
    }

    /// Applies entries that this replica committed. What others committed before them is read from the database.
    pub async fn apply(&self, entries: &[Entry]) -> Result<()> {
        let Some(first) = entries.first() else { return Ok(()) };
        let _order = self.applying.lock().await;
        if first.pos > self.visible() + 1 {
            self.read_up_to(first.pos - 1).await?;
        }
        let visible = self.visible();
        let new = entries.partition_point(|entry| entry.pos <= visible);
        self.publish(entries.get(new..).unwrap_or_default());
        Ok(())
    }

    /// Reads and applies everything that is committed.
    pub async fn catch_up(&self) -> Result<()> {
        let _order = self.applying.lock().await;
        let head = log::head(&mut self.database.read().await?).await?;
        self.read_up_to(head).await
    }

    async fn read_up_to(&self, pos: i64) -> Result<()> {
        while self.visible() < pos {
            let mut connection = self.database.read().await?;
            let page = log::after(&mut connection, self.visible(), PAGE).await?;
            let wanted = page.partition_point(|entry| entry.pos <= pos);
            let page = page.get(..wanted).unwrap_or_default();
            let goes_on = page.first().is_some_and(|entry| entry.pos == self.visible() + 1);
            if !goes_on && log::oldest(&mut connection).await? > self.visible() + 1 {
                return Err(Error::Unavailable(
                    "this replica was away for so long that the log no longer says what happened; restart it"
                        .to_owned(),
                ));
            }
            if page.is_empty() {
                // The head moved without entries: a new epoch, or kinds that this version does not know.
                self.visible.send_replace(pos);
                return Ok(());
            }
            self.publish(page);
        }
        Ok(())
    }

    /// Caches first, then the position, then those who wait for it.
    fn publish(&self, entries: &[Entry]) {
        let Some(last) = entries.last() else { return };
        {
            let mut tail = self.tail.write();
            if let Some(epoch) = entries.iter().rfind(|entry| entry.kind == Kind::Epoch) {
                // What is in memory may never have happened.
                tail.entries.clear();
                tail.from = epoch.pos - 1;
            }
            let from = tail.from;
            tail.entries.extend(entries.iter().filter(|entry| entry.pos > from));
            while tail.entries.len() > TAIL {
                if let Some(dropped) = tail.entries.pop_front() {
                    tail.from = dropped.pos;
                }
            }
        }
        for cache in self.caches.read().iter() {
            cache.handle(entries);
        }
        self.visible.send_replace(last.pos);
        for waker in self.wakers.read().iter() {
            waker.handle(entries);
        }
    }
}

/// True for the kinds that concern everybody in a room.
pub fn concerns_room(kind: Kind) -> bool {
    matches!(kind, Kind::Event | Kind::State | Kind::Receipt)
}
