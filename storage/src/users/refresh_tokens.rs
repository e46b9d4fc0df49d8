//! Refresh tokens, by their hash.

use crate::args;
use crate::database::{Connection, Tx};
use crate::error::Result;
use crate::statement::Sql;

/// A refresh token.
#[derive(Clone, Copy, Debug)]
pub struct RefreshToken {
    /// The user.
    pub user_pk: i64,
    /// The device.
    pub device_pk: i64,
    /// When it expires.
    pub expires_ts: i64,
}

/// Stores a token.
pub async fn insert(tx: &mut Tx, hash: &[u8], token: RefreshToken) -> Result<()> {
    const INSERT: Sql = Sql::both(
        "INSERT INTO refresh_tokens(token_hash, user_pk, device_pk, expires_ts) VALUES ($1, $2, $3, $4)",
    );
    tx.run(INSERT, args![hash, token.user_pk, token.device_pk, token.expires_ts]).await.map(drop)
}

/// A token by its hash.
pub async fn find(connection: &mut Connection, hash: &[u8]) -> Result<Option<RefreshToken>> {
    const FIND: Sql =
        Sql::both("SELECT user_pk, device_pk, expires_ts FROM refresh_tokens WHERE token_hash = $1");
    let row = connection.one(FIND, args![hash]).await?;
    row.map(|row| Ok(RefreshToken { user_pk: row.int(0)?, device_pk: row.int(1)?, expires_ts: row.int(2)? }))
        .transpose()
}

/// Deletes a device's refresh tokens but one.
pub async fn keep_only(tx: &mut Tx, device_pk: i64, hash: &[u8]) -> Result<()> {
    const OTHERS: Sql = Sql::both("DELETE FROM refresh_tokens WHERE device_pk = $1 AND token_hash <> $2");
    tx.run(OTHERS, args![device_pk, hash]).await.map(drop)
}

/// Deletes a device's refresh tokens.
pub async fn delete_of_device(tx: &mut Tx, device_pk: i64) -> Result<()> {
    tx.run(Sql::both("DELETE FROM refresh_tokens WHERE device_pk = $1"), args![device_pk]).await.map(drop)
}

/// Deletes tokens that expired before a time, at most `limit`; gives their number.
pub async fn delete_expired(tx: &mut Tx, before: i64, limit: i64) -> Result<u64> {
    const DELETE: Sql = Sql::both(
        "DELETE FROM refresh_tokens WHERE token_hash IN \
         (SELECT token_hash FROM refresh_tokens WHERE expires_ts < $1 LIMIT $2)",
    );
    tx.run(DELETE, args![before, limit]).await
}
