//! Our own numbers for users, events, nodes and the like: small, fast to compare, never given twice.

use crate::cache::{Cache, Caches};
use crate::error::Result;
use crate::log::Reader;
use myelin_storage::log::Kind;
use myelin_storage::{Database, Entry, users};
use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Arc;
use tokio::sync::Mutex;

/// Numbers that are reserved in the database at once.
const BLOCK: i64 = 1_024;
/// Users that are numbered in one statement.
const TOGETHER: usize = 1_000;

/// A counter whose numbers are reserved in blocks, so that most calls touch no database. Numbers that a stopped
/// process had reserved are lost.
pub struct Counter {
    name: &'static str,
    database: Database,
    left: Mutex<Range<i64>>,
}

impl Counter {
    fn new(name: &'static str, database: &Database) -> Counter {
        Counter { name, database: database.clone(), left: Mutex::new(0..0) }
    }

    /// One number.
    pub async fn next(&self) -> Result<i64> {
        Ok(self.take(1).await?.start)
    }

    /// `count` numbers in a row.
    pub async fn take(&self, count: usize) -> Result<Range<i64>> {
        self.take_above(count, 0).await
    }

    /// `count` numbers in a row, all of them greater than `floor`, which this counter gave once, perhaps to another
    /// replica: blocks of several replicas lie beside each other.
    pub async fn take_above(&self, count: usize, floor: i64) -> Result<Range<i64>> {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        let mut left = self.left.lock().await;
        if left.end - left.start < count || left.start <= floor {
            let reserve = BLOCK.max(count);
            let start = self.database.reserve(self.name, reserve).await?;
            *left = start..start + reserve;
        }
        let taken = left.start..left.start + count;
        left.start = taken.end;
        Ok(taken)
    }
}

/// All counters, and the users' numbers.
pub struct Ids {
    /// Events.
    pub events: Counter,
    /// Nodes of state trees; a child's number is smaller than its parent's because children are made first.
    pub nodes: Counter,
    /// Rooms.
    pub rooms: Counter,
    /// Devices.
    pub devices: Counter,
    users: Counter,
    database: Database,
    by_id: Cache<Arc<str>, i64>,
    by_pk: Cache<i64, Arc<str>>,
}

impl Reader for Ids {
    fn handle(&self, entries: &[Entry]) {
        if entries.iter().any(|entry| entry.kind == Kind::Epoch) {
            self.by_id.clear();
            self.by_pk.clear();
        }
    }
}

impl Ids {
    /// Counters over a database.
    pub fn new(database: &Database, caches: &Caches) -> Ids {
        let counter = |name| Counter::new(name, database);
        Ids {
            events: counter("events"),
            nodes: counter("nodes"),
            rooms: counter("rooms"),
            devices: counter("devices"),
            users: counter("users"),
            database: database.clone(),
            by_id: caches.cache(2, 100),
            by_pk: caches.cache(2, 100),
        }
    }

    /// The number of a user, if anything here ever concerned the user.
    pub async fn find_user(&self, user_id: &str) -> Result<Option<i64>> {
        if let Some(pk) = self.by_id.get(user_id) {
            return Ok(Some(pk));
        }
        let found = users::find(&mut self.database.read().await?, user_id).await?;
        if let Some(pk) = found {
            self.remember(user_id, pk);
        }
        Ok(found)
    }

    /// The number of a user, given now if there was none.
    pub async fn user(&self, user_id: &str) -> Result<i64> {
        if let Some(pk) = self.find_user(user_id).await? {
            return Ok(pk);
        }
        let pk = users::intern(&self.database, user_id, self.users.next().await?).await?;
        self.remember(user_id, pk);
        Ok(pk)
    }

    /// The numbers of users, given now to those who had none, all of them at once.
    pub async fn users(&self, user_ids: &[&str]) -> Result<HashMap<String, i64>> {
        let mut numbers: HashMap<String, i64> = self.find_users(user_ids).await?.into_iter().collect();
        let new: BTreeSet<&str> = user_ids.iter().copied().filter(|id| !numbers.contains_key(*id)).collect();
        let new: Vec<&str> = new.into_iter().collect();
        for part in new.chunks(TOGETHER) {
            let candidates: Vec<i64> = self.users.take(part.len()).await?.collect();
            for (id, pk) in users::intern_all(&self.database, part, &candidates).await? {
                self.remember(&id, pk);
                numbers.insert(id, pk);
            }
        }
        Ok(numbers)
    }

    /// The id of a user.
    pub async fn user_id(&self, user_pk: i64) -> Result<Arc<str>> {
        let ids = self.user_ids(&[user_pk]).await?;
        let id = ids.into_iter().next().map(|(_, id)| id);
        id.ok_or_else(|| crate::Error::internal(format!("user {user_pk} has no id")))
    }

    /// The ids of users, in the order of the numbers; unknown numbers are left out.
    pub async fn user_ids(&self, user_pks: &[i64]) -> Result<Vec<(i64, Arc<str>)>> {
        let missing: Vec<i64> = user_pks.iter().copied().filter(|pk| self.by_pk.get(pk).is_none()).collect();
        let mut read = HashMap::new();
        if !missing.is_empty() {
            for (pk, id) in users::ids(&mut self.database.read().await?, &missing).await? {
                read.insert(pk, self.remember(&id, pk));
            }
        }
        let id_of = |pk: &i64| read.get(pk).cloned().or_else(|| self.by_pk.get(pk));
        Ok(user_pks.iter().filter_map(|pk| Some((*pk, id_of(pk)?))).collect())
    }

    /// The numbers of those users that are known here.
    pub async fn find_users(&self, user_ids: &[&str]) -> Result<Vec<(String, i64)>> {
        let mut found = Vec::with_capacity(user_ids.len());
        let mut missing = Vec::new();
        for id in user_ids {
            match self.by_id.get(*id) {
                Some(pk) => found.push(((*id).to_owned(), pk)),
                None => missing.push(*id),
            }
        }
        if !missing.is_empty() {
            for (id, pk) in users::find_all(&mut self.database.read().await?, &missing).await? {
                self.remember(&id, pk);
                found.push((id, pk));
            }
        }
        Ok(found)
    }

    fn remember(&self, user_id: &str, pk: i64) -> Arc<str> {
        let id: Arc<str> = user_id.into();
        self.by_id.insert(id.clone(), pk);
        self.by_pk.insert(pk, id.clone());
        id
    }
}
