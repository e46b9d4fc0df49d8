//! Rooms that are being joined: until their state is here, nobody can judge what other servers send about them.
//!
//! Such an event waits for the end of the join, and its transaction with it, for a moment. If the server that lets us in
//! takes longer, it must not hold up the others: their events are held in memory then, acknowledged, and taken in right
//! after the join, however long the database needs for that. If this server dies meanwhile, it was never in the room, or
//! what it missed is found by what follows; the next join brings what was said.
//!
//! Replicas tell each other what they join: other servers speak to any of them.

use crate::Federation;
use crate::receive::failed_here;
use myelin_core::ports::{Random, random_text};
use myelin_core::server::Server;
use parking_lot::Mutex;
use ruma::canonical_json::CanonicalJsonObject;
use ruma::{OwnedRoomId, OwnedServerName, RoomId, ServerName};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedRwLockWriteGuard, RwLock, oneshot};

/// How long an event waits for a join.
const MOMENT: Duration = Duration::from_secs(5);
/// Events of one room that are held; what comes after them is found by what follows it.
const MOST_HELD: usize = 100;

/// How long another replica's join is waited for: if it dies, it does not say so.
const ELSEWHERE: Duration = Duration::from_secs(60);
/// Joins of other replicas that are waited for.
const MOST_ELSEWHERE: usize = 1_000;
/// The first and the longest pause where the database can't take in what is held.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(60)];

/// An event that is held, and who sent it.
pub(super) type Held = (OwnedServerName, CanonicalJsonObject);

/// The rooms.
pub(crate) struct Joining {
    rooms: Mutex<HashMap<OwnedRoomId, Entry>>,
    /// Joins of other replicas, by replica and room; each ends when this is dropped.
    elsewhere: Mutex<HashMap<(String, OwnedRoomId), oneshot::Sender<()>>>,
    /// This process, in what it tells the others.
    own: String,
}

#[derive(Default)]
struct Entry {
    turn: Arc<RwLock<()>>,
    held: Vec<Held>,
}

/// A user's turn to join the room.
pub(super) type Turn = OwnedRwLockWriteGuard<()>;

/// While this lives, other replicas know that a room is being joined.
pub(super) struct Announced<'a> {
    server: &'a Server,
    name: String,
}

impl Drop for Announced<'_> {
    fn drop(&mut self) {
        self.server.replicas.tell(format!("joined {}", self.name));
    }
}

impl Joining {
    pub(crate) fn new(random: &dyn Random) -> Self {
        let own = random_text(random, 12);
        Self { rooms: Mutex::default(), elsewhere: Mutex::default(), own }
    }

    /// Tells other replicas of a join, if there are any.
    pub(super) fn announce<'a>(&self, server: &'a Server, room_id: &RoomId) -> Option<Announced<'a>> {
        server.replicas.are_there().then(|| {
            let name = format!("{} {room_id}", self.own);
            server.replicas.tell(format!("joining {name}"));
            Announced { server, name }
        })
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
    pub(crate) async fn settled(
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
    /// Another replica joins a room, or has ended doing so: `joining REPLICA ROOM`, `joined REPLICA ROOM`. What comes to
    /// this one meanwhile waits, too.
    pub(crate) fn hear_of_join(&self, note: &str) {
        let mut words = note.splitn(3, ' ');
        let (Some(kind), Some(by), Some(Ok(room_id))) =
            (words.next(), words.next(), words.next().map(OwnedRoomId::try_from))
        else {
            return;
        };
        let join = (by.to_owned(), room_id.clone());
        let mut elsewhere = self.joining.elsewhere.lock();
        if kind == "joined" {
            elsewhere.remove(&join);
        }
        let Some(federation) = self.own.upgrade() else { return };
        if kind != "joining" || by == self.joining.own || elsewhere.len() >= MOST_ELSEWHERE {
            return;
        }
        let (ends, end) = oneshot::channel();
        elsewhere.insert(join, ends);
        tokio::spawn(async move {
            let turn = federation.joining.begin(&room_id).await;
            let _ = tokio::time::timeout(ELSEWHERE, end).await;
            // That one, if it was waited for in vain.
            federation.joining.elsewhere.lock().retain(|_, ends| !ends.is_closed());
            let held = federation.joining.end(&room_id, turn);
            federation.take_in_held(&room_id, held);
        });
    }

    /// Takes in what came while a room was joined. Nobody waits for it.
    pub(super) fn take_in_held(&self, room_id: &RoomId, held: Vec<Held>) {
        let Some(federation) = self.own.upgrade().filter(|_| !held.is_empty()) else { return };
        let room_id = room_id.to_owned();
        let mut stop = self.server.stopping();
        tokio::spawn(async move {
            let work = async {
                for (from, event) in held {
                    federation.take_in_one(&from, &room_id, event).await;
                }
            };
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => {}
                () = work => {}
            }
        });
    }

    async fn take_in_one(&self, from: &ServerName, room_id: &RoomId, event: CanonicalJsonObject) {
        let [mut pause, longest] = PAUSES;
        loop {
            match self.room_event(from, room_id, event.clone()).await {
                Ok(_) => return,
                Err(error) if failed_here(&error) => {
                    tracing::warn!(%error, room = %room_id, "an event that came during a join waits");
                }
                Err(error) => {
                    tracing::warn!(%error, room = %room_id, "an event that came during a join is lost");
                    return;
                }
            }
            tokio::time::sleep(pause).await;
            pause = longest.min(pause * 2);
        }
    }
}
