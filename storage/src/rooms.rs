//! Rooms: events, state trees, memberships, aliases, receipts.

use crate::args;
use crate::database::Connection;
use crate::error::Result;
use crate::statement::{Row, Sql};

pub mod aliases;
pub mod events;
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

/// The extremities of a room.
pub async fn extremities(connection: &mut Connection, room_pk: i64) -> Result<Vec<i64>> {
    const GET: Sql = Sql::both("SELECT event_pk FROM extremities WHERE room_pk = $1 ORDER BY event_pk");
    connection.all(GET, args![room_pk]).await?.iter().map(|row| row.int(0)).collect()
}
