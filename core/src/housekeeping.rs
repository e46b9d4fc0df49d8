//! What has to be done now and then so that a server can run for years: one task, one pass at a time.
//!
//! Every [`TICK`] each process looks after its own memory: who is idle is forgotten, the caches share their budget anew,
//! and unread counts that took long to count are written down. Every [`HOUR`] one of the processes over a database tidies
//! it up: the first whose pass is due notes in the database that it does it, in a transaction, so that no other one
//! begins for an hour. It deletes in pieces of [`PIECE`] rows, each a unit of its own among those of others, so that
//! nobody waits long.
//!
//! What goes, and when:
//! * entries of the log after a day, but never the newest [`KEPT`], which a start reads. Positions have no time, so each
//!   pass notes the head with the time. No answer is lost with them: a token that is older than the log in memory is
//!   answered from the tables, whatever its age.
//! * transaction ids after a day, as in Synapse: a client that was away for longer does not repeat its requests.
//! * user-interactive sessions, refresh tokens and login tokens when they have expired. An expired access token stays as
//!   long as its device, since it still tells a client to log in softly.
//! * the links of device lists' chains with the entries of the log; whoever misses one asks for the whole list.
//! * device lists of other servers' users who share no room with this server any more.
//! * to-device messages for servers that have not answered for 90 days.
//! * the batch numbers of processes that are gone and have written nothing between two passes.
//!
//! What stays although it says "deleted": account data without content. It is one row for each type that a client ever
//! set, and a client that was away has no other way to hear that it is gone. Nodes of state trees that nothing refers to
//! can't come about yet: nodes are written in the transaction of the events that refer to them, and events stay.

use crate::error::Result;
use crate::server::Server;
use myelin_storage::federation::outbox;
use myelin_storage::keys::{device_lists, remote_device_lists};
use myelin_storage::{log, replicas, transaction_ids, users};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Weak;
use std::time::Duration;
use tokio::sync::watch;

/// The time between two looks after this process's memory.
const TICK: Duration = Duration::from_secs(60);
/// The time between two passes over the database, in milliseconds.
pub const HOUR: i64 = 3_600_000;
/// How long entries of the log and transaction ids are kept, in milliseconds.
pub const DAY: i64 = 24 * HOUR;
/// How long messages are kept for a server that does not answer, in milliseconds: 90 days.
pub const GIVEN_UP: i64 = 90 * DAY;
/// Newest entries of the log that are always kept.
pub const KEPT: i64 = 16_384;
/// Rows that are deleted in one unit.
const PIECE: i64 = 1_000;
/// Where the time of the last pass is noted.
const LAST: &str = "housekeeping";
/// Where heads are noted with their times: `TIME:POSITION TIME:POSITION`.
const MARKS: &str = "housekeeping_marks";

/// What the task remembers.
#[derive(Debug, Default)]
pub struct Housekeeping {
    /// When this process asks again whether a pass is due.
    due: Mutex<i64>,
    /// Processes that were gone at the last pass, with their batches.
    gone: Mutex<HashMap<String, i64>>,
}

/// What a pass deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tidied {
    /// Entries of the log.
    pub entries: u64,
    /// Links of the chains of device lists.
    pub links: u64,
    /// Device lists of users who share no room with this server.
    pub device_lists: u64,
    /// Messages for servers that do not come back.
    pub outbox: u64,
    /// Transaction ids.
    pub transaction_ids: u64,
    /// Sessions and tokens that had expired.
    pub expired: u64,
    /// Numbers of processes that are gone.
    pub replicas: u64,
}

/// Keeps house until the server is gone or `stop` says to end.
pub async fn run(server: Weak<Server>, mut stop: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(TICK) => {}
        }
        let Some(server) = server.upgrade() else { return };
        if let Err(error) = server.tick().await {
            tracing::warn!(%error, "housekeeping failed and will be tried again");
        }
    }
}

/// A piece of work that deletes at most [`PIECE`] rows and says how many.
macro_rules! in_pieces {
    ($server:expr, |$tx:ident| $work:expr) => {{
        let mut all = 0;
        loop {
            let deleted = $server.commit.run(move |$tx| Box::pin(async move { Ok($work.await?) })).await?;
            all += deleted;
            if deleted < PIECE.cast_unsigned() {
                break all;
            }
        }
    }};
}

impl Server {
    /// Looks after this process's memory, and tidies the database up when it is time.
    pub async fn tick(&self) -> Result<()> {
        let now = self.now_ms();
        self.online.forget_idle(now);
        self.typing.forget_silent(now);
        self.expire_presence(now).await?;
        self.caches.balance();
        self.save_counts().await?;
        if *self.housekeeping.due.lock() > now {
            return Ok(());
        }
        let tidied = self.tidy().await?;
        *self.housekeeping.due.lock() = now + HOUR;
        if let Some(tidied) = tidied {
            tracing::debug!(?tidied, "the database was tidied up");
        }
        Ok(())
    }

    /// Deletes from the database what has had its time; `None` when another process did it within the hour.
    pub async fn tidy(&self) -> Result<Option<Tidied>> {
        let now = self.now_ms();
        let Some(old) = self.begin_pass(now).await? else { return Ok(None) };
        let upto = old.min(self.log.visible() - KEPT);
        let (day_ago, long_ago) = (now - DAY, now - GIVEN_UP);
        let mut tidied = Tidied {
            entries: in_pieces!(self, |tx| log::trim(tx, upto, PIECE)),
            links: in_pieces!(self, |tx| device_lists::trim_links(tx, upto, PIECE)),
            device_lists: in_pieces!(self, |tx| remote_device_lists::delete_unshared(tx, PIECE)),
            outbox: in_pieces!(self, |tx| outbox::delete_of_failing(tx, long_ago, PIECE)),
            transaction_ids: in_pieces!(self, |tx| transaction_ids::delete_older(tx, day_ago, PIECE)),
            ..Tidied::default()
        };
        tidied.expired += in_pieces!(self, |tx| users::uia_sessions::delete_expired(tx, now, PIECE));
        tidied.expired += in_pieces!(self, |tx| users::refresh_tokens::delete_expired(tx, now, PIECE));
        tidied.expired += in_pieces!(self, |tx| users::login_tokens::delete_expired(tx, now, PIECE));
        tidied.expired += in_pieces!(self, |tx| users::openid_tokens::delete_expired(tx, now, PIECE));
        tidied.replicas = self.forget_replicas().await?;
        Ok(Some(tidied))
    }

    /// Notes that a pass begins, and the head for later ones. The newest position that is older than a day, or `None`
    /// when no pass is due.
    async fn begin_pass(&self, now: i64) -> Result<Option<i64>> {
        self.commit
            .run(move |tx| {
                Box::pin(async move {
                    let last = log::meta(tx, LAST).await?.and_then(|last| last.parse::<i64>().ok());
                    // A time of the future was noted by a clock that was wrong.
                    if last.is_some_and(|last| last <= now && now - last < HOUR) {
                        return Ok(None);
                    }
                    log::set_meta(tx, LAST, &now.to_string()).await?;
                    let marks = log::meta(tx, MARKS).await?.unwrap_or_default();
                    let (marks, old) = mark(&marks, now, tx.position());
                    log::set_meta(tx, MARKS, &marks).await?;
                    Ok(Some(old))
                })
            })
            .await
    }

    /// Forgets processes that were gone at the last pass too and wrote nothing in between.
    async fn forget_replicas(&self) -> Result<u64> {
        let mut connection = self.database.read().await?;
        let gone = replicas::gone(&mut connection, self.database.replica()).await?;
        drop(connection);
        let before = std::mem::take(&mut *self.housekeeping.gone.lock());
        // Where no other process can be, one look is enough.
        let at_once = self.database.is_sqlite();
        let (forgotten, remembered): (Vec<_>, Vec<_>) =
            gone.into_iter().partition(|(replica, batch)| at_once || before.get(replica) == Some(batch));
        *self.housekeeping.gone.lock() = remembered.into_iter().collect();
        let count = forgotten.len() as u64;
        for (replica, batch) in forgotten {
            self.commit
                .run(move |tx| Box::pin(async move { Ok(replicas::forget(tx, &replica, batch).await?) }))
                .await?;
        }
        Ok(count)
    }
}

/// Adds a head to the marks and drops those that no pass needs any more; with the newest position that is older than a
/// day.
fn mark(marks: &str, now: i64, head: i64) -> (String, i64) {
    let read = |mark: &str| {
        let (time, pos) = mark.split_once(':')?;
        Some((time.parse::<i64>().ok()?, pos.parse::<i64>().ok()?))
    };
    // Marks of the future were made by a clock that was wrong: nobody knows how old they are.
    let mut marks: Vec<(i64, i64)> =
        marks.split(' ').filter_map(read).filter(|(time, _)| *time <= now).collect();
    marks.push((now, head));
    let old = marks.iter().rposition(|(time, _)| *time <= now - DAY);
    marks.drain(..old.unwrap_or(0));
    let pos = old.and(marks.first()).map_or(0, |(_, pos)| *pos);
    let text: Vec<String> = marks.iter().map(|(time, pos)| format!("{time}:{pos}")).collect();
    (text.join(" "), pos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_tell_positions_of_a_day_ago() {
        let (mut marks, mut old) = (String::new(), 0);
        for hour in 0..=30 {
            (marks, old) = mark(&marks, hour * HOUR, 100 + hour);
        }
        assert_eq!(old, 106);
        assert_eq!(marks.split(' ').count(), 25);
        assert_eq!(mark(&marks, 31 * HOUR, 131).1, 107);
        // After a long pause everything before it is old.
        assert_eq!(mark(&marks, 90 * HOUR, 140), (format!("{}:130 {}:140", 30 * HOUR, 90 * HOUR), 130));
        assert_eq!(mark("", 5, 7), ("5:7".to_owned(), 0));
        assert_eq!(mark("900:3 x:y nonsense", 5, 7), ("5:7".to_owned(), 0), "marks of the future");
    }
}
