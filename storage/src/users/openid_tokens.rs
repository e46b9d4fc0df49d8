//! Tokens by which a third party may ask who somebody is, by their hash.

use crate::args;
use crate::database::{Connection, Tx};
use crate::error::Result;
use crate::statement::Sql;

/// Stores a token.
pub async fn insert(tx: &mut Tx, hash: &[u8], user_pk: i64, expires_ts: i64) -> Result<()> {
    const INSERT: Sql =
        Sql::both("INSERT INTO openid_tokens(token_hash, user_pk, expires_ts) VALUES ($1, $2, $3)");
    tx.run(INSERT, args![hash, user_pk, expires_ts]).await.map(drop)
}

/// The user that a token was made for, unless it expired before `now`.
pub async fn find(connection: &mut Connection, hash: &[u8], now: i64) -> Result<Option<i64>> {
    const FIND: Sql =
        Sql::both("SELECT user_pk FROM openid_tokens WHERE token_hash = $1 AND expires_ts >= $2");
    connection.one(FIND, args![hash, now]).await?.map(|row| row.int(0)).transpose()
}

/// Deletes a user's tokens.
pub async fn delete_of_user(tx: &mut Tx, user_pk: i64) -> Result<()> {
    tx.run(Sql::both("DELETE FROM openid_tokens WHERE user_pk = $1"), args![user_pk]).await.map(drop)
}

/// Deletes tokens that expired before a time, at most `limit`; gives their number.
pub async fn delete_expired(tx: &mut Tx, before: i64, limit: i64) -> Result<u64> {
    const DELETE: Sql = Sql::both(
        "DELETE FROM openid_tokens WHERE token_hash IN \
         (SELECT token_hash FROM openid_tokens WHERE expires_ts < $1 LIMIT $2)",
    );
    tx.run(DELETE, args![before, limit]).await
}
