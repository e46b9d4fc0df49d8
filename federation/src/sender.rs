//! Telling other servers what happened here.
//!
//! One dispatcher follows the log. For each event of this server it looks up the servers of the room and puts the event
//! into their queues, which are bounded. A queue with something in it has a task ([`destination`]) that sends
//! transactions, one at a time; a destination with nothing to send costs nothing.
//!
//! **Nothing is lost.** The dispatcher keeps a durable position: every destination has the events up to it, or is in the
//! table `backlog` with the position up to which it has them. A destination whose queue is full, or that does not answer,
//! goes there, and its queue is thrown away; when it answers again, [`catch_up`] finds its rooms and sends the newest
//! events of each. After a crash the dispatcher starts at its position and repeats a little, which does no harm. EDUs that
//! must not be lost (to-device messages, device lists) wait in the table `outbox`; typing and receipts do not survive.
//!
//! **Among replicas** one process has the lead, by a lock of PostgreSQL; when it goes, another goes on at its position.

mod catch_up;
mod destination;
mod device_lists;
mod dispatcher;
mod edus;

use crate::outbound::request::Client;
use destination::Destination;
use myelin_core::Result;
use myelin_core::server::Server;
use parking_lot::Mutex;
use ruma::{OwnedServerName, ServerName};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::Notify;

/// Origins whose order of transactions is remembered.
const TURNS: usize = 10_000;

/// The sender.
pub struct Sender(Arc<Inner>);

pub(crate) struct Inner {
    server: Arc<Server>,
    client: Arc<Client>,
    /// This process tells the others; where several share a database, one does.
    leads: AtomicBool,
    destinations: Mutex<HashMap<OwnedServerName, Arc<Destination>>>,
    /// When which destination is tried again, and when that was decided.
    retries: Mutex<BinaryHeap<Reverse<(i64, i64, OwnedServerName)>>>,
    retry: Notify,
    /// Destinations whose backlog is to be noted before the position moves on.
    position: Mutex<Position>,
    /// One writes the position down at a time, so that what the database knows is what is said here.
    saving: tokio::sync::Mutex<()>,
    turns: Mutex<HashMap<OwnedServerName, Arc<tokio::sync::Mutex<()>>>>,
    /// By what the transactions of this process are told from those of others.
    run: String,
    transactions: std::sync::atomic::AtomicU64,
}

/// How far the dispatcher has come.
#[derive(Default)]
struct Position {
    /// Every entry up to here is in the queues.
    dispatched: i64,
    /// What the database knows.
    durable: i64,
}

impl Sender {
    /// Starts to follow the log.
    pub async fn start(server: Arc<Server>, client: Arc<Client>) -> Result<Self> {
        let run = myelin_core::ports::random_text(&*server.random, 12);
        let inner = Arc::new(Inner {
            server: server.clone(),
            client,
            leads: AtomicBool::new(false),
            destinations: Mutex::default(),
            retries: Mutex::default(),
            retry: Notify::new(),
            position: Mutex::default(),
            saving: tokio::sync::Mutex::default(),
            turns: Mutex::default(),
            run,
            transactions: Default::default(),
        });
        tokio::spawn(dispatcher::run(Arc::downgrade(&inner), server.stopping()));
        tokio::spawn(retry(Arc::downgrade(&inner), server.stopping()));
        Ok(Self(inner))
    }

    /// A server that was given up speaks to us: it is tried again at once.
    pub fn wake(&self, server: &ServerName) {
        if let Some(destination) = self.0.known(server) {
            destination::try_now(&self.0, &destination);
        }
    }

    /// Writes down how far others have been told, where this process tells them. The sender does it every few seconds.
    ///
    /// # Errors
    /// The database's. Something may be told twice then.
    pub async fn save(&self) -> Result<()> {
        match self.0.leads.load(Ordering::Relaxed) {
            true => dispatcher::save(&self.0).await,
            false => Ok(()),
        }
    }

    /// Tries all destinations again whose time has come. The sender does it by itself; tests move the clock.
    pub fn retry_due(&self) {
        self.0.retry_due();
    }

    /// Whether something waits for a server until its time comes.
    pub fn waits_for(&self, server: &str) -> bool {
        let named = <&ServerName>::try_from(server).ok();
        named.and_then(|server| self.0.known(server)).is_some_and(|to| to.is_left_alone())
    }

    /// Somebody types in a room, or has stopped.
    pub(crate) fn typing(&self, room_pk: i64, user_pk: i64, typing: bool) {
        if self.0.leads.load(Ordering::Relaxed) {
            let inner = self.0.clone();
            tokio::spawn(async move {
                if let Err(error) = edus::typing(&inner, room_pk, user_pk, typing).await {
                    tracing::debug!(%error, "other servers do not hear who types");
                }
            });
        }
    }

    /// A user is more or less present than before.
    pub(crate) fn presence(&self, user_pk: i64) {
        if self.0.leads.load(Ordering::Relaxed) {
            let inner = self.0.clone();
            tokio::spawn(async move {
                if let Err(error) = edus::presence(&inner, user_pk).await {
                    tracing::debug!(%error, "other servers do not hear who is there");
                }
            });
        }
    }

    /// The order of what comes from a server: one transaction at a time.
    pub(crate) fn turn_of(&self, origin: &ServerName) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.0.turns.lock();
        if turns.len() >= TURNS {
            turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        }
        turns.entry(origin.to_owned()).or_default().clone()
    }
}

impl Inner {
    fn known(&self, server: &ServerName) -> Option<Arc<Destination>> {
        self.destinations.lock().get(server).cloned()
    }

    fn destination(&self, server: &ServerName) -> Arc<Destination> {
        let mut destinations = self.destinations.lock();
        if let Some(known) = destinations.get(server) {
            return known.clone();
        }
        let destination = Arc::new(Destination::new(server.to_owned()));
        destinations.insert(server.to_owned(), destination.clone());
        destination
    }

    /// Has a destination tried again at a time, which is decided now.
    fn retry_at(&self, time: i64, now: i64, server: &ServerName) {
        self.retries.lock().push(Reverse((time, now, server.to_owned())));
        self.retry.notify_one();
    }

    fn retry_due(self: &Arc<Self>) {
        loop {
            let server = {
                let mut retries = self.retries.lock();
                // Behind the lock: what was put in meanwhile was decided before now, unless the clock was put back.
                let now = self.server.now_ms();
                match retries.peek() {
                    // One that was decided later than now, as a clock says that was put back, is not waited for.
                    Some(Reverse((time, since, _))) if *time <= now || *since > now => retries.pop(),
                    _ => return,
                }
            };
            if let Some(destination) = server.and_then(|Reverse((.., server))| self.known(&server)) {
                destination::wake(self, &destination);
            }
        }
    }

    /// A number for the next transaction, unlike any other's.
    fn transaction_id(&self) -> String {
        format!("{}{}", self.run, self.transactions.fetch_add(1, Ordering::Relaxed))
    }
}

/// One timer for all destinations that are tried again later.
async fn retry(inner: Weak<Inner>, mut stop: tokio::sync::watch::Receiver<bool>) {
    loop {
        let Some(strong) = inner.upgrade() else { return };
        strong.retry_due();
        let next = strong.retries.lock().peek().map(|Reverse((time, ..))| *time);
        let wait = next.map_or(Duration::from_secs(3_600), |time| {
            Duration::from_millis(u64::try_from(time - strong.server.now_ms()).unwrap_or(0).max(1))
        });
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(wait) => {}
            () = strong.retry.notified() => {}
        }
    }
}
