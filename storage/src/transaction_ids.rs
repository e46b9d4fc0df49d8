//! Transaction ids of clients: a request repeated with the same id gets the first answer and does nothing again.

use crate::args;
use crate::database::{Connection, Tx};
use crate::error::Result;
use crate::statement::Sql;

/// The answer that a device's transaction id already has.
pub async fn find(
    connection: &mut Connection,
    device_pk: i64,
    scope: &str,
    txn_id: &str,
) -> Result<Option<String>> {
    const FIND: Sql =
        Sql::both("SELECT answer FROM transaction_ids WHERE device_pk = $1 AND scope = $2 AND txn_id = $3");
    connection.one(FIND, args![device_pk, scope, txn_id]).await?.map(|row| row.text(0)).transpose()
}

/// Deletes ids from before a time, at most `limit`; gives their number.
pub async fn delete_older(tx: &mut Tx, before: i64, limit: i64) -> Result<u64> {
    const DELETE: Sql = Sql::both(
        "DELETE FROM transaction_ids WHERE (device_pk, scope, txn_id) IN \
         (SELECT device_pk, scope, txn_id FROM transaction_ids WHERE ts < $1 ORDER BY ts LIMIT $2)",
    );
    tx.run(DELETE, args![before, limit]).await
}
