//! To-device messages: they wait here until their device acknowledges them.

use crate::args;
use crate::changes::NewToDevice;
use crate::database::{Connection, Tx};
use crate::error::Result;
use crate::log::Kind;
use crate::statement::{Bulk, Col, Sql};

/// Stores messages, each with an entry of the log.
pub async fn insert(tx: &mut Tx, messages: &[NewToDevice]) -> Result<()> {
    let positions = messages.iter().map(|m| tx.entry(Kind::ToDevice, m.user_pk, m.device_pk)).collect();
    tx.bulk(
        Bulk { into: "to_device(device_pk, pos, json)", suffix: "" },
        &[
            Col::Ints(messages.iter().map(|m| m.device_pk).collect()),
            Col::Ints(positions),
            Col::Texts(messages.iter().map(|m| m.json.as_str()).collect()),
        ],
    )
    .await
}

/// The oldest messages of a device up to a position: (position, event).
pub async fn pending(
    connection: &mut Connection,
    device_pk: i64,
    upto: i64,
    limit: i64,
) -> Result<Vec<(i64, String)>> {
    const PENDING: Sql =
        Sql::both("SELECT pos, json FROM to_device WHERE device_pk = $1 AND pos <= $2 ORDER BY pos LIMIT $3");
    let rows = connection.all(PENDING, args![device_pk, upto, limit]).await?;
    rows.iter().map(|row| Ok((row.int(0)?, row.text(1)?))).collect()
}

/// Whether messages of a device up to a position wait.
pub async fn waits(connection: &mut Connection, device_pk: i64, upto: i64) -> Result<bool> {
    const WAITS: Sql = Sql::both("SELECT 1 FROM to_device WHERE device_pk = $1 AND pos <= $2 LIMIT 1");
    Ok(connection.one(WAITS, args![device_pk, upto]).await?.is_some())
}

/// Deletes the messages of a device up to a position.
pub async fn delete(tx: &mut Tx, device_pk: i64, upto: i64) -> Result<u64> {
    tx.run(Sql::both("DELETE FROM to_device WHERE device_pk = $1 AND pos <= $2"), args![device_pk, upto])
        .await
}
