//! Memory that saves reading: every cache of the server is a [`Cache`], and all of them share one budget of bytes.
//!
//! A cache counts what its entries take, by an estimate, and drops those that are used least when it is over its share.
//! [`Caches::balance`], called every minute, shares the budget anew: each cache keeps a little, and the rest goes by need,
//! which is what a cache holds and what came into it since the last time. So a cache that is not used gives its share to
//! those that are, and their sum never grows over the budget.

use crate::error::Result;
use parking_lot::Mutex;
use quick_cache::sync::{Cache as Quick, DefaultLifecycle, EntryAction};
use quick_cache::{DefaultHashBuilder, Equivalent, OptionsBuilder, Weighter};
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What an entry costs beside key and value: links, counters, a slot in a table.
const ENTRY: u64 = 64;
/// A cache keeps this part of the budget whatever the others need.
const FLOOR: u64 = 50;
/// An entry counts for at most this part of the budget: otherwise a shard could refuse it.
const LARGEST: u64 = 512;
/// Parts of a cache that can be changed at the same time.
const SHARDS: usize = 8;

/// What takes memory.
pub trait Weight {
    /// Bytes, roughly, with what is behind pointers.
    fn weight(&self) -> usize;
}

impl Weight for i64 {
    fn weight(&self) -> usize {
        size_of::<i64>()
    }
}

impl Weight for (i64, i64) {
    fn weight(&self) -> usize {
        2 * size_of::<i64>()
    }
}

impl Weight for [u8; 32] {
    fn weight(&self) -> usize {
        32
    }
}

impl Weight for Arc<str> {
    fn weight(&self) -> usize {
        16 + self.len()
    }
}

macro_rules! weigh_ids {
    ($($id:ty),*) => {
        $(impl Weight for $id {
            fn weight(&self) -> usize {
                size_of::<$id>() + self.as_str().len()
            }
        })*
    };
}

weigh_ids!(ruma::OwnedEventId, ruma::OwnedRoomId);

/// Something whose share of the budget can change.
pub trait Share: Send + Sync {
    /// Bytes that it holds.
    fn held(&self) -> u64;
    /// Bytes that came into it since this was last asked.
    fn came(&self) -> u64;
    /// Sets what it may hold.
    fn allow(&self, bytes: u64);
}

/// All caches, and the budget that they share.
pub struct Caches {
    budget: u64,
    all: Mutex<Vec<Arc<dyn Share>>>,
}

impl Caches {
    /// No caches yet, and what they may hold together.
    pub fn new(budget: usize) -> Caches {
        Caches { budget: budget as u64, all: Mutex::default() }
    }

    /// A new cache with a share in hundredths of the budget, until the needs are known. `typical` is what an entry
    /// takes, in bytes.
    pub fn cache<K, V>(&self, hundredths: u64, typical: u64) -> Cache<K, V>
    where
        K: Weight + Clone + Eq + Hash + Send + Sync + 'static,
        V: Weight + Clone + Send + Sync + 'static,
    {
        let bytes = self.budget * hundredths / 100;
        let cache = Cache(Arc::new(Inner::new(bytes, bytes / (typical + ENTRY), self.budget / LARGEST)));
        self.all.lock().push(cache.0.clone());
        cache
    }

    /// Something else that takes memory by need.
    pub fn add(&self, share: Arc<dyn Share>) {
        self.all.lock().push(share);
    }

    /// Bytes that all caches hold.
    pub fn held(&self) -> u64 {
        self.all.lock().iter().map(|share| share.held()).sum()
    }

    /// Shares the budget anew.
    pub fn balance(&self) {
        let all = self.all.lock().clone();
        let needs: Vec<u64> = all.iter().map(|share| share.held() + share.came()).collect();
        for (share, allowed) in all.iter().zip(shares(self.budget, &needs)) {
            share.allow(allowed);
        }
    }
}

/// What each may hold.
fn shares(budget: u64, needs: &[u64]) -> Vec<u64> {
    let floor = budget / FLOOR.max(2 * needs.len() as u64);
    let rest = budget - floor * needs.len() as u64;
    let sum: u128 = needs.iter().map(|need| u128::from(*need)).sum();
    let part = |need: u64| u128::from(rest) * u128::from(need) / sum.max(1);
    needs.iter().map(|need| floor + u64::try_from(part(*need)).unwrap_or(0)).collect()
}

/// A cache; clones are the same one.
#[derive(Clone)]
pub struct Cache<K, V>(Arc<Inner<K, V>>);

struct Inner<K, V> {
    entries: Quick<K, Kept<V>, ByBytes>,
    came: AtomicU64,
    largest: u64,
}

/// A value with the bytes that it was counted for when it came: they must not change while it is here.
#[derive(Clone)]
struct Kept<V> {
    value: V,
    bytes: u64,
}

#[derive(Clone)]
struct ByBytes;

impl<K, V> Weighter<K, Kept<V>> for ByBytes {
    fn weight(&self, _: &K, kept: &Kept<V>) -> u64 {
        kept.bytes
    }
}

impl<K, V> Inner<K, V>
where
    K: Weight + Clone + Eq + Hash,
    V: Weight + Clone,
{
    fn new(bytes: u64, entries: u64, largest: u64) -> Inner<K, V> {
        let entries = usize::try_from(entries).unwrap_or(usize::MAX).max(SHARDS);
        let (hasher, lifecycle) = (DefaultHashBuilder::default(), DefaultLifecycle::default());
        let options = OptionsBuilder::new()
            .estimated_items_capacity(entries)
            .weight_capacity(bytes)
            .shards(SHARDS)
            .build();
        let entries = match options {
            Ok(options) => Quick::with_options(options, ByBytes, hasher, lifecycle),
            Err(_) => Quick::with(entries, bytes, ByBytes, hasher, lifecycle),
        };
        Inner { entries, came: AtomicU64::new(0), largest }
    }

    fn weigh(&self, key: &K, value: &V) -> u64 {
        let bytes = ENTRY + (key.weight() + value.weight()) as u64;
        bytes.min(self.largest.max(ENTRY))
    }

    fn keep(&self, key: &K, value: V) -> Kept<V> {
        let bytes = self.weigh(key, &value);
        self.came.fetch_add(bytes, Ordering::Relaxed);
        Kept { value, bytes }
    }
}

impl<K, V> Share for Inner<K, V>
where
    K: Weight + Clone + Eq + Hash + Send + Sync,
    V: Weight + Clone + Send + Sync,
{
    fn held(&self) -> u64 {
        self.entries.weight()
    }

    fn came(&self) -> u64 {
        self.came.swap(0, Ordering::Relaxed)
    }

    fn allow(&self, bytes: u64) {
        // Small changes are not worth the walk through the shards.
        let now = self.entries.capacity();
        if bytes.abs_diff(now) > now / 16 {
            self.entries.set_capacity(bytes);
        }
    }
}

impl<K, V> Cache<K, V>
where
    K: Weight + Clone + Eq + Hash,
    V: Weight + Clone,
{
    /// The value of a key.
    pub fn get<Q: Hash + Equivalent<K> + ?Sized>(&self, key: &Q) -> Option<V> {
        self.0.entries.get(key).map(|kept| kept.value)
    }

    /// Whether there is a value; that is no use of it.
    pub fn contains_key<Q: Hash + Equivalent<K> + ?Sized>(&self, key: &Q) -> bool {
        self.0.entries.contains_key(key)
    }

    /// All values, in no order.
    pub fn values(&self) -> Vec<V> {
        self.0.entries.iter().map(|(_, kept)| kept.value).collect()
    }

    /// Forgets everything.
    pub fn clear(&self) {
        self.0.entries.clear();
    }

    /// Puts a value in, and counts anew what it takes.
    pub fn insert(&self, key: K, value: V) {
        let kept = self.0.keep(&key, value);
        self.0.entries.insert(key, kept);
    }

    /// Counts anew what a value takes that has grown.
    pub fn recount(&self, key: &K) {
        let count = |key: &K, kept: &mut Kept<V>| {
            kept.bytes = self.0.weigh(key, &kept.value);
            EntryAction::Retain(())
        };
        // Where there is no value, the place that was made for one goes again with the result.
        drop(self.0.entries.entry(key, Some(Duration::ZERO), count));
    }

    /// Takes a value out.
    pub fn remove<Q: Hash + Equivalent<K> + ?Sized>(&self, key: &Q) {
        self.0.entries.remove(key);
    }

    /// Keeps only some.
    pub fn retain(&self, is_kept: impl Fn(&K, &V) -> bool) {
        self.0.entries.retain(|key, kept| is_kept(key, &kept.value));
    }

    /// The value of a key, made now if there was none: by one caller, while others wait.
    pub fn get_or_insert_with(&self, key: &K, make: impl FnOnce() -> Result<V>) -> Result<V> {
        let kept = self.0.entries.get_or_insert_with(key, || make().map(|value| self.0.keep(key, value)));
        kept.map(|kept| kept.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_go_by_need_and_fit_into_the_budget() {
        assert_eq!(shares(1_000, &[0, 0]), [20, 20]);
        assert_eq!(shares(1_000, &[300, 100]), [20 + 720, 20 + 240]);
        let all = shares(64 << 20, &[1, u64::MAX / 2, 7, 0, 99, 5, 5, 5, 5, 5, 5]);
        assert!(all.iter().sum::<u64>() <= 64 << 20);
        assert!(all.iter().all(|share| *share >= (64 << 20) / 50));
    }

    #[test]
    fn what_is_used_gets_the_room_of_what_is_not() {
        let caches = Caches::new(1 << 20);
        let busy: Cache<i64, Arc<str>> = caches.cache(50, 1_000);
        let idle: Cache<i64, i64> = caches.cache(50, 8);
        idle.insert(1, 2);
        let fill = || {
            for key in 0..2_000 {
                busy.insert(key, "x".repeat(1_000).into());
            }
        };
        fill();
        let half = caches.held();
        assert!(half <= 1 << 19, "{half}");
        caches.balance();
        fill();
        let held = caches.held();
        assert!(held > half + (1 << 18) && held <= 1 << 20, "{half} {held}");
        assert_eq!(idle.get(&1), Some(2));
        assert_eq!(busy.get(&1_999).map(|text| text.len()), Some(1_000));
        busy.retain(|key, _| *key == 1_999);
        assert!(busy.contains_key(&1_999) && !busy.contains_key(&1_998));
        assert!(caches.held() < 2_000);
        busy.remove(&1_999);
        assert_eq!(busy.get_or_insert_with(&5, || Ok("five".into())).unwrap(), "five".into());
    }

    #[test]
    fn a_large_entry_is_kept_too() {
        let caches = Caches::new(1 << 20);
        let cache: Cache<i64, Arc<str>> = caches.cache(2, 100);
        cache.insert(1, "x".repeat(1 << 20).into());
        assert!(cache.contains_key(&1));
    }
}
