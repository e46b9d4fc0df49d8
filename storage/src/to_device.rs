//! To-device messages: they wait here until their device acknowledges them.

use crate::args;
use crate::database::{Connection, Tx};
use crate::error::Result;
use crate::statement::Sql;

/// The oldest messages of a device between two positions: (position, event).
pub async fn pending(
    connection: &mut Connection,
    device_pk: i64,
    after: i64,
    upto: i64,
    limit: i64,
) -> Result<Vec<(i64, String)>> {
    const PENDING: Sql = Sql::both(
        "SELECT pos, json FROM to_device WHERE device_pk = $1 AND pos > $2 AND pos <= $3 ORDER BY pos LIMIT $4",
    );
    let rows = connection.all(PENDING, args![device_pk, after, upto, limit]).await?;
    rows.iter().map(|row| Ok((row.int(0)?, row.text(1)?))).collect()
}

/// Whether messages of a device up to a position wait.
pub async fn waits(connection: &mut Connection, device_pk: i64, upto: i64) -> Result<bool> {
    const WAITS: Sql = Sql::both("SELECT 1 FROM to_device WHERE device_pk = $1 AND pos <= $2 LIMIT 1");
    Ok(connection.one(WAITS, args![device_pk, upto]).await?.is_some())
}

/// Deletes what devices have seen: (device, position up to which).
pub(crate) async fn delete(tx: &mut Tx, seen: &[&(i64, i64)]) -> Result<()> {
    const DELETE: Sql = Sql::per(
        "DELETE FROM to_device WHERE (device_pk, pos) IN (SELECT t.device_pk, t.pos FROM json_each($1) AS d \
         CROSS JOIN to_device AS t ON t.device_pk = d.value AND t.pos <= json_extract($2, '$[' || d.key || ']'))",
        "DELETE FROM to_device AS t USING UNNEST($1::bigint[], $2::bigint[]) AS w(d, upto) \
         WHERE t.device_pk = w.d AND t.pos <= w.upto",
    );
    if seen.is_empty() {
        return Ok(());
    }
    let devices: Vec<i64> = seen.iter().map(|s| s.0).collect();
    let upto: Vec<i64> = seen.iter().map(|s| s.1).collect();
    tx.write(DELETE, args![devices.as_slice(), upto.as_slice()]).await
}
