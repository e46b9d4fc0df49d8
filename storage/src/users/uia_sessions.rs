//! User-interactive authentication under way; and nonces, which are as short-lived.

use crate::args;
use crate::database::{Connection, Tx};
use crate::error::Result;
use crate::statement::Sql;

/// Stores a session's state, and forgets those that expired before `now`.
pub async fn put(tx: &mut Tx, session: &str, body: &str, expires_ts: i64, now: i64) -> Result<()> {
    tx.run(Sql::both("DELETE FROM uia_sessions WHERE expires_ts < $1"), args![now]).await?;
    const PUT: Sql = Sql::both(
        "INSERT INTO uia_sessions(session, body, expires_ts) VALUES ($1, $2, $3) \
         ON CONFLICT (session) DO UPDATE SET body = excluded.body, expires_ts = excluded.expires_ts",
    );
    tx.run(PUT, args![session, body, expires_ts]).await.map(drop)
}

/// A session's state.
pub async fn get(connection: &mut Connection, session: &str, now: i64) -> Result<Option<String>> {
    const GET: Sql = Sql::both("SELECT body FROM uia_sessions WHERE session = $1 AND expires_ts >= $2");
    connection.one(GET, args![session, now]).await?.map(|row| row.text(0)).transpose()
}

/// Ends a session: false when there was none, or it had expired.
pub async fn take(tx: &mut Tx, session: &str, now: i64) -> Result<bool> {
    const TAKE: Sql = Sql::both("DELETE FROM uia_sessions WHERE session = $1 AND expires_ts >= $2");
    Ok(tx.run(TAKE, args![session, now]).await? > 0)
}

/// Deletes sessions that expired before a time, at most `limit`; gives their number.
pub async fn delete_expired(tx: &mut Tx, before: i64, limit: i64) -> Result<u64> {
    const DELETE: Sql = Sql::both(
        "DELETE FROM uia_sessions WHERE session IN \
         (SELECT session FROM uia_sessions WHERE expires_ts < $1 LIMIT $2)",
    );
    tx.run(DELETE, args![before, limit]).await
}
