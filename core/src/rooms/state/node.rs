//! One node of a state tree, in memory and as bytes.
//!
//! Bytes: the level, a varint of the bitmap of filled slots, then for each filled slot the difference
//! to the one before it as a zigzag varint. Events and nodes that were made together have neighbouring
//! ids, so a difference is mostly one or two bytes.

/// The number of a node, unique in the database, smaller than that of every node that refers to it.
/// 0 is the empty tree.
pub type NodeId = i64;

/// The place of a state key in its room.
pub type Index = u32;

/// The key of an event in the database. 0 stands for none.
pub type EventPk = i64;

/// The slots of a node.
pub const WIDTH: usize = 32;

/// The bits of an index that a node looks at.
pub(super) const BITS: u32 = 5;

/// The highest level that an index can need.
pub(super) const MAX_LEVEL: u8 = 6;

/// A node: 32 events on level 0, 32 nodes above.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    pub(super) level: u8,
    pub(super) slots: [i64; WIDTH],
}

impl Node {
    /// The distance to the leaves.
    pub fn level(&self) -> u8 {
        self.level
    }

    /// The nodes that this one refers to.
    pub fn children(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.filled().filter(|_| self.level > 0)
    }

    /// The events that this one refers to.
    pub fn events(&self) -> impl Iterator<Item = EventPk> + '_ {
        self.filled().filter(|_| self.level == 0)
    }

    fn filled(&self) -> impl Iterator<Item = i64> + '_ {
        self.slots.iter().copied().filter(|slot| *slot != 0)
    }

    /// The node as bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(96);
        bytes.push(self.level);
        let bitmap = self.slots.iter().rev().fold(0_u64, |bits, slot| bits << 1 | u64::from(*slot != 0));
        write_varint(&mut bytes, bitmap);
        let mut before = 0_i64;
        for slot in self.filled() {
            write_varint(&mut bytes, zigzag(slot.wrapping_sub(before)));
            before = slot;
        }
        bytes
    }

    /// Reads the node with this id. `None` if the bytes are none that [`Node::encode`] writes.
    pub fn decode(id: NodeId, bytes: &[u8]) -> Option<Self> {
        let (&level, mut rest) = bytes.split_first()?;
        let bitmap = u32::try_from(read_varint(&mut rest)?).ok()?;
        if level > MAX_LEVEL || bitmap == 0 {
            return None;
        }
        let mut slots = [0; WIDTH];
        let mut before = 0_i64;
        for (place, slot) in slots.iter_mut().enumerate() {
            if bitmap >> place & 1 == 0 {
                continue;
            }
            before = before.wrapping_add(unzigzag(read_varint(&mut rest)?));
            let is_possible = before > 0 && (level == 0 || before < id);
            if !is_possible {
                return None;
            }
            *slot = before;
        }
        rest.is_empty().then_some(Self { level, slots })
    }
}

fn zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63).cast_unsigned()
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

fn write_varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

fn read_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let part = u64::from(byte & 0x7f);
        if part << shift >> shift != part {
            return None;
        }
        value |= part << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn slots() -> impl Strategy<Value = [i64; WIDTH]> {
        let slot = prop_oneof![Just(0), 1..1000_i64, 1..i64::MAX];
        prop::array::uniform32(slot).prop_filter("some slot is filled", |slots| slots.iter().any(|s| *s != 0))
    }

    proptest! {
        #[test]
        fn goes_round(slots in slots(), level in 0..=MAX_LEVEL) {
            let node = Node { level, slots };
            prop_assert_eq!(Node::decode(i64::MAX, &node.encode()), Some(node));
        }

        #[test]
        fn foreign_bytes_never_panic(id: i64, bytes: Vec<u8>) {
            if let Some(node) = Node::decode(id, &bytes) {
                prop_assert_eq!(Node::decode(id, &node.encode()), Some(node));
            }
        }
    }

    #[test]
    fn a_child_is_older_than_its_parent() {
        let mut slots = [0; WIDTH];
        slots[3] = 10;
        let bytes = Node { level: 1, slots }.encode();
        assert!(Node::decode(11, &bytes).is_some());
        assert!(Node::decode(10, &bytes).is_none());
        assert!(Node::decode(10, &Node { level: 0, slots }.encode()).is_some());
    }
}
