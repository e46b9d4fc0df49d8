//! What a unit was planned on must still hold when it is written.

use super::{Changes, RoomChange};
use crate::args;
use crate::database::Tx;
use crate::error::Result;
use crate::statement::Sql;
use std::collections::{HashMap, HashSet};

/// A unit may go on when each of its rooms is at the version that it expects and no unit before it moved it, and when no
/// transaction of its events is known. One statement asks for both: on PostgreSQL it is one more way there and back.
pub(super) async fn check(tx: &mut Tx, units: &[&Changes]) -> Result<Vec<bool>> {
    const GUARDS: Sql = Sql::per(
        "SELECT room_pk, guard FROM rooms WHERE room_pk IN (SELECT value FROM json_each($1)) \
         UNION ALL SELECT -1 - d.key, 0 FROM json_each($2) AS d CROSS JOIN transaction_ids AS t \
         ON t.device_pk = d.value AND t.scope = json_extract($3, '$[' || d.key || ']') \
         AND t.txn_id = json_extract($4, '$[' || d.key || ']')",
        "SELECT room_pk, guard FROM rooms WHERE room_pk = ANY($1) \
         UNION ALL SELECT -w.n, 0::bigint \
         FROM UNNEST($2::bigint[], $3::text[], $4::text[]) WITH ORDINALITY AS w(d, s, i, n) \
         JOIN transaction_ids AS t ON t.device_pk = w.d AND t.scope = w.s AND t.txn_id = w.i",
    );
    let rooms: Vec<i64> =
        units.iter().flat_map(|u| &u.rooms).filter(|r| r.new.is_none()).map(|r| r.room_pk).collect();
    let mut guards = HashMap::new();
    let with_events = units.iter().enumerate().filter(|(_, unit)| !unit.events.is_empty());
    let (of_units, transactions): (Vec<usize>, Vec<_>) =
        with_events.flat_map(|(at, unit)| unit.transactions.iter().map(move |t| (at, t))).unzip();
    let mut repeated: HashSet<usize> = HashSet::new();
    if !rooms.is_empty() {
        let devices: Vec<i64> = transactions.iter().map(|t| t.0).collect();
        let scopes: Vec<&str> = transactions.iter().map(|t| t.1.as_str()).collect();
        let ids: Vec<&str> = transactions.iter().map(|t| t.2.as_str()).collect();
        let asked = args![rooms.as_slice(), devices.as_slice(), scopes.as_slice(), ids.as_slice()];
        for row in tx.all(GUARDS, asked).await? {
            match usize::try_from(-1 - row.int(0)?) {
                Ok(known) => repeated.extend(of_units.get(known)),
                Err(_) => drop(guards.insert(row.int(0)?, row.int(1)?)),
            }
        }
    }
    let mut moved = HashSet::new();
    let mut allowed = Vec::with_capacity(units.len());
    for (at, unit) in units.iter().enumerate() {
        let holds = |room: &RoomChange| room.new.is_some() || guards.get(&room.room_pk) == Some(&room.guard);
        let ok = !repeated.contains(&at)
            && unit.rooms.iter().all(|room| holds(room) && !moved.contains(&room.room_pk));
        if ok {
            moved.extend(unit.rooms.iter().map(|room| room.room_pk));
        }
        allowed.push(ok);
    }
    Ok(allowed)
}
