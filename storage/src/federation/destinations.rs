//! Servers that do not answer, and those that have not got every event.
//!
//! A server that answers and has everything has no row.

use crate::args;
use crate::database::{Connection, Tx};
use crate::error::Result;
use crate::statement::Sql;

/// A server that does not answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failing {
    /// Its name.
    pub server: String,
    /// Since when, in milliseconds since the Unix epoch.
    pub since_ts: i64,
    /// When it is asked again.
    pub retry_ts: i64,
    /// How long was waited for that, in milliseconds.
    pub interval_ms: i64,
}

/// All servers that do not answer.
pub async fn failing(connection: &mut Connection) -> Result<Vec<Failing>> {
    const FAILING: Sql =
        Sql::both("SELECT server, failing_since_ts, retry_ts, interval_ms FROM destinations");
    let rows = connection.all(FAILING, &[]).await?;
    rows.iter()
        .map(|row| {
            Ok(Failing {
                server: row.text(0)?,
                since_ts: row.int(1)?,
                retry_ts: row.int(2)?,
                interval_ms: row.int(3)?,
            })
        })
        .collect()
}

/// Notes that a server does not answer.
pub async fn put_failing(tx: &mut Tx, failing: &Failing) -> Result<()> {
    const PUT: Sql = Sql::both(
        "INSERT INTO destinations(server, failing_since_ts, retry_ts, interval_ms) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (server) DO UPDATE SET failing_since_ts = excluded.failing_since_ts, \
         retry_ts = excluded.retry_ts, interval_ms = excluded.interval_ms",
    );
    let Failing { server, since_ts, retry_ts, interval_ms } = failing;
    tx.run(PUT, args![server.as_str(), *since_ts, *retry_ts, *interval_ms]).await.map(drop)
}

/// Notes that a server answers again.
pub async fn answers(tx: &mut Tx, server: &str) -> Result<()> {
    tx.run(Sql::both("DELETE FROM destinations WHERE server = $1"), args![server]).await.map(drop)
}

/// The servers that have not got every event: (server, position up to which they have them).
pub async fn backlog(connection: &mut Connection) -> Result<Vec<(String, i64)>> {
    let rows = connection.all(Sql::both("SELECT server, since_pos FROM backlog"), &[]).await?;
    rows.iter().map(|row| Ok((row.text(0)?, row.int(1)?))).collect()
}

/// Notes up to which position a server has the events.
pub async fn put_backlog(tx: &mut Tx, server: &str, since_pos: i64) -> Result<()> {
    const PUT: Sql = Sql::both(
        "INSERT INTO backlog(server, since_pos) VALUES ($1, $2) \
         ON CONFLICT (server) DO UPDATE SET since_pos = excluded.since_pos",
    );
    tx.run(PUT, args![server, since_pos]).await.map(drop)
}

/// Notes that a server has every event.
pub async fn caught_up(tx: &mut Tx, server: &str) -> Result<()> {
    tx.run(Sql::both("DELETE FROM backlog WHERE server = $1"), args![server]).await.map(drop)
}
