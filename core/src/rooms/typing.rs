//! Who is typing: in memory only, since it is worth nothing a minute later.
//!
//! A serial number counts the changes; it stands in the tokens of /sync beside the position of the log.

use crate::server::Server;
use parking_lot::Mutex;
use std::collections::HashMap;

/// Longest time for which somebody types without saying so again, in milliseconds.
const LONGEST: i64 = 120_000;

/// Who is typing where.
pub struct Typing {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    serial: i64,
    rooms: HashMap<i64, Room>,
}

#[derive(Default)]
struct Room {
    /// The number of the last change here.
    serial: i64,
    /// Users, and until when they type.
    users: HashMap<i64, i64>,
}

impl Typing {
    /// Nobody types. The serial numbers begin at the time in milliseconds, so that those of an earlier run of the
    /// server, which clients still hold, are smaller.
    pub fn new(now_ms: i64) -> Typing {
        Typing { state: Mutex::new(State { serial: now_ms, rooms: HashMap::new() }) }
    }

    /// Somebody types for so many milliseconds, or has stopped. True when others should hear of it.
    pub fn set(&self, room_pk: i64, user_pk: i64, now_ms: i64, timeout_ms: Option<i64>) -> bool {
        let mut state = self.state.lock();
        let serial = state.serial + 1;
        let changed = match timeout_ms {
            Some(timeout) => {
                let until = now_ms.saturating_add(timeout.clamp(0, LONGEST));
                state.rooms.entry(room_pk).or_default().users.insert(user_pk, until).is_none()
            }
            None => state.rooms.get_mut(&room_pk).is_some_and(|room| room.users.remove(&user_pk).is_some()),
        };
        if changed {
            state.serial = serial;
            if let Some(room) = state.rooms.get_mut(&room_pk) {
                room.serial = serial;
            }
        }
        changed
    }

    /// The number of the newest change.
    pub fn serial(&self) -> i64 {
        self.state.lock().serial
    }

    /// Those of the rooms in which who types changed after `serial`, with who types there now.
    pub fn since(
        &self,
        serial: i64,
        now_ms: i64,
        is_wanted: impl Fn(i64) -> bool,
    ) -> (i64, Vec<(i64, Vec<i64>)>) {
        let mut state = self.state.lock();
        state.expire(now_ms);
        let changed = state.rooms.iter().filter(|(pk, room)| room.serial > serial && is_wanted(**pk));
        let changed = changed.map(|(pk, room)| (*pk, room.users.keys().copied().collect())).collect();
        (state.serial, changed)
    }

    /// When somebody in one of the rooms stops typing by saying nothing more.
    pub fn next_expiry(&self, is_wanted: impl Fn(i64) -> bool) -> Option<i64> {
        let state = self.state.lock();
        let wanted = state.rooms.iter().filter(|(pk, _)| is_wanted(**pk));
        wanted.flat_map(|(_, room)| room.users.values().copied()).min()
    }
}

impl State {
    /// Forgets those who said nothing more, and rooms that have been silent for so long that every client knows.
    fn expire(&mut self, now_ms: i64) {
        let serial = &mut self.serial;
        for room in self.rooms.values_mut() {
            let before = room.users.len();
            room.users.retain(|_, until| *until > now_ms);
            if room.users.len() < before {
                *serial += 1;
                room.serial = *serial;
            }
        }
    }
}

impl Server {
    /// Notes that somebody types for so many milliseconds, or has stopped, and wakes those who listen to the room here.
    pub fn set_typing(&self, room: &crate::rooms::cache::Room, user_pk: i64, timeout_ms: Option<i64>) {
        if self.typing.set(room.pk, user_pk, self.now_ms(), timeout_ms) {
            self.online.wake_room(room.pk);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typing_begins_ends_and_expires() {
        let typing = Typing::new(1_000);
        let start = typing.serial();
        assert!(typing.set(1, 7, 0, Some(100)));
        assert!(!typing.set(1, 7, 10, Some(100)), "nothing new for others");
        let (serial, changed) = typing.since(start, 50, |_| true);
        assert_eq!(changed, [(1, vec![7])]);
        assert_eq!(typing.since(serial, 50, |_| true).1, []);
        assert_eq!(typing.next_expiry(|_| true), Some(110));
        assert_eq!(typing.next_expiry(|room| room != 1), None);
        let (serial, changed) = typing.since(serial, 110, |_| true);
        assert_eq!(changed, [(1, vec![])]);
        assert!(typing.set(1, 7, 120, Some(100)) && typing.set(1, 7, 130, None));
        assert!(!typing.set(1, 7, 140, None));
        assert_eq!(typing.since(serial, 150, |room| room == 2).1, []);
    }
}
