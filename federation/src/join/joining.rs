//! Rooms that are being joined: until their state is here, nobody can judge what other servers send about them.
//!
//! Such an event waits for the end of the join, and its transaction with it, for a moment. If the server that lets us in
//! takes longer, it must not hold up the others: their events are held in memory then, acknowledged, and taken in right
//! after the join, even if the database needs some time for that. If this server dies meanwhile, it was never in the room,
//! or what it missed is found by what follows; the next join brings what was said.
//!
//! Replicas tell each other what they join ([`elsewhere`]): other servers speak to any of them.

mod elsewhere;

use crate::Federation;
use crate::receive::failed_here;
use elsewhere::Elsewhere;
use myelin_core::Result;
use myelin_core::ports::Random;
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

/// The first and the longest pause where the database can't take in what is held.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(60)];
/// How often it is tried: some hours.
const MOST_TRIES: usize = 200;

/// An event that is held, and who sent it.
pub(super) type Held = (OwnedServerName, CanonicalJsonObject);

/// The rooms.
pub(crate) struct Joining {
    rooms: Mutex<HashMap<OwnedRoomId, Entry>>,
    elsewhere: Elsewhere,
}

#[derive(Default)]
struct Entry {
    turn: Arc<RwLock<()>>,
    held: Vec<Held>,
}

/// A user's turn to join the room.
pub(super) type Turn = OwnedRwLockWriteGuard<()>;

impl Joining {
    pub(crate) fn new(random: &dyn Random) -> Self {
        Self { rooms: Mutex::default(), elsewhere: Elsewhere::new(random) }
    }

    /// Begins a join, when others into the same room have ended.
    pub(super) async fn begin(&self, room_id: &RoomId) -> Turn {
        let turn = {
            let mut rooms = self.rooms.lock();
            rooms.retain(|_, entry| Arc::strong_count(&entry.turn) > 1);
            rooms.entry(room_id.to_owned()).or_default().turn.clone()
        };
        turn.write_owned().await
    }

    /// Ends a join; gives what is held.
    pub(super) fn end(&self, room_id: &RoomId, turn: Turn) -> Vec<Held> {
        let mut rooms = self.rooms.lock();
        drop(turn);
        rooms.get_mut(room_id).map(|entry| std::mem::take(&mut entry.held)).unwrap_or_default()
    }

    /// Gives an event back when its room is not being joined any more. `None` when that takes too long: it is held.
    async fn settled(
        &self,
        room_id: &RoomId,
        from: &ServerName,
        event: CanonicalJsonObject,
    ) -> Option<CanonicalJsonObject> {
        let turn = {
            let rooms = self.rooms.lock();
            let Some(entry) = rooms.get(room_id) else { return Some(event) };
            entry.held.is_empty().then(|| entry.turn.clone())
        };
        if let Some(turn) = turn
            && tokio::time::timeout(MOMENT, turn.read()).await.is_ok()
        {
            return Some(event);
        }
        let mut rooms = self.rooms.lock();
        match rooms.get_mut(room_id) {
            Some(entry) if entry.turn.try_read().is_err() => {
                hold(&mut entry.held, from, event);
                None
            }
            _ => Some(event),
        }
    }
}

fn hold(held: &mut Vec<Held>, from: &ServerName, event: CanonicalJsonObject) {
    if held.len() < MOST_HELD {
        held.push((from.to_owned(), event));
    }
}

impl Federation {
    /// Gives an event back when its room is being joined no more, here or by another replica. `None` when that takes too
    /// long: it is held.
    pub(crate) async fn joined(
        &self,
        room_id: &RoomId,
        from: &ServerName,
        event: CanonicalJsonObject,
    ) -> Result<Option<CanonicalJsonObject>> {
        let Some(event) = self.joining.settled(room_id, from, event).await else { return Ok(None) };
        if !self.joining.elsewhere.is_joined(room_id) {
            return Ok(Some(event));
        }
        match self.is_in(room_id).await {
            Ok(false) => Ok(self.joining.elsewhere.settled(room_id, from, event).await),
            Err(error) if failed_here(&error) => Err(error),
            Ok(true) | Err(_) => Ok(Some(event)),
        }
    }

    async fn is_in(&self, room_id: &RoomId) -> Result<bool> {
        match self.server.rooms.find(room_id).await? {
            Some(room) => self.server.is_in(&room).await,
            None => Ok(false),
        }
    }

    /// Takes in what came while a room was joined. Nobody waits for it.
    pub(super) fn take_in_held(&self, room_id: &RoomId, held: Vec<Held>) {
        let Some(federation) = self.own.upgrade().filter(|_| !held.is_empty()) else { return };
        let room_id = room_id.to_owned();
        let mut stop = self.server.stopping();
        tokio::spawn(async move {
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => {}
                () = federation.take_in_all(&room_id, held) => {}
            }
        });
    }

    async fn take_in_all(&self, room_id: &RoomId, mut held: Vec<Held>) {
        let [mut pause, longest] = PAUSES;
        for _ in 0..MOST_TRIES {
            let mut left = Vec::new();
            for (from, event) in held {
                // What can't be judged has been logged.
                if let Err(error) = self.room_event(&from, room_id, event.clone()).await
                    && failed_here(&error)
                {
                    tracing::debug!(%error, room = %room_id, "an event that came during a join waits");
                    left.push((from, event));
                }
            }
            if left.is_empty() {
                return;
            }
            held = left;
            tokio::time::sleep(pause).await;
            pause = longest.min(pause * 2);
        }
        tracing::warn!(events = held.len(), room = %room_id, "events that came during a join are lost");
    }
}
