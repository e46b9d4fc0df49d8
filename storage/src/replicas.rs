//! Processes that share a PostgreSQL database tell each other of what concerns them all.
//!
//! Each keeps [`Touch`]: a connection of its own that hears notifications and holds a lock which says that this process
//! lives. Whoever can have that lock alone is alone; a process that dies loses it with its connection, so there are no
//! rows to be cleaned up and no clocks to be compared. SQLite has one process and none of this.

use crate::args;
use crate::database::{Connection, Database, Tx};
use crate::error::{Error, Result};
use crate::statement::Sql;
use sqlx::postgres::{PgConnection, PgListener, PgPoolOptions};
use sqlx::{Connection as _, Row as _};
use std::time::Duration;

/// The channel of new heads of the log: position and replica.
const HEADS: &str = "myelin_log";
/// The channel of what is worth telling but not worth keeping.
const NOTES: &str = "myelin_notes";
/// The lock that everybody shares who lives.
const ALIVE: i64 = 7_164_259_382;
/// The longest name of an application that PostgreSQL keeps.
const LONGEST_NAME: usize = 63;

/// What a connection calls itself in `pg_stat_activity`.
pub fn application(replica: &str) -> String {
    let name = format!("myelin {replica}");
    name.chars().filter(char::is_ascii).take(LONGEST_NAME).collect()
}

/// Touch with the others; it ends with its connection.
pub struct Touch {
    listener: PgListener,
}

/// What the others say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// The head of the log moved.
    Head {
        /// The new position.
        pos: i64,
        /// By whom.
        replica: String,
    },
    /// Something that is not kept: see [`tell`].
    Note {
        /// When, in microseconds of the database's clock. Notes come in this order, the same to everybody.
        at_us: i64,
        /// What.
        text: String,
    },
    /// Something of a newer version.
    Unknown,
}

/// What a look at the database says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confirmed {
    /// The newest position.
    pub head: i64,
    /// Nobody else is in touch.
    pub alone: bool,
}

impl Database {
    /// Gets in touch with the other processes. `None` on SQLite, which has none.
    pub async fn touch(&self) -> Result<Option<Touch>> {
        let Some(pool) = self.postgres() else { return Ok(None) };
        // A pool of its own: the lock must not stay behind on a connection that serves requests.
        let own = PgPoolOptions::new()
            .max_connections(1)
            .max_lifetime(None)
            .idle_timeout(None)
            .acquire_timeout(Duration::from_secs(5))
            .connect_lazy_with((*pool.connect_options()).clone());
        let mut listener = PgListener::connect_with(&own).await?;
        listener.eager_reconnect(false);
        listener.listen_all([HEADS, NOTES]).await?;
        sqlx::query("SELECT pg_advisory_lock_shared($1)").bind(ALIVE).execute(&mut listener).await?;
        Ok(Some(Touch { listener }))
    }
}

impl Touch {
    /// Looks at the head, and whether anybody else is in touch.
    pub async fn confirm(&mut self) -> Result<Confirmed> {
        // The lock is had alone for a moment where nobody else shares it.
        const CONFIRM: &str = "SELECT pos, CASE WHEN pg_try_advisory_lock($1) THEN pg_advisory_unlock($1) \
                               ELSE false END FROM head";
        let row = sqlx::query(CONFIRM).bind(ALIVE).fetch_one(&mut self.listener).await?;
        Ok(Confirmed { head: row.try_get(0)?, alone: row.try_get(1)? })
    }

    /// Waits for what the others say, this process included. An error ends the touch: what was said in between is
    /// lost. Can be dropped while it waits.
    pub async fn next(&mut self) -> Result<Heard> {
        let Some(heard) = self.listener.try_recv().await? else {
            return Err(Error::Engine(sqlx::Error::Io(std::io::ErrorKind::ConnectionAborted.into())));
        };
        let (first, rest) = heard.payload().split_once(' ').unwrap_or_default();
        Ok(match (heard.channel(), first.parse()) {
            (HEADS, Ok(pos)) => Heard::Head { pos, replica: rest.to_owned() },
            (NOTES, Ok(at_us)) => Heard::Note { at_us, text: rest.to_owned() },
            _ => Heard::Unknown,
        })
    }
}

/// A task that one process over a database does; it is over with the connection that this holds.
pub struct Lead {
    connection: Option<PgConnection>,
}

impl Lead {
    /// Whether this process still leads. False when its connection broke: another one may lead by now.
    pub async fn holds(&mut self) -> bool {
        match &mut self.connection {
            None => true,
            Some(connection) => connection.ping().await.is_ok(),
        }
    }
}

impl Database {
    /// Takes the lead in a task, by its number, unless another process has it. On SQLite nobody else is there.
    pub async fn lead(&self, task: i64) -> Result<Option<Lead>> {
        let Some(pool) = self.postgres() else { return Ok(Some(Lead { connection: None })) };
        let mut connection = PgConnection::connect_with(&pool.connect_options()).await?;
        let row =
            sqlx::query("SELECT pg_try_advisory_lock($1)").bind(task).fetch_one(&mut connection).await?;
        Ok(row.try_get::<bool, _>(0)?.then_some(Lead { connection: Some(connection) }))
    }
}

/// Tells everybody something, in one order: the lock makes the order of the times that of the notifications. The text
/// must be shorter than 7,900 bytes.
pub async fn tell(connection: &mut Connection, text: &str) -> Result<()> {
    const TELL: Sql = Sql::per(
        "SELECT $1",
        "SELECT pg_notify('myelin_notes', \
         (EXTRACT(EPOCH FROM clock_timestamp()) * 1000000)::bigint::text || ' ' || $1) \
         FROM (SELECT pg_advisory_xact_lock(7164259383)) AS one_after_the_other",
    );
    connection.all(TELL, args![text]).await.map(drop)
}

/// Tells everybody something once the transaction is committed, and never otherwise. Notes come in the order of their
/// commits; their times may not. The text must be shorter than 7,900 bytes.
pub async fn tell_with(tx: &mut Tx, text: &str) -> Result<()> {
    const TELL: Sql = Sql::per(
        "SELECT $1",
        "SELECT pg_notify('myelin_notes', \
         (EXTRACT(EPOCH FROM clock_timestamp()) * 1000000)::bigint::text || ' ' || $1)",
    );
    tx.all(TELL, args![text]).await.map(drop)
}

/// The numbered batches of processes that are not in touch: (name, batch).
pub async fn gone(connection: &mut Connection, own: &str) -> Result<Vec<(String, i64)>> {
    const GONE: Sql = Sql::per(
        "SELECT replica, batch FROM writers WHERE replica <> $1",
        "SELECT replica, batch FROM writers WHERE replica <> $1 AND NOT EXISTS \
         (SELECT 1 FROM pg_stat_activity WHERE datname = current_database() \
          AND application_name = left('myelin ' || replica, 63))",
    );
    let rows = connection.all(GONE, args![own]).await?;
    rows.iter().map(|row| Ok((row.text(0)?, row.int(1)?))).collect()
}

/// Forgets the batches of a process, unless it has written again.
pub async fn forget(tx: &mut Tx, replica: &str, batch: i64) -> Result<()> {
    const FORGET: Sql = Sql::both("DELETE FROM writers WHERE replica = $1 AND batch = $2");
    tx.run(FORGET, args![replica, batch]).await.map(drop)
}
