//! Access tokens, by their hash.

use crate::args;
use crate::database::{Connection, Tx};
use crate::error::Result;
use crate::statement::Sql;

/// Whom a token stands for.
#[derive(Clone, Debug)]
pub struct Session {
    /// The user.
    pub user_pk: i64,
    /// The user's id.
    pub user_id: String,
    /// The device.
    pub device_pk: i64,
    /// The device's id.
    pub device_id: String,
    /// When the token expires.
    pub expires_ts: Option<i64>,
    /// The token came by a refresh and was not used yet.
    pub fresh: bool,
    /// The refresh token that came with it.
    pub refresh_hash: Option<Vec<u8>>,
    /// The kind of account.
    pub kind: i64,
    /// The account may administer the server.
    pub admin: bool,
    /// When the device was last seen.
    pub last_seen_ts: Option<i64>,
}

/// A token to store.
#[derive(Clone, Copy, Debug)]
pub struct NewToken<'a> {
    /// Its SHA-256.
    pub hash: &'a [u8],
    /// The user.
    pub user_pk: i64,
    /// The device.
    pub device_pk: i64,
    /// When it expires.
    pub expires_ts: Option<i64>,
    /// The refresh token that comes with it.
    pub refresh_hash: Option<&'a [u8]>,
    /// It replaces tokens that stay valid until its first use.
    pub fresh: bool,
}

/// Stores a token.
pub async fn insert(tx: &mut Tx, token: NewToken<'_>) -> Result<()> {
    const INSERT: Sql = Sql::per(
        "INSERT INTO access_tokens(token_hash, user_pk, device_pk, expires_ts, refresh_hash, fresh) \
         VALUES ($1, $2, $3, $4, NULLIF($5, x''), $6)",
        "INSERT INTO access_tokens(token_hash, user_pk, device_pk, expires_ts, refresh_hash, fresh) \
         VALUES ($1, $2, $3, $4, NULLIF($5, ''::bytea), $6)",
    );
    let NewToken { hash, user_pk, device_pk, expires_ts, refresh_hash, fresh } = token;
    let refresh_hash = refresh_hash.unwrap_or_default();
    tx.run(INSERT, args![hash, user_pk, device_pk, expires_ts, refresh_hash, fresh]).await.map(drop)
}

/// Whom a token stands for.
pub async fn find(connection: &mut Connection, hash: &[u8]) -> Result<Option<Session>> {
    const FIND: Sql = Sql::per(
        "SELECT t.user_pk, u.user_id, t.device_pk, d.device_id, t.expires_ts, t.fresh, \
         COALESCE(t.refresh_hash, x''), a.kind, a.admin, d.last_seen_ts \
         FROM access_tokens t JOIN users u ON u.user_pk = t.user_pk \
         JOIN devices d ON d.device_pk = t.device_pk JOIN accounts a ON a.user_pk = t.user_pk \
         WHERE t.token_hash = $1",
        "SELECT t.user_pk, u.user_id, t.device_pk, d.device_id, t.expires_ts, t.fresh, \
         COALESCE(t.refresh_hash, ''::bytea), a.kind, a.admin, d.last_seen_ts \
         FROM access_tokens t JOIN users u ON u.user_pk = t.user_pk \
         JOIN devices d ON d.device_pk = t.device_pk JOIN accounts a ON a.user_pk = t.user_pk \
         WHERE t.token_hash = $1",
    );
    let row = connection.one(FIND, args![hash]).await?;
    row.map(|row| {
        Ok(Session {
            user_pk: row.int(0)?,
            user_id: row.text(1)?,
            device_pk: row.int(2)?,
            device_id: row.text(3)?,
            expires_ts: row.opt_int(4)?,
            fresh: row.bool(5)?,
            refresh_hash: Some(row.bytes(6)?).filter(|hash| !hash.is_empty()),
            kind: row.int(7)?,
            admin: row.bool(8)?,
            last_seen_ts: row.opt_int(9)?,
        })
    })
    .transpose()
}

/// The access token that came with a device's refresh token.
pub async fn of_refresh_token(
    connection: &mut Connection,
    device_pk: i64,
    refresh_hash: &[u8],
) -> Result<Option<Vec<u8>>> {
    const FIND: Sql =
        Sql::both("SELECT token_hash FROM access_tokens WHERE device_pk = $1 AND refresh_hash = $2");
    connection.one(FIND, args![device_pk, refresh_hash]).await?.map(|row| row.bytes(0)).transpose()
}

/// Deletes a device's access tokens but one, and says that this one is used.
pub async fn keep_only(tx: &mut Tx, device_pk: i64, hash: &[u8]) -> Result<()> {
    const OTHERS: Sql = Sql::both("DELETE FROM access_tokens WHERE device_pk = $1 AND token_hash <> $2");
    tx.run(OTHERS, args![device_pk, hash]).await?;
    tx.run(Sql::both("UPDATE access_tokens SET fresh = 0 WHERE token_hash = $1"), args![hash]).await.map(drop)
}

/// Deletes a device's access tokens.
pub async fn delete_of_device(tx: &mut Tx, device_pk: i64) -> Result<u64> {
    tx.run(Sql::both("DELETE FROM access_tokens WHERE device_pk = $1"), args![device_pk]).await
}
