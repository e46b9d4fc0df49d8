//! Registration tokens: who has one may make an account.

use crate::args;
use crate::database::{Connection, Tx};
use crate::error::Result;
use crate::statement::Sql;

/// Makes a token.
pub async fn insert(
    tx: &mut Tx,
    token: &str,
    uses_left: Option<i64>,
    expires_ts: Option<i64>,
    admin: bool,
) -> Result<()> {
    const INSERT: Sql = Sql::both(
        "INSERT INTO registration_tokens(token, uses_left, expires_ts, admin) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (token) DO NOTHING",
    );
    tx.run(INSERT, args![token, uses_left, expires_ts, admin]).await.map(drop)
}

/// Whether a token can be used.
pub async fn is_valid(connection: &mut Connection, token: &str, now: i64) -> Result<bool> {
    const VALID: Sql = Sql::both(
        "SELECT 1 FROM registration_tokens WHERE token = $1 AND COALESCE(uses_left, 1) > 0 \
         AND (expires_ts IS NULL OR expires_ts >= $2)",
    );
    Ok(connection.one(VALID, args![token, now]).await?.is_some())
}

/// Uses a token once: whether the account it makes is an administrator's, or `None` if it cannot be used.
pub async fn take(tx: &mut Tx, token: &str, now: i64) -> Result<Option<bool>> {
    const TAKE: Sql = Sql::both(
        "UPDATE registration_tokens SET uses_left = uses_left - 1 WHERE token = $1 \
         AND COALESCE(uses_left, 1) > 0 AND (expires_ts IS NULL OR expires_ts >= $2) RETURNING admin",
    );
    tx.one(TAKE, args![token, now]).await?.map(|row| row.bool(0)).transpose()
}

/// A token that makes an administrator and can still be used.
pub async fn for_admin(connection: &mut Connection) -> Result<Option<String>> {
    const FIND: Sql = Sql::both(
        "SELECT token FROM registration_tokens WHERE admin = 1 AND COALESCE(uses_left, 1) > 0 \
         AND expires_ts IS NULL ORDER BY token LIMIT 1",
    );
    connection.one(FIND, &[]).await?.map(|row| row.text(0)).transpose()
}

/// Deletes the tokens that make administrators, once there is one.
pub async fn delete_for_admin(tx: &mut Tx) -> Result<()> {
    tx.run(Sql::both("DELETE FROM registration_tokens WHERE admin = 1"), &[]).await.map(drop)
}
