//! Short-lived tokens for m.login.token, by their hash; each is used once.

use crate::args;
use crate::database::Tx;
use crate::error::Result;
use crate::statement::Sql;

/// Stores a token, and forgets those that expired before `now`.
pub async fn insert(tx: &mut Tx, hash: &[u8], user_pk: i64, expires_ts: i64, now: i64) -> Result<()> {
    tx.run(Sql::both("DELETE FROM login_tokens WHERE expires_ts < $1"), args![now]).await?;
    const INSERT: Sql =
        Sql::both("INSERT INTO login_tokens(token_hash, user_pk, expires_ts) VALUES ($1, $2, $3)");
    tx.run(INSERT, args![hash, user_pk, expires_ts]).await.map(drop)
}

/// Uses a token: the user it was made for, unless it had expired.
pub async fn take(tx: &mut Tx, hash: &[u8], now: i64) -> Result<Option<i64>> {
    const TAKE: Sql =
        Sql::both("DELETE FROM login_tokens WHERE token_hash = $1 AND expires_ts >= $2 RETURNING user_pk");
    tx.one(TAKE, args![hash, now]).await?.map(|row| row.int(0)).transpose()
}

/// Deletes a user's tokens.
pub async fn delete_of_user(tx: &mut Tx, user_pk: i64) -> Result<()> {
    tx.run(Sql::both("DELETE FROM login_tokens WHERE user_pk = $1"), args![user_pk]).await.map(drop)
}

/// Deletes tokens that expired before a time, at most `limit`; gives their number.
pub async fn delete_expired(tx: &mut Tx, before: i64, limit: i64) -> Result<u64> {
    const DELETE: Sql = Sql::both(
        "DELETE FROM login_tokens WHERE token_hash IN \
         (SELECT token_hash FROM login_tokens WHERE expires_ts < $1 LIMIT $2)",
    );
    tx.run(DELETE, args![before, limit]).await
}
