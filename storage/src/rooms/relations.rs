//! Events that relate to others.

use crate::args;
use crate::changes::Changes;
use crate::database::{Connection, Tx};
use crate::error::Result;
use crate::rooms::events;
use crate::statement::{Bulk, Col, Sql};

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

/// Writes the relations and redactions of units.
pub(crate) async fn write(tx: &mut Tx, units: &[&Changes]) -> Result<()> {
    let relations: Vec<_> = units.iter().flat_map(|u| &u.relations).collect();
    const RELATIONS: Bulk = Bulk {
        into: "relations(room_pk, target_id, rel_type, event_pk, kind, sender_pk)",
        suffix: "ON CONFLICT DO NOTHING",
    };
    tx.bulk(
        RELATIONS,
        &[
            Col::Ints(relations.iter().map(|r| r.0).collect()),
            Col::Texts(relations.iter().map(|r| r.1.as_str()).collect()),
            Col::Texts(relations.iter().map(|r| r.2.as_str()).collect()),
            Col::Ints(relations.iter().map(|r| r.3).collect()),
            Col::Texts(relations.iter().map(|r| r.4.as_str()).collect()),
            Col::Ints(relations.iter().map(|r| r.5).collect()),
        ],
    )
    .await?;
    for (event, _, json) in units.iter().flat_map(|u| &u.redacted) {
        events::redact(tx, *event, json).await?;
    }
    let redactions: Vec<_> = units.iter().flat_map(|u| &u.redactions).collect();
    const REDACTIONS: Bulk = Bulk {
        into: "redactions(target_id, event_pk, room_pk, applied)",
        suffix: "ON CONFLICT (target_id, event_pk) DO UPDATE SET applied = excluded.applied",
    };
    tx.bulk(
        REDACTIONS,
        &[
            Col::Texts(redactions.iter().map(|r| r.0.as_str()).collect()),
            Col::Ints(redactions.iter().map(|r| r.1).collect()),
            Col::Ints(redactions.iter().map(|r| r.2).collect()),
            Col::Ints(redactions.iter().map(|r| r.3.into()).collect()),
        ],
    )
    .await
}
