//! Filters that clients stored.

use crate::args;
use crate::database::{Connection, Tx};
use crate::error::Result;
use crate::statement::Sql;

/// Stores a filter and gives its number; the same definition has one number. Numbers that were lost with an earlier epoch
/// are not given again: a client may still know one of them.
pub async fn insert(tx: &mut Tx, user_pk: i64, definition: &str) -> Result<i64> {
    const FIND: Sql =
        Sql::both("SELECT filter_id FROM filters WHERE user_pk = $1 AND definition = $2 LIMIT 1");
    if let Some(row) = tx.one(FIND, args![user_pk, definition]).await? {
        return row.int(0);
    }
    const INSERT: Sql = Sql::both(
        "INSERT INTO filters(user_pk, filter_id, definition) \
         SELECT $1, CASE WHEN next > began THEN next ELSE began END, $2 FROM \
         (SELECT (SELECT COALESCE(MAX(filter_id) + 1, 0) FROM filters WHERE user_pk = $1) AS next, \
         (SELECT COALESCE(MAX(pos), 0) FROM epochs) AS began) AS numbers RETURNING filter_id",
    );
    tx.one(INSERT, args![user_pk, definition]).await?.map_or(Ok(0), |row| row.int(0))
}

/// A filter's definition.
pub async fn get(connection: &mut Connection, user_pk: i64, filter_id: i64) -> Result<Option<String>> {
    const GET: Sql = Sql::both("SELECT definition FROM filters WHERE user_pk = $1 AND filter_id = $2");
    connection.one(GET, args![user_pk, filter_id]).await?.map(|row| row.text(0)).transpose()
}
