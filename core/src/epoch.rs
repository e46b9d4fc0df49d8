//! Epochs: what follows when the database was taken back to an earlier state.
//!
//! One-time keys that were handed out would come out again, positions that clients know would be given to something else.
//! No database notices that by itself. It is recognized by what stands outside of it ([`judge`]): the witness beside a
//! SQLite database, the identity of a PostgreSQL database, a position that this server is known to have reached, the word
//! of an operator (`myelin restore`). Then a new epoch begins, in one transaction ([`begin`]). Rather one epoch too many
//! than one too few: it costs clients a full /sync and new one-time keys, and loses nothing.
//!
//! docs/decisions/epochs.md says what can be noticed, and what cannot.

use crate::commit::Committer;
use crate::error::{Error, Result};
use crate::keys::claim::ledger_row;
use crate::log::Reader;
use crate::ports::{Clock, Random};
use crate::server::Server;
use crate::sync::token::Token;
use myelin_storage::epochs::{self, Epoch};
use myelin_storage::keys::one_time_keys;
use myelin_storage::log::Kind;
use myelin_storage::witness::{self, Record};
use myelin_storage::{Database, Entry, Tx};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// How far the head moves at least.
const FAR: i64 = 1 << 24;
/// Positions a second that no server ever gives out on the average. The head moves to this many for each second since
/// 2024, so that of two epochs that begin on the same backup the later one is ahead of all that the earlier one gave out.
const POSITIONS_A_SECOND: i64 = 1 << 18;
/// 2024, in seconds since the Unix epoch.
const YEAR_2024: i64 = 1_704_067_200;
/// The head never moves beyond this: the numbers of keys are made of it, and peers count in 53 bits.
const LAST: i64 = 1 << 50;
/// How far counters and guards move.
const NUMBERS: i64 = 1 << 30;
/// One-time keys that are dropped at once.
const PAGE: i64 = 1_000;

/// The epoch in which this process is; it follows the log.
pub struct Current(AtomicI64);

impl Current {
    /// The number.
    pub fn number(&self) -> i64 {
        self.0.load(Ordering::Acquire)
    }
}

impl Reader for Current {
    fn handle(&self, entries: &[Entry]) {
        if let Some(entry) = entries.iter().rfind(|entry| entry.kind == Kind::Epoch) {
            self.0.store(entry.object, Ordering::Release);
        }
    }
}

/// What a new epoch is made of.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    number: i64,
    now_ms: i64,
    /// A position that is known to have been given out.
    reached: i64,
    reason: String,
}

impl Plan {
    pub(crate) fn new(random: &dyn Random, clock: &dyn Clock, reached: i64, reason: &str) -> Plan {
        Plan { number: number(random), now_ms: clock.now_ms(), reached, reason: reason.to_owned() }
    }
}

/// Begins a new epoch; all of it is durable with the transaction.
pub(crate) async fn begin(tx: &mut Tx, plan: Plan) -> Result<Epoch> {
    let pos = next_head(tx.position().max(plan.reached), plan.now_ms)?;
    let epoch = Epoch { number: plan.number, pos, ts: plan.now_ms, reason: plan.reason };
    epochs::begin(tx, &epoch).await?;
    drop_one_time_keys(tx).await?;
    epochs::move_numbers(tx, NUMBERS, pos).await?;
    epochs::announce_device_lists(tx).await?;
    tracing::warn!(
        reason = epoch.reason,
        "the database was taken back to an earlier state, or may have been: a new epoch begins. Clients fetch \
         everything again and upload new one-time keys"
    );
    Ok(epoch)
}

/// Any of them may have been handed out after the state to which the database was taken back. The ledger gets them all, so
/// that none is stored again when a client repeats its upload.
async fn drop_one_time_keys(tx: &mut Tx) -> Result<()> {
    let mut after = i64::MIN;
    loop {
        let page = one_time_keys::page(tx, after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = last.key_pk;
        let row = |key: &one_time_keys::Unclaimed| {
            ledger_row(key.device_pk, &key.algorithm, &key.key_id, &key.json)
        };
        let issued = page.iter().map(row).collect::<Result<Vec<_>>>()?;
        one_time_keys::insert_issued(tx, &issued).await?;
    }
    one_time_keys::delete_all(tx).await?;
    Ok(())
}

fn next_head(reached: i64, now_ms: i64) -> Result<i64> {
    let seconds = now_ms.max(0) / 1_000 - YEAR_2024;
    let by_time = seconds.clamp(0, LAST / POSITIONS_A_SECOND) * POSITIONS_A_SECOND;
    // A clock that is wrong must not use the positions up.
    let head = reached.saturating_add(FAR).max(by_time.min(LAST - FAR));
    if head > LAST {
        return Err(Error::internal("there are no positions left behind the one that was reached"));
    }
    Ok(head)
}

/// 48 random bits: the number of an epoch that was lost is never given again.
fn number(random: &dyn Random) -> i64 {
    let mut bytes = [0; 8];
    random.fill(&mut bytes);
    (i64::from_le_bytes(bytes) & ((1 << 48) - 1)).max(1)
}

/// What stands outside of the database and knows of its past.
#[derive(Debug)]
enum Outside {
    /// The witness of a SQLite database, if it is there, and which boot of the machine this is.
    Witness(Option<Record>, String),
    /// What PostgreSQL says of itself, where it says anything.
    Identity(Option<String>),
}

impl Outside {
    /// By what the database is recognized from now on.
    fn identity(&self) -> Option<&str> {
        match self {
            Outside::Witness(..) => Some("witness"),
            Outside::Identity(identity) => identity.as_deref(),
        }
    }
}

/// Why the database cannot be taken for the one that was here before; `None` where it can. `noted`: by what it was
/// recognized before. `known`: the epochs that it knows of.
fn judge(outside: &Outside, noted: Option<&str>, head: i64, known: &[Epoch]) -> Option<String> {
    let noted = noted?;
    match outside {
        Outside::Identity(found) => {
            let found = found.as_deref().filter(|found| *found != noted)?;
            Some(format!(
                "PostgreSQL is not the one that was here before, or went on from a backup: {found} where it was {noted}"
            ))
        }
        Outside::Witness(None, _) => Some("the witness beside the database is missing or damaged".to_owned()),
        Outside::Witness(Some(record), boot) => {
            if known.iter().all(|epoch| epoch.number != record.epoch) {
                Some(
                    "the witness beside the database tells of an epoch that the database does not know"
                        .to_owned(),
                )
            } else if record.pos > head {
                Some(format!(
                    "the witness beside the database says that it had come to position {}, and it is at {head}",
                    record.pos
                ))
            } else if !record.closed && (boot.is_empty() || *boot != record.boot) {
                Some(
                    "the machine stopped without closing the database, so its witness may be too old"
                        .to_owned(),
                )
            } else {
                None
            }
        }
    }
}

/// Compares the database with what stands outside of it, begins a new epoch where they do not agree, and gives the one
/// that holds. For a server that starts.
pub(crate) async fn settle(
    commit: &Committer,
    database: &Database,
    clock: &dyn Clock,
    random: &dyn Random,
) -> Result<(Arc<Current>, Option<String>)> {
    let outside = match database.witness() {
        Some(witness) => Outside::Witness(witness.read(), witness::boot()),
        None => Outside::Identity(database.identity().await?),
    };
    let plan = Plan::new(random, clock, 0, "");
    let settled = commit.run(move |tx| Box::pin(settle_in(tx, outside, plan)));
    let (epoch, pos, renewed) = settled.await?;
    if let Some(witness) = database.witness() {
        witness.begin(epoch, pos).map_err(|error| {
            Error::Internal(format!("the witness beside the database cannot be written: {error}"))
        })?;
    }
    Ok((Arc::new(Current(AtomicI64::new(epoch))), renewed))
}

async fn settle_in(tx: &mut Tx, outside: Outside, plan: Plan) -> Result<(i64, i64, Option<String>)> {
    let known = epochs::all(tx).await?;
    let noted = epochs::identity(tx).await?;
    let mut renewed = None;
    let number = match known.first() {
        None => {
            let reason = "the database was made".to_owned();
            let first = Epoch { number: plan.number, pos: tx.position(), ts: plan.now_ms, reason };
            epochs::insert(tx, &first).await?;
            first.number
        }
        Some(current) => match judge(&outside, noted.as_deref(), tx.position(), &known) {
            None => current.number,
            Some(reason) => {
                let reached = match &outside {
                    Outside::Witness(Some(record), _) => record.pos,
                    _ => 0,
                };
                let epoch = begin(tx, Plan { reached, reason, ..plan }).await?;
                renewed = Some(epoch.reason);
                epoch.number
            }
        },
    };
    if let Some(identity) = outside.identity().filter(|identity| noted.as_deref() != Some(*identity)) {
        epochs::set_identity(tx, identity).await?;
    }
    Ok((number, tx.position(), renewed))
}

impl Server {
    /// The number of the epoch that holds.
    pub fn epoch(&self) -> i64 {
        self.epoch.number()
    }

    /// Begins a new epoch because an operator says that a backup was put back. Gives its number.
    pub async fn renew_epoch(&self, reason: &str) -> Result<i64> {
        self.renew(self.epoch(), 0, reason).await
    }

    /// Waits until this replica has applied the position of a token that a client brings. `text` is the token as it came:
    /// where it bears this server's seal, and the database never reached its position, the database was taken back.
    pub async fn reach(&self, token: &Token, text: &str) -> Result<()> {
        if token.epoch != self.epoch() || token.pos <= self.log.visible() {
            return Ok(());
        }
        self.log.catch_up().await?;
        if token.pos > self.log.visible() && token.epoch == self.epoch() && self.seal.is_ours(text) {
            let reason =
                format!("a client was told of position {}, which the database never reached", token.pos);
            self.renew(token.epoch, token.pos, &reason).await?;
        }
        Ok(())
    }

    /// Begins a new epoch, unless another one than `old` holds already.
    async fn renew(&self, old: i64, reached: i64, reason: &str) -> Result<i64> {
        let plan = Plan::new(&*self.random, &*self.clock, reached, reason);
        let renewed = self.commit.run(move |tx| {
            Box::pin(async move {
                let known = epochs::all(tx).await?;
                match known.first().filter(|current| current.number != old) {
                    Some(current) => Ok(current.number),
                    None => Ok(begin(tx, plan).await?.number),
                }
            })
        });
        renewed.await
    }
}

#[cfg(test)]
mod tests;
