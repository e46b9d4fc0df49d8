//! Servers without HTTP, for tests.

use myelin_core::Server;
use myelin_core::config::load;
use myelin_core::ports::{SystemClock, SystemRandom};
use myelin_core::server::Parts;
use myelin_storage::{Options, testing};
use std::sync::Arc;

/// One set-up: a database, and the replicas that serve it.
pub struct Setup {
    pub name: &'static str,
    pub replicas: Vec<Arc<Server>>,
    pub options: Options,
    _folder: tempfile::TempDir,
}

impl Setup {
    /// The replica whose turn it is.
    pub fn replica(&self, turn: usize) -> &Arc<Server> {
        &self.replicas[turn % self.replicas.len()]
    }
}

/// Opens a server over a database.
pub async fn open(options: &Options, replica: &str) -> Arc<Server> {
    let env = [
        ("MYELIN_SERVER_NAME".to_owned(), "test.example".to_owned()),
        ("MYELIN_LIMITS_PASSWORD_HASHING_MEMORY_KIB".to_owned(), "64".to_owned()),
    ];
    let settings = load(None, env).expect("settings");
    let parts = Parts {
        settings,
        database: options.clone(),
        replica: replica.to_owned(),
        clock: Arc::new(SystemClock),
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
