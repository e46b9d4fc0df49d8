//! What a unit was planned on must still hold when it is written.

use super::{Changes, RoomChange};
use crate::args;
use crate::database::Tx;
use crate::error::Result;
use crate::statement::Sql;
use std::collections::{HashMap, HashSet};

/// What becomes of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is written.
    New,
    /// It is written but for its messages: its transaction was carried out before.
    Again,
    /// It is not written.
    Lost,
}

/// What the database knows of what units were planned on.
#[derive(Default)]
struct Known {
    /// The versions of rooms.
    guards: HashMap<i64, i64>,
    /// Transactions that were carried out: (unit, transaction).
    transactions: HashSet<(usize, usize)>,
    /// Units of whose unheard events something is known.
    heard_of: HashSet<usize>,
}

/// A unit is lost when one of its rooms is not at the version that it expects or was moved by a unit before it, when it
/// brings events of a transaction that was carried out, and when something is known of its unheard events.
pub(super) async fn check(tx: &mut Tx, units: &[&Changes]) -> Result<Vec<Verdict>> {
    let known = Known::look(tx, units).await?;
    let mut moved = HashSet::new();
    let mut sent = HashSet::new();
    let mut verdicts = Vec::with_capacity(units.len());
    for (at, unit) in units.iter().enumerate() {
        let holds =
            |room: &RoomChange| room.new.is_some() || known.guards.get(&room.room_pk) == Some(&room.guard);
        let was_carried_out = (0..unit.transactions.len()).any(|nth| known.transactions.contains(&(at, nth)));
        let is_lost = (was_carried_out && !unit.events.is_empty())
            || known.heard_of.contains(&at)
            || !unit.rooms.iter().all(|room| holds(room) && !moved.contains(&room.room_pk));
        if is_lost {
            verdicts.push(Verdict::Lost);
            continue;
        }
        moved.extend(unit.rooms.iter().map(|room| room.room_pk));
        let mut is_new = !was_carried_out;
        if has_messages(unit) {
            for (device, scope, id, ..) in &unit.transactions {
                is_new &= sent.insert((*device, scope.as_str(), id.as_str()));
            }
        }
        verdicts.push(if is_new { Verdict::New } else { Verdict::Again });
    }
    Ok(verdicts)
}

fn has_messages(unit: &Changes) -> bool {
    !unit.to_device.is_empty() || !unit.outbox.is_empty()
}

impl Known {
    /// Asks for all of it in one statement: on PostgreSQL each is a way there and back.
    async fn look(tx: &mut Tx, units: &[&Changes]) -> Result<Known> {
        // Rooms by their numbers; transactions and unheard events as -1, -2 and so on.
        const KNOWN: Sql = Sql::per(
            "SELECT room_pk, guard FROM rooms WHERE room_pk IN (SELECT value FROM json_each($1)) \
             UNION ALL SELECT -1 - d.key, 0 FROM json_each($2) AS d CROSS JOIN transaction_ids AS t \
             ON t.device_pk = d.value AND t.scope = json_extract($3, '$[' || d.key || ']') \
             AND t.txn_id = json_extract($4, '$[' || d.key || ']') \
             UNION ALL SELECT -1 - e.key, 1 FROM json_each($5) AS e \
             WHERE EXISTS (SELECT 1 FROM events WHERE event_id = e.value) \
             OR EXISTS (SELECT 1 FROM redactions WHERE target_id = e.value) \
             OR EXISTS (SELECT 1 FROM gaps WHERE room_pk = json_extract($6, '$[' || e.key || ']') \
             AND prev_id = e.value)",
            "SELECT room_pk, guard FROM rooms WHERE room_pk = ANY($1) \
             UNION ALL SELECT -w.n, 0::bigint \
             FROM UNNEST($2::bigint[], $3::text[], $4::text[]) WITH ORDINALITY AS w(d, s, i, n) \
             JOIN transaction_ids AS t ON t.device_pk = w.d AND t.scope = w.s AND t.txn_id = w.i \
             UNION ALL SELECT -e.n, 1::bigint FROM UNNEST($5::text[], $6::bigint[]) WITH ORDINALITY AS e(i, r, n) \
             WHERE EXISTS (SELECT 1 FROM events WHERE event_id = e.i) \
             OR EXISTS (SELECT 1 FROM redactions WHERE target_id = e.i) \
             OR EXISTS (SELECT 1 FROM gaps WHERE room_pk = e.r AND prev_id = e.i)",
        );
        let mut known = Known::default();
        let rooms: Vec<i64> =
            units.iter().flat_map(|u| &u.rooms).filter(|r| r.new.is_none()).map(|r| r.room_pk).collect();
        let mut transactions = Vec::new();
        let mut unheard_of = Vec::new();
        for (at, unit) in units.iter().enumerate() {
            if !unit.events.is_empty() || has_messages(unit) {
                transactions.extend(unit.transactions.iter().enumerate().map(|(nth, t)| ((at, nth), t)));
            }
            unheard_of.extend(unit.unheard_of.iter().map(|(room, id)| (at, *room, id.as_str())));
        }
        if rooms.is_empty() && transactions.is_empty() && unheard_of.is_empty() {
            return Ok(known);
        }
        let devices: Vec<i64> = transactions.iter().map(|(_, t)| t.0).collect();
        let scopes: Vec<&str> = transactions.iter().map(|(_, t)| t.1.as_str()).collect();
        let ids: Vec<&str> = transactions.iter().map(|(_, t)| t.2.as_str()).collect();
        let events: Vec<&str> = unheard_of.iter().map(|(.., id)| *id).collect();
        let of_rooms: Vec<i64> = unheard_of.iter().map(|(_, room, _)| *room).collect();
        let asked = args![
            rooms.as_slice(),
            devices.as_slice(),
            scopes.as_slice(),
            ids.as_slice(),
            events.as_slice(),
            of_rooms.as_slice()
        ];
        for row in tx.all(KNOWN, asked).await? {
            let (which, what) = (row.int(0)?, row.int(1)?);
            match (usize::try_from(-1 - which), what) {
                (Ok(nth), 0) => known.transactions.extend(transactions.get(nth).map(|(place, _)| *place)),
                (Ok(nth), _) => known.heard_of.extend(unheard_of.get(nth).map(|(at, ..)| *at)),
                (Err(_), guard) => drop(known.guards.insert(which, guard)),
            }
        }
        Ok(known)
    }
}
