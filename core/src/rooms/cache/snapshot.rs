//! Where a room stands.

use crate::rooms::state::NodeId;
use myelin_storage::rooms::RoomRow;
use ruma::OwnedEventId;

/// Where a room stands at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Raised by every append.
    pub guard: i64,
    /// The tree of the current state.
    pub root: NodeId,
    /// The depth of the deepest event.
    pub depth: i64,
    /// The depth from which on events have no others that are bundled with them.
    pub related: i64,
    /// Events that no other follows yet, the deepest first.
    pub extremities: Vec<(i64, OwnedEventId)>,
    /// The position up to which this is true for certain.
    pub upto: i64,
}

impl Snapshot {
    /// As a room's row says it.
    pub(in crate::rooms) fn of(row: &RoomRow, extremities: Vec<(i64, OwnedEventId)>) -> Snapshot {
        Snapshot {
            guard: row.guard,
            root: row.root,
            depth: row.depth,
            related: row.related,
            extremities,
            upto: row.head,
        }
    }
}
