//! Rows that can be written together: what a room worker or a queue planned in memory, to be merged with others' into
//! one commit with a few statements, however many units there are.

mod guards;

use crate::database::Tx;
use crate::error::{Error, Result};
use crate::federation::outbox;
use crate::log::Kind;
use crate::rooms::{gaps, packed, receipts, relations, write_ints};
use crate::statement::{Bulk, Col};
use crate::to_device;
use guards::Verdict;
use std::collections::HashMap;

/// An event is an outlier: its state is not known.
pub const OUTLIER: i64 = 1;
/// An event was rejected by the authorization rules.
pub const REJECTED: i64 = 2;
/// An event was soft-failed: allowed where it stands, and not by the current state.
pub const SOFT_FAILED: i64 = 4;
/// An event came by backfill: it belongs to the history and not to anybody's /sync.
pub const HISTORY: i64 = 8;
/// An event was redacted.
pub const REDACTED: i64 = 16;
/// An event of another server came through a handshake with this one (a join, leave or knock), which tells the others.
pub const FORWARDED: i64 = 32;
/// Flag of an event of this server that another one tells the others of: it came back from a join through that one.
pub const TOLD: i64 = 64;
/// Flag of an event of the timeline before which others are missing.
pub const GAP: i64 = 128;

/// Rows of one unit. All or none of them are written.
#[derive(Debug, Default)]
pub struct Changes {
    /// Rooms that move, each guarded by the version on which the unit was planned.
    pub rooms: Vec<RoomChange>,
    /// Events, in the order in which they get their positions.
    pub events: Vec<NewEvent>,
    /// Events of which nothing may be known, neither they themselves nor what follows or redacts them: (room, id).
    pub unheard_of: Vec<(i64, String)>,
    /// Moves of a room's current state beyond what its new event says.
    pub moves: Vec<StateMove>,
    /// Gaps that open: (room, id of the missing event, event that follows it).
    pub gaps: Vec<(i64, String, i64)>,
    /// Gaps that close: (room, id of the event that came).
    pub closed_gaps: Vec<(i64, String)>,
    /// Nodes of state trees: (node, room, body).
    pub nodes: Vec<(i64, i64, Vec<u8>)>,
    /// State keys: (room, index, type, state key).
    pub state_keys: Vec<(i64, i64, String, String)>,
    /// Relations: (room, target's id, rel_type, event, type, sender).
    pub relations: Vec<(i64, String, String, i64, String, i64)>,
    /// Redactions: (target's id, redacting event, room, whether it takes effect).
    pub redactions: Vec<(String, i64, i64, bool)>,
    /// Events that are replaced by their redacted form: (event, room, JSON).
    pub redacted: Vec<(i64, i64, String)>,
    /// Transaction ids: (device, scope, id, answer, time).
    pub transactions: Vec<(i64, String, String, String, i64)>,
    /// To-device messages. They are left out where one of the unit's transaction ids is known already.
    pub to_device: Vec<NewToDevice>,
    /// EDUs for other servers: (server, JSON). They are left out as the messages are.
    pub outbox: Vec<(String, String)>,
    /// To-device messages that devices have seen: (device, position up to which).
    pub seen: Vec<(i64, i64)>,
    /// Receipts.
    pub receipts: Vec<NewReceipt>,
}

/// A room's new state of affairs.
#[derive(Debug)]
pub struct RoomChange {
    /// The room.
    pub room_pk: i64,
    /// Id and version of a room that does not exist yet.
    pub new: Option<(String, String)>,
    /// The guard on which the change was planned; it is raised by one.
    pub guard: i64,
    /// The tree of the current state.
    pub root: i64,
    /// The depth of the deepest event.
    pub depth: i64,
    /// The depth from which on events have no others that are bundled with them.
    pub related: i64,
    /// The extremities from now on.
    pub extremities: Vec<i64>,
}

/// An event to be stored.
#[derive(Debug)]
pub struct NewEvent {
    /// Our number for it.
    pub event_pk: i64,
    /// Its id.
    pub event_id: String,
    /// Its room.
    pub room_pk: i64,
    /// It was here as an outlier, which it takes the place of.
    pub was_outlier: bool,
    /// It gets a position, and readers hear of it.
    pub live: bool,
    /// Of history: the position of the event in the timeline before which it belongs.
    pub before_pos: Option<i64>,
    /// Its depth.
    pub depth: i64,
    /// The tree of the state before it.
    pub root: i64,
    /// See [`OUTLIER`] and its neighbours.
    pub flags: i64,
    /// origin_server_ts.
    pub ts: i64,
    /// The event as federation knows it.
    pub json: String,
    /// The tree of the room's current state after it, where the event changed that.
    pub state_after: Option<i64>,
    /// The membership that it sets.
    pub membership: Option<NewMembership>,
    /// The device that sent it, with its transaction id.
    pub transaction: Option<(i64, String)>,
}

/// A room's current state becomes another one, by a merge of branches or by an event without a position.
#[derive(Debug)]
pub struct StateMove {
    /// The room.
    pub room_pk: i64,
    /// The tree of the state from now on.
    pub root: i64,
    /// The memberships that change with it, each with its event.
    pub memberships: Vec<(i64, NewMembership)>,
}

/// A membership that an event sets.
#[derive(Debug)]
pub struct NewMembership {
    /// Whose.
    pub user_pk: i64,
    /// 1 invite, 2 join, 3 leave, 4 ban, 5 knock.
    pub membership: i64,
    /// The stripped state to show to somebody invited or knocking, as a JSON list.
    pub stripped: Option<String>,
}

/// A message for one device.
#[derive(Debug)]
pub struct NewToDevice {
    /// Whose device.
    pub user_pk: i64,
    /// The device.
    pub device_pk: i64,
    /// The event as /sync gives it.
    pub json: String,
}

/// A receipt.
#[derive(Debug)]
pub struct NewReceipt {
    /// The room.
    pub room_pk: i64,
    /// Who has read.
    pub user_pk: i64,
    /// 1 m.read, 2 m.read.private, 3 m.fully_read.
    pub kind: i64,
    /// Empty, `main`, or the id of a thread's root.
    pub thread: String,
    /// What was read.
    pub event_id: String,
    /// The position of that event.
    pub event_pos: i64,
    /// When.
    pub ts: i64,
}

/// What became of a unit.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The positions of its events, 0 for those that have none.
    pub positions: Vec<i64>,
    /// The positions of its to-device messages; none where they were sent before.
    pub to_device: Vec<i64>,
    /// The last position that belongs to the unit.
    pub last: i64,
}

/// Writes units together. A unit whose rooms moved in the meantime, with events of a transaction that was carried out
/// before, or with an event that was unheard of and is not any more, gets [`Error::GuardLost`] and leaves nothing. What
/// the database refuses PostgreSQL says when the rows are sent, by [`Tx::flush`] or with the commit.
pub async fn apply(tx: &mut Tx, units: &[&Changes]) -> Result<Vec<Result<Outcome>>> {
    let verdicts = guards::check(tx, units).await?;
    let allowed = units.iter().zip(&verdicts).filter(|(_, verdict)| **verdict != Verdict::Lost);
    let (winners, sent): (Vec<&Changes>, Vec<bool>) =
        allowed.map(|(unit, verdict)| (*unit, *verdict == Verdict::New)).unzip();
    let messages: Vec<&[NewToDevice]> = winners
        .iter()
        .zip(&sent)
        .map(|(unit, new)| if *new { unit.to_device.as_slice() } else { &[] })
        .collect();
    let mut outcomes = Vec::with_capacity(winners.len());
    let mut rows = Rows::default();
    for (unit, messages) in winners.iter().zip(&messages) {
        outcomes.push(rows.number(tx, unit, messages));
    }
    write_rooms(tx, &winners).await?;
    write_events(tx, &winners, &rows).await?;
    write_memberships(tx, &rows).await?;
    write_state(tx, &winners).await?;
    relations::write(tx, &winners).await?;
    gaps::write(tx, &winners).await?;
    write_queues(tx, &winners, &messages, &rows).await?;
    outbox::write(tx, &winners, &sent).await?;
    let mut outcomes = outcomes.into_iter();
    Ok(verdicts
        .into_iter()
        .map(|verdict| match verdict {
            Verdict::Lost => Err(Error::GuardLost),
            Verdict::New | Verdict::Again => outcomes.next().ok_or(Error::GuardLost),
        })
        .collect())
}

/// What gets its position inside the transaction.
#[derive(Default)]
struct Rows {
    event_pos: Vec<Option<i64>>,
    roots: Vec<(i64, i64, i64)>,
    memberships: Vec<MembershipRow>,
    to_device: Vec<i64>,
    receipts: Vec<i64>,
}

struct MembershipRow {
    user_pk: i64,
    room_pk: i64,
    membership: i64,
    event_pk: i64,
    pos: i64,
    stripped: Option<String>,
}

impl Rows {
    fn number(&mut self, tx: &mut Tx, unit: &Changes, messages: &[NewToDevice]) -> Outcome {
        let mut positions = Vec::with_capacity(unit.events.len());
        for event in &unit.events {
            let pos = event.live.then(|| tx.entry(Kind::Event, event.room_pk, event.event_pk));
            self.event_pos.push(pos);
            positions.push(pos.unwrap_or(0));
            if let Some(root) = event.state_after {
                let pos = pos.unwrap_or_else(|| tx.entry(Kind::State, event.room_pk, 0));
                self.roots.push((event.room_pk, pos, root));
            }
            if let Some(new) = &event.membership {
                self.membership(tx, event.room_pk, event.event_pk, new);
            }
            if event.was_outlier && !event.live {
                tx.entry(Kind::Placed, event.room_pk, event.event_pk);
            }
        }
        for moved in &unit.moves {
            let pos = tx.entry(Kind::State, moved.room_pk, 0);
            self.roots.push((moved.room_pk, pos, moved.root));
            for (event_pk, new) in &moved.memberships {
                self.membership(tx, moved.room_pk, *event_pk, new);
            }
        }
        for (event, room, _) in &unit.redacted {
            tx.entry(Kind::Redaction, *room, *event);
        }
        let entry = |message: &NewToDevice| tx.entry(Kind::ToDevice, message.user_pk, message.device_pk);
        let to_device: Vec<i64> = messages.iter().map(entry).collect();
        self.to_device.extend(&to_device);
        for receipt in &unit.receipts {
            self.receipts.push(if receipt.kind == 1 {
                tx.entry(Kind::Receipt, receipt.room_pk, receipt.user_pk)
            } else {
                tx.entry(Kind::PrivateReceipt, receipt.user_pk, receipt.room_pk)
            });
        }
        Outcome { positions, to_device, last: tx.position() }
    }

    fn membership(&mut self, tx: &mut Tx, room_pk: i64, event_pk: i64, new: &NewMembership) {
        self.memberships.push(MembershipRow {
            user_pk: new.user_pk,
            room_pk,
            membership: new.membership,
            event_pk,
            pos: tx.entry(Kind::Membership, new.user_pk, room_pk),
            stripped: new.stripped.clone(),
        });
    }
}

async fn write_rooms(tx: &mut Tx, units: &[&Changes]) -> Result<()> {
    const INTO: Bulk = Bulk {
        into: "rooms(room_pk, room_id, version, root, guard, depth, related, extremities)",
        suffix: "ON CONFLICT (room_pk) DO UPDATE SET root = excluded.root, guard = excluded.guard, \
                 depth = excluded.depth, related = excluded.related, extremities = excluded.extremities",
    };
    let rooms: Vec<&RoomChange> = units.iter().flat_map(|u| &u.rooms).collect();
    if rooms.is_empty() {
        return Ok(());
    }
    // A room that exists keeps its id and version: the update does not name them, but a unique id must be offered.
    let placeholders: Vec<String> = rooms.iter().map(|r| format!("-{}", r.room_pk)).collect();
    let id =
        |(room, own): (&&RoomChange, &String)| room.new.as_ref().map_or(own.clone(), |new| new.0.clone());
    let extremities: Vec<String> = rooms.iter().map(|r| write_ints(&r.extremities)).collect();
    let ids: Vec<String> = rooms.iter().zip(&placeholders).map(id).collect();
    tx.bulk(
        INTO,
        &[
            Col::Ints(rooms.iter().map(|r| r.room_pk).collect()),
            Col::Texts(ids.iter().map(String::as_str).collect()),
            Col::Texts(rooms.iter().map(|r| r.new.as_ref().map_or("", |new| new.1.as_str())).collect()),
            Col::Ints(rooms.iter().map(|r| r.root).collect()),
            Col::Ints(rooms.iter().map(|r| r.guard + 1).collect()),
            Col::Ints(rooms.iter().map(|r| r.depth).collect()),
            Col::Ints(rooms.iter().map(|r| r.related).collect()),
            Col::Texts(extremities.iter().map(String::as_str).collect()),
        ],
    )
    .await
}

async fn write_events(tx: &mut Tx, units: &[&Changes], rows: &Rows) -> Result<()> {
    let events: Vec<&NewEvent> = units.iter().flat_map(|u| &u.events).collect();
    // Only an outlier is here already: it gets its place.
    const EVENTS: Bulk = Bulk {
        into: "events(event_pk, event_id, room_pk, pos, depth, root, flags, ts, before_pos, device_pk, txn_id)",
        suffix: "ON CONFLICT (event_pk) DO UPDATE SET pos = excluded.pos, root = excluded.root, \
                 flags = excluded.flags, before_pos = excluded.before_pos",
    };
    const BODIES: Bulk = Bulk {
        into: "event_bodies(event_pk, body)",
        suffix: "ON CONFLICT (event_pk) DO UPDATE SET body = excluded.body",
    };
    tx.bulk(
        EVENTS,
        &[
            Col::Ints(events.iter().map(|e| e.event_pk).collect()),
            Col::Texts(events.iter().map(|e| e.event_id.as_str()).collect()),
            Col::Ints(events.iter().map(|e| e.room_pk).collect()),
            Col::OptInts(rows.event_pos.clone()),
            Col::Ints(events.iter().map(|e| e.depth).collect()),
            Col::Ints(events.iter().map(|e| e.root).collect()),
            Col::Ints(events.iter().map(|e| e.flags).collect()),
            Col::Ints(events.iter().map(|e| e.ts).collect()),
            Col::OptInts(events.iter().map(|e| e.before_pos).collect()),
            Col::OptInts(events.iter().map(|e| Some(e.transaction.as_ref()?.0)).collect()),
            Col::OptTexts(events.iter().map(|e| Some(e.transaction.as_ref()?.1.as_str())).collect()),
        ],
    )
    .await?;
    let bodies: Vec<Vec<u8>> = events.iter().map(|e| packed::pack(&e.json)).collect();
    tx.bulk(
        BODIES,
        &[
            Col::Ints(events.iter().map(|e| e.event_pk).collect()),
            Col::Blobs(bodies.iter().map(Vec::as_slice).collect()),
        ],
    )
    .await?;
    tx.bulk(
        Bulk { into: "room_states(room_pk, pos, root)", suffix: "" },
        &[
            Col::Ints(rows.roots.iter().map(|r| r.0).collect()),
            Col::Ints(rows.roots.iter().map(|r| r.1).collect()),
            Col::Ints(rows.roots.iter().map(|r| r.2).collect()),
        ],
    )
    .await
}

async fn write_memberships(tx: &mut Tx, rows: &Rows) -> Result<()> {
    let history = &rows.memberships;
    // One statement may not touch a row twice: only the last membership of a user in a room is the current one.
    let mut current: HashMap<(i64, i64), &MembershipRow> = HashMap::new();
    for row in history {
        current.insert((row.user_pk, row.room_pk), row);
    }
    const CURRENT: Bulk = Bulk {
        into: "memberships(user_pk, room_pk, membership, event_pk, pos, stripped)",
        suffix: "ON CONFLICT (user_pk, room_pk) DO UPDATE SET membership = excluded.membership, \
                 event_pk = excluded.event_pk, pos = excluded.pos, stripped = excluded.stripped, forgotten = 0",
    };
    let current: Vec<&MembershipRow> = current.into_values().collect();
    tx.bulk(
        CURRENT,
        &[
            Col::Ints(current.iter().map(|m| m.user_pk).collect()),
            Col::Ints(current.iter().map(|m| m.room_pk).collect()),
            Col::Ints(current.iter().map(|m| m.membership).collect()),
            Col::Ints(current.iter().map(|m| m.event_pk).collect()),
            Col::Ints(current.iter().map(|m| m.pos).collect()),
            Col::OptTexts(current.iter().map(|m| m.stripped.as_deref()).collect()),
        ],
    )
    .await?;
    const HISTORY: Bulk =
        Bulk { into: "membership_history(room_pk, pos, user_pk, membership, event_pk)", suffix: "" };
    tx.bulk(
        HISTORY,
        &[
            Col::Ints(history.iter().map(|m| m.room_pk).collect()),
            Col::Ints(history.iter().map(|m| m.pos).collect()),
            Col::Ints(history.iter().map(|m| m.user_pk).collect()),
            Col::Ints(history.iter().map(|m| m.membership).collect()),
            Col::Ints(history.iter().map(|m| m.event_pk).collect()),
        ],
    )
    .await
}

async fn write_state(tx: &mut Tx, units: &[&Changes]) -> Result<()> {
    let nodes: Vec<_> = units.iter().flat_map(|u| &u.nodes).collect();
    tx.bulk(
        Bulk { into: "state_nodes(node_id, room_pk, body)", suffix: "" },
        &[
            Col::Ints(nodes.iter().map(|n| n.0).collect()),
            Col::Ints(nodes.iter().map(|n| n.1).collect()),
            Col::Blobs(nodes.iter().map(|n| n.2.as_slice()).collect()),
        ],
    )
    .await?;
    let keys: Vec<_> = units.iter().flat_map(|u| &u.state_keys).collect();
    tx.bulk(
        Bulk { into: "state_keys(room_pk, state_index, kind, state_key)", suffix: "" },
        &[
            Col::Ints(keys.iter().map(|k| k.0).collect()),
            Col::Ints(keys.iter().map(|k| k.1).collect()),
            Col::Texts(keys.iter().map(|k| k.2.as_str()).collect()),
            Col::Texts(keys.iter().map(|k| k.3.as_str()).collect()),
        ],
    )
    .await
}

async fn write_queues(
    tx: &mut Tx,
    units: &[&Changes],
    messages: &[&[NewToDevice]],
    rows: &Rows,
) -> Result<()> {
    let transactions: Vec<_> = units.iter().flat_map(|u| &u.transactions).collect();
    const TRANSACTIONS: Bulk = Bulk {
        into: "transaction_ids(device_pk, scope, txn_id, answer, ts)",
        suffix: "ON CONFLICT DO NOTHING",
    };
    tx.bulk(
        TRANSACTIONS,
        &[
            Col::Ints(transactions.iter().map(|t| t.0).collect()),
            Col::Texts(transactions.iter().map(|t| t.1.as_str()).collect()),
            Col::Texts(transactions.iter().map(|t| t.2.as_str()).collect()),
            Col::Texts(transactions.iter().map(|t| t.3.as_str()).collect()),
            Col::Ints(transactions.iter().map(|t| t.4).collect()),
        ],
    )
    .await?;
    let seen: Vec<_> = units.iter().flat_map(|u| &u.seen).collect();
    to_device::delete(tx, &seen).await?;
    let messages: Vec<_> = messages.iter().copied().flatten().collect();
    tx.bulk(
        Bulk { into: "to_device(device_pk, pos, json)", suffix: "" },
        &[
            Col::Ints(messages.iter().map(|m| m.device_pk).collect()),
            Col::Ints(rows.to_device.clone()),
            Col::Texts(messages.iter().map(|m| m.json.as_str()).collect()),
        ],
    )
    .await?;
    receipts::write(tx, units, &rows.receipts).await
}
