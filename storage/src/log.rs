//! The ordered log: what happened, in one order, for every reader.
//!
//! An entry is thin: a position, a kind, a scope (an interned room or user) and an object whose meaning the kind
//! tells. Truth lives in the tables; each row there bears the position of its last change, so the log can be trimmed.
//!
//! Positions have no gaps (but where an epoch begins, see [`crate::epochs`]) and become visible in their order. SQLite has one writer, so this comes by itself. On
//! PostgreSQL every writer locks the head row before it numbers its first entry and keeps the lock until it has
//! committed: a sequence would leave gaps, and a reader that passed one would never come back to it.

use crate::args;
use crate::database::{Connection, Tx};
use crate::error::Result;
use crate::statement::{Bulk, Col, Sql};

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $value:literal),* $(,)?) => {
        /// What an entry tells of; scope and object are said for each.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Kind { $($(#[$doc])* $name = $value),* }
        impl Kind {
            fn from_int(value: i64) -> Option<Kind> {
                match value { $($value => Some(Kind::$name),)* _ => None }
            }
        }
    };
}

kinds! {
    /// A timeline event. Scope: room. Object: the event.
    Event = 1,
    /// The room's current state moved without a timeline event. Scope: room. Object: 0.
    State = 2,
    /// A user's membership of a room changed. Scope: user. Object: room.
    Membership = 3,
    /// A receipt. Scope: room. Object: user.
    Receipt = 4,
    /// Account data, global or of a room (tags and push rules among it). Scope: user. Object: room or 0.
    AccountData = 5,
    /// A to-device message. Scope: user. Object: device.
    ToDevice = 6,
    /// A device's one-time or fallback keys changed in number. Scope: user. Object: device.
    KeyCounts = 7,
    /// A user's devices or cross-signing keys changed. Scope: user. Object: what other servers are told of it
    /// ([`crate::keys::device_lists::Told`]).
    DeviceList = 8,
    /// Access tokens were revoked or a device deleted: caches forget the user's. Scope: user. Object: device or 0.
    Tokens = 9,
    /// A user's profile changed. Scope: user. Object: 0.
    Profile = 10,
    /// An alias or the directory changed. Scope: room. Object: 0.
    Alias = 11,
    /// A user's private receipt or read marker. Scope: user. Object: room.
    PrivateReceipt = 12,
    /// An event was redacted. Scope: room. Object: the event.
    Redaction = 13,
    /// An outlier got its place in the graph, and no position. Scope: room. Object: the event.
    Placed = 14,
    /// A user signed somebody's key, or changed their user-signing key, which nobody else sees. Scope: who signed.
    /// Object: whose key it is.
    Signature = 15,
    /// An EDU for another server waits in the outbox. Scope: 0. Object: 0.
    Outbox = 16,
    /// The database was taken back to an earlier state, or that must be feared: everything in memory is forgotten.
    /// Before it the positions have a gap, the only kind of gap there is. Scope: 0. Object: the number of the new epoch.
    Epoch = 20,
}

/// One entry of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The position: positions have no gaps within an epoch.
    pub pos: i64,
    /// What it tells of.
    pub kind: Kind,
    /// The interned room or user that it concerns.
    pub scope: i64,
    /// What changed there, as the kind says.
    pub object: i64,
}

/// Locks the head of the log and gives it, with the number of this replica's last batch.
pub(crate) async fn lock_head(connection: &mut Connection, replica: &str) -> Result<(i64, i64)> {
    const LOCK: Sql = Sql::per(
        "SELECT pos, COALESCE((SELECT batch FROM writers WHERE replica = $1), 0) FROM head",
        "SELECT pos, COALESCE((SELECT batch FROM writers WHERE replica = $1), 0) FROM head FOR UPDATE OF head",
    );
    let row = connection.one(LOCK, args![replica]).await?;
    row.map_or(Ok((0, 0)), |row| Ok((row.int(0)?, row.int(1)?)))
}

/// The number of this replica's last batch that is in the database.
pub(crate) async fn last_batch(connection: &mut Connection, replica: &str) -> Result<i64> {
    const LAST: Sql = Sql::both("SELECT batch FROM writers WHERE replica = $1");
    connection.one(LAST, args![replica]).await?.map_or(Ok(0), |row| row.int(0))
}

/// Moves the head, notes the batch, and tells the replicas, if there are any that follow.
pub(crate) async fn move_head(
    connection: &mut Connection,
    pos: i64,
    replica: &str,
    batch: i64,
    is_followed: bool,
) -> Result<()> {
    const NOTE: Sql = Sql::both(
        "INSERT INTO writers(replica, batch) VALUES ($1, $2) \
         ON CONFLICT (replica) DO UPDATE SET batch = excluded.batch",
    );
    connection.write(NOTE, args![replica, batch]).await?;
    if connection.is_sqlite() || !is_followed {
        return connection.write(Sql::both("UPDATE head SET pos = $1"), args![pos]).await;
    }
    // What an UPDATE returns is computed, as a SELECT in a WITH would not be.
    const MOVE: Sql = Sql::both(
        "UPDATE head SET pos = $1 RETURNING pg_notify('myelin_log', $1::bigint::text || ' ' || $2)",
    );
    connection.write(MOVE, args![pos, replica]).await
}

/// Writes entries.
pub(crate) async fn insert(tx: &mut Tx, entries: &[Entry]) -> Result<()> {
    const INTO: Bulk = Bulk { into: "log(pos, kind, scope, object)", suffix: "" };
    tx.bulk(
        INTO,
        &[
            Col::Ints(entries.iter().map(|e| e.pos).collect()),
            Col::Ints(entries.iter().map(|e| e.kind as i64).collect()),
            Col::Ints(entries.iter().map(|e| e.scope).collect()),
            Col::Ints(entries.iter().map(|e| e.object).collect()),
        ],
    )
    .await
}

/// The position of the newest committed entry.
pub async fn head(connection: &mut Connection) -> Result<i64> {
    connection.one(Sql::both("SELECT pos FROM head"), &[]).await?.map_or(Ok(0), |row| row.int(0))
}

/// Entries behind `after`, oldest first, at most `limit`. Kinds of a newer version are passed over.
pub async fn after(connection: &mut Connection, after: i64, limit: i64) -> Result<Vec<Entry>> {
    const AFTER: Sql =
        Sql::both("SELECT pos, kind, scope, object FROM log WHERE pos > $1 ORDER BY pos LIMIT $2");
    let mut entries = Vec::new();
    for row in connection.all(AFTER, args![after, limit]).await? {
        if let Some(kind) = Kind::from_int(row.int(1)?) {
            entries.push(Entry { pos: row.int(0)?, kind, scope: row.int(2)?, object: row.int(3)? });
        }
    }
    Ok(entries)
}

/// The position of the oldest entry that is kept, or one behind the head when the log is empty.
pub async fn oldest(connection: &mut Connection) -> Result<i64> {
    const OLDEST: Sql = Sql::both("SELECT COALESCE(MIN(log.pos), (SELECT head.pos + 1 FROM head)) FROM log");
    connection.one(OLDEST, &[]).await?.map_or(Ok(1), |row| row.int(0))
}

/// Deletes the oldest entries up to and including `pos`, at most `limit`; gives their number.
pub async fn trim(tx: &mut Tx, pos: i64, limit: i64) -> Result<u64> {
    const TRIM: Sql =
        Sql::both("DELETE FROM log WHERE pos IN (SELECT pos FROM log WHERE pos <= $1 ORDER BY pos LIMIT $2)");
    tx.run(TRIM, args![pos, limit]).await
}

/// A value of the database as a whole, such as its server's name.
pub async fn meta(connection: &mut Connection, key: &str) -> Result<Option<String>> {
    const GET: Sql = Sql::both("SELECT value FROM meta WHERE key = $1");
    connection.one(GET, args![key]).await?.map(|row| row.text(0)).transpose()
}

/// Sets a value of the database as a whole if there is none yet; gives the one that holds.
pub async fn meta_or(tx: &mut Tx, key: &str, value: &str) -> Result<String> {
    const PUT: Sql = Sql::both("INSERT INTO meta(key, value) VALUES ($1, $2) ON CONFLICT (key) DO NOTHING");
    tx.run(PUT, args![key, value]).await?;
    Ok(meta(tx, key).await?.unwrap_or_else(|| value.to_owned()))
}

/// Sets a value of the database as a whole.
pub async fn set_meta(tx: &mut Tx, key: &str, value: &str) -> Result<()> {
    const PUT: Sql = Sql::both(
        "INSERT INTO meta(key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
    );
    tx.run(PUT, args![key, value]).await.map(drop)
}
