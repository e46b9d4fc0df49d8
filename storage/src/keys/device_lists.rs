//! Whose device lists changed since when, for everybody or for one user alone.

use crate::args;
use crate::database::{Connection, Tx};
use crate::error::Result;
use crate::log::Kind;
use crate::statement::Sql;

pub use crate::users::devices::list_changed as changed;

/// The users whose device list changed behind a position. There is no upper end: a row bears its last change only, and
/// a user told of once too often does no harm.
pub async fn since(connection: &mut Connection, after: i64) -> Result<Vec<i64>> {
    const SINCE: Sql = Sql::both("SELECT user_pk FROM device_list_changes WHERE pos > $1");
    connection.all(SINCE, args![after]).await?.iter().map(|row| row.int(0)).collect()
}

/// The position at which a user's device list changed last; 0 where it never did.
pub async fn position(connection: &mut Connection, user_pk: i64) -> Result<i64> {
    const POSITION: Sql = Sql::both("SELECT pos FROM device_list_changes WHERE user_pk = $1");
    connection.one(POSITION, args![user_pk]).await?.map_or(Ok(0), |row| row.int(0))
}

/// Notes that what a user sees of a target's keys changed, and what nobody else sees: their signature on another user's
/// key, or their own user-signing key.
pub async fn signed(tx: &mut Tx, user_pk: i64, target_pk: i64) -> Result<()> {
    const SIGNED: Sql = Sql::both(
        "INSERT INTO signature_changes(user_pk, target_pk, pos) VALUES ($1, $2, $3) \
         ON CONFLICT (user_pk, target_pk) DO UPDATE SET pos = excluded.pos",
    );
    let pos = tx.entry(Kind::Signature, user_pk, target_pk);
    tx.write(SIGNED, args![user_pk, target_pk, pos]).await
}

/// The users whose keys changed behind a position in what one user alone sees of them.
pub async fn signed_since(connection: &mut Connection, user_pk: i64, after: i64) -> Result<Vec<i64>> {
    const SINCE: Sql = Sql::both("SELECT target_pk FROM signature_changes WHERE user_pk = $1 AND pos > $2");
    connection.all(SINCE, args![user_pk, after]).await?.iter().map(|row| row.int(0)).collect()
}
