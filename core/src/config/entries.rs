//! Checked values by their path.

use std::collections::{BTreeMap, BTreeSet};

use toml::{Table, Value};

use super::{
    KEYS, Key, Problem,
    keys::{self, LISTENERS},
};

/// The value of every key that has one. Paths are concrete: `listeners.0.bind`.
#[derive(Clone, Debug, Default)]
pub struct Entries {
    values: BTreeMap<String, Value>,
}

impl Entries {
    /// The value at a concrete path.
    pub fn get(&self, path: &str) -> Option<&Value> {
        self.values.get(path)
    }

    pub(super) fn insert(&mut self, path: String, value: Value) {
        self.values.insert(path, value);
    }

    /// How many listeners there are.
    pub(super) fn listeners(&self) -> usize {
        self.values.keys().filter_map(|path| listener_index(path)).max().map_or(0, |index| index + 1)
    }

    /// Gives every key that is not set its default. Without listeners there is one, all of defaults.
    pub(super) fn fill_in_defaults(&mut self, problems: &mut Vec<Problem>) {
        let given: BTreeSet<usize> = self.values.keys().filter_map(|path| listener_index(path)).collect();
        // A variable may name any number: nothing is made for listeners that are not there.
        if let Some((missing, _)) = given.iter().enumerate().find(|(position, index)| position != *index) {
            problems.push(Problem::new(
                LISTENERS,
                format!("numbered from 0 without a gap, but nothing is set for number {missing}"),
            ));
            return;
        }
        for key in KEYS {
            let Some(value) = default(key) else { continue };
            if key.path.contains('*') {
                for index in 0..given.len().max(1) {
                    let path = key.path.replace('*', &index.to_string());
                    self.values.entry(path).or_insert_with(|| value.clone());
                }
            } else {
                self.values.entry(key.path.to_owned()).or_insert(value);
            }
        }
    }

    /// The entries as one TOML table, for serde.
    pub(super) fn to_toml(&self) -> Table {
        let mut root = Table::new();
        let mut listeners = vec![Table::new(); self.listeners()];
        for (path, value) in &self.values {
            let Some(index) = listener_index(path) else {
                insert(&mut root, path, value.clone());
                continue;
            };
            if let (Some(listener), Some(name)) = (listeners.get_mut(index), path.rsplit('.').next()) {
                listener.insert(name.to_owned(), value.clone());
            }
        }
        root.insert(LISTENERS.to_owned(), Value::Array(listeners.into_iter().map(Value::Table).collect()));
        root
    }
}

fn insert(table: &mut Table, path: &str, value: Value) {
    match path.split_once('.') {
        None => {
            table.insert(path.to_owned(), value);
        }
        Some((first, rest)) => {
            let inner = table.entry(first).or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(inner) = inner {
                insert(inner, rest, value);
            }
        }
    }
}

fn listener_index(path: &str) -> Option<usize> {
    path.strip_prefix(LISTENERS)?.strip_prefix('.')?.split('.').next()?.parse().ok()
}

/// The default of a key, in the form that serde reads.
pub(super) fn default(key: &Key) -> Option<Value> {
    let table: Table = toml::from_str(&format!("value = {}", key.default?)).ok()?;
    key.kind.check(table.get("value")?)
}

/// The key and the concrete path that a variable names, `MYELIN_` already taken off.
pub(super) fn by_variable(name: &str) -> Option<(&'static Key, String)> {
    if let Some(rest) = name.strip_prefix("LISTENERS_") {
        let (index, rest) = rest.split_once('_')?;
        let index: u16 = index.parse().ok()?;
        let path = format!("{LISTENERS}.{index}.{}", rest.to_lowercase());
        return keys::find(&path).map(|key| (key, path));
    }
    let key = KEYS.iter().find(|key| key.path.replace('.', "_").to_uppercase() == name)?;
    Some((key, key.path.to_owned()))
}
