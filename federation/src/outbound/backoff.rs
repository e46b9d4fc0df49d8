//! Servers that do not answer are asked again later and later: after ten seconds at first, then after half as long as
//! they have been away, after a day at most. So whoever was away is found back soon, measured by that.
//!
//! A server that speaks to us is asked again at once. What is remembered is in the database too, so that a restart does
//! not ask a thousand dead servers at once.
//!
//! **Among replicas** one sends, and a server that is back may speak to another. So whoever writes down that a server is
//! away or back tells all in the same transaction ([`Backoff::hear`]). Each replica takes what it hears, its own notes
//! too, in the order of the commits, and so knows what the table says; who was out of touch reads the table anew
//! ([`Backoff::recall`]). What a replica has found out itself counts for it from that moment on, until it has heard that
//! it was written.

use myelin_core::ports::random_text;
use myelin_core::server::Server;
use myelin_storage::federation::destinations::{self, Failing};
use parking_lot::Mutex;
use ruma::{OwnedServerName, ServerName};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// The shortest time, in milliseconds.
const FIRST: i64 = 10_000;
/// The longest.
const LONGEST: i64 = 24 * 3_600_000;

/// The time until the table is read again that changed while it was read.
const AGAIN: Duration = Duration::from_millis(100);

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
    /// What the table says.
    table: HashMap<OwnedServerName, Failing>,
    /// What this process has found out since.
    findings: HashMap<OwnedServerName, Finding>,
    /// Findings so far.
    number: u64,
    /// Changes of the table so far, as far as they were heard of.
    changes: u64,
    /// How often the whole table was read.
    readings: u64,
}

/// What this process has found out about a server.
struct Finding {
    number: u64,
    /// How it is away, if it is.
    row: Option<Failing>,
    stage: Stage,
    /// The readings before it.
    readings: u64,
}

/// How far a finding has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It is being written down.
    UnderWay,
    /// It could not be, and waits for the next occasion.
    Refused,
    /// It is in the table. The note that says so is on its way.
    Written,
}

impl Known {
    /// How a server is away, if it is.
    fn get(&self, name: &ServerName) -> Option<&Failing> {
        match self.findings.get(name) {
            Some(finding) => finding.row.as_ref(),
            None => self.table.get(name),
        }
    }

    /// Something was found out about a server, which has to be written down; gives its number.
    fn found(&mut self, name: &ServerName, row: Option<Failing>) -> u64 {
        self.number += 1;
        let finding = Finding { number: self.number, row, stage: Stage::UnderWay, readings: self.readings };
        self.findings.insert(name.to_owned(), finding);
        self.number
    }

    /// The table has changed.
    fn changed(&mut self, name: OwnedServerName, row: Option<Failing>) {
        self.changes += 1;
        match row {
            Some(row) => drop(self.table.insert(name, row)),
            None => drop(self.table.remove(&name)),
        }
    }

    /// A finding is in the table. Where that is told, it counts until it is heard.
    fn written(&mut self, name: &ServerName, number: u64, is_told: bool) {
        let Some(finding) = self.findings.get_mut(name).filter(|finding| finding.number == number) else {
            return;
        };
        // Where the table was read since, that may be because the note was missed.
        if is_told && finding.readings == self.readings {
            finding.stage = Stage::Written;
        } else if let Some(finding) = self.findings.remove(name) {
            self.changed(name.to_owned(), finding.row);
        }
    }

    fn refused(&mut self, name: &ServerName, number: u64) {
        if let Some(finding) = self.findings.get_mut(name).filter(|finding| finding.number == number) {
            finding.stage = Stage::Refused;
        }
    }

    /// What is to be written about a server, if that has not been done.
    fn to_write(&self, name: &ServerName) -> Option<(u64, Option<Failing>)> {
        let newest = self.findings.get(name).filter(|finding| finding.stage != Stage::Written)?;
        Some((newest.number, newest.row.clone()))
    }

    /// Findings that are in the table, with their numbers.
    fn all_written(&self) -> Vec<(OwnedServerName, u64)> {
        let written = self.findings.iter().filter(|(_, finding)| finding.stage == Stage::Written);
        written.map(|(name, finding)| (name.clone(), finding.number)).collect()
    }

    /// Takes the whole table, which has these findings; gives the servers that are back.
    fn take(
        &mut self,
        table: HashMap<OwnedServerName, Failing>,
        written: &[(OwnedServerName, u64)],
    ) -> Vec<OwnedServerName> {
        let mut before: Vec<OwnedServerName> =
            self.table.keys().chain(self.findings.keys()).cloned().collect();
        before.retain(|name| self.get(name).is_some());
        for (name, number) in written {
            if self.findings.get(name).is_some_and(|finding| finding.number == *number) {
                self.findings.remove(name);
            }
        }
        self.changes += 1;
        self.readings += 1;
        self.table = table;
        before.sort_unstable();
        before.dedup();
        before.retain(|name| self.get(name).is_none());
        before
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
            let (changes, written) = {
                let known = self.known.lock();
                (known.changes, known.all_written())
            };
            let rows = destinations::failing(&mut server.database.read().await?).await?;
            let named = |row: Failing| Some((OwnedServerName::try_from(row.server.as_str()).ok()?, row));
            {
                let mut known = self.known.lock();
                if known.changes == changes {
                    return Ok(known.take(rows.into_iter().filter_map(named).collect(), &written));
                }
            }
            // What was heard meanwhile may be newer than what was read.
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// When a server may be asked again; `None` where it may be now.
    pub fn until(&self, name: &ServerName, now: i64) -> Option<i64> {
        self.known.lock().get(name).filter(|row| is_left_alone(row, now)).map(|row| row.retry_ts)
    }

    /// Whether a server did not answer last time.
    pub fn has_failed(&self, name: &ServerName) -> bool {
        self.known.lock().get(name).is_some()
    }

    /// A server did not answer. `spread` is a number from 0 to 255, by which the times of many servers differ.
    pub async fn failed(&self, server: &Server, name: &ServerName, spread: u8) {
        let now = server.now_ms();
        let number = {
            let mut known = self.known.lock();
            let since_ts = match known.get(name) {
                // Another request found out first.
                Some(row) if is_left_alone(row, now) => return,
                Some(row) => row.since_ts.min(now),
                None => now,
            };
            let interval_ms = pause(now - since_ts);
            let retry_ts = now + interval_ms + interval_ms * i64::from(spread) / 1_024;
            let row = Failing { server: name.to_string(), since_ts, retry_ts, interval_ms };
            known.found(name, Some(row))
        };
        self.write_down(server, name, number).await;
    }

    /// A server answered, or spoke to us.
    pub async fn answered(&self, server: &Server, name: &ServerName) {
        let number = {
            let mut known = self.known.lock();
            let is_refused = known.findings.get(name).is_some_and(|finding| finding.stage == Stage::Refused);
            if !is_refused && known.get(name).is_none() {
                return;
            }
            known.found(name, None)
        };
        self.write_down(server, name, number).await;
    }

    /// Writes down what was found out about a server, and tells the replicas. Goes on where the caller goes away.
    async fn write_down(&self, server: &Server, name: &ServerName, number: u64) {
        let (known, own, name) = (self.known.clone(), self.own.clone(), name.to_owned());
        let (commit, replicas) = (server.commit.clone(), server.replicas.clone());
        let done = tokio::spawn(async move {
            let (findings, about) = (known.clone(), name.clone());
            let written = commit.run(move |tx| {
                Box::pin(async move {
                    // The newest, once: commits need not come in the order of what was found.
                    let newest = findings.lock().to_write(&about);
                    let Some((number, row)) = newest else { return Ok(None) };
                    match &row {
                        Some(row) => destinations::put_failing(tx, row).await?,
                        None => destinations::answers(tx, about.as_str()).await?,
                    }
                    // Not only where others are there now: one may come while this is committed.
                    let is_told = replicas.can_be();
                    if is_told {
                        let who = format!("{own} {number}");
                        let text = row.map_or_else(|| back(&who, &about), |row| away(&who, &row));
                        myelin_storage::replicas::tell_with(tx, &text).await?;
                    }
                    Ok(Some((number, is_told)))
                })
            });
            match written.await {
                Ok(None) => {}
                Ok(Some((number, is_told))) => known.lock().written(&name, number, is_told),
                Err(error) => {
                    tracing::debug!(%error, server = %name, "whether a server answers was not written down");
                    known.lock().refused(&name, number);
                }
            }
        });
        if let Err(error) = done.await {
            tracing::debug!(%error, "whether a server answers is written down no more");
        }
    }

    /// Takes what a replica tells; gives the server that is back, if it tells of that.
    pub(crate) fn hear(&self, note: &str) -> Option<OwnedServerName> {
        let Heard { by, number, name, row } = read(note)?;
        let mut known = self.known.lock();
        let is_away = row.is_some();
        known.changed(name.clone(), row);
        let is_over = |finding: &Finding| match by == self.own {
            true => finding.number == number,
            // It is older than what the other one found out.
            false => finding.stage == Stage::Refused,
        };
        if known.findings.get(&name).is_some_and(is_over) {
            known.findings.remove(&name);
        }
        (!is_away && known.get(&name).is_none()).then_some(name)
    }
}

/// What a replica tells of a server that does not answer: `away REPLICA NUMBER SINCE UNTIL INTERVAL SERVER`.
fn away(who: &str, row: &Failing) -> String {
    let Failing { server, since_ts, retry_ts, interval_ms } = row;
    format!("away {who} {since_ts} {retry_ts} {interval_ms} {server}")
}

/// What it tells of one that answers again: `back REPLICA NUMBER SERVER`.
fn back(who: &str, name: &ServerName) -> String {
    format!("back {who} {name}")
}

/// What a replica tells.
struct Heard<'a> {
    by: &'a str,
    number: u64,
    name: OwnedServerName,
    row: Option<Failing>,
}

fn read(note: &str) -> Option<Heard<'_>> {
    let mut words = note.split(' ');
    let kind = words.next().filter(|kind| ["away", "back"].contains(kind))?;
    let (by, number) = (words.next()?, words.next()?.parse().ok()?);
    let mut times = || words.next()?.parse().ok();
    let times = if kind == "away" { Some((times()?, times()?, times()?)) } else { None };
    let name = OwnedServerName::try_from(words.next()?).ok()?;
    let server = name.to_string();
    let row =
        times.map(|(since_ts, retry_ts, interval_ms)| Failing { server, since_ts, retry_ts, interval_ms });
    Some(Heard { by, number, name, row })
}

#[cfg(test)]
mod tests;
