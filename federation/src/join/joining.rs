//! Rooms that are being joined: until their state is here, nobody can judge what other servers send about them.
//!
//! Such an event waits for the end of the join, and its transaction with it, for a moment. If the server that lets us in
//! takes longer, it must not hold up the others: their events are held in memory then, acknowledged, and taken in right
//! after the join. If this server dies meanwhile, it was never in the room; the next join brings what was said.

use crate::Federation;
use parking_lot::Mutex;
use ruma::canonical_json::CanonicalJsonObject;
use ruma::{OwnedRoomId, OwnedServerName, RoomId, ServerName};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedRwLockWriteGuard, RwLock};

/// How long an event waits for a join.
const MOMENT: Duration = Duration::from_secs(5);
/// Events of one room that are held; what comes after them is found by what follows it.
const MOST_HELD: usize = 100;

/// An event that is held, and who sent it.
pub(super) type Held = (OwnedServerName, CanonicalJsonObject);

/// The rooms.
#[derive(Default)]
pub(crate) struct Joining(Mutex<HashMap<OwnedRoomId, Entry>>);

#[derive(Default)]
struct Entry {
    turn: Arc<RwLock<()>>,
    held: Vec<Held>,
}

/// A user's turn to join the room.
pub(super) type Turn = OwnedRwLockWriteGuard<()>;

impl Joining {
    /// Begins a join, when others into the same room have ended.
    pub(super) async fn begin(&self, room_id: &RoomId) -> Turn {
        let turn = {
            let mut rooms = self.0.lock();
            rooms.retain(|_, entry| Arc::strong_count(&entry.turn) > 1);
            rooms.entry(room_id.to_owned()).or_default().turn.clone()
        };
        turn.write_owned().await
    }

    /// Ends a join; gives what is held.
    pub(super) fn end(&self, room_id: &RoomId, turn: Turn) -> Vec<Held> {
        let mut rooms = self.0.lock();
        drop(turn);
        rooms.get_mut(room_id).map(|entry| std::mem::take(&mut entry.held)).unwrap_or_default()
    }

    /// Gives an event back when its room is not being joined any more. `None` when that takes too long: it is held.
    pub(crate) async fn settled(
        &self,
        room_id: &RoomId,
        from: &ServerName,
        event: CanonicalJsonObject,
    ) -> Option<CanonicalJsonObject> {
        let turn = {
            let rooms = self.0.lock();
            let Some(entry) = rooms.get(room_id) else { return Some(event) };
            entry.held.is_empty().then(|| entry.turn.clone())
        };
        if let Some(turn) = turn
            && tokio::time::timeout(MOMENT, turn.read()).await.is_ok()
        {
            return Some(event);
        }
        let mut rooms = self.0.lock();
        match rooms.get_mut(room_id) {
            Some(entry) if entry.turn.try_read().is_err() => {
                if entry.held.len() < MOST_HELD {
                    entry.held.push((from.to_owned(), event));
                }
                None
            }
            _ => Some(event),
        }
    }
}

impl Federation {
    /// Takes in what came while a room was joined. Nobody waits for it.
    pub(super) fn take_in_held(&self, room_id: &RoomId, held: Vec<Held>) {
        let Some(federation) = self.own.upgrade().filter(|_| !held.is_empty()) else { return };
        let room_id = room_id.to_owned();
        tokio::spawn(async move {
            for (from, event) in held {
                if let Err(error) = federation.room_event(&from, &room_id, event).await {
                    tracing::warn!(%error, room = %room_id, "an event that came during a join is lost");
                }
            }
        });
    }
}
