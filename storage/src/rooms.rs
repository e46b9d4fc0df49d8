//! Rooms: events, state trees, memberships, aliases, receipts.

use crate::args;
use crate::database::{Connection, Database};
use crate::error::Result;
use crate::statement::{Row, Sql};

pub mod aliases;
pub mod directory;
pub mod events;
pub mod gaps;
pub mod memberships;
pub(crate) mod packed;
pub mod receipts;
pub mod relations;
pub mod state;
pub mod unread;

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
    /// No event as deep as this one has others that are bundled with it.
    pub related: i64,
    /// Events that no other follows yet.
    pub extremities: Vec<i64>,
    /// Shown in the directory.
    pub published: bool,
    /// The head of the log when this was read: the room stood so at that position.
    pub head: i64,
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
            related: row.int(6)?,
            extremities: ints(&row.text(7)?),
            published: row.bool(8)?,
            head: row.int(9)?,
        })
    }
}

/// Rooms as [`RoomRow::read`] reads them, those of which the condition holds.
macro_rules! rooms_where {
    ($condition:literal) => {
        concat!(
            "SELECT room_pk, room_id, version, root, guard, depth, related, extremities, published, ",
            "(SELECT pos FROM head) FROM rooms WHERE ",
            $condition
        )
    };
}

/// A room by its id.
pub async fn find(connection: &mut Connection, room_id: &str) -> Result<Option<RoomRow>> {
    const FIND: Sql = Sql::both(rooms_where!("room_id = $1"));
    connection.one(FIND, args![room_id]).await?.as_ref().map(RoomRow::read).transpose()
}

/// A room by its number.
pub async fn get(connection: &mut Connection, room_pk: i64) -> Result<Option<RoomRow>> {
    const GET: Sql = Sql::both(rooms_where!("room_pk = $1"));
    connection.one(GET, args![room_pk]).await?.as_ref().map(RoomRow::read).transpose()
}

/// Rooms by their numbers.
pub async fn many(connection: &mut Connection, room_pks: &[i64]) -> Result<Vec<RoomRow>> {
    const MANY: Sql = Sql::per(
        rooms_where!("room_pk IN (SELECT value FROM json_each($1))"),
        rooms_where!("room_pk = ANY($1)"),
    );
    connection.all(MANY, args![room_pks]).await?.iter().map(RoomRow::read).collect()
}

/// The number of a room that other servers made, given now if there was none. Such a room begins empty: its events
/// come by the usual way. It is durable at once and needs no log entry, since nobody can see anything of it yet.
pub async fn intern(database: &Database, room_id: &str, version: &str, candidate: i64) -> Result<i64> {
    const INTERN: Sql = Sql::both(
        "INSERT INTO rooms(room_pk, room_id, version, root, guard, depth, related, extremities) \
         VALUES ($1, $2, $3, 0, 0, 0, 0, '') \
         ON CONFLICT (room_id) DO UPDATE SET room_id = excluded.room_id RETURNING room_pk",
    );
    let mut connection = database.begin().await?;
    let row = connection.one(INTERN, args![candidate, room_id, version]).await?;
    connection.end().await?;
    row.map_or(Ok(candidate), |row| row.int(0))
}

/// Reads a list of integers that [`write_ints`] wrote.
fn ints(text: &str) -> Vec<i64> {
    text.split(',').filter_map(|number| number.parse().ok()).collect()
}

/// A short list of integers as text, for a column.
pub(crate) fn write_ints(list: &[i64]) -> String {
    list.iter().map(i64::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_as_they_were_written() {
        for list in [&[][..], &[7], &[1, -2, i64::MAX]] {
            assert_eq!(ints(&write_ints(list)), list);
        }
    }
}
