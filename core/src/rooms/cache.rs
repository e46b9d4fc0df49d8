//! Rooms, events and state nodes in memory.
//!
//! A [`Room`] is what a room's writer and readers share: its state keys, and a [`Snapshot`] of where it stands. Our own
//! commits put the new snapshot there before they become visible; a commit of another replica throws it away, and the
//! next who needs it reads it anew. Events and nodes never change (but for redactions), so they are cached by number.

mod snapshot;

pub use self::snapshot::Snapshot;
use crate::cache::{Cache, Caches, Weight};
use crate::error::{Error, Result};
use crate::events::can_be_id;
use crate::events::pdu::Pdu;
use crate::log::Reader;
use crate::rooms::append::Queue;
use crate::rooms::brief::Brief;
use crate::rooms::recent::{self, Recent};
use crate::rooms::servers::Present;
use crate::rooms::state::{Node, NodeId, Nodes, TreeError};
use crate::rooms::state_keys::StateKeys;
use crate::rooms::version;
use myelin_storage::changes::{REJECTED, SOFT_FAILED};
use myelin_storage::log::Kind;
use myelin_storage::rooms::events::{self, EventRow, Order};
use myelin_storage::{Database, Entry, rooms};
use parking_lot::{Mutex, RwLock};
use ruma::room_version_rules::RoomVersionRules;
use ruma::{EventId, OwnedEventId, OwnedRoomId, RoomId, RoomVersionId};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// What a state key takes in memory, roughly: it stands in two lists.
const STATE_KEY: usize = 150;
/// What its newest events, its members in brief and its snapshot take.
const BESIDES: usize = 1_500;

/// A room in memory.
pub struct Room {
    /// Our number.
    pub pk: i64,
    /// The id.
    pub id: OwnedRoomId,
    /// The version.
    pub version: RoomVersionId,
    /// What the version says.
    pub rules: RoomVersionRules,
    /// State keys and their indexes.
    pub(crate) keys: RwLock<StateKeys>,
    pub(crate) snapshot: RwLock<Option<Arc<Snapshot>>>,
    /// The newest position at which the log told of a change.
    moved: AtomicI64,
    pub(crate) recent: Mutex<Recent>,
    pub(crate) brief: Mutex<Option<Arc<Brief>>>,
    pub(crate) servers: Mutex<Option<Present>>,
    pub(crate) queue: Mutex<Queue>,
    /// Held while events are committed, and while this server's own are planned, so that the two do not take the guard
    /// from each other.
    pub(crate) turn: tokio::sync::Mutex<()>,
    /// Orders the events that come from elsewhere.
    pub(crate) receiving: tokio::sync::Mutex<()>,
}

/// An event with what the database knows about it.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The event.
    pub pdu: Arc<Pdu>,
    /// Its position, 0 where it has none.
    pub pos: i64,
    /// See [`myelin_storage::changes::OUTLIER`] and its neighbours.
    pub flags: i64,
    /// Its room.
    pub room_pk: i64,
    /// The device that sent it, with its transaction id.
    pub transaction: Option<Arc<(i64, String)>>,
}

impl std::ops::Deref for Stored {
    type Target = Pdu;
    fn deref(&self) -> &Pdu {
        &self.pdu
    }
}

impl Weight for Stored {
    fn weight(&self) -> usize {
        size_of::<Stored>() + self.pdu.weight()
    }
}

impl Weight for Arc<Node> {
    fn weight(&self) -> usize {
        size_of::<Node>() + 16
    }
}

impl Weight for Arc<Room> {
    fn weight(&self) -> usize {
        size_of::<Room>() + BESIDES + self.keys.read().len() as usize * STATE_KEY
    }
}

/// All rooms.
pub struct Rooms {
    database: Database,
    by_id: Cache<OwnedRoomId, i64>,
    rooms: Cache<i64, Arc<Room>>,
    events: Cache<i64, Stored>,
    event_pks: Cache<OwnedEventId, i64>,
    nodes: Cache<NodeId, Arc<Node>>,
}

/// Nodes that an operation on a tree has at hand.
pub(crate) type View = HashMap<NodeId, Arc<Node>>;

impl Rooms {
    /// Empty caches over a database.
    pub fn new(database: Database, caches: &Caches) -> Rooms {
        Rooms {
            database,
            by_id: caches.cache(2, 100),
            rooms: caches.cache(8, 2_000),
            events: caches.cache(36, 1_500),
            event_pks: caches.cache(5, 100),
            nodes: caches.cache(17, 400),
        }
    }

    /// A room by its id. M_NOT_FOUND where this server knows no such room.
    pub async fn get(&self, room_id: &RoomId) -> Result<Arc<Room>> {
        self.find(room_id).await?.ok_or_else(|| Error::not_found("this server does not know that room"))
    }

    /// A room by its id.
    pub async fn find(&self, room_id: &RoomId) -> Result<Option<Arc<Room>>> {
        if let Some(pk) = self.by_id.get(room_id)
            && let Some(room) = self.rooms.get(&pk)
        {
            return Ok(Some(room));
        }
        let row = rooms::find(&mut self.database.read().await?, room_id.as_str()).await?;
        row.map(|row| self.load(row)).transpose()
    }

    /// A room by its number.
    pub async fn by_pk(&self, room_pk: i64) -> Result<Arc<Room>> {
        if let Some(room) = self.rooms.get(&room_pk) {
            return Ok(room);
        }
        let row = rooms::get(&mut self.database.read().await?, room_pk).await?;
        self.load(row.ok_or_else(|| Error::internal(format!("there is no room {room_pk}")))?)
    }

    /// True when nothing of a room is in memory yet, or too little to tell of it.
    pub(crate) fn is_cold(&self, room_pk: i64) -> bool {
        self.rooms.get(&room_pk).is_none_or(|room| room.snapshot.read().is_none())
    }

    pub(super) fn load(&self, row: rooms::RoomRow) -> Result<Arc<Room>> {
        let damaged = |_| Error::internal(format!("room {} has an invalid id or version", row.room_pk));
        let id = OwnedRoomId::try_from(row.room_id.as_str()).map_err(damaged)?;
        let version = RoomVersionId::try_from(row.version.as_str()).map_err(damaged)?;
        self.enter(row.room_pk, id, version)
    }

    /// Puts a room into the cache, or gives the one that is there: there is one [`Room`] for each room.
    pub(crate) fn enter(&self, pk: i64, id: OwnedRoomId, version: RoomVersionId) -> Result<Arc<Room>> {
        let rules = version::rules(&version).ok_or_else(|| {
            Error::UnsupportedRoomVersion(format!("room version {version} is not supported"))
        })?;
        self.by_id.insert(id.clone(), pk);
        self.rooms.get_or_insert_with(&pk, || {
            Ok(Arc::new(Room {
                pk,
                id,
                version,
                rules,
                keys: RwLock::default(),
                snapshot: RwLock::new(None),
                moved: AtomicI64::new(0),
                recent: Mutex::default(),
                brief: Mutex::new(None),
                servers: Mutex::new(None),
                queue: Mutex::default(),
                turn: tokio::sync::Mutex::default(),
                receiving: tokio::sync::Mutex::default(),
            }))
        })
    }

    /// Forgets everything but that there is one [`Room`] for each room: the database says something else now.
    fn forget_all(&self) {
        self.by_id.clear();
        self.events.clear();
        self.event_pks.clear();
        self.nodes.clear();
        for room in self.rooms.values() {
            *room.keys.write() = StateKeys::default();
            *room.recent.lock() = Recent::default();
            *room.brief.lock() = None;
            *room.servers.lock() = None;
            room.forget();
        }
    }

    /// Puts a room into the cache that does not exist yet; nothing where another one has its id.
    pub(crate) fn found(&self, pk: i64, id: &RoomId, version: RoomVersionId) -> Result<Option<Arc<Room>>> {
        if self.by_id.get_or_insert_with(&id.to_owned(), || Ok(pk))? != pk {
            return Ok(None);
        }
        self.enter(pk, id.to_owned(), version).map(Some)
    }

    /// Takes a room out again whose creation failed.
    pub(crate) fn leave(&self, room: &Room) {
        self.by_id.remove(&room.id);
        self.rooms.remove(&room.pk);
    }

    /// Where a room stands now.
    pub async fn snapshot(&self, room: &Room) -> Result<Arc<Snapshot>> {
        if let Some(snapshot) = room.snapshot.read().clone() {
            return Ok(snapshot);
        }
        let mut connection = self.database.read().await?;
        let row = rooms::get(&mut connection, room.pk).await?;
        let row = row.ok_or_else(|| Error::not_found("this server does not know that room"))?;
        let known = room.keys.read().len();
        let keys = rooms::state::keys(&mut connection, room.pk, i64::from(known)).await?;
        drop(connection);
        room.keys.write().learn(keys);
        // Counted anew, now that its keys are here.
        self.rooms.recount(&room.pk);
        let extremities =
            self.events(&row.extremities).await?.into_iter().map(|e| (e.pk, e.event_id.clone())).collect();
        Ok(room.offer(Snapshot::of(&row, extremities)))
    }

    /// The tree of a room's current state as it was at a position that is visible.
    pub(crate) async fn root_at(&self, room: &Room, pos: i64) -> Result<NodeId> {
        // A snapshot is thrown away before a later entry of its room becomes visible.
        let current = room.snapshot.read().as_ref().filter(|now| now.upto <= pos).map(|now| now.root);
        match current {
            Some(root) => Ok(root),
            None => Ok(rooms::state::root_at(&mut self.database.read().await?, room.pk, pos).await?),
        }
    }

    /// Positions and numbers of a room's events with `after < pos <= upto`, newest first.
    pub(crate) async fn newest(
        &self,
        room: &Room,
        after: i64,
        upto: i64,
        limit: usize,
    ) -> Result<Vec<(i64, i64)>> {
        let (found, is_known) = {
            let recent = room.recent.lock();
            (recent.newest(after, upto, limit), recent.is_known())
        };
        if let Some(found) = found {
            return Ok(found);
        }
        let mut connection = self.database.read().await?;
        let order = Order::NewestFirst;
        if !is_known {
            let kept = recent::KEPT as i64;
            let newest = events::between(&mut connection, room.pk, 0, i64::MAX, order, kept).await?;
            let recent = Recent::read(&newest);
            let found = recent.newest(after, upto, limit);
            room.recent.lock().offer(recent);
            if let Some(found) = found {
                return Ok(found);
            }
        }
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        Ok(events::between(&mut connection, room.pk, after, upto, order, limit).await?)
    }

    /// Events by their numbers, in that order; unknown ones are left out.
    pub async fn events(&self, event_pks: &[i64]) -> Result<Vec<Stored>> {
        let mut found = HashMap::with_capacity(event_pks.len());
        let mut missing = Vec::new();
        for pk in event_pks {
            match self.events.get(pk) {
                Some(stored) => drop(found.insert(*pk, stored)),
                None => missing.push(*pk),
            }
        }
        if !missing.is_empty() {
            let rows = events::get(&mut self.database.read().await?, &missing).await?;
            for row in rows {
                let stored = self.parse(row).await?;
                self.remember(&stored);
                found.insert(stored.pk, stored);
            }
        }
        Ok(event_pks.iter().filter_map(|pk| found.get(pk).cloned()).collect())
    }

    /// One event by its number.
    pub async fn event(&self, event_pk: i64) -> Result<Option<Stored>> {
        Ok(self.events(&[event_pk]).await?.into_iter().next())
    }

    /// One event by its id.
    pub async fn event_by_id(&self, event_id: &EventId) -> Result<Option<Stored>> {
        let Some(pk) = self.find_event(event_id).await? else { return Ok(None) };
        self.event(pk).await
    }

    /// One event as it stands in the database now, whatever is cached.
    pub(crate) async fn fresh_event(&self, event_pk: i64) -> Result<Option<Stored>> {
        self.events.remove(&event_pk);
        self.event(event_pk).await
    }

    /// Events by their ids; unknown ones are left out.
    pub async fn events_by_ids(&self, event_ids: &[OwnedEventId]) -> Result<HashMap<OwnedEventId, Stored>> {
        let mut pks = Vec::with_capacity(event_ids.len());
        let mut missing = Vec::new();
        for id in event_ids {
            match self.event_pks.get(id) {
                Some(pk) => pks.push(pk),
                None if can_be_id(id.as_str()) => missing.push(id.as_str()),
                None => {}
            }
        }
        if !missing.is_empty() {
            let found = events::find(&mut self.database.read().await?, &missing).await?;
            pks.extend(found.into_iter().map(|(_, pk)| pk));
        }
        let events = self.events(&pks).await?;
        Ok(events.into_iter().map(|event| (event.event_id.clone(), event)).collect())
    }

    /// The number of an event.
    pub async fn find_event(&self, event_id: &EventId) -> Result<Option<i64>> {
        if let Some(pk) = self.event_pks.get(event_id) {
            return Ok(Some(pk));
        }
        if !can_be_id(event_id.as_str()) {
            return Ok(None);
        }
        let found = events::find(&mut self.database.read().await?, &[event_id.as_str()]).await?;
        let pk = found.first().map(|(_, pk)| *pk);
        if let Some(pk) = pk {
            self.event_pks.insert(event_id.to_owned(), pk);
        }
        Ok(pk)
    }

    /// Whether an event is known to be here, without a look at the database.
    pub(crate) fn has_met(&self, event_id: &EventId) -> bool {
        self.event_pks.get(event_id).is_some()
    }

    async fn parse(&self, row: EventRow) -> Result<Stored> {
        let room = Box::pin(self.by_pk(row.room_pk)).await?;
        let damaged = |error: String| Error::internal(format!("event {} is damaged: {error}", row.event_pk));
        let id = OwnedEventId::try_from(row.event_id.as_str()).map_err(|e| damaged(e.to_string()))?;
        let mut pdu = Pdu::parse(id, &room.rules, &row.json).map_err(|e| damaged(e.to_string()))?;
        pdu.pk = row.event_pk;
        pdu.rejected = row.flags & REJECTED != 0;
        pdu.soft_failed = row.flags & SOFT_FAILED != 0;
        pdu.state_root = row.root;
        Ok(Stored {
            pdu: Arc::new(pdu),
            pos: row.pos.unwrap_or(0),
            flags: row.flags,
            room_pk: row.room_pk,
            transaction: row.transaction.map(Arc::new),
        })
    }

    /// Puts an event into the cache.
    pub(crate) fn remember(&self, stored: &Stored) {
        self.event_pks.insert(stored.event_id.clone(), stored.pk);
        self.events.insert(stored.pk, stored.clone());
    }

    /// Puts a node into the cache.
    pub(crate) fn remember_node(&self, id: NodeId, node: Arc<Node>) {
        self.nodes.insert(id, node);
    }

    /// Runs an operation on trees, loading what it needs until it comes to its end.
    pub(crate) async fn on_tree<T>(
        &self,
        view: &mut View,
        mut operation: impl FnMut(&View) -> Result<T, TreeError>,
    ) -> Result<T> {
        loop {
            let needed = match operation(view) {
                Ok(value) => return Ok(value),
                Err(TreeError::Need(needed)) => needed,
                Err(error) => return Err(Error::Internal(error.to_string())),
            };
            self.load_nodes(view, &needed).await?;
        }
    }

    pub(super) async fn load_nodes(&self, view: &mut View, needed: &[NodeId]) -> Result<()> {
        let mut missing = Vec::new();
        for id in needed {
            match self.nodes.get(id) {
                Some(node) => drop(view.insert(*id, node)),
                None => missing.push(*id),
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        for (id, body) in rooms::state::nodes(&mut self.database.read().await?, &missing).await? {
            let node = Node::decode(id, &body)
                .ok_or_else(|| Error::internal(format!("node {id} of a room's state is damaged")))?;
            let node = Arc::new(node);
            self.nodes.insert(id, node.clone());
            view.insert(id, node);
        }
        match missing.into_iter().find(|id| view.node(*id).is_none()) {
            Some(id) => Err(Error::internal(format!("node {id} of a room's state is missing"))),
            None => Ok(()),
        }
    }
}

impl Reader for Rooms {
    fn handle(&self, entries: &[Entry]) {
        for entry in entries {
            match entry.kind {
                Kind::Event | Kind::State => {
                    if let Some(room) = self.rooms.get(&entry.scope) {
                        room.forget_older(entry.pos);
                        if entry.kind == Kind::Event {
                            room.recent.lock().push(entry.pos, entry.object);
                        }
                    }
                    // Another replica has put an outlier into the timeline.
                    if self.events.get(&entry.object).is_some_and(|known| known.pos == 0) {
                        self.events.remove(&entry.object);
                    }
                }
                Kind::Redaction | Kind::Placed => {
                    self.events.remove(&entry.object);
                }
                Kind::Epoch => self.forget_all(),
                _ => {}
            }
        }
    }
}

impl Room {
    /// Takes a snapshot in, unless a newer one is there; gives the one that counts.
    pub(crate) fn offer(&self, snapshot: Snapshot) -> Arc<Snapshot> {
        let mut current = self.snapshot.write();
        match &*current {
            Some(known) if known.guard >= snapshot.guard => known.clone(),
            // It was read before another replica's commit of which the log told in the meantime.
            _ if snapshot.upto < self.moved.load(Ordering::Acquire) => Arc::new(snapshot),
            _ => {
                let snapshot = Arc::new(snapshot);
                *current = Some(snapshot.clone());
                snapshot
            }
        }
    }

    /// Another replica has written: a snapshot from before that position says nothing any more.
    pub(crate) fn forget_older(&self, pos: i64) {
        self.moved.fetch_max(pos, Ordering::AcqRel);
        let mut current = self.snapshot.write();
        if current.as_ref().is_some_and(|snapshot| snapshot.upto < pos) {
            *current = None;
        }
    }

    /// Throws the snapshot away: it turned out to be old.
    pub(crate) fn forget(&self) {
        *self.snapshot.write() = None;
    }
}
