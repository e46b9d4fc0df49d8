//! Whole servers in the process, over each kind of database that is there.
//!
//! SQLite is always there. With `MYELIN_TEST_POSTGRES`, the URL of a PostgreSQL server on which databases can be made,
//! each test runs also over PostgreSQL, and over two servers that share one database, requests alternating.

use std::sync::{
    Arc,
    atomic::{AtomicI64, AtomicUsize, Ordering},
};

use hyper::{Method, StatusCode};
use myelin::{
    app::{App, AppState},
    assembly,
    listeners::Port,
    router,
    sessions::Accounts,
};
use myelin_core::{
    Server as Core,
    config::{self, Api},
    ports::{Clock, SystemClock, SystemRandom, random_device_id},
};
use myelin_federation::Federation;
use myelin_storage::statement::Sql;
use myelin_storage::{log, testing};
use parking_lot::Mutex;
use reqwest::Client;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{sync::watch, task::JoinHandle};

use crate::pair::certificates;

/// Status and body of an answer.
pub type Answer = (StatusCode, Value);

/// The machine's clock, which a test can move forward.
#[derive(Default)]
pub struct MovableClock(AtomicI64);

impl MovableClock {
    /// Moves it forward, in milliseconds.
    pub fn advance(&self, by: i64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }
}

impl Clock for MovableClock {
    fn now_ms(&self) -> i64 {
        SystemClock.now_ms() + self.0.load(Ordering::Relaxed)
    }
}

/// One server, or several that are one to their clients.
pub struct Setup {
    /// The servers' insides.
    pub cores: Vec<Arc<Core>>,
    /// Their clock.
    pub clock: Arc<MovableClock>,
    /// What speaks with other servers, of each.
    pub federations: Vec<Option<Arc<Federation>>>,
    to_others: Option<Border>,
    urls: Vec<String>,
    next: AtomicUsize,
    client: Client,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
    _folder: TempDir,
}

/// The port for other servers, which a test may close for a while.
struct Border {
    listener: config::Listener,
    app: App,
    open: Mutex<Option<(watch::Sender<bool>, JoinHandle<()>)>>,
}

/// A user on a device.
#[derive(Clone, Debug)]
pub struct User {
    /// The user id.
    pub id: String,
    /// The device id.
    pub device: String,
    /// The access token.
    pub token: String,
}

/// Runs a test on every set-up, with default settings.
pub async fn each_setup<F, Fut>(test: F)
where
    F: Fn(Arc<Setup>) -> Fut,
    Fut: Future<Output = ()>,
{
    each_setup_with(&[], test).await;
}

/// Runs a test on every set-up, with settings as variables: `("REGISTRATION_MODE", "token")`.
pub async fn each_setup_with<F, Fut>(variables: &[(&str, &str)], test: F)
where
    F: Fn(Arc<Setup>) -> Fut,
    Fut: Future<Output = ()>,
{
    for Database { replicas, url } in each_database().await {
        let setup = Arc::new(Setup::start(replicas, url.as_deref(), variables).await);
        test(setup.clone()).await;
        setup.check_plans();
        setup.end().await;
    }
}

/// A port on which a server can listen, stop and listen again. It is not among those that the system gives to
/// connections and to listeners that ask for none, so nothing else takes it in the meantime.
pub fn free_port() -> u16 {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let first = usize::try_from(std::process::id()).unwrap() * 64;
    loop {
        let port = 10_000 + (first + NEXT.fetch_add(1, Ordering::Relaxed)) % 20_000;
        let port = u16::try_from(port).unwrap();
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Settings of a server that federates and whose name is the address on which it listens for others.
pub fn federating(name: &str) -> [(&str, &str); 10] {
    let files = certificates();
    [
        ("SERVER_NAME", name),
        ("LISTENERS_1_BIND", name),
        ("LISTENERS_1_SERVE", "federation"),
        ("LISTENERS_1_TLS_CERTIFICATE", &files.certificate),
        ("LISTENERS_1_TLS_PRIVATE_KEY", &files.key),
        ("FEDERATION_ENABLED", "true"),
        ("FEDERATION_EXTRA_CA_CERTIFICATES", &files.authority),
        ("FEDERATION_DENIED_IP_RANGES", ""),
        ("FEDERATION_TRUSTED_KEY_SERVERS", ""),
        ("FEDERATION_PUBLIC_ROOMS", "true"),
    ]
}

/// A database, and how many servers share it.
pub struct Database {
    /// How many servers share it.
    pub replicas: usize,
    /// Its URL; SQLite without one.
    pub url: Option<String>,
}

/// A database of each kind that is there.
pub async fn each_database() -> Vec<Database> {
    let mut all = vec![Database { replicas: 1, url: None }];
    if let Ok(server) = std::env::var(testing::POSTGRES) {
        for replicas in [1, 2] {
            let name = format!("myelin_{}", random_device_id(&SystemRandom).to_lowercase());
            all.push(Database { replicas, url: Some(testing::postgres(&server, &name).await.unwrap().url) });
        }
    }
    all
}

impl Setup {
    async fn start(replicas: usize, database: Option<&str>, variables: &[(&str, &str)]) -> Setup {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().display().to_string();
        let mut all = vec![
            ("LISTENERS_0_BIND", "127.0.0.1:0"),
            ("SERVER_NAME", "localhost"),
            ("DATA_DIR", &data),
            ("DATABASE_CONNECTIONS", "4"),
            ("REGISTRATION_MODE", "open"),
            ("LIMITS_RATE_LIMITS", "false"),
            ("LIMITS_PASSWORD_HASHING_MEMORY_KIB", "8"),
            ("LIMITS_PASSWORD_HASHING_ITERATIONS", "1"),
        ];
        all.extend(database.map(|url| ("DATABASE_URL", url)));
        all.extend_from_slice(variables);
        let variables =
            all.iter().map(|(name, value)| (format!("MYELIN_{name}"), (*value).to_owned())).collect();
        Self::start_all(replicas, variables, folder).await
    }

    /// Servers that federate. The first has the port that their name says.
    pub async fn start_federated(replicas: usize, database: Option<&str>, more: &[(&str, &str)]) -> Setup {
        let name = format!("127.0.0.1:{}", free_port());
        Self::start(replicas, database, &[&federating(&name), more].concat()).await
    }

    async fn start_all(replicas: usize, variables: Vec<(String, String)>, folder: TempDir) -> Setup {
        // `MYELIN_TEST_LOG=debug`, for who looks for what went wrong.
        if let Ok(filter) = std::env::var("MYELIN_TEST_LOG") {
            let _ = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).try_init();
        }
        let (stop, stopping) = watch::channel(false);
        let clock = Arc::<MovableClock>::default();
        let (mut cores, mut federations) = (Vec::new(), Vec::new());
        let (mut urls, mut tasks) = (Vec::new(), Vec::new());
        let mut to_others = None;
        for replica in 0..replicas {
            let settings = config::load(None, variables.clone()).unwrap();
            let port = Port::open(&settings.listeners[0]).await.unwrap();
            urls.push(format!("http://{}", port.address));
            let federates = settings.listeners.len() > 1;
            let to_servers = settings.listeners.get(1).filter(|_| replica == 0).cloned();
            let core = assembly::open_server_with(settings, clock.clone()).await.unwrap();
            let accounts = Box::new(Accounts(core.clone()));
            let federation = match federates {
                true => assembly::federate(&core).await.unwrap(),
                false => None,
            };
            let app: App =
                Arc::new(AppState::new(core.clone(), federation.clone(), accounts, stopping.clone()));
            let router = router::build(&app, router::routes(Api::Client));
            tasks.push(tokio::spawn(port.serve(router, stopping.clone())));
            if let Some(listener) = to_servers {
                to_others = Some(Border { listener, app, open: Mutex::new(None) });
            }
            cores.push(core);
            federations.push(federation);
        }
        let client = Client::new();
        let next = AtomicUsize::new(0);
        let setup =
            Setup { cores, clock, federations, to_others, urls, next, client, stop, tasks, _folder: folder };
        setup.reconnect().await;
        setup
    }

    /// Opens the port for other servers again.
    pub async fn reconnect(&self) {
        let Some(border) = &self.to_others else { return };
        let port = Port::open(&border.listener).await.unwrap();
        let router = router::build(&border.app, router::routes_of(&[Api::Federation]));
        let (stop, stopping) = watch::channel(false);
        let task = tokio::spawn(port.serve(router, stopping));
        *border.open.lock() = Some((stop, task));
    }

    /// Closes the port for other servers.
    pub async fn cut(&self) {
        let open = self.to_others.as_ref().and_then(|border| border.open.lock().take());
        if let Some((stop, task)) = open {
            stop.send_replace(true);
            task.await.unwrap();
        }
    }

    /// Makes the server's database, which is SQLite's, refuse something until there is room again: what a trigger says,
    /// such as `INSERT ON events`, and when.
    pub async fn no_room(&self, what: &str, when: &str) {
        let trigger = format!(
            "CREATE TRIGGER no_room BEFORE {what} WHEN ({when}) AND NOT EXISTS \
             (SELECT 1 FROM meta WHERE key = 'test_room') BEGIN SELECT RAISE(ABORT, 'no room'); END"
        );
        let sql = Sql::both(Box::leak(trigger.into_boxed_str()));
        let commit = &self.cores[0].commit;
        let done = commit.run(move |tx| Box::pin(async move { Ok(tx.run(sql, &[]).await.map(drop)?) }));
        done.await.unwrap();
    }

    /// There is room again.
    pub async fn room_again(&self) {
        let commit = &self.cores[0].commit;
        let done = commit.run(|tx| Box::pin(async move { Ok(log::set_meta(tx, "test_room", "yes").await?) }));
        done.await.unwrap();
    }

    /// No statement may read a table from end to end that grows.
    pub fn check_plans(&self) {
        for core in &self.cores {
            let scans = testing::scans_of_growing_tables(&core.database);
            assert!(scans.is_empty(), "statements without an index: {scans:#?}");
        }
    }

    /// Ends the servers.
    pub async fn end(&self) {
        self.stop.send_replace(true);
        self.cut().await;
        for (core, federation) in self.cores.iter().zip(&self.federations) {
            assembly::close(core, federation.as_deref()).await;
        }
        for task in &self.tasks {
            task.abort();
        }
    }

    /// The next server's address.
    pub fn url(&self) -> &str {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        &self.urls[next % self.urls.len()]
    }

    /// Sends a request to the next server.
    pub async fn call(&self, method: Method, path: &str, token: Option<&str>, body: Option<Value>) -> Answer {
        self.call_at(self.url(), method, path, token, body).await
    }

    /// The address of one of the servers.
    pub fn url_of(&self, server: usize) -> &str {
        &self.urls[server]
    }

    /// Sends a request to the server at an address.
    pub async fn call_at(
        &self,
        url: &str,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: Option<Value>,
    ) -> Answer {
        let mut request = self.client.request(method, format!("{url}{path}"));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.unwrap();
        let status = answer.status();
        (status, answer.json().await.unwrap())
    }

    /// GET.
    pub async fn get(&self, path: &str, token: impl Into<Option<&str>>) -> Answer {
        self.call(Method::GET, path, token.into(), None).await
    }

    /// POST.
    pub async fn post(&self, path: &str, token: impl Into<Option<&str>>, body: Value) -> Answer {
        self.call(Method::POST, path, token.into(), Some(body)).await
    }

    /// PUT.
    pub async fn put(&self, path: &str, token: impl Into<Option<&str>>, body: Value) -> Answer {
        self.call(Method::PUT, path, token.into(), Some(body)).await
    }

    /// DELETE.
    pub async fn delete(&self, path: &str, token: impl Into<Option<&str>>, body: Value) -> Answer {
        self.call(Method::DELETE, path, token.into(), Some(body)).await
    }

    /// Registers a user whose password is the name.
    pub async fn register(&self, name: &str) -> User {
        let body = json!({ "username": name, "password": name, "auth": { "type": "m.login.dummy" } });
        User::of(ok(self.post("/_matrix/client/v3/register", None, body).await))
    }

    /// Logs a user in on a new device.
    pub async fn login(&self, name: &str) -> User {
        let body = json!({
            "type": "m.login.password",
            "identifier": { "type": "m.id.user", "user": name },
            "password": name,
        });
        User::of(ok(self.post("/_matrix/client/v3/login", None, body).await))
    }

    /// Checks that every server refuses a token that was revoked.
    pub async fn until_refused(&self, token: &str) -> Value {
        let mut last = Value::Null;
        for _ in &self.urls {
            last =
                refused(self.get("/_matrix/client/v3/account/whoami", token).await, 401, "M_UNKNOWN_TOKEN");
        }
        last
    }
}

impl User {
    /// From the answer to a registration or login.
    pub fn of(body: Value) -> User {
        let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
        User { id: text("user_id"), device: text("device_id"), token: text("access_token") }
    }
}

/// The body of a 200.
#[track_caller]
pub fn ok(answer: Answer) -> Value {
    let (status, body) = answer;
    assert_eq!(status, StatusCode::OK, "{body}");
    body
}

/// Checks status and errcode.
#[track_caller]
pub fn refused(answer: Answer, status: u16, errcode: &str) -> Value {
    let (found, body) = answer;
    assert_eq!((found.as_u16(), body["errcode"].as_str()), (status, Some(errcode)), "{body}");
    assert!(body["error"].is_string(), "{body}");
    body
}

/// The session of a request for authentication, with 401.
#[track_caller]
pub fn asked(answer: Answer) -> (String, Value) {
    let (status, body) = answer;
    assert_eq!(status, StatusCode::UNAUTHORIZED, "{body}");
    assert!(body["flows"].is_array(), "{body}");
    (body["session"].as_str().unwrap().to_owned(), body)
}

/// The answer of a user to the question for the password, which is the name.
pub fn password_auth(name: &str, session: &str) -> Value {
    json!({
        "type": "m.login.password",
        "identifier": { "type": "m.id.user", "user": name },
        "password": name,
        "session": session,
    })
}
