//! The directory of rooms, and what a room's replacement takes over.

use crate::args;
use crate::database::{Connection, Tx};
use crate::error::Result;
use crate::statement::Sql;

/// The rooms that the directory shows, in no order.
pub async fn published(connection: &mut Connection) -> Result<Vec<i64>> {
    const PUBLISHED: Sql = Sql::both("SELECT room_pk FROM rooms WHERE published = 1");
    connection.all(PUBLISHED, &[]).await?.iter().map(|row| row.int(0)).collect()
}

/// Gives a room's aliases and its entry in the directory to the room that replaces it.
pub async fn hand_over(tx: &mut Tx, old: i64, new: i64) -> Result<()> {
    const ALIASES: Sql = Sql::both("UPDATE aliases SET room_pk = $2 WHERE room_pk = $1");
    const SHOW: Sql = Sql::both(
        "UPDATE rooms SET published = 1 WHERE room_pk = $2 \
         AND EXISTS (SELECT 1 FROM rooms WHERE room_pk = $1 AND published = 1)",
    );
    const HIDE: Sql = Sql::both("UPDATE rooms SET published = 0 WHERE room_pk = $1 AND published = 1");
    tx.run(ALIASES, args![old, new]).await?;
    tx.run(SHOW, args![old, new]).await?;
    tx.run(HIDE, args![old]).await.map(drop)
}
