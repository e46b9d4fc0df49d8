//! Receipts: how far somebody has read a room, or a thread of it.

use crate::args;
use crate::changes::Changes;
use crate::database::{Connection, Tx};
use crate::error::Result;
use crate::statement::{Bulk, Col, Row, Sql};
use std::collections::HashMap;

/// m.read: everybody in the room may see it.
pub const PUBLIC: i64 = 1;
/// m.read.private: only the reader may see it.
pub const PRIVATE: i64 = 2;

/// A receipt.
#[derive(Clone, Debug)]
pub struct ReceiptRow {
    /// The room.
    pub room_pk: i64,
    /// Who has read.
    pub user_pk: i64,
    /// [`PUBLIC`] or [`PRIVATE`].
    pub kind: i64,
    /// Empty without a thread, `main`, or the id of a thread's root.
    pub thread: String,
    /// The event that was read.
    pub event_id: String,
    /// The position of that event.
    pub event_pos: i64,
    /// When.
    pub ts: i64,
}

impl ReceiptRow {
    fn read(row: &Row) -> Result<ReceiptRow> {
        Ok(ReceiptRow {
            room_pk: row.int(0)?,
            user_pk: row.int(1)?,
            kind: row.int(2)?,
            thread: row.text(3)?,
            event_id: row.text(4)?,
            event_pos: row.int(5)?,
            ts: row.int(6)?,
        })
    }
}

/// The receipts of rooms that came behind a position, as far as `reader_pk` may see them.
pub async fn since(
    connection: &mut Connection,
    rooms: &[i64],
    after: i64,
    reader_pk: i64,
) -> Result<Vec<ReceiptRow>> {
    const SINCE: Sql = Sql::per(
        "SELECT r.room_pk, r.user_pk, r.kind, r.thread, r.event_id, r.event_pos, r.ts FROM json_each($1) AS w \
         CROSS JOIN receipts AS r ON r.room_pk = w.value AND r.pos > $2 \
         WHERE r.kind = 1 OR (r.kind = 2 AND r.user_pk = $3)",
        "SELECT room_pk, user_pk, kind, thread, event_id, event_pos, ts FROM receipts \
         WHERE room_pk = ANY($1) AND pos > $2 AND (kind = 1 OR (kind = 2 AND user_pk = $3))",
    );
    connection.all(SINCE, args![rooms, after, reader_pk]).await?.iter().map(ReceiptRow::read).collect()
}

/// The newest receipt of a user in a room, of one kind.
pub async fn newest(
    connection: &mut Connection,
    room_pk: i64,
    user_pk: i64,
    kind: i64,
) -> Result<Option<ReceiptRow>> {
    const NEWEST: Sql = Sql::both(
        "SELECT room_pk, user_pk, kind, thread, event_id, event_pos, ts FROM receipts \
         WHERE room_pk = $1 AND user_pk = $2 AND kind = $3 ORDER BY pos DESC LIMIT 1",
    );
    connection.one(NEWEST, args![room_pk, user_pk, kind]).await?.as_ref().map(ReceiptRow::read).transpose()
}

/// How far a user has read rooms, public and private receipts alike: (room, thread, position).
pub async fn read_upto(
    connection: &mut Connection,
    user_pk: i64,
    rooms: &[i64],
) -> Result<Vec<(i64, String, i64)>> {
    const UPTO: Sql = Sql::per(
        "SELECT r.room_pk, r.thread, MAX(r.event_pos) FROM json_each($2) AS w \
         CROSS JOIN receipts AS r ON r.room_pk = w.value AND r.user_pk = $1 AND r.kind IN (1, 2) \
         GROUP BY r.room_pk, r.thread",
        "SELECT room_pk, thread, MAX(event_pos) FROM receipts \
         WHERE user_pk = $1 AND room_pk = ANY($2) AND kind IN (1, 2) GROUP BY room_pk, thread",
    );
    let rows = connection.all(UPTO, args![user_pk, rooms]).await?;
    rows.iter().map(|row| Ok((row.int(0)?, row.text(1)?, row.int(2)?))).collect()
}

/// Writes the receipts of units at their positions.
pub(crate) async fn write(tx: &mut Tx, units: &[&Changes], positions: &[i64]) -> Result<()> {
    let mut latest = HashMap::new();
    for (receipt, pos) in units.iter().flat_map(|u| &u.receipts).zip(positions) {
        latest.insert((receipt.room_pk, receipt.user_pk, receipt.kind, &receipt.thread), (receipt, *pos));
    }
    let receipts: Vec<_> = latest.into_values().collect();
    const RECEIPTS: Bulk = Bulk {
        into: "receipts(room_pk, user_pk, kind, thread, event_id, event_pos, ts, pos)",
        suffix: "ON CONFLICT (room_pk, user_pk, kind, thread) DO UPDATE SET event_id = excluded.event_id, \
                 event_pos = excluded.event_pos, ts = excluded.ts, pos = excluded.pos \
                 WHERE excluded.event_pos > receipts.event_pos",
    };
    tx.bulk(
        RECEIPTS,
        &[
            Col::Ints(receipts.iter().map(|r| r.0.room_pk).collect()),
            Col::Ints(receipts.iter().map(|r| r.0.user_pk).collect()),
            Col::Ints(receipts.iter().map(|r| r.0.kind).collect()),
            Col::Texts(receipts.iter().map(|r| r.0.thread.as_str()).collect()),
            Col::Texts(receipts.iter().map(|r| r.0.event_id.as_str()).collect()),
            Col::Ints(receipts.iter().map(|r| r.0.event_pos).collect()),
            Col::Ints(receipts.iter().map(|r| r.0.ts).collect()),
            Col::Ints(receipts.iter().map(|r| r.1).collect()),
        ],
    )
    .await
}
