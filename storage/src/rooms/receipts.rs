//! Receipts: how far somebody has read a room, or a thread of it.

use crate::args;
use crate::database::Connection;
use crate::error::Result;
use crate::statement::{Row, Sql};

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
