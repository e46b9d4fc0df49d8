//! Rooms: events, state trees, memberships, aliases, receipts.

use crate::args;
use crate::database::{Connection, Database};
use crate::error::Result;
use crate::statement::{Row, Sql};

pub mod aliases;
pub mod events;
pub mod gaps;
pub mod memberships;
pub mod receipts;
pub mod relations;
pub mod state;

/// A room as it stands.
#[derive(Clone, Debug)]
pub struct RoomRow {
    /// Our number.
    pub room_pk: i64,
    /// The id.
    pub room_id: String,
    /// The version.
    pub version: String,
    /// The tree of the current state.
    pub root: i64,
    /// Raised by each append.
    pub guard: i64,
    /// The depth of the deepest event.
    pub depth: i64,
    /// Shown in the directory.
    pub published: bool,
}

impl RoomRow {
    fn read(row: &Row) -> Result<RoomRow> {
        Ok(RoomRow {
            room_pk: row.int(0)?,
            room_id: row.text(1)?,
            version: row.text(2)?,
            root: row.int(3)?,
            guard: row.int(4)?,
            depth: row.int(5)?,
            published: row.bool(6)?,
        })
    }
}

/// A room by its id.
pub async fn find(connection: &mut Connection, room_id: &str) -> Result<Option<RoomRow>> {
    const FIND: Sql = Sql::both(
        "SELECT room_pk, room_id, version, root, guard, depth, published FROM rooms WHERE room_id = $1",
    );
    connection.one(FIND, args![room_id]).await?.as_ref().map(RoomRow::read).transpose()
}

/// A room by its number.
pub async fn get(connection: &mut Connection, room_pk: i64) -> Result<Option<RoomRow>> {
    const GET: Sql = Sql::both(
        "SELECT room_pk, room_id, version, root, guard, depth, published FROM rooms WHERE room_pk = $1",
    );
    connection.one(GET, args![room_pk]).await?.as_ref().map(RoomRow::read).transpose()
}

/// The number of a room that other servers made, given now if there was none. Such a room begins empty: its events
/// come by the usual way. It is durable at once and needs no log entry, since nobody can see anything of it yet.
pub async fn intern(database: &Database, room_id: &str, version: &str, candidate: i64) -> Result<i64> {
    const INTERN: Sql = Sql::both(
        "INSERT INTO rooms(room_pk, room_id, version, root, guard, depth) VALUES ($1, $2, $3, 0, 0, 0) \
         ON CONFLICT (room_id) DO UPDATE SET room_id = excluded.room_id RETURNING room_pk",
    );
    let mut connection = database.begin().await?;
    let row = connection.one(INTERN, args![candidate, room_id, version]).await?;
    connection.end().await?;
    row.map_or(Ok(candidate), |row| row.int(0))
}

/// The extremities of a room.
pub async fn extremities(connection: &mut Connection, room_pk: i64) -> Result<Vec<i64>> {
    const GET: Sql = Sql::both("SELECT event_pk FROM extremities WHERE room_pk = $1 ORDER BY event_pk");
    connection.all(GET, args![room_pk]).await?.iter().map(|row| row.int(0)).collect()
}
