//! Checkpoints of unread counts: what was counted up to a position, so that nobody counts it again.

use crate::args;
use crate::database::{Connection, Tx};
use crate::error::Result;
use crate::statement::{Bulk, Col, Sql};

/// What somebody has not read of a room, or of a thread in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnreadRow {
    /// The user.
    pub user_pk: i64,
    /// The room.
    pub room_pk: i64,
    /// A thread, or empty: that row says how far was counted, also where there is nothing unread.
    pub thread: String,
    /// Events that notify.
    pub notify: i64,
    /// Those that concern the user in person.
    pub highlight: i64,
    /// The position up to which events are counted.
    pub upto_pos: i64,
}

/// The checkpoints of rooms for a user. Those that are older than a receipt of the user in their room say nothing any
/// more and are left out.
pub async fn get(connection: &mut Connection, user_pk: i64, rooms: &[i64]) -> Result<Vec<UnreadRow>> {
    const GET: Sql = Sql::per(
        "SELECT u.room_pk, u.thread, u.notify, u.highlight, u.upto_pos FROM json_each($2) AS w \
         CROSS JOIN unread AS u ON u.user_pk = $1 AND u.room_pk = w.value \
         WHERE NOT EXISTS (SELECT 1 FROM receipts AS r WHERE r.room_pk = u.room_pk AND r.user_pk = $1 \
         AND r.kind IN (1, 2) AND r.pos > u.upto_pos)",
        "SELECT u.room_pk, u.thread, u.notify, u.highlight, u.upto_pos FROM unread AS u \
         WHERE u.user_pk = $1 AND u.room_pk = ANY($2) \
         AND NOT EXISTS (SELECT 1 FROM receipts AS r WHERE r.room_pk = u.room_pk AND r.user_pk = $1 \
         AND r.kind IN (1, 2) AND r.pos > u.upto_pos)",
    );
    let rows = connection.all(GET, args![user_pk, rooms]).await?;
    rows.iter()
        .map(|row| {
            Ok(UnreadRow {
                user_pk,
                room_pk: row.int(0)?,
                thread: row.text(1)?,
                notify: row.int(2)?,
                highlight: row.int(3)?,
                upto_pos: row.int(4)?,
            })
        })
        .collect()
}

/// Puts checkpoints in the place of those that are there for the same users and rooms.
pub async fn put(tx: &mut Tx, rows: &[UnreadRow]) -> Result<()> {
    const CLEAR: Sql = Sql::per(
        "DELETE FROM unread WHERE (user_pk, room_pk) IN \
         (SELECT u.value, r.value FROM json_each($1) AS u JOIN json_each($2) AS r ON r.key = u.key)",
        "DELETE FROM unread WHERE (user_pk, room_pk) IN \
         (SELECT * FROM UNNEST($1::bigint[], $2::bigint[]))",
    );
    let users: Vec<i64> = rows.iter().map(|row| row.user_pk).collect();
    let rooms: Vec<i64> = rows.iter().map(|row| row.room_pk).collect();
    tx.run(CLEAR, args![&users[..], &rooms[..]]).await?;
    tx.bulk(
        Bulk { into: "unread(user_pk, room_pk, thread, notify, highlight, upto_pos)", suffix: "" },
        &[
            Col::Ints(users),
            Col::Ints(rooms),
            Col::Texts(rows.iter().map(|row| row.thread.as_str()).collect()),
            Col::Ints(rows.iter().map(|row| row.notify).collect()),
            Col::Ints(rows.iter().map(|row| row.highlight).collect()),
            Col::Ints(rows.iter().map(|row| row.upto_pos).collect()),
        ],
    )
    .await
}
