//! Servers that do not answer are asked again later and later: after ten seconds at first, then after half as long as
//! they have been away, after a day at most. So whoever was away is found back soon, measured by that.
//!
//! A server that speaks to us is asked again at once. What is remembered is in the database too, so that a restart does
//! not ask a thousand dead servers at once.
//!
//! **Among replicas** one sends, and a server that is back may speak to another. So whoever writes down that a server is
//! away or back tells the others in the same transaction ([`Backoff::hear`]): what they know is what the table says.
//! Who was out of touch reads the table anew ([`Backoff::recall`]).

use myelin_core::ports::random_text;
use myelin_core::server::Server;
use myelin_storage::federation::destinations::{self, Failing};
use myelin_storage::replicas;
use parking_lot::Mutex;
use ruma::{OwnedServerName, ServerName};
use std::collections::HashMap;
use std::sync::Arc;

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
pub struct Backoff {
    known: Arc<Mutex<Known>>,
    /// Tells this process's notes from those of others.
    own: String,
}

#[derive(Default)]
struct Known {
    failing: HashMap<OwnedServerName, Failing>,
    /// What this process has found out and the database does not say yet.
    unwritten: HashMap<OwnedServerName, Finding>,
    /// Findings of this process so far.
    findings: u64,
    /// Notes of others so far.
    heard: u64,
}

/// What this process has found out about a server.
struct Finding {
    number: u64,
    /// It is being written down. Otherwise that has failed, and waits for the next occasion.
    under_way: bool,
}

impl Known {
    /// Something was found out about a server; gives its number.
    fn found(&mut self, name: &ServerName) -> u64 {
        self.findings += 1;
        self.unwritten.insert(name.to_owned(), Finding { number: self.findings, under_way: true });
        self.findings
    }

    /// That was written down, or could not be.
    fn written(&mut self, name: &ServerName, number: u64, is_written: bool) {
        match self.unwritten.get_mut(name) {
            Some(finding) if finding.number == number && !is_written => finding.under_way = false,
            Some(finding) if finding.number == number => drop(self.unwritten.remove(name)),
            _ => {}
        }
    }

    /// Takes what the table says, except where this process knows better; gives the servers that are back.
    fn take(&mut self, mut rows: HashMap<OwnedServerName, Failing>) -> Vec<OwnedServerName> {
        for name in self.unwritten.keys() {
            match self.failing.remove(name) {
                Some(row) => drop(rows.insert(name.clone(), row)),
                None => drop(rows.remove(name)),
            }
        }
        let before = std::mem::replace(&mut self.failing, rows);
        before.into_keys().filter(|name| !self.failing.contains_key(name)).collect()
    }
}

impl Backoff {
    /// As the database knows it.
    pub async fn load(server: &Server) -> myelin_core::Result<Self> {
        let backoff = Self { known: Arc::default(), own: random_text(&*server.random, 12) };
        backoff.recall(server).await?;
        Ok(backoff)
    }

    /// Reads anew what the database knows, after notes may have been missed; gives the servers that are back.
    pub(crate) async fn recall(&self, server: &Server) -> myelin_core::Result<Vec<OwnedServerName>> {
        loop {
            let heard = self.known.lock().heard;
            let rows = destinations::failing(&mut server.database.read().await?).await?;
            let named = |row: Failing| Some((OwnedServerName::try_from(row.server.as_str()).ok()?, row));
            let mut known = self.known.lock();
            // What was heard meanwhile may be newer than what was read.
            if known.heard == heard {
                return Ok(known.take(rows.into_iter().filter_map(named).collect()));
            }
        }
    }

    /// When a server may be asked again; `None` where it may be now.
    pub fn until(&self, name: &ServerName, now: i64) -> Option<i64> {
        self.known.lock().failing.get(name).filter(|row| is_left_alone(row, now)).map(|row| row.retry_ts)
    }

    /// Whether a server did not answer last time.
    pub fn has_failed(&self, name: &ServerName) -> bool {
        self.known.lock().failing.contains_key(name)
    }

    /// A server did not answer. `spread` is a number from 0 to 255, by which the times of many servers differ.
    pub async fn failed(&self, server: &Server, name: &ServerName, spread: u8) {
        let now = server.now_ms();
        let number = {
            let mut known = self.known.lock();
            let row = known.failing.entry(name.to_owned()).or_insert_with(|| Failing {
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
            known.found(name)
        };
        self.write_down(server, name, number).await;
    }

    /// A server answered, or spoke to us.
    pub async fn answered(&self, server: &Server, name: &ServerName) {
        let number = {
            let mut known = self.known.lock();
            let was_away = known.failing.remove(name).is_some();
            if !was_away && known.unwritten.get(name).is_none_or(|finding| finding.under_way) {
                return;
            }
            known.found(name)
        };
        self.write_down(server, name, number).await;
    }

    /// Writes down what is known of a server, and tells the other replicas. Goes on where the caller goes away.
    async fn write_down(&self, server: &Server, name: &ServerName, number: u64) {
        let (known, own, name) = (self.known.clone(), self.own.clone(), name.to_owned());
        let (commit, others) = (server.commit.clone(), server.replicas.are_there());
        let done = tokio::spawn(async move {
            let (now_known, about) = (known.clone(), name.clone());
            let written = commit.run(move |tx| {
                Box::pin(async move {
                    // As it is now: what was found out may have been overtaken.
                    let row = now_known.lock().failing.get(&about).cloned();
                    match &row {
                        Some(row) => destinations::put_failing(tx, row).await?,
                        None => destinations::answers(tx, about.as_str()).await?,
                    }
                    if others {
                        let text = row.map_or_else(|| back(&own, &about), |row| away(&own, &row));
                        replicas::tell_with(tx, &text).await?;
                    }
                    Ok(())
                })
            });
            let written = written.await;
            if let Err(error) = &written {
                tracing::debug!(%error, server = %name, "whether a server answers was not written down");
            }
            known.lock().written(&name, number, written.is_ok());
        });
        if let Err(error) = done.await {
            tracing::debug!(%error, "whether a server answers is written down no more");
        }
    }

    /// Takes what a replica tells; gives the server that is back, if it tells of that.
    pub(crate) fn hear(&self, note: &str) -> Option<OwnedServerName> {
        let (by, name, row) = read(note)?;
        if by == self.own {
            return None;
        }
        let mut known = self.known.lock();
        known.heard += 1;
        let Some(row) = row else {
            known.failing.remove(&name);
            return Some(name);
        };
        if !known.unwritten.contains_key(&name) {
            known.failing.insert(name, row);
        }
        None
    }
}

/// What a replica tells of a server that does not answer: `away REPLICA SINCE UNTIL INTERVAL SERVER`.
fn away(own: &str, row: &Failing) -> String {
    let Failing { server, since_ts, retry_ts, interval_ms } = row;
    format!("away {own} {since_ts} {retry_ts} {interval_ms} {server}")
}

/// What it tells of one that answers again: `back REPLICA SERVER`.
fn back(own: &str, name: &ServerName) -> String {
    format!("back {own} {name}")
}

/// Who tells of which server; with how it is away, if it is.
fn read(note: &str) -> Option<(&str, OwnedServerName, Option<Failing>)> {
    let mut words = note.split(' ');
    let (kind, by) = (words.next()?, words.next()?);
    let row = match kind {
        "back" => None,
        "away" => {
            let mut number = || words.next()?.parse().ok();
            let (since_ts, retry_ts, interval_ms) = (number()?, number()?, number()?);
            Some(Failing { server: String::new(), since_ts, retry_ts, interval_ms })
        }
        _ => return None,
    };
    let name = OwnedServerName::try_from(words.next()?).ok()?;
    let row = row.map(|row| Failing { server: name.to_string(), ..row });
    Some((by, name, row))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(own: &str) -> Backoff {
        Backoff { known: Arc::default(), own: own.to_owned() }
    }

    #[test]
    fn what_replicas_tell_each_other_is_understood() {
        let backoff = named("b");
        let name = OwnedServerName::try_from("x.example:8448").unwrap();
        let row = Failing { server: name.to_string(), ..row(1_020_000) };
        assert_eq!(backoff.hear(&away("a", &row)), None);
        assert_eq!(backoff.until(&name, 1_000_001), Some(1_020_000));
        for note in
            ["", "away", "away a 1 2 x.example:8448", "away a 1 2 3 ", "typing 1 2 3", "back a ", "back ?"]
        {
            assert_eq!(backoff.hear(note), None, "{note}");
        }
        assert_eq!(backoff.hear(&back("b", &name)), None, "what it told itself is nothing new");
        assert!(backoff.has_failed(&name));
        assert_eq!(backoff.hear(&back("a", &name)), Some(name.clone()));
        assert!(!backoff.has_failed(&name));
    }

    #[test]
    fn what_is_not_written_yet_is_worth_more_than_what_is() {
        let backoff = named("b");
        let names = ["a", "b", "c"].map(|name| OwnedServerName::try_from(name).unwrap());
        let [back_since, away_since, back_elsewhere] = &names;
        let table = |names: &[&OwnedServerName]| -> HashMap<OwnedServerName, Failing> {
            names.iter().map(|name| ((*name).clone(), row(1))).collect()
        };
        let mut known = backoff.known.lock();
        known.failing = table(&[away_since, back_elsewhere]);
        let number = known.found(back_since);
        known.found(away_since);
        assert!(known.take(table(&[back_since])).iter().eq([back_elsewhere]));
        assert!(known.failing.keys().eq([away_since]));
        // What could not be written stays known until it is.
        known.written(back_since, number, false);
        assert!(known.take(table(&[back_since])).is_empty());
        let again = known.found(back_since);
        known.written(back_since, number, true);
        assert!(known.unwritten.contains_key(back_since), "that was the one before");
        known.written(back_since, again, true);
        assert!(!known.unwritten.contains_key(back_since));
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
