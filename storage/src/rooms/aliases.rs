//! Aliases of this server's rooms, and which rooms the directory shows.

use crate::args;
use crate::database::{Connection, Tx};
use crate::error::Result;
use crate::statement::Sql;

/// The room of an alias, and who made the alias.
pub async fn find(connection: &mut Connection, alias: &str) -> Result<Option<(i64, i64)>> {
    const FIND: Sql = Sql::both("SELECT room_pk, creator_pk FROM aliases WHERE alias = $1");
    let row = connection.one(FIND, args![alias]).await?;
    row.map(|row| Ok((row.int(0)?, row.int(1)?))).transpose()
}

/// The aliases of a room.
pub async fn of_room(connection: &mut Connection, room_pk: i64) -> Result<Vec<String>> {
    const OF_ROOM: Sql = Sql::both("SELECT alias FROM aliases WHERE room_pk = $1 ORDER BY alias");
    connection.all(OF_ROOM, args![room_pk]).await?.iter().map(|row| row.text(0)).collect()
}

/// Gives a room an alias; false when it is taken.
pub async fn insert(tx: &mut Tx, alias: &str, room_pk: i64, creator_pk: i64) -> Result<bool> {
    const INSERT: Sql = Sql::both(
        "INSERT INTO aliases(alias, room_pk, creator_pk) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
    );
    Ok(tx.run(INSERT, args![alias, room_pk, creator_pk]).await? > 0)
}

/// Takes an alias away.
pub async fn delete(tx: &mut Tx, alias: &str) -> Result<()> {
    tx.run(Sql::both("DELETE FROM aliases WHERE alias = $1"), args![alias]).await.map(drop)
}

/// Shows a room in the directory, or no longer.
pub async fn publish(tx: &mut Tx, room_pk: i64, published: bool) -> Result<()> {
    const PUBLISH: Sql = Sql::both("UPDATE rooms SET published = $2 WHERE room_pk = $1");
    tx.run(PUBLISH, args![room_pk, published]).await.map(drop)
}

/// Whether the directory shows a room.
pub async fn is_published(connection: &mut Connection, room_pk: i64) -> Result<bool> {
    const GET: Sql = Sql::both("SELECT published FROM rooms WHERE room_pk = $1");
    connection.one(GET, args![room_pk]).await?.map_or(Ok(false), |row| row.bool(0))
}
