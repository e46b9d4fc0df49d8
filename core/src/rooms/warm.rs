//! Filling the caches for many rooms at once.
//!
//! Whoever tells of many rooms, as an initial /sync does, asks the same of each of them. Asked room by room that is a dozen
//! statements a room; here it is a dozen for all. Nothing is decided by it: what is missing afterwards is read where it
//! is needed.

use crate::error::{Error, Result};
use crate::rooms::brief;
use crate::rooms::cache::{Room, Snapshot, View};
use crate::rooms::recent::{self, Recent};
use crate::rooms::state::{self, EventPk, Index, NodeId, TreeError};
use crate::server::Server;
use myelin_storage::rooms::events;
use myelin_storage::rooms::{RoomRow, many, state as state_rows};
use ruma::UserId;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Fewer cold rooms are not worth it.
const FEW: usize = 4;
/// Rooms that are read together.
const AT_ONCE: usize = 100;

/// A room on its way into memory.
struct Cold {
    room: Arc<Room>,
    row: RoomRow,
    recent: Recent,
}

impl Server {
    /// Reads what is needed to tell of rooms, for those of which nothing is in memory: `timeline` events of each, and
    /// their state, of members perhaps only those who speak in the timeline.
    pub(crate) async fn warm(
        &self,
        rooms: &[i64],
        reader: &UserId,
        timeline: usize,
        all_members: bool,
    ) -> Result<()> {
        let cold: Vec<i64> = rooms.iter().copied().filter(|pk| self.rooms.is_cold(*pk)).collect();
        if cold.len() < FEW {
            return Ok(());
        }
        for chunk in cold.chunks(AT_ONCE) {
            self.warm_some(chunk, reader, timeline, all_members).await?;
        }
        Ok(())
    }

    async fn warm_some(
        &self,
        room_pks: &[i64],
        reader: &UserId,
        timeline: usize,
        all_members: bool,
    ) -> Result<()> {
        let cold = self.read_cold(room_pks).await?;
        let newest =
            |cold: &Cold| cold.recent.newest(0, i64::MAX, timeline.min(recent::KEPT)).unwrap_or_default();
        let mut wanted = Vec::new();
        for room in &cold {
            wanted.extend(newest(room).into_iter().map(|(_, pk)| pk));
            wanted.extend(&room.row.extremities);
        }
        let found: HashMap<i64, _> =
            self.rooms.events(&wanted).await?.into_iter().map(|event| (event.pk, event)).collect();
        // Of the state now everything is told, of that before the events who may see them.
        let (mut roots, mut before) = (Vec::new(), Vec::new());
        let mut speakers: HashMap<i64, HashSet<&str>> = HashMap::new();
        for room in &cold {
            roots.push(room.row.root);
            let keys = room.room.keys.read();
            let visibility = keys.find("m.room.history_visibility", "");
            let indexes: Vec<Index> =
                visibility.into_iter().chain(keys.find("m.room.member", reader.as_str())).collect();
            for (_, pk) in newest(room) {
                if let Some(event) = found.get(&pk) {
                    before.push((event.state_root, indexes.clone()));
                    speakers.entry(room.row.room_pk).or_default().insert(event.sender.as_str());
                }
            }
        }
        let states = self.load_trees(roots, before).await?;
        let (mut wanted, mut rooms) = (Vec::new(), Vec::with_capacity(cold.len()));
        for room in &cold {
            let (room_pk, root) = (room.row.room_pk, room.row.root);
            let mut named = false;
            let keys = room.room.keys.read();
            for (index, pk) in states.get(&root).into_iter().flatten() {
                let Some((kind, key)) = keys.get(*index) else { continue };
                let speaks = || speakers.get(&room_pk).is_some_and(|speakers| speakers.contains(&**key));
                if all_members || &**kind != "m.room.member" || speaks() {
                    wanted.push(*pk);
                }
                named |= brief::names(kind, key);
            }
            rooms.push((room_pk, root, named));
        }
        self.rooms.events(&wanted).await?;
        let mut briefs = self.read_briefs(&rooms).await?;
        for Cold { room, row, recent } in cold {
            let event_id = |pk: &i64| Some((*pk, found.get(pk)?.event_id.clone()));
            let extremities = row.extremities.iter().filter_map(event_id).collect();
            room.recent.lock().offer(recent);
            let is_current = room.offer(Snapshot::of(&row, extremities)).root == row.root;
            if is_current && let Some(brief) = briefs.remove(&row.room_pk) {
                *room.brief.lock() = Some(brief);
            }
        }
        Ok(())
    }

    /// The rooms themselves, with their state keys and newest events.
    async fn read_cold(&self, room_pks: &[i64]) -> Result<Vec<Cold>> {
        let mut connection = self.database.read().await?;
        let mut rooms = Vec::with_capacity(room_pks.len());
        for row in many(&mut connection, room_pks).await? {
            rooms.push((self.rooms.load(row.clone())?, row));
        }
        let mut keys: HashMap<i64, Vec<(i64, String, String)>> = HashMap::new();
        for (room, index, kind, state_key) in state_rows::keys_of(&mut connection, room_pks).await? {
            keys.entry(room).or_default().push((index, kind, state_key));
        }
        let mut newest: HashMap<i64, Vec<(i64, i64)>> = HashMap::new();
        for (room, pos, pk) in events::newest_of(&mut connection, room_pks, recent::KEPT as i64).await? {
            newest.entry(room).or_default().push((pos, pk));
        }
        drop(connection);
        let cold = |(room, row): (Arc<Room>, RoomRow)| {
            room.keys.write().learn(keys.remove(&row.room_pk).unwrap_or_default());
            let recent = Recent::read(newest.get(&row.room_pk).map_or(&[], Vec::as_slice));
            Cold { room, row, recent }
        };
        Ok(rooms.into_iter().map(cold).collect())
    }

    /// Loads whole trees, and paths to some keys of others, level by level for all of them together. Gives the entries of
    /// the whole ones.
    async fn load_trees(
        &self,
        mut roots: Vec<NodeId>,
        mut paths: Vec<(NodeId, Vec<Index>)>,
    ) -> Result<HashMap<NodeId, Vec<(Index, EventPk)>>> {
        roots.sort_unstable();
        roots.dedup();
        paths.sort_unstable();
        paths.dedup();
        let (mut view, mut states) = (View::new(), HashMap::new());
        loop {
            let mut needed = Vec::new();
            for root in &roots {
                match state::iterate(&view, *root) {
                    Ok(entries) => drop(states.insert(*root, entries)),
                    Err(TreeError::Need(nodes)) => needed.extend(nodes),
                    Err(error) => return Err(Error::Internal(error.to_string())),
                }
            }
            paths.retain(|(root, indexes)| match state::get_many(&view, *root, indexes) {
                Err(TreeError::Need(nodes)) => {
                    needed.extend(nodes);
                    true
                }
                // Damage is told where the state is needed.
                _ => false,
            });
            if needed.is_empty() {
                return Ok(states);
            }
            roots.retain(|root| !states.contains_key(root));
            needed.sort_unstable();
            needed.dedup();
            self.rooms.load_nodes(&mut view, &needed).await?;
        }
    }
}
