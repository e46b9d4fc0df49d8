//! Rooms that other replicas join. A replica says so again and again as long as its join goes on, and when that has ended.

use super::{Held, MOMENT, hold};
use crate::Federation;
use myelin_core::ports::{Random, random_text};
use myelin_core::server::Server;
use parking_lot::Mutex;
use ruma::canonical_json::CanonicalJsonObject;
use ruma::{OwnedRoomId, RoomId, ServerName};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// How often a replica says that it still joins a room.
const AGAIN: Duration = Duration::from_secs(10);
/// How long what it says counts: if it dies, it says no more.
const COUNTS: Duration = Duration::from_secs(30);
/// Rooms of which it is remembered.
const MOST_ROOMS: usize = 1_000;

/// The rooms.
pub(super) struct Elsewhere {
    rooms: Mutex<HashMap<OwnedRoomId, Entry>>,
    /// This process, in what it tells the others.
    own: String,
}

struct Entry {
    /// Until when each replica counts as joining.
    joiners: HashMap<String, Instant>,
    held: Vec<Held>,
    /// Dropped at the end.
    ends: watch::Sender<()>,
}

/// A join of this process: while this lives, the other replicas know of it.
pub(crate) struct Announced {
    server: Arc<Server>,
    name: String,
    again: JoinHandle<()>,
}

impl Drop for Announced {
    fn drop(&mut self) {
        self.again.abort();
        self.server.replicas.tell(format!("joined {}", self.name));
    }
}

impl Elsewhere {
    pub(super) fn new(random: &dyn Random) -> Self {
        Self { rooms: Mutex::default(), own: random_text(random, 12) }
    }

    /// Whether another replica joins a room.
    pub(super) fn is_joined(&self, room_id: &RoomId) -> bool {
        self.rooms.lock().contains_key(room_id)
    }

    /// Gives an event back when nobody joins its room any more. `None` when that takes too long: it is held.
    pub(super) async fn settled(
        &self,
        room_id: &RoomId,
        from: &ServerName,
        event: CanonicalJsonObject,
    ) -> Option<CanonicalJsonObject> {
        let (mut end, none_held) = {
            let rooms = self.rooms.lock();
            let Some(entry) = rooms.get(room_id) else { return Some(event) };
            (entry.ends.subscribe(), entry.held.is_empty())
        };
        if none_held && tokio::time::timeout(MOMENT, end.changed()).await.is_ok() {
            return Some(event);
        }
        match self.rooms.lock().get_mut(room_id) {
            Some(entry) => {
                hold(&mut entry.held, from, event);
                None
            }
            None => Some(event),
        }
    }

    /// A replica joins a room. Where nobody did before, gives what ends when nobody does any more.
    fn joins(&self, by: &str, room_id: OwnedRoomId) -> Option<watch::Receiver<()>> {
        let mut rooms = self.rooms.lock();
        let until = Instant::now() + COUNTS;
        if let Some(entry) = rooms.get_mut(&room_id) {
            entry.joiners.insert(by.to_owned(), until);
            return None;
        }
        if rooms.len() >= MOST_ROOMS {
            return None;
        }
        let (ends, end) = watch::channel(());
        let joiners = HashMap::from([(by.to_owned(), until)]);
        rooms.insert(room_id, Entry { joiners, held: Vec::new(), ends });
        Some(end)
    }

    /// Forgets joiners of a room. Gives the time until which the next one counts, or what is held, where none is left.
    fn forget(
        &self,
        room_id: &RoomId,
        is_over: impl Fn(&str, Instant) -> bool,
    ) -> Result<Instant, Vec<Held>> {
        let mut rooms = self.rooms.lock();
        let Some(entry) = rooms.get_mut(room_id) else { return Err(Vec::new()) };
        entry.joiners.retain(|by, until| !is_over(by, *until));
        match entry.joiners.values().min() {
            Some(next) => Ok(*next),
            None => Err(rooms.remove(room_id).map(|entry| entry.held).unwrap_or_default()),
        }
    }
}

impl Federation {
    /// Tells the other replicas that this one joins a room, as long as what is given lives.
    pub(crate) fn announce_join(&self, room_id: &RoomId) -> Option<Announced> {
        let server = self.server.clone();
        server.replicas.can_be().then(|| {
            let name = format!("{} {room_id}", self.joining.elsewhere.own);
            let tell = {
                let (server, note) = (server.clone(), format!("joining {name}"));
                move || {
                    if server.replicas.are_there() {
                        server.replicas.tell(note.clone());
                    }
                }
            };
            tell();
            let again = tokio::spawn(async move {
                loop {
                    tokio::time::sleep(AGAIN).await;
                    tell();
                }
            });
            Announced { server, name, again }
        })
    }

    /// Another replica tells what it joins: `joining REPLICA ROOM`, and at the end `joined REPLICA ROOM`.
    pub(crate) fn hear_of_join(&self, note: &str) {
        let mut words = note.splitn(3, ' ');
        let (Some(kind @ ("joining" | "joined")), Some(by), Some(Ok(room_id))) =
            (words.next(), words.next(), words.next().map(OwnedRoomId::try_from))
        else {
            return;
        };
        let elsewhere = &self.joining.elsewhere;
        if by == elsewhere.own {
            return;
        }
        if kind == "joined" {
            let held = elsewhere.forget(&room_id, |joiner, _| joiner == by).err();
            return self.take_in_held(&room_id, held.unwrap_or_default());
        }
        let (Some(mut end), Some(federation)) = (elsewhere.joins(by, room_id.clone()), self.own.upgrade())
        else {
            return;
        };
        tokio::spawn(async move {
            loop {
                let now = Instant::now();
                match federation.joining.elsewhere.forget(&room_id, |_, until| until <= now) {
                    Err(held) => return federation.take_in_held(&room_id, held),
                    Ok(next) => match tokio::time::timeout_at(next, end.changed()).await {
                        // Whoever ended it has taken what was held.
                        Ok(_) => return,
                        Err(_) => continue,
                    },
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use myelin_core::ports::SystemRandom;

    #[test]
    fn a_room_is_joined_until_the_last_replica_has_ended_or_said_nothing_for_long() {
        let elsewhere = Elsewhere::new(&SystemRandom);
        let room = OwnedRoomId::try_from("!r:x.example").unwrap();
        assert!(elsewhere.joins("a", room.clone()).is_some());
        assert!(elsewhere.joins("a", room.clone()).is_none(), "it says so again");
        assert!(elsewhere.joins("b", room.clone()).is_none());
        let from = ServerName::parse("x.example").unwrap();
        if let Some(entry) = elsewhere.rooms.lock().get_mut(&room) {
            hold(&mut entry.held, &from, CanonicalJsonObject::new());
        }
        assert!(elsewhere.forget(&room, |by, _| by == "a").is_ok());
        assert!(elsewhere.is_joined(&room));
        let now = Instant::now();
        assert!(elsewhere.forget(&room, |_, until| until <= now).is_ok());
        let later = now + COUNTS + AGAIN;
        assert_eq!(elsewhere.forget(&room, |_, until| until <= later).unwrap_err().len(), 1);
        assert!(!elsewhere.is_joined(&room));
        assert!(elsewhere.forget(&room, |_, _| true).unwrap_err().is_empty());
    }
}
