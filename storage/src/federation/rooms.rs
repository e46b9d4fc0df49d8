//! Which rooms other servers are in, and which servers are known.

use crate::args;
use crate::database::Connection;
use crate::error::Result;
use crate::statement::Sql;

/// The rooms that a server has joined members in, and those in which the membership of one of its users changed behind a
/// position: (room, up to where the server may have to hear of it).
pub async fn of_server(connection: &mut Connection, server: &str, since: i64) -> Result<Vec<(i64, i64)>> {
    const OF_SERVER: Sql = Sql::per(
        "SELECT m.room_pk, MAX(CASE m.membership WHEN 2 THEN 9223372036854775807 ELSE m.pos END) \
         FROM users AS u CROSS JOIN memberships AS m \
         ON m.user_pk = u.user_pk AND (m.membership = 2 OR m.pos > $2) \
         WHERE substr(u.user_id, instr(u.user_id, ':') + 1) = $1 GROUP BY m.room_pk",
        "SELECT m.room_pk, MAX(CASE m.membership WHEN 2 THEN 9223372036854775807 ELSE m.pos END) \
         FROM users AS u JOIN memberships AS m \
         ON m.user_pk = u.user_pk AND (m.membership = 2 OR m.pos > $2) \
         WHERE substr(u.user_id, strpos(u.user_id, ':') + 1) = $1 GROUP BY m.room_pk",
    );
    let rows = connection.all(OF_SERVER, args![server, since]).await?;
    rows.iter().map(|row| Ok((row.int(0)?, row.int(1)?))).collect()
}

/// The servers that have joined members in a room which a user is joined to, one room left out (0 for none).
pub async fn servers_of_user(
    connection: &mut Connection,
    user_pk: i64,
    but_room_pk: i64,
) -> Result<Vec<String>> {
    const SERVERS: Sql = Sql::per(
        "SELECT DISTINCT substr(u.user_id, instr(u.user_id, ':') + 1) FROM memberships AS mine \
         CROSS JOIN memberships AS m ON m.room_pk = mine.room_pk AND m.membership = 2 \
         CROSS JOIN users AS u ON u.user_pk = m.user_pk WHERE mine.user_pk = $1 AND mine.membership = 2 \
         AND mine.room_pk <> $2",
        "SELECT DISTINCT substr(u.user_id, strpos(u.user_id, ':') + 1) FROM memberships AS mine \
         JOIN memberships AS m ON m.room_pk = mine.room_pk AND m.membership = 2 \
         JOIN users AS u ON u.user_pk = m.user_pk WHERE mine.user_pk = $1 AND mine.membership = 2 \
         AND mine.room_pk <> $2",
    );
    connection.all(SERVERS, args![user_pk, but_room_pk]).await?.iter().map(|row| row.text(0)).collect()
}

/// All servers of which a user is known.
pub async fn servers(connection: &mut Connection) -> Result<Vec<String>> {
    const SERVERS: Sql = Sql::per(
        "SELECT DISTINCT substr(user_id, instr(user_id, ':') + 1) FROM users",
        "SELECT DISTINCT substr(user_id, strpos(user_id, ':') + 1) FROM users",
    );
    connection.all(SERVERS, &[]).await?.iter().map(|row| row.text(0)).collect()
}
