//! Who is in which room, now and before.

use crate::args;
use crate::database::{Connection, Tx};
use crate::error::Result;
use crate::statement::{Row, Sql};

/// Invited.
pub const INVITE: i64 = 1;
/// Joined.
pub const JOIN: i64 = 2;
/// Left, or was kicked.
pub const LEAVE: i64 = 3;
/// Banned.
pub const BAN: i64 = 4;
/// Knocking.
pub const KNOCK: i64 = 5;

/// A user's membership of a room.
#[derive(Clone, Debug)]
pub struct MembershipRow {
    /// The user.
    pub user_pk: i64,
    /// The room.
    pub room_pk: i64,
    /// One of the constants of this module.
    pub membership: i64,
    /// The event that set it.
    pub event_pk: i64,
    /// The position of the change.
    pub pos: i64,
    /// The user wants to see no more of the room.
    pub forgotten: bool,
    /// The stripped state of an invite or knock, as a JSON list.
    pub stripped: Option<String>,
}

const COLUMNS_OF_USER: Sql = Sql::both(
    "SELECT user_pk, room_pk, membership, event_pk, pos, forgotten, stripped FROM memberships WHERE user_pk = $1",
);

impl MembershipRow {
    fn read(row: &Row) -> Result<MembershipRow> {
        Ok(MembershipRow {
            user_pk: row.int(0)?,
            room_pk: row.int(1)?,
            membership: row.int(2)?,
            event_pk: row.int(3)?,
            pos: row.int(4)?,
            forgotten: row.bool(5)?,
            stripped: row.opt_text(6)?,
        })
    }
}

/// All memberships of a user.
pub async fn of_user(connection: &mut Connection, user_pk: i64) -> Result<Vec<MembershipRow>> {
    connection.all(COLUMNS_OF_USER, args![user_pk]).await?.iter().map(MembershipRow::read).collect()
}

/// A user's membership of one room.
pub async fn get(connection: &mut Connection, user_pk: i64, room_pk: i64) -> Result<Option<MembershipRow>> {
    const GET: Sql = Sql::both(
        "SELECT user_pk, room_pk, membership, event_pk, pos, forgotten, stripped FROM memberships \
         WHERE user_pk = $1 AND room_pk = $2",
    );
    connection.one(GET, args![user_pk, room_pk]).await?.as_ref().map(MembershipRow::read).transpose()
}

/// The members of a room with this membership: (user, event).
pub async fn of_room(connection: &mut Connection, room_pk: i64, membership: i64) -> Result<Vec<(i64, i64)>> {
    const OF_ROOM: Sql =
        Sql::both("SELECT user_pk, event_pk FROM memberships WHERE room_pk = $1 AND membership = $2");
    let rows = connection.all(OF_ROOM, args![room_pk, membership]).await?;
    rows.iter().map(|row| Ok((row.int(0)?, row.int(1)?))).collect()
}

/// The first members of each of these rooms with one of these memberships, `limit` of each: (room, user, id). Rooms
/// without a name are called after them.
pub async fn heroes(
    connection: &mut Connection,
    room_pks: &[i64],
    memberships: &[i64],
    limit: i64,
) -> Result<Vec<(i64, i64, String)>> {
    const HEROES: Sql = Sql::per(
        "SELECT m.room_pk, m.user_pk, u.user_id FROM json_each($1) AS w CROSS JOIN memberships AS m \
         ON m.room_pk = w.value AND m.event_pk IN (SELECT f.event_pk FROM memberships AS f \
         WHERE f.room_pk = w.value AND f.membership IN (SELECT value FROM json_each($2)) \
         ORDER BY f.event_pk LIMIT $3) \
         CROSS JOIN users AS u ON u.user_pk = m.user_pk ORDER BY m.event_pk",
        "SELECT w.room, m.user_pk, u.user_id FROM UNNEST($1::bigint[]) AS w(room) CROSS JOIN LATERAL \
         (SELECT user_pk, event_pk FROM memberships WHERE room_pk = w.room AND membership = ANY($2) \
         ORDER BY event_pk LIMIT $3) AS m JOIN users AS u ON u.user_pk = m.user_pk ORDER BY m.event_pk",
    );
    let rows = connection.all(HEROES, args![room_pks, memberships, limit]).await?;
    rows.iter().map(|row| Ok((row.int(0)?, row.int(1)?, row.text(2)?))).collect()
}

/// Of `others`, those who are joined to a room that `user_pk` is joined to.
pub async fn sharing(connection: &mut Connection, user_pk: i64, others: &[i64]) -> Result<Vec<i64>> {
    const SHARING: Sql = Sql::per(
        "SELECT DISTINCT t.user_pk FROM json_each($2) AS w \
         CROSS JOIN memberships AS t ON t.user_pk = w.value AND t.membership = 2 \
         CROSS JOIN memberships AS m ON m.user_pk = $1 AND m.room_pk = t.room_pk AND m.membership = 2",
        "SELECT DISTINCT t.user_pk FROM memberships AS t \
         JOIN memberships AS m ON m.user_pk = $1 AND m.room_pk = t.room_pk AND m.membership = 2 \
         WHERE t.user_pk = ANY($2) AND t.membership = 2",
    );
    connection.all(SHARING, args![user_pk, others]).await?.iter().map(|row| row.int(0)).collect()
}

/// The changes of membership in these rooms with `after < pos <= upto`: (room, user, membership, event, position).
pub async fn changes(
    connection: &mut Connection,
    rooms: &[i64],
    after: i64,
    upto: i64,
) -> Result<Vec<(i64, i64, i64, i64, i64)>> {
    const CHANGES: Sql = Sql::per(
        "SELECT h.room_pk, h.user_pk, h.membership, h.event_pk, h.pos FROM json_each($1) AS w \
         CROSS JOIN membership_history AS h ON h.room_pk = w.value AND h.pos > $2 AND h.pos <= $3",
        "SELECT room_pk, user_pk, membership, event_pk, pos FROM membership_history \
         WHERE room_pk = ANY($1) AND pos > $2 AND pos <= $3",
    );
    let rows = connection.all(CHANGES, args![rooms, after, upto]).await?;
    rows.iter().map(|row| Ok((row.int(0)?, row.int(1)?, row.int(2)?, row.int(3)?, row.int(4)?))).collect()
}

/// A user's memberships of a room, oldest first: (membership, position, event).
pub async fn history(
    connection: &mut Connection,
    user_pk: i64,
    room_pk: i64,
) -> Result<Vec<(i64, i64, i64)>> {
    const HISTORY: Sql = Sql::both(
        "SELECT membership, pos, event_pk FROM membership_history WHERE user_pk = $1 AND room_pk = $2 ORDER BY pos",
    );
    let rows = connection.all(HISTORY, args![user_pk, room_pk]).await?;
    rows.iter().map(|row| Ok((row.int(0)?, row.int(1)?, row.int(2)?))).collect()
}

/// Marks a room as forgotten by a user.
pub async fn forget(tx: &mut Tx, user_pk: i64, room_pk: i64) -> Result<()> {
    const FORGET: Sql = Sql::both("UPDATE memberships SET forgotten = 1 WHERE user_pk = $1 AND room_pk = $2");
    tx.run(FORGET, args![user_pk, room_pk]).await.map(drop)
}

/// How many members of rooms are joined and how many invited: (room, joined, invited).
pub async fn counts(connection: &mut Connection, rooms: &[i64]) -> Result<Vec<(i64, i64, i64)>> {
    const COUNTS: Sql = Sql::per(
        "SELECT w.value, \
         (SELECT COUNT(*) FROM memberships WHERE room_pk = w.value AND membership = 2), \
         (SELECT COUNT(*) FROM memberships WHERE room_pk = w.value AND membership = 1) FROM json_each($1) AS w",
        "SELECT w.room, \
         (SELECT COUNT(*) FROM memberships WHERE room_pk = w.room AND membership = 2), \
         (SELECT COUNT(*) FROM memberships WHERE room_pk = w.room AND membership = 1) FROM UNNEST($1) AS w(room)",
    );
    let rows = connection.all(COUNTS, args![rooms]).await?;
    rows.iter().map(|row| Ok((row.int(0)?, row.int(1)?, row.int(2)?))).collect()
}

/// For each of these rooms, whether its current state moved without an event and whether receipts came behind a
/// position.
pub async fn rooms_moved(
    connection: &mut Connection,
    rooms: &[i64],
    after: i64,
) -> Result<Vec<(i64, bool, bool)>> {
    const MOVED: Sql = Sql::per(
        "SELECT w.value, \
         EXISTS (SELECT 1 FROM room_states AS s WHERE s.room_pk = w.value AND s.pos > $2 \
         AND NOT EXISTS (SELECT 1 FROM events AS e WHERE e.room_pk = s.room_pk AND e.pos = s.pos)), \
         EXISTS (SELECT 1 FROM receipts WHERE room_pk = w.value AND pos > $2) FROM json_each($1) AS w",
        "SELECT w.room, \
         (EXISTS (SELECT 1 FROM room_states AS s WHERE s.room_pk = w.room AND s.pos > $2 AND NOT EXISTS \
         (SELECT 1 FROM events AS e WHERE e.room_pk = s.room_pk AND e.pos = s.pos)))::int::bigint, \
         (EXISTS (SELECT 1 FROM receipts WHERE room_pk = w.room AND pos > $2))::int::bigint \
         FROM UNNEST($1) AS w(room)",
    );
    let rows = connection.all(MOVED, args![rooms, after]).await?;
    rows.iter().map(|row| Ok((row.int(0)?, row.bool(1)?, row.bool(2)?))).collect()
}
