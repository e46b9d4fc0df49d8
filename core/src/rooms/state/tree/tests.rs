use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// A store of bytes that loads what is asked for, as the database would.
#[derive(Default)]
struct Store {
    bytes: BTreeMap<NodeId, Vec<u8>>,
    loaded: HashMap<NodeId, Node>,
    last: NodeId,
    rounds: usize,
}

impl Store {
    fn run<T>(&mut self, operation: impl Fn(&HashMap<NodeId, Node>) -> Result<T, TreeError>) -> T {
        self.loaded.clear();
        self.rounds = 0;
        loop {
            match operation(&self.loaded) {
                Ok(value) => return value,
                Err(TreeError::Need(ids)) => {
                    assert!(!ids.is_empty() && ids.is_sorted());
                    self.rounds += 1;
                    for id in ids {
                        let node = Node::decode(id, &self.bytes[&id]).unwrap();
                        assert!(self.loaded.insert(id, node).is_none(), "asked twice");
                    }
                }
                Err(damaged) => panic!("{damaged}"),
            }
        }
    }

    fn insert(&mut self, root: NodeId, entries: &[(Index, EventPk)]) -> NodeId {
        let first = self.last;
        let (root, made) = self.run(|nodes| {
            let mut last = first;
            insert_many(nodes, root, entries, &mut || {
                last += 1;
                last
            })
        });
        for (id, node) in made {
            assert!(id > self.last);
            self.last = id;
            self.bytes.insert(id, node.encode());
        }
        root
    }

    fn size(&self) -> usize {
        self.bytes.values().map(|bytes| bytes.len() + size_of::<NodeId>()).sum()
    }
}

fn entries() -> impl Strategy<Value = Vec<(Index, EventPk)>> {
    let index = prop_oneof![0..40_u32, 0..3000_u32, any::<u32>()];
    prop::collection::vec((index, prop_oneof![4 => 1..1_000_000_i64, 1 => Just(0)]), 0..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn behaves_as_a_map(steps in prop::collection::vec(entries(), 1..8)) {
        let mut store = Store::default();
        let mut versions = vec![(0, BTreeMap::new())];
        for step in steps {
            let (root, mut map) = versions.last().cloned().unwrap();
            let root = store.insert(root, &step);
            for (index, event) in step {
                if event == 0 { map.remove(&index); } else { map.insert(index, event); }
            }
            versions.push((root, map));
        }
        let asked: Vec<Index> = versions.iter().flat_map(|(_, map)| map.keys().copied()).chain([0, 7, 1 << 30, u32::MAX]).collect();
        for (root, map) in &versions {
            prop_assert_eq!(store.run(|nodes| iterate(nodes, *root)), map.iter().map(|(i, e)| (*i, *e)).collect::<Vec<_>>());
            let found = store.run(|nodes| get_many(nodes, *root, &asked));
            prop_assert_eq!(found, asked.iter().map(|index| map.get(index).copied()).collect::<Vec<_>>());
        }
        for (a, old) in &versions {
            for (b, new) in &versions {
                let changes = store.run(|nodes| diff(nodes, *a, *b));
                let keys: std::collections::BTreeSet<_> = old.keys().chain(new.keys()).copied().collect();
                let expected: Vec<_> = keys
                    .into_iter()
                    .map(|index| Change { index, old: old.get(&index).copied(), new: new.get(&index).copied() })
                    .filter(|change| change.old != change.new)
                    .collect();
                prop_assert_eq!(changes, expected);
            }
        }
    }
}

#[test]
fn what_does_not_change_costs_nothing() {
    let mut store = Store::default();
    let root = store.insert(0, &[(1, 10), (2000, 11)]);
    let nodes = store.bytes.len();
    assert_eq!(store.insert(root, &[(1, 10), (5, 0)]), root);
    assert_eq!(store.insert(root, &[]), root);
    assert_eq!(store.bytes.len(), nodes);
    assert_eq!(store.insert(root, &[(1, 0), (2000, 0)]), 0);
}

#[test]
fn damage_is_told_and_not_followed() {
    let leaf = Node { level: 0, slots: [5; WIDTH] };
    let twisted = HashMap::from([(5, leaf.clone()), (9, Node { level: 1, slots: [9; WIDTH] })]);
    assert_eq!(get(&twisted, 9, 0), Err(TreeError::Damaged(9)));
    assert_eq!(iterate(&twisted, 9), Err(TreeError::Damaged(9)));
    assert_eq!(iterate(&twisted, -1), Err(TreeError::Damaged(-1)));
}

#[test]
fn small_steps_stay_small() {
    for (count, most, rounds) in [(100_u32, 110, 2), (1000, 180, 2), (100_000, 240, 4)] {
        let mut store = Store::default();
        let all: Vec<(Index, EventPk)> = (0..count).map(|i| (i, 1_000_000 + i64::from(i) * 7)).collect();
        store.last = 5_000_000;
        let mut root = store.insert(0, &all);
        let before = store.size();
        let steps = 200;
        for step in 0..steps {
            let index = step * 7919 % count;
            root = store.insert(root, &[(index, 3_000_000 + i64::from(step) * 5)]);
        }
        let cost = (store.size() - before) / steps as usize;
        println!("{count} entries: {cost} bytes a change, {} bytes in all", before);
        assert!(cost <= most, "{count} entries: {cost} bytes a change");
        store.run(|nodes| get(nodes, root, count / 2));
        assert!(store.rounds <= rounds, "{} rounds", store.rounds);
        let other = store.insert(root, &[(count / 2, 9)]);
        assert_eq!(store.run(|nodes| diff(nodes, root, other)).len(), 1);
        assert!(store.loaded.len() <= 2 * rounds);
    }
}
