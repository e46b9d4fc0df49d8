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

/// Notes an answer; false when the id has one already.
pub async fn insert(
    tx: &mut Tx,
    device_pk: i64,
    scope: &str,
    txn_id: &str,
    answer: &str,
    ts: i64,
) -> Result<bool> {
    const INSERT: Sql = Sql::both(
        "INSERT INTO transaction_ids(device_pk, scope, txn_id, answer, ts) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT DO NOTHING",
    );
    Ok(tx.run(INSERT, args![device_pk, scope, txn_id, answer, ts]).await? > 0)
}
