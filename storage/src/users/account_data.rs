//! Account data, global (room 0) or of a room.

use crate::args;
use crate::database::{Connection, Tx};
use crate::error::Result;
use crate::log::Kind;
use crate::statement::{Row, Sql};

/// One piece of account data.
#[derive(Clone, Debug)]
pub struct AccountDataRow {
    /// The room, or 0.
    pub room_pk: i64,
    /// The event type.
    pub kind: String,
    /// Its content as JSON; `None` where it was deleted.
    pub content: Option<String>,
    /// The position of its last change.
    pub pos: i64,
}

impl AccountDataRow {
    fn read(row: &Row) -> Result<AccountDataRow> {
        Ok(AccountDataRow {
            room_pk: row.int(0)?,
            kind: row.text(1)?,
            content: row.opt_text(2)?,
            pos: row.int(3)?,
        })
    }
}

/// Sets account data, or deletes it, and tells the log.
pub async fn put(tx: &mut Tx, user_pk: i64, room_pk: i64, kind: &str, content: Option<&str>) -> Result<()> {
    const PUT: Sql = Sql::both(
        "INSERT INTO account_data(user_pk, room_pk, kind, content, pos) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (user_pk, room_pk, kind) DO UPDATE SET content = excluded.content, pos = excluded.pos",
    );
    let pos = tx.entry(Kind::AccountData, user_pk, room_pk);
    tx.run(PUT, args![user_pk, room_pk, kind, content, pos]).await.map(drop)
}

/// The content of one type.
pub async fn get(
    connection: &mut Connection,
    user_pk: i64,
    room_pk: i64,
    kind: &str,
) -> Result<Option<String>> {
    const GET: Sql = Sql::both(
        "SELECT content FROM account_data WHERE user_pk = $1 AND room_pk = $2 AND kind = $3 \
         AND content IS NOT NULL",
    );
    connection.one(GET, args![user_pk, room_pk, kind]).await?.map(|row| row.text(0)).transpose()
}

/// What changed behind a position (0: everything), deletions included, in the order of the changes.
pub async fn since(connection: &mut Connection, user_pk: i64, after: i64) -> Result<Vec<AccountDataRow>> {
    const SINCE: Sql = Sql::both(
        "SELECT room_pk, kind, content, pos FROM account_data WHERE user_pk = $1 AND pos > $2 ORDER BY pos",
    );
    connection.all(SINCE, args![user_pk, after]).await?.iter().map(AccountDataRow::read).collect()
}

/// Deletes all account data of a user; nobody is told, since nobody is left.
pub async fn clear(tx: &mut Tx, user_pk: i64) -> Result<()> {
    tx.run(Sql::both("DELETE FROM account_data WHERE user_pk = $1"), args![user_pk]).await.map(drop)
}
