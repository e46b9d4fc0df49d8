//! Unread counts that took long to count are written down, so that a restart does not count them again.
//!
//! It is done by the minute and at the end, many counts in one unit beside other commits, and only for counts for which
//! [`WORTH`] events were looked at since the last time: less than that is counted again faster than written. A count
//! that is written down is good until the user reads something in its room, which its row's position tells.

use crate::error::Result;
use crate::server::Server;
use crate::sync::answer::Count;
use crate::sync::online::Onlines;
use crate::sync::unread::Unread;
use myelin_storage::rooms::unread::{self, UnreadRow};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Events that were looked at for a count that is worth writing down.
pub(super) const WORTH: usize = 50;
/// Counts that may wait to be written; more are counted again.
const WAITING: usize = 10_000;
/// Counts that are written in one unit.
const AT_ONCE: usize = 200;

/// Counts that wait to be written: (user, room).
pub(super) type Waiting = HashMap<(i64, i64), Arc<Unread>>;

impl Onlines {
    /// Has a count written down soon.
    pub(super) fn write_down(&self, key: (i64, i64), unread: &Arc<Unread>) {
        let mut waiting = self.waiting.lock();
        if waiting.len() < WAITING || waiting.contains_key(&key) {
            waiting.insert(key, unread.clone());
        }
    }
}

impl Server {
    /// Writes down the counts that wait for it.
    pub(crate) async fn save_counts(&self) -> Result<()> {
        let mut waiting = std::mem::take(&mut *self.online.waiting.lock()).into_iter();
        loop {
            let rows: Vec<UnreadRow> = waiting.by_ref().take(AT_ONCE).flat_map(rows).collect();
            if rows.is_empty() {
                return Ok(());
            }
            self.commit.run(move |tx| Box::pin(async move { Ok(unread::put(tx, &rows).await?) })).await?;
        }
    }
}

/// One row for each thread, and one that says how far was counted.
fn rows(((user_pk, room_pk), counts): ((i64, i64), Arc<Unread>)) -> Vec<UnreadRow> {
    let row = |thread: &str, count: Count| UnreadRow {
        user_pk,
        room_pk,
        thread: thread.to_owned(),
        notify: i64::try_from(count.notify).unwrap_or(i64::MAX),
        highlight: i64::try_from(count.highlight).unwrap_or(i64::MAX),
        upto_pos: counts.upto,
    };
    let threads = counts.threads.iter().filter(|(thread, _)| !thread.is_empty());
    let threads = threads.map(|(thread, count)| row(thread, *count));
    std::iter::once(row("", Count::default())).chain(threads).collect()
}

/// Counts by room, from their rows: how far was counted, and the threads.
pub(super) fn from_rows(rows: Vec<UnreadRow>) -> HashMap<i64, (i64, BTreeMap<String, Count>)> {
    let mut found: HashMap<i64, (i64, BTreeMap<String, Count>)> = HashMap::new();
    for row in rows {
        let (upto, threads) = found.entry(row.room_pk).or_default();
        *upto = row.upto_pos;
        if !row.thread.is_empty() {
            let [notify, highlight] = [row.notify, row.highlight].map(|n| u64::try_from(n).unwrap_or(0));
            threads.insert(row.thread, Count { notify, highlight });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_go_through_their_rows() {
        let counts = Unread {
            upto: 9,
            threads: [("main".to_owned(), Count { notify: 3, highlight: 1 })].into(),
            ..Unread::default()
        };
        let rows = rows(((1, 2), Arc::new(counts.clone())));
        assert_eq!(rows.len(), 2);
        assert_eq!(from_rows(rows), [(2, (9, counts.threads))].into());
        let nothing = super::rows(((1, 3), Arc::new(Unread { upto: 4, ..Unread::default() })));
        assert_eq!(from_rows(nothing), [(3, (4, BTreeMap::new()))].into());
    }
}
