//! Looking up, changing and comparing states.
//!
//! A node of a lower level than its place may stand in a first slot: it means itself below as many
//! nodes with only their first slot filled. So a tree grows upwards by one node, and roots of
//! different heights compare without being rebuilt.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::Arc;

use super::node::{BITS, EventPk, Index, MAX_LEVEL, Node, NodeId, WIDTH};

/// The nodes that are loaded.
pub trait Nodes {
    /// A node, if it is there.
    fn node(&self, id: NodeId) -> Option<&Node>;
}

impl<S: BuildHasher> Nodes for HashMap<NodeId, Node, S> {
    fn node(&self, id: NodeId) -> Option<&Node> {
        self.get(&id)
    }
}

impl<S: BuildHasher> Nodes for HashMap<NodeId, Arc<Node>, S> {
    fn node(&self, id: NodeId) -> Option<&Node> {
        self.get(&id).map(|node| &**node)
    }
}

/// Why an operation did not come to its end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// Load these nodes and try again.
    #[error("{} nodes of the room's state are not loaded", .0.len())]
    Need(Vec<NodeId>),
    /// The node can't stand where it is referred to: the database is damaged.
    #[error("node {0} of the room's state is damaged")]
    Damaged(NodeId),
}

/// What two states have different.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// The state key.
    pub index: Index,
    /// Its event in the first state.
    pub old: Option<EventPk>,
    /// Its event in the second state.
    pub new: Option<EventPk>,
}

/// The event at one key.
pub fn get(nodes: &impl Nodes, root: NodeId, index: Index) -> Result<Option<EventPk>, TreeError> {
    Ok(get_many(nodes, root, &[index])?.first().copied().flatten())
}

/// The events at several keys, in the order of the keys.
pub fn get_many(
    nodes: &impl Nodes,
    root: NodeId,
    indexes: &[Index],
) -> Result<Vec<Option<EventPk>>, TreeError> {
    let mut walk = Walk::new(nodes);
    let mut found = Vec::with_capacity(indexes.len());
    for &index in indexes {
        let (mut id, mut below, mut within) = (root, MAX_LEVEL + 1, u64::from(index));
        while below > 0 {
            let Some(node) = walk.load(id)? else { break };
            if node.level >= below {
                return Err(TreeError::Damaged(id));
            }
            if within >= span_of(node.level) {
                id = 0;
                break;
            }
            let width = BITS * u32::from(node.level);
            id = node.slots[(within >> width) as usize % WIDTH];
            within &= (1 << width) - 1;
            below = node.level;
        }
        let is_event = below == 0 && id != 0;
        found.push(is_event.then_some(id));
    }
    walk.done()?;
    Ok(found)
}

/// Continues a state: sets the event at each key, or removes the key where the event is 0.
///
/// Returns the new root and the nodes to store. `alloc` gives growing ids, each used. If nothing
/// changes, the root stays.
pub fn insert_many(
    nodes: &impl Nodes,
    root: NodeId,
    entries: &[(Index, EventPk)],
    alloc: &mut impl FnMut() -> NodeId,
) -> Result<(NodeId, Vec<(NodeId, Node)>), TreeError> {
    let mut entries = entries.to_vec();
    // Of several entries for a key the last one counts: stable sort, latest first, first one kept.
    entries.reverse();
    entries.sort_by_key(|(index, _)| *index);
    entries.dedup_by_key(|(index, _)| *index);
    let indexes: Vec<Index> = entries.iter().map(|(index, _)| *index).collect();
    let mut current = get_many(nodes, root, &indexes)?.into_iter();
    entries.retain(|(_, event)| current.next().flatten().unwrap_or(0) != *event);
    let Some((highest, _)) = entries.last() else { return Ok((root, Vec::new())) };

    let needed = (0..MAX_LEVEL).find(|level| span_of(*level) > u64::from(*highest)).unwrap_or(MAX_LEVEL);
    let level = nodes.node(root).map_or(needed, |node| node.level.max(needed));
    let mut write = Write { nodes, alloc, made: Vec::new() };
    let root = write.node(root, level, &entries)?;
    Ok((root, write.made))
}

/// What `b` has different from `a`, by index.
pub fn diff(nodes: &impl Nodes, a: NodeId, b: NodeId) -> Result<Vec<Change>, TreeError> {
    let mut walk = Walk::new(nodes);
    let mut level = 0;
    for root in [a, b] {
        if let Some(node) = walk.load(root)? {
            level = level.max(node.level);
        }
    }
    walk.done()?;
    let mut changes = Vec::new();
    walk.diff(a, b, level, 0, &mut changes)?;
    walk.done()?;
    Ok(changes)
}

/// Everything in a state, by index.
pub fn iterate(nodes: &impl Nodes, root: NodeId) -> Result<Vec<(Index, EventPk)>, TreeError> {
    let all = diff(nodes, 0, root)?;
    Ok(all.into_iter().filter_map(|change| Some((change.index, change.new?))).collect())
}

/// How many keys a node of this level covers.
fn span_of(level: u8) -> u64 {
    1 << (BITS * (u32::from(level) + 1))
}

fn slot(index: Index, level: u8) -> usize {
    (index >> (BITS * u32::from(level))) as usize % WIDTH
}

/// The slots of a node seen from a level at or above its own.
fn view(id: NodeId, node: Option<&Node>, level: u8) -> Result<[i64; WIDTH], TreeError> {
    let mut slots = [0; WIDTH];
    match node {
        None => {}
        Some(node) if node.level == level => slots = node.slots,
        Some(node) if node.level < level => slots[0] = id,
        Some(_) => return Err(TreeError::Damaged(id)),
    }
    Ok(slots)
}

/// A way through the nodes that notes what is missing and goes on beside it.
struct Walk<'a, N> {
    nodes: &'a N,
    missing: Vec<NodeId>,
}

impl<'a, N: Nodes> Walk<'a, N> {
    fn new(nodes: &'a N) -> Self {
        Self { nodes, missing: Vec::new() }
    }

    /// `None` for the empty node and for one that is missing.
    fn load(&mut self, id: NodeId) -> Result<Option<&'a Node>, TreeError> {
        if id < 0 {
            return Err(TreeError::Damaged(id));
        }
        let node = self.nodes.node(id);
        if node.is_none() && id != 0 {
            self.missing.push(id);
        }
        Ok(node.filter(|_| id != 0))
    }

    fn done(&mut self) -> Result<(), TreeError> {
        if self.missing.is_empty() {
            return Ok(());
        }
        self.missing.sort_unstable();
        self.missing.dedup();
        Err(TreeError::Need(std::mem::take(&mut self.missing)))
    }

    fn diff(
        &mut self,
        a: NodeId,
        b: NodeId,
        level: u8,
        base: Index,
        changes: &mut Vec<Change>,
    ) -> Result<(), TreeError> {
        if a == b {
            return Ok(());
        }
        let (node_a, node_b) = (self.load(a)?, self.load(b)?);
        if (a != 0 && node_a.is_none()) || (b != 0 && node_b.is_none()) {
            return Ok(());
        }
        let (old, new) = (view(a, node_a, level)?, view(b, node_b, level)?);
        for (place, (old, new)) in (0..).zip(old.into_iter().zip(new)) {
            if old == new {
                continue;
            }
            let index = base | place << (BITS * u32::from(level));
            if level > 0 {
                self.diff(old, new, level - 1, index, changes)?;
            } else {
                let event = |slot: EventPk| (slot != 0).then_some(slot);
                changes.push(Change { index, old: event(old), new: event(new) });
            }
        }
        Ok(())
    }
}

/// New nodes over old ones.
struct Write<'a, N, A> {
    nodes: &'a N,
    alloc: &'a mut A,
    made: Vec<(NodeId, Node)>,
}

impl<N: Nodes, A: FnMut() -> NodeId> Write<'_, N, A> {
    fn node(&mut self, id: NodeId, level: u8, entries: &[(Index, EventPk)]) -> Result<NodeId, TreeError> {
        let old = self.nodes.node(id).filter(|_| id != 0);
        if old.is_none() && id != 0 {
            return Err(TreeError::Need(vec![id]));
        }
        let mut slots = view(id, old, level)?;
        for group in entries.chunk_by(|a, b| slot(a.0, level) == slot(b.0, level)) {
            let [(index, event), ..] = *group else { continue };
            let place = &mut slots[slot(index, level)];
            *place = if level == 0 { event } else { self.node(*place, level - 1, group)? };
        }
        if slots.iter().all(|slot| *slot == 0) {
            return Ok(0);
        }
        let id = (self.alloc)();
        self.made.push((id, Node { level, slots }));
        Ok(id)
    }
}

#[cfg(test)]
mod tests;
