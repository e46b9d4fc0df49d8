//! Events that relate to others.

use crate::args;
use crate::database::Connection;
use crate::error::Result;
use crate::statement::Sql;

/// A thread in brief.
#[derive(Clone, Debug)]
pub struct ThreadRow {
    /// The id of its root.
    pub target_id: String,
    /// How many events it has beside the root.
    pub count: i64,
    /// The newest of them.
    pub latest_pk: i64,
    /// Whether the reader sent one of them.
    pub participated: bool,
}

/// The edits of events and the references to them: (target's id, rel_type, event), oldest first.
pub async fn bundled(
    connection: &mut Connection,
    room_pk: i64,
    target_ids: &[&str],
) -> Result<Vec<(String, String, i64)>> {
    const BUNDLED: Sql = Sql::per(
        "SELECT r.target_id, r.rel_type, r.event_pk FROM json_each($2) AS w \
         CROSS JOIN relations AS r ON r.room_pk = $1 AND r.target_id = w.value \
         AND r.rel_type IN ('m.replace', 'm.reference') ORDER BY r.event_pk",
        "SELECT target_id, rel_type, event_pk FROM relations WHERE room_pk = $1 AND target_id = ANY($2) \
         AND rel_type IN ('m.replace', 'm.reference') ORDER BY event_pk",
    );
    let rows = connection.all(BUNDLED, args![room_pk, target_ids]).await?;
    rows.iter().map(|row| Ok((row.text(0)?, row.text(1)?, row.int(2)?))).collect()
}

/// The threads of these roots. Redacted events count no more.
pub async fn threads(
    connection: &mut Connection,
    room_pk: i64,
    target_ids: &[&str],
    reader_pk: i64,
) -> Result<Vec<ThreadRow>> {
    const THREADS: Sql = Sql::per(
        "SELECT r.target_id, COUNT(*), MAX(r.event_pk), MAX(CASE WHEN r.sender_pk = $3 THEN 1 ELSE 0 END) \
         FROM json_each($2) AS w CROSS JOIN relations AS r \
         ON r.room_pk = $1 AND r.target_id = w.value AND r.rel_type = 'm.thread' \
         CROSS JOIN events AS e ON e.event_pk = r.event_pk AND e.flags & 22 = 0 GROUP BY r.target_id",
        "SELECT r.target_id, COUNT(*), MAX(r.event_pk), \
         MAX(CASE WHEN r.sender_pk = $3 THEN 1::bigint ELSE 0::bigint END) \
         FROM relations AS r JOIN events AS e ON e.event_pk = r.event_pk AND e.flags & 22 = 0 \
         WHERE r.room_pk = $1 AND r.target_id = ANY($2) AND r.rel_type = 'm.thread' GROUP BY r.target_id",
    );
    let rows = connection.all(THREADS, args![room_pk, target_ids, reader_pk]).await?;
    rows.iter()
        .map(|row| {
            Ok(ThreadRow {
                target_id: row.text(0)?,
                count: row.int(1)?,
                latest_pk: row.int(2)?,
                participated: row.bool(3)?,
            })
        })
        .collect()
}
