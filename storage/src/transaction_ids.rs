//! Transaction ids of clients: a request repeated with the same id gets the first answer and does nothing again.

use crate::args;
use crate::changes::Changes;
use crate::database::{Connection, Tx};
use crate::error::Result;
use crate::statement::Sql;
use std::collections::HashSet;

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

/// Those of these transactions that have an answer already: (device, scope, id).
pub(crate) async fn known(
    connection: &mut Connection,
    transactions: &[&(i64, String, String, String, i64)],
) -> Result<Vec<(i64, String, String)>> {
    const KNOWN: Sql = Sql::per(
        "SELECT t.device_pk, t.scope, t.txn_id FROM json_each($1) AS d CROSS JOIN transaction_ids AS t \
         ON t.device_pk = d.value AND t.scope = json_extract($2, '$[' || d.key || ']') \
         AND t.txn_id = json_extract($3, '$[' || d.key || ']')",
        "SELECT t.device_pk, t.scope, t.txn_id FROM UNNEST($1::bigint[], $2::text[], $3::text[]) AS w(d, s, i) \
         JOIN transaction_ids AS t ON t.device_pk = w.d AND t.scope = w.s AND t.txn_id = w.i",
    );
    let devices: Vec<i64> = transactions.iter().map(|t| t.0).collect();
    let scopes: Vec<&str> = transactions.iter().map(|t| t.1.as_str()).collect();
    let ids: Vec<&str> = transactions.iter().map(|t| t.2.as_str()).collect();
    let rows = connection.all(KNOWN, args![devices.as_slice(), scopes.as_slice(), ids.as_slice()]).await?;
    rows.iter().map(|row| Ok((row.int(0)?, row.text(1)?, row.text(2)?))).collect()
}

/// Whether the messages of each unit are new: not where its transaction was carried out before.
pub(crate) async fn have_new_messages(tx: &mut Tx, units: &[&Changes]) -> Result<Vec<bool>> {
    let sends = |unit: &&&Changes| !unit.to_device.is_empty() || !unit.outbox.is_empty();
    let wanted: Vec<_> = units.iter().filter(sends).flat_map(|unit| &unit.transactions).collect();
    let mut done = HashSet::new();
    if !wanted.is_empty() {
        done.extend(known(tx, &wanted).await?);
    }
    let mut messages = Vec::with_capacity(units.len());
    for unit in units {
        let mut is_new = true;
        for (device, scope, id, ..) in unit.transactions.iter().filter(|_| sends(&unit)) {
            is_new &= done.insert((*device, scope.clone(), id.clone()));
        }
        messages.push(is_new);
    }
    Ok(messages)
}

/// Deletes ids from before a time, at most `limit`; gives their number.
pub async fn delete_older(tx: &mut Tx, before: i64, limit: i64) -> Result<u64> {
    const DELETE: Sql = Sql::both(
        "DELETE FROM transaction_ids WHERE (device_pk, scope, txn_id) IN \
         (SELECT device_pk, scope, txn_id FROM transaction_ids WHERE ts < $1 ORDER BY ts LIMIT $2)",
    );
    tx.run(DELETE, args![before, limit]).await
}
