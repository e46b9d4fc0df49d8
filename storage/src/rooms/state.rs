//! State trees: keys, nodes and the roots of each time.

use crate::args;
use crate::database::Connection;
use crate::error::Result;
use crate::statement::Sql;

/// The state keys of a room with an index of at least `from`: (index, type, state key), by index.
pub async fn keys(
    connection: &mut Connection,
    room_pk: i64,
    from: i64,
) -> Result<Vec<(i64, String, String)>> {
    const KEYS: Sql = Sql::both(
        "SELECT state_index, kind, state_key FROM state_keys WHERE room_pk = $1 AND state_index >= $2 \
         ORDER BY state_index",
    );
    let rows = connection.all(KEYS, args![room_pk, from]).await?;
    rows.iter().map(|row| Ok((row.int(0)?, row.text(1)?, row.text(2)?))).collect()
}

/// All state keys of rooms: (room, index, type, state key), by room and index.
pub async fn keys_of(
    connection: &mut Connection,
    room_pks: &[i64],
) -> Result<Vec<(i64, i64, String, String)>> {
    const KEYS: Sql = Sql::per(
        "SELECT k.room_pk, k.state_index, k.kind, k.state_key FROM json_each($1) AS w \
         CROSS JOIN state_keys AS k ON k.room_pk = w.value ORDER BY k.room_pk, k.state_index",
        "SELECT room_pk, state_index, kind, state_key FROM state_keys WHERE room_pk = ANY($1) \
         ORDER BY room_pk, state_index",
    );
    let rows = connection.all(KEYS, args![room_pks]).await?;
    rows.iter().map(|row| Ok((row.int(0)?, row.int(1)?, row.text(2)?, row.text(3)?))).collect()
}

/// Nodes by their ids, in no order.
pub async fn nodes(connection: &mut Connection, node_ids: &[i64]) -> Result<Vec<(i64, Vec<u8>)>> {
    const NODES: Sql = Sql::per(
        "SELECT node_id, body FROM state_nodes WHERE node_id IN (SELECT value FROM json_each($1))",
        "SELECT node_id, body FROM state_nodes WHERE node_id = ANY($1)",
    );
    connection.all(NODES, args![node_ids]).await?.iter().map(|row| Ok((row.int(0)?, row.bytes(1)?))).collect()
}

/// The tree of a room's current state as it was at a position; 0 before the room began.
pub async fn root_at(connection: &mut Connection, room_pk: i64, pos: i64) -> Result<i64> {
    const ROOT: Sql =
        Sql::both("SELECT root FROM room_states WHERE room_pk = $1 AND pos <= $2 ORDER BY pos DESC LIMIT 1");
    connection.one(ROOT, args![room_pk, pos]).await?.map_or(Ok(0), |row| row.int(0))
}
