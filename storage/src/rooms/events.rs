//! Events, and the ways through a room's timeline.

use crate::args;
use crate::database::{Connection, Tx};
use crate::error::{Error, Result};
use crate::rooms::packed;
use crate::statement::{Row, Sql};

/// A stored event.
#[derive(Clone, Debug)]
pub struct EventRow {
    /// Our number.
    pub event_pk: i64,
    /// The id.
    pub event_id: String,
    /// The room.
    pub room_pk: i64,
    /// The position in the log, for live events.
    pub pos: Option<i64>,
    /// The depth.
    pub depth: i64,
    /// The tree of the state before it.
    pub root: i64,
    /// See [`crate::changes::OUTLIER`] and its neighbours.
    pub flags: i64,
    /// The event as federation knows it.
    pub json: String,
    /// The device that sent it, and its transaction id.
    pub transaction: Option<(i64, String)>,
}

impl EventRow {
    fn read(row: &Row) -> Result<EventRow> {
        let event_pk = row.int(0)?;
        Ok(EventRow {
            event_pk,
            event_id: row.text(1)?,
            room_pk: row.int(2)?,
            pos: row.opt_int(3)?,
            depth: row.int(4)?,
            root: row.int(5)?,
            flags: row.int(6)?,
            json: packed::unpack(&row.bytes(7)?).ok_or(Error::Damaged { event_pk })?,
            transaction: row.opt_int(8)?.zip(row.opt_text(9)?),
        })
    }
}

/// Events by their numbers, in no order; unknown ones are left out.
pub async fn get(connection: &mut Connection, event_pks: &[i64]) -> Result<Vec<EventRow>> {
    const GET: Sql = Sql::per(
        "SELECT e.event_pk, e.event_id, e.room_pk, e.pos, e.depth, e.root, e.flags, b.body, e.device_pk, e.txn_id \
         FROM json_each($1) AS w CROSS JOIN events AS e ON e.event_pk = w.value \
         CROSS JOIN event_bodies AS b ON b.event_pk = e.event_pk",
        "SELECT e.event_pk, e.event_id, e.room_pk, e.pos, e.depth, e.root, e.flags, b.body, e.device_pk, e.txn_id \
         FROM events AS e JOIN event_bodies AS b ON b.event_pk = e.event_pk WHERE e.event_pk = ANY($1)",
    );
    connection.all(GET, args![event_pks]).await?.iter().map(EventRow::read).collect()
}

/// The numbers behind event ids; unknown ones are left out.
pub async fn find(connection: &mut Connection, event_ids: &[&str]) -> Result<Vec<(String, i64)>> {
    const FIND: Sql = Sql::per(
        "SELECT event_id, event_pk FROM events WHERE event_id IN (SELECT value FROM json_each($1))",
        "SELECT event_id, event_pk FROM events WHERE event_id = ANY($1)",
    );
    connection.all(FIND, args![event_ids]).await?.iter().map(|row| Ok((row.text(0)?, row.int(1)?))).collect()
}

/// Which end of a stretch of events comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The newest first.
    NewestFirst,
    /// The oldest first.
    OldestFirst,
}

/// Positions and numbers of live events of a room with `after < pos <= upto`.
pub async fn between(
    connection: &mut Connection,
    room_pk: i64,
    after: i64,
    upto: i64,
    order: Order,
    limit: i64,
) -> Result<Vec<(i64, i64)>> {
    const NEWEST: Sql = Sql::both(
        "SELECT pos, event_pk FROM events WHERE room_pk = $1 AND pos > $2 AND pos <= $3 ORDER BY pos DESC LIMIT $4",
    );
    const OLDEST: Sql = Sql::both(
        "SELECT pos, event_pk FROM events WHERE room_pk = $1 AND pos > $2 AND pos <= $3 ORDER BY pos LIMIT $4",
    );
    let sql = if order == Order::NewestFirst { NEWEST } else { OLDEST };
    let rows = connection.all(sql, args![room_pk, after, upto, limit]).await?;
    rows.iter().map(|row| Ok((row.int(0)?, row.int(1)?))).collect()
}

/// History of a room behind a place of it, newest first: (position before which it belongs, depth, event). It belongs
/// before positions behind `after`.
pub async fn history(
    connection: &mut Connection,
    room_pk: i64,
    start: (i64, i64, i64),
    after: i64,
    limit: i64,
) -> Result<Vec<(i64, i64, i64)>> {
    const HISTORY: Sql = Sql::both(
        "SELECT before_pos, depth, event_pk FROM events WHERE room_pk = $1 AND before_pos IS NOT NULL \
         AND (before_pos, depth, event_pk) < ($2, $3, $4) AND before_pos > $5 \
         AND flags & 7 = 0 ORDER BY before_pos DESC, depth DESC, event_pk DESC LIMIT $6",
    );
    let (before, depth, pk) = start;
    let rows = connection.all(HISTORY, args![room_pk, before, depth, pk, after, limit]).await?;
    rows.iter().map(|row| Ok((row.int(0)?, row.int(1)?, row.int(2)?))).collect()
}

/// History of a room from a place of it on, oldest first: (position before which it belongs, depth, event). It belongs
/// before positions up to `upto`.
pub async fn history_from(
    connection: &mut Connection,
    room_pk: i64,
    start: (i64, i64, i64),
    upto: i64,
    limit: i64,
) -> Result<Vec<(i64, i64, i64)>> {
    const HISTORY: Sql = Sql::both(
        "SELECT before_pos, depth, event_pk FROM events WHERE room_pk = $1 AND before_pos IS NOT NULL \
         AND (before_pos, depth, event_pk) >= ($2, $3, $4) AND before_pos <= $5 \
         AND flags & 7 = 0 ORDER BY before_pos, depth, event_pk LIMIT $6",
    );
    let (before, depth, pk) = start;
    let rows = connection.all(HISTORY, args![room_pk, before, depth, pk, upto, limit]).await?;
    rows.iter().map(|row| Ok((row.int(0)?, row.int(1)?, row.int(2)?))).collect()
}

/// Events of a room before a time or behind it, that time among them, the nearest first.
pub async fn by_time(
    connection: &mut Connection,
    room_pk: i64,
    ts: i64,
    backwards: bool,
    limit: i64,
) -> Result<Vec<i64>> {
    const BEFORE: Sql = Sql::both(
        "SELECT event_pk FROM events WHERE room_pk = $1 AND ts <= $2 AND flags & 7 = 0 \
         ORDER BY ts DESC, depth DESC LIMIT $3",
    );
    const BEHIND: Sql = Sql::both(
        "SELECT event_pk FROM events WHERE room_pk = $1 AND ts >= $2 AND flags & 7 = 0 ORDER BY ts, depth LIMIT $3",
    );
    let sql = if backwards { BEFORE } else { BEHIND };
    connection.all(sql, args![room_pk, ts, limit]).await?.iter().map(|row| row.int(0)).collect()
}

/// Positions and numbers of the newest live events of rooms, `limit` of each: (room, position, event), newest first.
pub async fn newest_of(
    connection: &mut Connection,
    room_pks: &[i64],
    limit: i64,
) -> Result<Vec<(i64, i64, i64)>> {
    const NEWEST: Sql = Sql::per(
        "SELECT e.room_pk, e.pos, e.event_pk FROM json_each($1) AS w CROSS JOIN events AS e \
         ON e.room_pk = w.value AND e.pos IN (SELECT n.pos FROM events AS n \
         WHERE n.room_pk = w.value AND n.pos IS NOT NULL ORDER BY n.pos DESC LIMIT $2) ORDER BY e.pos DESC",
        "SELECT w.room, e.pos, e.event_pk FROM UNNEST($1::bigint[]) AS w(room) CROSS JOIN LATERAL \
         (SELECT pos, event_pk FROM events WHERE room_pk = w.room AND pos IS NOT NULL \
         ORDER BY pos DESC LIMIT $2) AS e ORDER BY e.pos DESC",
    );
    let rows = connection.all(NEWEST, args![room_pks, limit]).await?;
    rows.iter().map(|row| Ok((row.int(0)?, row.int(1)?, row.int(2)?))).collect()
}

/// Of these rooms, those with live events behind `after`, with the newest position in each: one index probe a room.
pub async fn rooms_after(connection: &mut Connection, rooms: &[i64], after: i64) -> Result<Vec<(i64, i64)>> {
    const AFTER: Sql = Sql::per(
        "SELECT w.value, (SELECT MAX(e.pos) FROM events AS e WHERE e.room_pk = w.value AND e.pos > $2) AS newest \
         FROM json_each($1) AS w WHERE newest IS NOT NULL",
        "SELECT w.room, e.newest FROM UNNEST($1) AS w(room) CROSS JOIN LATERAL \
         (SELECT MAX(pos) AS newest FROM events WHERE room_pk = w.room AND pos > $2) AS e \
         WHERE e.newest IS NOT NULL",
    );
    let rows = connection.all(AFTER, args![rooms, after]).await?;
    rows.iter().map(|row| Ok((row.int(0)?, row.int(1)?))).collect()
}

/// Replaces an event by its redacted form.
pub async fn redact(tx: &mut Tx, event_pk: i64, json: &str) -> Result<()> {
    const BODY: Sql = Sql::both("UPDATE event_bodies SET body = $2 WHERE event_pk = $1");
    const FLAGS: Sql = Sql::both("UPDATE events SET flags = flags | 16 WHERE event_pk = $1");
    let body = packed::pack(json);
    tx.run(BODY, args![event_pk, body.as_slice()]).await?;
    tx.run(FLAGS, args![event_pk]).await.map(drop)
}

/// The redactions of an event, whether they took effect or not.
pub async fn redactions_of(connection: &mut Connection, event_id: &str) -> Result<Vec<i64>> {
    const FIND: Sql = Sql::both("SELECT event_pk FROM redactions WHERE target_id = $1 ORDER BY event_pk");
    connection.all(FIND, args![event_id]).await?.iter().map(|row| row.int(0)).collect()
}

/// The redactions that take effect on events: (target's id, redacting event).
pub async fn redactions(connection: &mut Connection, event_ids: &[&str]) -> Result<Vec<(String, i64)>> {
    const FIND: Sql = Sql::per(
        "SELECT target_id, event_pk FROM redactions \
         WHERE target_id IN (SELECT value FROM json_each($1)) AND applied = 1",
        "SELECT target_id, event_pk FROM redactions WHERE target_id = ANY($1) AND applied = 1",
    );
    connection.all(FIND, args![event_ids]).await?.iter().map(|row| Ok((row.text(0)?, row.int(1)?))).collect()
}

/// Where an event stands in its room's timeline: its position, or the one before which it belongs.
pub async fn place(connection: &mut Connection, event_id: &str) -> Result<Option<i64>> {
    const PLACE: Sql = Sql::both("SELECT COALESCE(pos, before_pos) FROM events WHERE event_id = $1");
    connection.one(PLACE, args![event_id]).await?.map_or(Ok(None), |row| row.opt_int(0))
}
