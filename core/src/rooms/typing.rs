//! Who is typing: in memory only, since it is worth nothing a minute later.
//!
//! A serial number ([`crate::serial`]) tells the changes apart; it stands in the tokens of /sync beside the position of
//! the log.
//!
//! Where there are other replicas, every change goes through the database as a note, which all of them hear in one order
//! and with one time: so a token that one replica gave out means the same to the others. Whether somebody's time is over
//! each finds out for itself; the serial number of that is the time at which it was over.

use crate::serial::Serials;
use crate::server::Server;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

/// Longest time for which somebody types without saying so again, in milliseconds.
const LONGEST: i64 = 120_000;
/// Time after which a room in which nobody types is forgotten, in milliseconds.
const SILENT: i64 = 3_600_000;

/// Who is typing where.
pub struct Typing {
    serials: Arc<Serials>,
    rooms: Mutex<HashMap<i64, Room>>,
}

#[derive(Default)]
struct Room {
    /// The number of the last change here.
    serial: i64,
    /// Users, and until when they type.
    users: HashMap<i64, i64>,
}

impl Typing {
    /// Nobody types.
    pub fn new(serials: Arc<Serials>) -> Typing {
        Typing { serials, rooms: Mutex::default() }
    }

    /// At some time in microseconds somebody types for so many milliseconds, or has stopped. True when others should
    /// hear of it.
    pub fn set(&self, room_pk: i64, user_pk: i64, at_us: i64, timeout_ms: Option<i64>) -> bool {
        let mut rooms = self.rooms.lock();
        let now_ms = at_us / 1_000;
        let changed = match timeout_ms {
            Some(timeout) => {
                let until = now_ms.saturating_add(timeout.clamp(0, LONGEST));
                rooms.entry(room_pk).or_default().users.insert(user_pk, until).is_none()
            }
            None => rooms.get_mut(&room_pk).is_some_and(|room| room.users.remove(&user_pk).is_some()),
        };
        if changed && let Some(room) = rooms.get_mut(&room_pk) {
            room.serial = self.serials.next(at_us);
        }
        changed
    }

    /// Those of the rooms in which who types changed after `serial`, with who types there now.
    pub fn since(&self, serial: i64, is_wanted: impl Fn(i64) -> bool) -> Vec<(i64, Vec<i64>)> {
        let rooms = self.rooms.lock();
        let changed = rooms.iter().filter(|(pk, room)| room.serial > serial && is_wanted(**pk));
        changed.map(|(pk, room)| (*pk, room.users.keys().copied().collect())).collect()
    }

    /// Forgets rooms in which nobody has typed for so long that clients that are there know.
    pub fn forget_silent(&self, now_ms: i64) {
        let before = now_ms.saturating_sub(SILENT).saturating_mul(1_000);
        self.rooms.lock().retain(|_, room| !room.users.is_empty() || room.serial > before);
    }

    /// When somebody in one of the rooms stops typing by saying nothing more.
    pub fn next_expiry(&self, is_wanted: impl Fn(i64) -> bool) -> Option<i64> {
        let rooms = self.rooms.lock();
        let wanted = rooms.iter().filter(|(pk, _)| is_wanted(**pk));
        wanted.flat_map(|(_, room)| room.users.values().copied()).min()
    }

    /// Forgets those who said nothing more.
    pub fn expire(&self, now_ms: i64) {
        let mut rooms = self.rooms.lock();
        let mut over: Vec<(i64, i64)> = Vec::new();
        for (room_pk, room) in &mut *rooms {
            room.users.retain(|_, until| {
                let types = *until > now_ms;
                if !types {
                    over.push((*until, *room_pk));
                }
                types
            });
        }
        over.sort_unstable();
        for (until, room_pk) in over {
            if let Some(room) = rooms.get_mut(&room_pk) {
                room.serial = self.serials.next(until.saturating_mul(1_000));
            }
        }
    }
}

impl Server {
    /// Notes that somebody types for so many milliseconds, or has stopped, and wakes those who listen to the room.
    pub fn set_typing(&self, room: &crate::rooms::cache::Room, user_pk: i64, timeout_ms: Option<i64>) {
        if self.replicas.are_there() {
            // This replica hears it too, in the order in which all do.
            self.replicas.tell(note(room.pk, user_pk, timeout_ms));
        } else {
            self.typing_set(room.pk, user_pk, self.now_ms().saturating_mul(1_000), timeout_ms);
        }
    }

    /// Takes what a replica tells of who is typing.
    pub(crate) fn hear_typing(&self, at_us: i64, note: &str) {
        let Some((room_pk, user_pk, timeout_ms)) = read_note(note) else { return };
        self.typing_set(room_pk, user_pk, at_us, timeout_ms);
    }

    fn typing_set(&self, room_pk: i64, user_pk: i64, at_us: i64, timeout_ms: Option<i64>) {
        let changed = self.typing.set(room_pk, user_pk, at_us, timeout_ms);
        if changed {
            self.online.wake_room(room_pk);
        }
        // Whoever goes on typing says so again, and other servers forget it as this one does.
        if (changed || timeout_ms.is_some())
            && let Ok(remote) = self.remote()
        {
            remote.typing(room_pk, user_pk, timeout_ms.is_some());
        }
    }
}

/// What replicas tell each other: `typing ROOM USER MILLISECONDS`, without the last when somebody has stopped.
fn note(room_pk: i64, user_pk: i64, timeout_ms: Option<i64>) -> String {
    let timeout = timeout_ms.map(|timeout| timeout.to_string()).unwrap_or_default();
    format!("typing {room_pk} {user_pk} {timeout}")
}

fn read_note(note: &str) -> Option<(i64, i64, Option<i64>)> {
    let mut words = note.strip_prefix("typing ")?.split(' ');
    let (room_pk, user_pk) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let timeout = words.next().filter(|word| !word.is_empty()).map(str::parse).transpose().ok()?;
    Some((room_pk, user_pk, timeout))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typing() -> (Arc<Serials>, Typing) {
        let serials = Arc::new(Serials::new(1_000));
        (serials.clone(), Typing::new(serials))
    }

    #[test]
    fn typing_begins_ends_and_expires() {
        let (serials, typing) = typing();
        let start = serials.newest();
        assert!(typing.set(1, 7, 0, Some(100)));
        assert!(!typing.set(1, 7, 10_000, Some(100)), "nothing new for others");
        let serial = serials.newest();
        assert_eq!(typing.since(start, |_| true), [(1, vec![7])]);
        assert_eq!(typing.since(serial, |_| true), []);
        assert_eq!(typing.next_expiry(|_| true), Some(110));
        assert_eq!(typing.next_expiry(|room| room != 1), None);
        typing.expire(110);
        assert_eq!(serials.newest(), 110_000, "the time at which it was over");
        assert_eq!(typing.since(serial, |_| true), [(1, vec![])]);
        assert!(typing.set(1, 7, 120_000, Some(100)) && typing.set(1, 7, 130_000, None));
        assert!(!typing.set(1, 7, 140_000, None));
        assert_eq!(typing.since(serial, |room| room == 2), []);
        typing.forget_silent(SILENT + 100);
        assert_eq!(typing.since(0, |_| true), [(1, vec![])]);
        typing.forget_silent(SILENT + 200);
        assert_eq!(typing.since(0, |_| true), []);
    }

    #[test]
    fn replicas_agree_on_serial_numbers() {
        let (one, other) = (typing(), typing());
        for (at, text) in [(2_000_000, note(1, 7, Some(50))), (2_010_000, note(2, 8, Some(50)))] {
            for (_, replica) in [&one, &other] {
                let (room, user, timeout) = read_note(&text).unwrap();
                assert!(replica.set(room, user, at, timeout));
            }
        }
        assert_eq!(one.0.newest(), other.0.newest());
        one.1.expire(2_055);
        assert_eq!((one.0.newest(), one.1.since(2_010_000, |_| true)), (2_050_000, vec![(1, vec![])]));
        other.1.expire(2_070);
        assert_eq!((other.0.newest(), other.1.since(2_050_000, |_| true)), (2_060_000, vec![(2, vec![])]));
        assert_eq!(read_note(&note(3, 4, None)), Some((3, 4, None)));
        assert_eq!(read_note("typing 3 x 5"), None);
        assert_eq!(read_note("something 3 4 5"), None);
    }
}
