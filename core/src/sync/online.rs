//! Who is online: one [`Online`] for each user that waits in a /sync or did so lately.
//!
//! It holds what makes an empty answer cost no SQL: the rooms that the user is joined to, and what is known of each
//! device. The log keeps it current in two steps. As a *cache* (before a position becomes visible) it throws away what
//! an entry makes wrong; the next look reads it anew. As a *waker* (afterwards) it wakes those whom an entry concerns:
//! for a room the listening members, by an index from rooms to users, and nobody else.
//!
//! Whoever waits registers first and looks then, so that nothing falls between.

use crate::cache::{Cache, Caches, Share, Weight};
use crate::error::Result;
use crate::log::{self, Reader};
use crate::sync::account::Preferences;
use crate::sync::checkpoints::Waiting;
use crate::sync::device::DeviceState;
use crate::sync::unread::Unread;
use myelin_storage::log::Kind;
use myelin_storage::rooms::memberships::{self, JOIN};
use myelin_storage::{Database, Entry};
use parking_lot::{Mutex, RwLock};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Notify;

/// Milliseconds after which somebody who does not ask any more counts as gone.
const IDLE: i64 = 5 * 60_000;
/// Users that are kept at most.
const MOST: usize = 50_000;
/// What a user takes in memory, and each room that they are in, roughly.
const USER: u64 = 600;
const ROOM: u64 = 80;

/// A user's joined rooms, each with the position of the newest member event.
pub type Joined = HashMap<i64, i64>;

/// A user who is online.
pub struct Online {
    /// The user.
    pub user_pk: i64,
    wake: Notify,
    /// Raised whenever `joined` or `preferences` become wrong.
    generation: AtomicU64,
    /// Raised whenever a receipt of the user makes a count wrong.
    pub(super) receipts: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    last_used: i64,
    joined: Option<Arc<Joined>>,
    preferences: Option<Arc<Preferences>>,
    devices: HashMap<i64, DeviceState>,
}

/// Which member events a device has been sent in a room: user to event.
pub(super) type SentMembers = Arc<Mutex<HashMap<Box<str>, i64>>>;

/// Everybody who is online.
pub struct Onlines {
    database: Database,
    users: Mutex<HashMap<i64, Arc<Online>>>,
    listening: RwLock<HashMap<i64, HashSet<i64>>>,
    /// Bytes that users may take before those who do not wait are forgotten early.
    allowed: AtomicU64,
    /// Which member events a device has been sent: (device, room) -> (user, event).
    sent: Cache<(i64, i64), SentMembers>,
    /// Unread counts: (user, room).
    pub(super) unread: Cache<(i64, i64), Arc<Unread>>,
    /// Unread counts that are to be written down.
    pub(super) waiting: Mutex<Waiting>,
}

/// The part of [`Onlines`] that hears of entries when they have become visible.
pub struct Waker(pub Arc<Onlines>);

impl Onlines {
    /// Nobody is online.
    pub fn new(database: Database, caches: &Caches) -> Onlines {
        Onlines {
            database,
            users: Mutex::default(),
            listening: RwLock::default(),
            allowed: AtomicU64::new(u64::MAX),
            sent: caches.cache(4, 1_000),
            unread: caches.cache(6, 300),
            waiting: Mutex::default(),
        }
    }

    /// A user, who is online from now on.
    pub fn enter(&self, user_pk: i64, now_ms: i64) -> Arc<Online> {
        let mut users = self.users.lock();
        if users.len() >= MOST && !users.contains_key(&user_pk) {
            self.sweep(&mut users, now_ms);
        }
        let new = || Online {
            user_pk,
            wake: Notify::new(),
            generation: AtomicU64::new(0),
            receipts: AtomicU64::new(0),
            state: Mutex::default(),
        };
        let online = users.entry(user_pk).or_insert_with(|| Arc::new(new())).clone();
        online.state.lock().last_used = now_ms;
        online
    }

    /// Forgets those who have not asked for a while. Somebody who waits is held by the request and stays.
    pub fn forget_idle(&self, now_ms: i64) {
        let mut users = self.users.lock();
        self.sweep(&mut users, now_ms);
    }

    fn sweep(&self, users: &mut HashMap<i64, Arc<Online>>, now_ms: i64) {
        let idle = self.idle(users, now_ms);
        let mut listening = self.listening.write();
        users.retain(|user_pk, online| {
            let state = online.state.lock();
            let stays = Arc::strong_count(online) > 1 || state.last_used > idle;
            if !stays {
                let rooms = state.joined.iter().flat_map(|joined| joined.keys());
                rooms.for_each(|room| leave(&mut listening, *room, *user_pk));
            }
            stays
        });
    }

    /// The time before which who asked last counts as gone: earlier where memory is short.
    fn idle(&self, users: &HashMap<i64, Arc<Online>>, now_ms: i64) -> i64 {
        let allowed = self.allowed.load(Ordering::Relaxed);
        let use_of = |online: &Arc<Online>| {
            let last_used = online.state.lock().last_used;
            (last_used, online.held())
        };
        let mut used: Vec<(i64, u64)> = users.values().map(use_of).collect();
        let mut over = used.iter().map(|(_, held)| held).sum::<u64>().saturating_sub(allowed);
        let mut idle = now_ms - IDLE;
        if over > 0 {
            used.sort_unstable();
            for (last_used, held) in used {
                if over == 0 {
                    break;
                }
                over = over.saturating_sub(held);
                idle = idle.max(last_used);
            }
        }
        idle
    }

    fn get(&self, user_pk: i64) -> Option<Arc<Online>> {
        self.users.lock().get(&user_pk).cloned()
    }

    /// Wakes the listening members of a room.
    pub fn wake_room(&self, room_pk: i64) {
        let members: Vec<i64> = match self.listening.read().get(&room_pk) {
            Some(members) => members.iter().copied().collect(),
            None => return,
        };
        members.into_iter().for_each(|user_pk| self.wake_user(user_pk));
    }

    /// Wakes a user.
    pub fn wake_user(&self, user_pk: i64) {
        if let Some(online) = self.get(user_pk) {
            online.wake.notify_waiters();
        }
    }

    /// Wakes a user and those who share a room with them.
    fn wake_sharing(&self, user_pk: i64) {
        self.wake_user(user_pk);
        // Somebody else's rooms are not known here unless they are online too; then those in the same rooms wake.
        // For others everybody looks: a device list changes seldom.
        let joined = self.get(user_pk).and_then(|online| online.state.lock().joined.clone());
        match joined {
            Some(joined) => joined.keys().for_each(|room| self.wake_room(*room)),
            None => self.wake_all(),
        }
    }

    /// Wakes everybody.
    fn wake_all(&self) {
        self.users.lock().values().for_each(|online| online.wake.notify_waiters());
    }

    /// Forgets what is known of everybody: the database says something else now.
    fn forget_all(&self) {
        let users: Vec<Arc<Online>> = self.users.lock().values().cloned().collect();
        self.listening.write().clear();
        self.sent.clear();
        self.unread.clear();
        for online in users {
            online.generation.fetch_add(1, Ordering::AcqRel);
            online.receipts.fetch_add(1, Ordering::AcqRel);
            let mut state = online.state.lock();
            state.joined = None;
            state.preferences = None;
            state.devices.values_mut().for_each(DeviceState::forget);
        }
    }

    /// The member events that a device was sent of a room, by user; none when the device begins anew.
    pub(super) fn sent(&self, key: (i64, i64), anew: bool) -> SentMembers {
        match self.sent.get(&key).filter(|_| !anew) {
            Some(sent) => sent,
            None => {
                let sent = Arc::default();
                self.sent.insert(key, Arc::clone(&sent));
                sent
            }
        }
    }

    /// Counts anew what the member events take that a device was sent.
    pub(super) fn recount_sent(&self, key: (i64, i64)) {
        self.sent.recount(&key);
    }

    /// The rooms that a user is joined to.
    pub(super) async fn joined(&self, online: &Online) -> Result<Arc<Joined>> {
        if let Some(joined) = online.state.lock().joined.clone() {
            return Ok(joined);
        }
        let generation = online.generation();
        let rows = memberships::of_user(&mut self.database.read().await?, online.user_pk).await?;
        let joined: Joined =
            rows.iter().filter(|row| row.membership == JOIN).map(|row| (row.room_pk, row.pos)).collect();
        let joined = Arc::new(joined);
        {
            let mut listening = self.listening.write();
            for room in joined.keys() {
                listening.entry(*room).or_default().insert(online.user_pk);
            }
        }
        let mut state = online.state.lock();
        if online.generation() == generation {
            state.joined = Some(joined.clone());
        }
        Ok(joined)
    }
}

fn leave(listening: &mut HashMap<i64, HashSet<i64>>, room_pk: i64, user_pk: i64) {
    if let Some(members) = listening.get_mut(&room_pk) {
        members.remove(&user_pk);
        if members.is_empty() {
            listening.remove(&room_pk);
        }
    }
}

impl Share for Onlines {
    fn held(&self) -> u64 {
        self.users.lock().values().map(|online| online.held()).sum()
    }

    fn came(&self) -> u64 {
        0
    }

    fn allow(&self, bytes: u64) {
        self.allowed.store(bytes, Ordering::Relaxed);
    }
}

impl Weight for SentMembers {
    fn weight(&self) -> usize {
        self.lock().keys().map(|user| user.len() + 48).sum()
    }
}

impl Online {
    /// Bytes, roughly, with the places in the index from rooms to users.
    fn held(&self) -> u64 {
        let rooms = self.state.lock().joined.as_ref().map_or(0, |joined| joined.len() as u64);
        USER + ROOM * rooms
    }

    /// What wakes; [`Notify::notified`] is to be enabled before looking.
    pub fn wake(&self) -> &Notify {
        &self.wake
    }

    /// Changes when what is known of the user became wrong.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// What is known of one of the user's devices.
    pub(super) fn device<T>(&self, device_pk: i64, work: impl FnOnce(&mut DeviceState) -> T) -> T {
        work(self.state.lock().devices.entry(device_pk).or_default())
    }

    /// The rooms that the user is joined to, as far as they are known.
    pub fn known_rooms(&self) -> Option<Arc<Joined>> {
        self.state.lock().joined.clone()
    }

    pub(super) fn preferences(&self) -> Option<Arc<Preferences>> {
        self.state.lock().preferences.clone()
    }

    pub(super) fn set_preferences(&self, preferences: &Arc<Preferences>, generation: u64) {
        let mut state = self.state.lock();
        if self.generation() == generation {
            state.preferences = Some(preferences.clone());
        }
    }
}

impl Reader for Onlines {
    fn handle(&self, entries: &[Entry]) {
        for entry in entries {
            let user_pk = match entry.kind {
                Kind::Epoch => {
                    self.forget_all();
                    continue;
                }
                Kind::Receipt => entry.object,
                Kind::Membership
                | Kind::AccountData
                | Kind::KeyCounts
                | Kind::ToDevice
                | Kind::PrivateReceipt
                | Kind::Tokens => entry.scope,
                _ => continue,
            };
            if entry.kind == Kind::Receipt || entry.kind == Kind::PrivateReceipt {
                let room_pk = if entry.kind == Kind::Receipt { entry.scope } else { entry.object };
                if let Some(online) = self.get(user_pk) {
                    online.receipts.fetch_add(1, Ordering::AcqRel);
                }
                self.unread.remove(&(user_pk, room_pk));
                continue;
            }
            let Some(online) = self.get(user_pk) else { continue };
            let mut state = online.state.lock();
            match entry.kind {
                Kind::Membership => {
                    online.generation.fetch_add(1, Ordering::AcqRel);
                    self.unread.remove(&(user_pk, entry.object));
                    let joined = state.joined.take();
                    // The index is locked before users everywhere.
                    drop(state);
                    if joined.is_some_and(|joined| joined.contains_key(&entry.object)) {
                        leave(&mut self.listening.write(), entry.object, user_pk);
                    }
                }
                Kind::AccountData if entry.object == 0 => {
                    online.generation.fetch_add(1, Ordering::AcqRel);
                    state.preferences = None;
                }
                Kind::KeyCounts => {
                    if let Some(device) = state.devices.get_mut(&entry.object) {
                        device.counts_moved();
                    }
                }
                Kind::ToDevice => {
                    if let Some(device) = state.devices.get_mut(&entry.object) {
                        device.messages_came();
                    }
                }
                Kind::Tokens => drop(state.devices.remove(&entry.object)),
                _ => {}
            }
        }
    }
}

impl Reader for Waker {
    fn handle(&self, entries: &[Entry]) {
        let mut rooms = HashSet::new();
        for entry in entries {
            match entry.kind {
                kind if log::concerns_room(kind) => drop(rooms.insert(entry.scope)),
                Kind::Membership
                | Kind::AccountData
                | Kind::ToDevice
                | Kind::KeyCounts
                | Kind::Signature
                | Kind::PrivateReceipt => self.0.wake_user(entry.scope),
                Kind::DeviceList => self.0.wake_sharing(entry.scope),
                Kind::Epoch => self.0.wake_all(),
                _ => {}
            }
        }
        rooms.into_iter().for_each(|room| self.0.wake_room(room));
    }
}
