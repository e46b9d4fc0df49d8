//! The homeserver's parts, assembled: what every operation is given.

use crate::cache::Caches;
use crate::commit::{Committer, Means};
use crate::config::Settings;
use crate::epoch;
use crate::error::{Error, Result};
use crate::events::signatures::ServerKey;
use crate::housekeeping::{self, Housekeeping};
use crate::ids::Ids;
use crate::keys::known::KnownKeys;
use crate::log::Log;
use crate::ports::{Clock, Random, Remote, random_text};
use crate::presence::Presence;
use crate::replicas::{Note, Replicas};
use crate::rooms::cache::Rooms;
use crate::rooms::typing::Typing;
use crate::serial::Serials;
use crate::signing_key;
use crate::sync::online::{Onlines, Waker};
use crate::sync::token::Seal;
use crate::to_device::RecentMessages;
use crate::users::Users;
use myelin_storage::{Database, Options, log};
use parking_lot::RwLock;
use ruma::{OwnedServerName, ServerName};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How long the end waits for what is only good to have on disk.
const CLOSE: Duration = Duration::from_secs(3);

/// What a server is opened with.
pub struct Parts {
    /// The settings.
    pub settings: Settings,
    /// How to open the database; the settings name it too, tests have their own.
    pub database: Options,
    /// This process's name among those that share the database.
    pub replica: String,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
}

/// A homeserver without its HTTP.
pub struct Server {
    /// The settings.
    pub settings: Settings,
    /// Reading.
    pub database: Database,
    /// Writing.
    pub commit: Committer,
    /// What happened.
    pub log: Arc<Log>,
    /// Who else serves from the database.
    pub replicas: Arc<Replicas>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
    /// What is in memory, and how much of it there may be.
    pub caches: Caches,
    /// Our own numbers.
    pub ids: Arc<Ids>,
    /// Rooms, events and states in memory.
    pub rooms: Arc<Rooms>,
    /// What is kept in memory about users.
    pub users: Users,
    /// Who is online, and what is remembered for their sake.
    pub online: Arc<Onlines>,
    /// Numbers of what is kept in memory only.
    pub serials: Arc<Serials>,
    /// Who is typing.
    pub typing: Typing,
    /// Who is there.
    pub presence: Presence,
    /// What users published of their keys.
    pub known_keys: Arc<KnownKeys>,
    /// What is done now and then.
    pub housekeeping: Housekeeping,
    /// The key that signs our events.
    pub key: ServerKey,
    /// Changes when the database is known to have been taken back to an earlier state.
    pub epoch: Arc<epoch::Current>,
    /// Why a new epoch began when this server was opened, if one did.
    pub epoch_renewed: Option<String>,
    /// By what our own tokens are known.
    pub seal: Seal,
    /// To-device messages that were sent lately.
    pub recent_messages: Arc<RecentMessages>,
    remote: RwLock<Option<Arc<dyn Remote>>>,
    stop: watch::Sender<bool>,
}

impl Server {
    /// Opens the database and starts the committer and the tasks that follow the log.
    pub async fn open(parts: Parts) -> Result<Arc<Server>> {
        let Parts { settings, database, replica, clock, random } = parts;
        let database = Database::open(&database, &replica).await?;
        let log = Arc::new(Log::open(database.clone()).await?);
        let (commit, _task) = Committer::start(Means {
            database: database.clone(),
            log: log.clone(),
            clock: clock.clone(),
            random: random.clone(),
        });
        let key = signing_key::of_database(&commit, &*random).await?;
        let seal = Seal::new(&first(&commit, "token_key", random_text(&*random, 43)).await?);
        let name = first(&commit, "server_name", settings.server_name.to_string()).await?;
        if name != settings.server_name.as_str() {
            return Err(Error::InvalidParam(format!(
                "server_name: this database belongs to {name:?} and the setting says {:?}. \
                 A server cannot change its name; set it back, or choose another database",
                settings.server_name.as_str()
            )));
        }
        let (epoch, epoch_renewed) = epoch::settle(&commit, &database, &*clock, &*random).await?;
        log.add_cache(epoch.clone());
        let caches = Caches::new(settings.limits.cache_bytes);
        let ids = Arc::new(Ids::new(&database, &caches));
        log.add_cache(ids.clone());
        let rooms = Arc::new(Rooms::new(database.clone(), &caches));
        log.add_cache(rooms.clone());
        let users = Users::new(&settings, &caches)?;
        log.add_cache(users.sessions.clone());
        let known_keys = Arc::new(KnownKeys::new(&caches));
        log.add_cache(known_keys.clone());
        let online = Arc::new(Onlines::new(database.clone(), &caches));
        caches.add(online.clone());
        log.add_cache(online.clone());
        log.add_waker(Arc::new(Waker(online.clone())));
        let replicas = Arc::new(Replicas::new(database.clone()));
        let serials = Arc::new(Serials::new(clock.now_ms() * 1_000));
        let server = Arc::new(Server {
            replicas,
            housekeeping: Housekeeping::default(),
            online,
            typing: Typing::new(serials.clone()),
            presence: Presence::new(serials.clone()),
            serials,
            ids,
            known_keys,
            recent_messages: Arc::new(RecentMessages::new(&caches)),
            rooms,
            users,
            caches,
            settings,
            database,
            commit,
            log,
            clock,
            random,
            key,
            epoch,
            epoch_renewed,
            seal,
            remote: RwLock::default(),
            stop: watch::Sender::new(false),
        });
        let (log, replicas, stop) = (server.log.clone(), server.replicas.clone(), server.stop.subscribe());
        let weak = Arc::downgrade(&server);
        let hear = move |note: Note<'_>| {
            let Some(server) = weak.upgrade() else { return };
            if let Note::Told { at_us, text } = note {
                server.hear_typing(at_us, text);
                server.hear_presence(at_us, text);
            }
            if let Ok(remote) = server.remote() {
                remote.hear(note);
            }
        };
        tokio::spawn(async move { replicas.follow(&log, hear, stop).await });
        tokio::spawn(housekeeping::run(Arc::downgrade(&server), server.stop.subscribe()));
        server.replicas.until_ready().await;
        Ok(server)
    }

    /// The server's name.
    pub fn name(&self) -> &ServerName {
        &self.settings.server_name
    }

    /// The server's name, to keep.
    pub fn owned_name(&self) -> OwnedServerName {
        self.settings.server_name.clone()
    }

    /// Returns when everything is applied here that was acknowledged anywhere before: to be called before something
    /// is read from memory.
    pub async fn fresh(&self) -> Result<()> {
        self.replicas.fresh(&self.log).await
    }

    /// Hands in the way to other servers, once at assembly.
    pub fn set_remote(&self, remote: Arc<dyn Remote>) {
        *self.remote.write() = Some(remote);
    }

    /// The way to other servers.
    ///
    /// # Errors
    /// M_FORBIDDEN where this server federates with nobody.
    pub fn remote(&self) -> Result<Arc<dyn Remote>> {
        let remote = self.remote.read().clone();
        remote.ok_or_else(|| Error::forbidden("this server does not federate with others"))
    }

    /// Turns true when the server is to end.
    pub fn stopping(&self) -> watch::Receiver<bool> {
        self.stop.subscribe()
    }

    /// Milliseconds since the Unix epoch.
    pub fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    /// Ends the tasks and closes the database.
    pub async fn close(&self) {
        match tokio::time::timeout(CLOSE, self.save_counts()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "unread counts were not written down"),
            Err(_) => tracing::debug!("unread counts were not written down: the database is too slow"),
        }
        self.stop.send_replace(true);
        // It holds this server in its turn.
        *self.remote.write() = None;
        self.database.close().await;
    }
}

/// A value of the database that is made once, by whoever comes first.
async fn first(commit: &Committer, key: &'static str, value: String) -> Result<String> {
    commit.run(move |tx| Box::pin(async move { Ok(log::meta_or(tx, key, &value).await?) })).await
}
