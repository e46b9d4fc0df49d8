//! The state keys of a room, which its trees know by number.

use crate::rooms::state::Index;
use std::collections::HashMap;
use std::sync::Arc;

/// A room's state keys: pairs of type and state key, numbered.
#[derive(Default, Debug)]
pub struct StateKeys {
    index: HashMap<String, HashMap<String, Index>>,
    keys: Vec<(Arc<str>, Arc<str>)>,
}

impl StateKeys {
    /// The index of a key, if the room ever had it.
    pub fn find(&self, kind: &str, state_key: &str) -> Option<Index> {
        self.index.get(kind)?.get(state_key).copied()
    }

    /// The key at an index.
    pub fn get(&self, index: Index) -> Option<&(Arc<str>, Arc<str>)> {
        self.keys.get(usize::try_from(index).ok()?)
    }

    /// How many keys there are, which is the next index.
    pub fn len(&self) -> Index {
        Index::try_from(self.keys.len()).unwrap_or(Index::MAX)
    }

    /// True before the room's first state event.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Takes in keys that were read or made, in the order of their indexes; those that are known do no harm.
    pub(crate) fn learn(&mut self, keys: impl IntoIterator<Item = (i64, String, String)>) {
        for (index, kind, state_key) in keys {
            if index == i64::from(self.len()) {
                self.add(&kind, &state_key);
            }
        }
    }

    /// Adds a key under the next index.
    fn add(&mut self, kind: &str, state_key: &str) {
        let index = self.len();
        self.index.entry(kind.to_owned()).or_default().insert(state_key.to_owned(), index);
        self.keys.push((kind.into(), state_key.into()));
    }
}
