//! Device lists that have missed a change are fetched anew, for each server one after the other and for some servers at
//! once. What a server does not give is tried again when it next speaks to us; until then whoever asks for the keys asks
//! for it, too.

use myelin_core::keys::remote_device_lists;
use myelin_core::server::Server;
use parking_lot::Mutex;
use ruma::{OwnedServerName, OwnedUserId, ServerName};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Servers of which lists are fetched at once.
const AT_ONCE: usize = 16;
/// Users of one server whose lists wait; the others' are fetched when somebody asks for their keys.
const WAITING: usize = 1_000;

/// The lists to fetch.
pub(crate) struct Renewals(Arc<Inner>);

struct Inner {
    server: Arc<Server>,
    origins: Mutex<HashMap<OwnedServerName, Origin>>,
    permits: Semaphore,
}

/// A server of whose users lists are to be fetched.
#[derive(Default)]
struct Origin {
    users: BTreeSet<OwnedUserId>,
    running: bool,
}

impl Renewals {
    pub(crate) fn new(server: Arc<Server>) -> Self {
        Self(Arc::new(Inner { server, origins: Mutex::default(), permits: Semaphore::new(AT_ONCE) }))
    }

    /// A user's list has missed something. Never waits.
    pub(crate) fn want(&self, user: OwnedUserId) {
        let name = user.server_name().to_owned();
        {
            let mut origins = self.0.origins.lock();
            let users = &mut origins.entry(name.clone()).or_default().users;
            if users.len() < WAITING {
                users.insert(user);
            }
        }
        self.go_on(&name);
    }

    /// A server speaks to us: what it did not give is tried again. Never waits.
    pub(crate) fn go_on(&self, origin: &ServerName) {
        let mut origins = self.0.origins.lock();
        let Some(waiting) = origins.get_mut(origin) else { return };
        if !std::mem::replace(&mut waiting.running, true) {
            tokio::spawn(self.0.clone().fetch(origin.to_owned()));
        }
    }
}

impl Inner {
    async fn fetch(self: Arc<Self>, origin: OwnedServerName) {
        let Ok(_permit) = self.permits.acquire().await else { return };
        while let Some(user) = self.next(&origin) {
            if let Err(error) = remote_device_lists::renew(&self.server, &user).await {
                tracing::debug!(%error, %user, "a device list could not be fetched");
                let mut origins = self.origins.lock();
                let waiting = origins.entry(origin).or_default();
                waiting.users.insert(user);
                waiting.running = false;
                return;
            }
        }
    }

    /// The next user of a server; without one the server is forgotten.
    fn next(&self, origin: &ServerName) -> Option<OwnedUserId> {
        let mut origins = self.origins.lock();
        let next = origins.get_mut(origin)?.users.pop_first();
        if next.is_none() {
            origins.remove(origin);
        }
        next
    }
}
