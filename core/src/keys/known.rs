//! The keys of users that were asked for lately, in memory.
//!
//! Nearly every message begins with somebody asking for the keys of a room's members. What a user's devices and
//! cross-signing keys are is the same for everybody who asks; an entry of the log ([`Kind::DeviceList`], or
//! [`Kind::Signature`] for a user-signing key) throws it away.
//! One-time keys are never here.

use crate::cache::{Cache, Caches, Weight};
use crate::error::Result;
use crate::log::Reader;
use crate::server::Server;
use myelin_storage::Entry;
use myelin_storage::keys::cross_signing::{self, CrossSigningRow, SignatureRow};
use myelin_storage::keys::device_keys::{self, DeviceKeysRow};
use myelin_storage::log::Kind;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

/// What a user published.
#[derive(Debug, Default)]
pub(super) struct UserKeys {
    pub(super) devices: Vec<DeviceKeysRow>,
    pub(super) cross_signing: Vec<CrossSigningRow>,
    /// The user's own signatures.
    pub(super) signatures: Vec<SignatureRow>,
}

/// The keys of users.
pub struct KnownKeys {
    users: Cache<i64, Arc<UserKeys>>,
    /// Counts changes. What was read before one must not come in after it.
    changes: Mutex<u64>,
}

impl Weight for Arc<UserKeys> {
    fn weight(&self) -> usize {
        /// A row without its texts.
        const ROW: usize = 150;
        let devices = self.devices.iter().map(|row| row.json.len() + ROW);
        let keys = self.cross_signing.iter().map(|row| row.json.len() + ROW);
        let signatures = self.signatures.iter().map(|row| row.signature.len() + 2 * ROW);
        devices.chain(keys).chain(signatures).sum()
    }
}

impl KnownKeys {
    /// None yet.
    pub fn new(caches: &Caches) -> KnownKeys {
        KnownKeys { users: caches.cache(6, 1_500), changes: Mutex::new(0) }
    }
}

impl Reader for KnownKeys {
    fn handle(&self, entries: &[Entry]) {
        if entries.iter().any(|entry| entry.kind == Kind::Epoch) {
            *self.changes.lock() += 1;
            self.users.clear();
        }
        let tells = |entry: &&Entry| matches!(entry.kind, Kind::DeviceList | Kind::Signature);
        let mut changed = entries.iter().filter(tells).peekable();
        if changed.peek().is_some() {
            let mut changes = self.changes.lock();
            *changes += 1;
            changed.for_each(|entry| self.users.remove(&entry.scope));
        }
    }
}

impl Server {
    /// What these users published.
    pub(super) async fn user_keys(&self, user_pks: &[i64]) -> Result<HashMap<i64, Arc<UserKeys>>> {
        let cache = &self.known_keys;
        let before = *cache.changes.lock();
        let (mut found, mut missing) = (HashMap::with_capacity(user_pks.len()), Vec::new());
        for pk in user_pks {
            match cache.users.get(pk) {
                Some(keys) => drop(found.insert(*pk, keys)),
                None => missing.push(*pk),
            }
        }
        if missing.is_empty() {
            return Ok(found);
        }
        let mut connection = self.database.read().await?;
        let mut read: HashMap<i64, UserKeys> = missing.iter().map(|pk| (*pk, UserKeys::default())).collect();
        for row in device_keys::of_users(&mut connection, &missing).await? {
            read.entry(row.user_pk).or_default().devices.push(row);
        }
        for row in cross_signing::of_users(&mut connection, &missing).await? {
            read.entry(row.user_pk).or_default().cross_signing.push(row);
        }
        for row in cross_signing::own_signatures(&mut connection, &missing).await? {
            read.entry(row.target_user_pk).or_default().signatures.push(row);
        }
        drop(connection);
        let changes = cache.changes.lock();
        for (pk, keys) in read {
            let keys = Arc::new(keys);
            if *changes == before {
                cache.users.insert(pk, keys.clone());
            }
            found.insert(pk, keys);
        }
        Ok(found)
    }
}
