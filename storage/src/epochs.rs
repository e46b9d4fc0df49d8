//! Epochs, and what a new one does to the tables.
//!
//! No database can notice by itself that it was taken back to an earlier state. What is noticed from outside, and what
//! follows from it, is the core's to decide; here are the statements.

use crate::args;
use crate::database::{Connection, Database, Tx};
use crate::error::Result;
use crate::keys::device_lists;
use crate::log::{self, Kind};
use crate::statement::{Row, Sql};

/// An epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Epoch {
    /// Its number, which says nothing but which one it is.
    pub number: i64,
    /// The head of the log when it began: all positions up to there belong to earlier ones.
    pub pos: i64,
    /// When it began, in milliseconds since the Unix epoch.
    pub ts: i64,
    /// Why, in words.
    pub reason: String,
}

/// Where the key is under which [`log::meta`] knows by what a database is recognized.
const IDENTITY: &str = "identity";

impl Epoch {
    fn read(row: &Row) -> Result<Epoch> {
        Ok(Epoch { number: row.int(0)?, pos: row.int(1)?, ts: row.int(2)?, reason: row.text(3)? })
    }
}

/// All epochs that this database knows of, the one that holds first. There are few.
pub async fn all(connection: &mut Connection) -> Result<Vec<Epoch>> {
    const ALL: Sql = Sql::both("SELECT number, pos, ts, reason FROM epochs ORDER BY pos DESC, ts DESC");
    connection.all(ALL, &[]).await?.iter().map(Epoch::read).collect()
}

/// Writes an epoch down. The first one needs nothing else.
pub async fn insert(tx: &mut Tx, epoch: &Epoch) -> Result<()> {
    const INSERT: Sql = Sql::both("INSERT INTO epochs(number, pos, ts, reason) VALUES ($1, $2, $3, $4)");
    let Epoch { number, pos, ts, reason } = epoch;
    tx.run(INSERT, args![*number, *pos, *ts, reason.as_str()]).await.map(drop)
}

/// Begins an epoch: the head moves to its position, and the log's next entry says so to every reader.
pub async fn begin(tx: &mut Tx, epoch: &Epoch) -> Result<()> {
    tx.skip_to(epoch.pos);
    insert(tx, epoch).await?;
    tx.entry(Kind::Epoch, 0, epoch.number);
    Ok(())
}

/// Notes for every user with devices here that their device list changed.
pub async fn announce_device_lists(tx: &mut Tx) -> Result<()> {
    const USERS: Sql = Sql::both("/* whole */ SELECT DISTINCT user_pk FROM devices ORDER BY user_pk");
    let users: Result<Vec<i64>> = tx.all(USERS, &[]).await?.iter().map(|row| row.int(0)).collect();
    for user_pk in users? {
        device_lists::changed(tx, user_pk, device_lists::Change::Whole).await?;
    }
    Ok(())
}

/// Moves everything past what may have been given out since the state to which the database was taken back: counters,
/// guards of rooms (a replica may still know the rooms as they were), and the etags of key backups. Numbers of filters and
/// of backups begin behind the epoch's position by themselves.
pub async fn move_numbers(tx: &mut Tx, by: i64, pos: i64) -> Result<()> {
    tx.run(Sql::both("UPDATE counters SET next = next + $1"), args![by]).await?;
    tx.run(Sql::both("/* whole */ UPDATE rooms SET guard = guard + $1"), args![by]).await?;
    tx.run(Sql::both("/* whole */ UPDATE backups SET etag = $1"), args![pos]).await.map(drop)
}

/// By what the database was recognized when it was last opened.
pub async fn identity(connection: &mut Connection) -> Result<Option<String>> {
    log::meta(connection, IDENTITY).await
}

/// Notes by what the database is recognized.
pub async fn set_identity(tx: &mut Tx, identity: &str) -> Result<()> {
    log::set_meta(tx, IDENTITY, identity).await
}

impl Database {
    /// What tells a PostgreSQL database from its copies and its past: the cluster, its timeline, the database and its
    /// table of the log's head. Putting a backup back changes at least one of them, unless files are put back under a
    /// server as it was. `None` where the role may not ask. SQLite has a witness instead.
    pub async fn identity(&self) -> Result<Option<String>> {
        const IDENTITY: Sql = Sql::both(
            "SELECT (SELECT system_identifier FROM pg_control_system())::text || '/' \
             || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8) || '/' \
             || (SELECT oid FROM pg_database WHERE datname = current_database())::text || '/' \
             || 'head'::regclass::oid::text",
        );
        match self.read().await?.one(IDENTITY, &[]).await {
            Ok(row) => row.map(|row| row.text(0)).transpose(),
            Err(error) if error.is_passing() => Err(error),
            Err(error) => {
                tracing::warn!(%error, "PostgreSQL does not tell who it is; a backup put back may go unnoticed");
                Ok(None)
            }
        }
    }
}
