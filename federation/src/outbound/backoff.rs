//! Servers that do not answer are asked again later and later: after ten seconds at first, then after half as long as
//! they have been away, after a day at most. So whoever was away is found back soon, measured by that.
//!
//! A server that speaks to us is asked again at once. What is remembered is in the database too, so that a restart does
//! not ask a thousand dead servers at once. Replicas tell each other who is away and who is back ([`Backoff::hear`]): one
//! of them sends, and a server that is back may speak to another.

use myelin_core::server::Server;
use myelin_storage::federation::destinations::{self, Failing};
use parking_lot::Mutex;
use ruma::{OwnedServerName, ServerName};
use std::collections::HashMap;

/// The shortest time, in milliseconds.
const FIRST: i64 = 10_000;
/// The longest.
const LONGEST: i64 = 24 * 3_600_000;

/// How long a server is left alone that has been away for so long, in milliseconds.
fn pause(away: i64) -> i64 {
    (away / 2).clamp(FIRST, LONGEST)
}

/// Whether a server's time has not come yet. Where it is further away than it can have been when it was chosen, the
/// clock was put back since, and it counts for nothing.
fn is_left_alone(row: &Failing, now: i64) -> bool {
    let left = row.retry_ts - now;
    left > 0 && left <= row.interval_ms + row.interval_ms / 4
}

/// Who does not answer.
#[derive(Default)]
pub struct Backoff {
    failing: Mutex<HashMap<OwnedServerName, Failing>>,
}

impl Backoff {
    /// As the database knows it.
    pub async fn load(server: &Server) -> myelin_core::Result<Self> {
        let rows = destinations::failing(&mut server.database.read().await?).await?;
        let named = |row: Failing| Some((OwnedServerName::try_from(row.server.as_str()).ok()?, row));
        Ok(Self { failing: Mutex::new(rows.into_iter().filter_map(named).collect()) })
    }

    /// When a server may be asked again; `None` where it may be now.
    pub fn until(&self, name: &ServerName, now: i64) -> Option<i64> {
        self.failing.lock().get(name).filter(|row| is_left_alone(row, now)).map(|row| row.retry_ts)
    }

    /// Whether a server did not answer last time.
    pub fn has_failed(&self, name: &ServerName) -> bool {
        self.failing.lock().contains_key(name)
    }

    /// A server did not answer. `spread` is a number from 0 to 255, by which the times of many servers differ.
    pub async fn failed(&self, server: &Server, name: &ServerName, spread: u8) {
        let now = server.now_ms();
        let row = {
            let mut failing = self.failing.lock();
            let row = failing.entry(name.to_owned()).or_insert_with(|| Failing {
                server: name.to_string(),
                since_ts: now,
                retry_ts: 0,
                interval_ms: 0,
            });
            if is_left_alone(row, now) {
                // Another request found out first.
                return;
            }
            row.since_ts = row.since_ts.min(now);
            row.interval_ms = pause(now - row.since_ts);
            row.retry_ts = now + row.interval_ms + row.interval_ms * i64::from(spread) / 1_024;
            if server.replicas.are_there() {
                // Behind the lock, so that it is told before anybody tells that the server is back.
                server.replicas.tell(away(row));
            }
            row.clone()
        };
        let noted = server
            .commit
            .run(move |tx| Box::pin(async move { Ok(destinations::put_failing(tx, &row).await?) }));
        if let Err(error) = noted.await {
            tracing::debug!(%error, "that a server does not answer was not written down");
        }
    }

    /// Takes what a replica tells; gives the server that is back, if it tells of that.
    pub(crate) fn hear(&self, note: &str) -> Option<OwnedServerName> {
        if let Some(row) = read_away(note) {
            if let Ok(name) = OwnedServerName::try_from(row.server.as_str()) {
                self.failing.lock().insert(name, row);
            }
            return None;
        }
        let name = OwnedServerName::try_from(note.strip_prefix(BACK)?).ok()?;
        self.failing.lock().remove(&name);
        Some(name)
    }

    /// A server answered, or spoke to us.
    pub async fn answered(&self, server: &Server, name: &ServerName) {
        if self.failing.lock().remove(name).is_none() {
            return;
        }
        if server.replicas.are_there() {
            server.replicas.tell(format!("{BACK}{name}"));
        }
        let row = name.to_string();
        let noted =
            server.commit.run(move |tx| Box::pin(async move { Ok(destinations::answers(tx, &row).await?) }));
        if let Err(error) = noted.await {
            tracing::debug!(%error, "that a server answers again was not written down");
        }
    }
}

/// What replicas tell each other of a server that answers again: this, and its name.
const BACK: &str = "back ";

/// What they tell each other of one that does not answer: `away SINCE UNTIL INTERVAL SERVER`.
fn away(row: &Failing) -> String {
    let Failing { server, since_ts, retry_ts, interval_ms } = row;
    format!("away {since_ts} {retry_ts} {interval_ms} {server}")
}

fn read_away(note: &str) -> Option<Failing> {
    let mut words = note.strip_prefix("away ")?.splitn(4, ' ');
    let mut number = || words.next()?.parse().ok();
    let (since_ts, retry_ts, interval_ms) = (number()?, number()?, number()?);
    Some(Failing { server: words.next()?.to_owned(), since_ts, retry_ts, interval_ms })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_replicas_tell_each_other_is_understood() {
        let backoff = Backoff::default();
        let name = OwnedServerName::try_from("x.example:8448").unwrap();
        let row = Failing { server: name.to_string(), ..row(1_020_000) };
        assert_eq!(backoff.hear(&away(&row)), None);
        assert_eq!(backoff.until(&name, 1_000_001), Some(1_020_000));
        for note in ["", "away", "away 1 2 x.example:8448", "away 1 2 3 ", "typing 1 2 3", "back ", "back ?"]
        {
            assert_eq!(backoff.hear(note), None, "{note}");
        }
        assert!(backoff.has_failed(&name));
        assert_eq!(backoff.hear(&format!("{BACK}{name}")), Some(name.clone()));
        assert!(!backoff.has_failed(&name));
    }

    fn row(retry_ts: i64) -> Failing {
        Failing { server: "x.example".to_owned(), since_ts: 1_000_000, retry_ts, interval_ms: 20_000 }
    }

    #[test]
    fn a_server_is_asked_again_after_half_of_the_time_that_it_was_away() {
        const MINUTE: i64 = 60_000;
        let pauses = [0, MINUTE, 10 * MINUTE, 24 * 60 * MINUTE, 10 * 24 * 60 * MINUTE].map(pause);
        assert_eq!(pauses, [FIRST, MINUTE / 2, 5 * MINUTE, 12 * 60 * MINUTE, LONGEST]);
    }

    #[test]
    fn a_clock_that_was_put_back_leaves_nobody_alone_for_longer() {
        assert!(is_left_alone(&row(1_020_000), 1_000_001));
        assert!(is_left_alone(&row(1_024_980), 1_000_001), "times are spread by a quarter");
        assert!(!is_left_alone(&row(1_020_000), 1_020_000));
        assert!(!is_left_alone(&row(1_020_000), 400_000), "the clock went back by ten minutes");
    }
}
