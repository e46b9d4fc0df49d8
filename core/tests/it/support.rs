//! Servers without HTTP, for tests.

use myelin_core::Server;
use myelin_core::config::load;
use myelin_core::ports::{Clock, SystemClock, SystemRandom};
use myelin_core::server::Parts;
use myelin_core::users::{accounts, sessions};
use myelin_storage::{Options, testing};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// One set-up: a database, and the replicas that serve it.
pub struct Setup {
    pub name: &'static str,
    pub replicas: Vec<Arc<Server>>,
    pub options: Options,
    _folder: tempfile::TempDir,
}

impl Drop for Setup {
    fn drop(&mut self) {
        let scans = |replica: &Arc<Server>| testing::scans_of_growing_tables(&replica.database);
        let scans: Vec<String> = self.replicas.iter().flat_map(scans).collect();
        if !std::thread::panicking() {
            assert!(scans.is_empty(), "statements without an index: {scans:#?}");
        }
    }
}

impl Setup {
    /// The replica whose turn it is.
    pub fn replica(&self, turn: usize) -> &Arc<Server> {
        &self.replicas[turn % self.replicas.len()]
    }
}

/// A clock that goes when it is told to.
pub struct TestClock(AtomicI64);

impl TestClock {
    /// Stands at the time of the machine's clock.
    pub fn now() -> Arc<TestClock> {
        Arc::new(TestClock(AtomicI64::new(SystemClock.now_ms())))
    }

    /// Goes forward.
    pub fn advance(&self, ms: i64) {
        self.0.fetch_add(ms, Ordering::Relaxed);
    }
}

impl Clock for TestClock {
    fn now_ms(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Opens a server over a database.
pub async fn open(options: &Options, replica: &str) -> Arc<Server> {
    open_with(options, replica, Arc::new(SystemClock)).await
}

/// Opens a server over a database, with a clock.
pub async fn open_with(options: &Options, replica: &str, clock: Arc<dyn Clock>) -> Arc<Server> {
    let env = [
        ("MYELIN_SERVER_NAME".to_owned(), "test.example".to_owned()),
        ("MYELIN_LIMITS_PASSWORD_HASHING_MEMORY_KIB".to_owned(), "64".to_owned()),
    ];
    let settings = load(None, env).expect("settings");
    let parts = Parts {
        settings,
        database: options.clone(),
        replica: replica.to_owned(),
        clock,
        random: Arc::new(SystemRandom),
    };
    Server::open(parts).await.expect("the server opens")
}

/// Every set-up that this machine has; `test` names the databases.
pub async fn setups(test: &str) -> Vec<Setup> {
    let mut setups = Vec::new();
    let folder = tempfile::tempdir().expect("a folder");
    let options = testing::sqlite(folder.path());
    let replicas = vec![open(&options, "a").await];
    setups.push(Setup { name: "sqlite", replicas, options, _folder: folder });
    let Ok(server) = std::env::var(testing::POSTGRES) else {
        println!("{test}: not run on PostgreSQL, since {} is not set", testing::POSTGRES);
        return setups;
    };
    for (name, count) in [("postgres", 1), ("postgres with two replicas", 2)] {
        let database = format!("core_{test}_{count}_{}", std::process::id());
        let options = testing::postgres(&server, &database).await.expect("a database");
        let mut replicas = Vec::new();
        for index in 0..count {
            replicas.push(open(&options, &format!("replica{index}")).await);
        }
        let folder = tempfile::tempdir().expect("a folder");
        setups.push(Setup { name, replicas, options, _folder: folder });
    }
    setups
}

/// Makes an account with a device, and gives its session.
pub async fn register(server: &Server, name: &str, device: &str) -> Arc<sessions::Session> {
    let login = sessions::Wanted { device_id: Some(device.into()), ..Default::default() };
    let registration =
        accounts::Registration { username: Some(name.to_owned()), login: Some(login), ..Default::default() };
    let registered = accounts::register(server, registration).await.expect("an account");
    let tokens = registered.login.expect("a session").tokens;
    sessions::authenticate(server, &tokens.access_token).await.expect("the session")
}

/// Gives an account another device.
pub async fn log_in(server: &Server, user_pk: i64, device: &str) -> Arc<sessions::Session> {
    let wanted = sessions::Wanted { device_id: Some(device.into()), ..Default::default() };
    let opened = sessions::open(server, user_pk, wanted).await.expect("a session");
    sessions::authenticate(server, &opened.tokens.access_token).await.expect("the session")
}
