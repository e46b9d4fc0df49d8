//! Gaps in a room's graph: events that others follow and that this server does not have.

use crate::args;
use crate::changes::Changes;
use crate::database::{Connection, Tx};
use crate::error::Result;
use crate::statement::{Bulk, Col, Sql};

/// The events that follow a missing one.
pub async fn followers(connection: &mut Connection, room_pk: i64, prev_id: &str) -> Result<Vec<i64>> {
    const FOLLOWERS: Sql = Sql::both("SELECT event_pk FROM gaps WHERE room_pk = $1 AND prev_id = $2");
    connection.all(FOLLOWERS, args![room_pk, prev_id]).await?.iter().map(|row| row.int(0)).collect()
}

/// The gaps of a room: (id of the missing event, event that follows it).
pub async fn of_room(connection: &mut Connection, room_pk: i64) -> Result<Vec<(String, i64)>> {
    const OF_ROOM: Sql = Sql::both("SELECT prev_id, event_pk FROM gaps WHERE room_pk = $1");
    let rows = connection.all(OF_ROOM, args![room_pk]).await?;
    rows.iter().map(|row| Ok((row.text(0)?, row.int(1)?))).collect()
}

/// Opens and closes the gaps that units say.
pub(crate) async fn write(tx: &mut Tx, units: &[&Changes]) -> Result<()> {
    const CLOSE: Sql = Sql::both("DELETE FROM gaps WHERE room_pk = $1 AND prev_id = $2");
    const OPEN: Bulk = Bulk { into: "gaps(room_pk, prev_id, event_pk)", suffix: "ON CONFLICT DO NOTHING" };
    for (room_pk, prev_id) in units.iter().flat_map(|u| &u.closed_gaps) {
        tx.run(CLOSE, args![*room_pk, prev_id.as_str()]).await?;
    }
    let gaps: Vec<_> = units.iter().flat_map(|u| &u.gaps).collect();
    tx.bulk(
        OPEN,
        &[
            Col::Ints(gaps.iter().map(|g| g.0).collect()),
            Col::Texts(gaps.iter().map(|g| g.1.as_str()).collect()),
            Col::Ints(gaps.iter().map(|g| g.2).collect()),
        ],
    )
    .await
}
