//! Two servers in the process that federate over real TLS, the first over each kind of database that is there.
//!
//! Their names are addresses of the loopback interface with the ports that they listen on; their certificates come from
//! an authority that is made for the run.

use std::sync::{Arc, OnceLock};

use hyper::StatusCode;
use myelin_federation::Federation;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Answer, Setup, User, each_database, ok};

/// Files with the authority's certificate, and certificate and key of all servers.
pub struct Certificates {
    /// The authority's certificate.
    pub authority: String,
    /// The servers' certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
    _folder: TempDir,
}

/// The certificates of this run.
pub fn certificates() -> &'static Certificates {
    static MADE: OnceLock<Certificates> = OnceLock::new();
    MADE.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // OpenSSL takes a certificate whose issuer has its own name for one that signed itself.
        params.distinguished_name.push(DnType::CommonName, "Authority of the tests");
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.subject_alt_names.push(SanType::IpAddress([127, 0, 0, 1].into()));
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &authority).unwrap();
        let write = |name: &str, text: String| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        Certificates {
            authority: write("authority.pem", authority.pem()),
            certificate: write("server.pem", certificate.pem()),
            key: write("server.key", key.serialize_pem()),
            _folder: folder,
        }
    })
}

/// Two servers.
pub struct Pair {
    /// The first, over the database of the set-up.
    pub one: Arc<Setup>,
    /// The second, over SQLite.
    pub two: Arc<Setup>,
}

/// Runs a test on pairs of servers.
pub async fn each_pair<F, Fut>(test: F)
where
    F: Fn(Arc<Pair>) -> Fut,
    Fut: Future<Output = ()>,
{
    each_pair_with(&[], test).await;
}

/// Runs a test on pairs of servers with more settings.
pub async fn each_pair_with<F, Fut>(variables: &[(&str, &str)], test: F)
where
    F: Fn(Arc<Pair>) -> Fut,
    Fut: Future<Output = ()>,
{
    for database in each_database().await {
        let (replicas, url) = (database.replicas, database.url.as_deref());
        let one = Arc::new(Setup::start_federated(replicas, url, variables).await);
        let two = Arc::new(Setup::start_federated(1, None, variables).await);
        let pair = Arc::new(Pair { one, two });
        test(pair.clone()).await;
        for setup in [&pair.one, &pair.two] {
            setup.check_plans();
            setup.end().await;
        }
    }
}

impl Setup {
    /// Waits until one of the servers has found that another does not answer.
    pub async fn until_given_up(&self, name: &str) {
        let name = ruma::OwnedServerName::try_from(name).unwrap();
        for _ in 0..400 {
            let now = self.cores[0].now_ms();
            let given_up = |federation: &Option<Arc<Federation>>| {
                federation.as_ref().unwrap().client.backoff.until(&name, now).is_some()
            };
            if self.federations.iter().any(given_up) {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        panic!("{name} was not given up");
    }

    /// The server's name.
    pub fn name(&self) -> String {
        self.cores[0].name().to_string()
    }

    /// Creates a room.
    pub async fn create_room(&self, user: &User, wish: Value) -> String {
        let body = ok(self.post("/_matrix/client/v3/createRoom", &*user.token, wish).await);
        body["room_id"].as_str().unwrap().to_owned()
    }

    /// Sends a text; gives the event's id.
    pub async fn say(&self, user: &User, room: &str, text: &str) -> String {
        static NUMBER: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = format!("/_matrix/client/v3/rooms/{room}/send/m.room.message/t{number}");
        let content = json!({ "msgtype": "m.text", "body": text });
        let body = ok(self.put(&path, &*user.token, content).await);
        body["event_id"].as_str().unwrap().to_owned()
    }

    /// Joins a room through a server.
    pub async fn join_by(&self, user: &User, room: &str, via: &str) -> Answer {
        self.post(&format!("/_matrix/client/v3/join/{room}?via={via}"), &*user.token, json!({})).await
    }

    /// Syncs until `found` finds something in an answer, from the first on.
    pub async fn sync_until<T>(&self, user: &User, what: &str, found: impl FnMut(&Value) -> Option<T>) -> T {
        self.sync_from_until(None, user, what, found).await
    }

    /// The token from which a user's next sync goes on.
    pub async fn since(&self, user: &User) -> String {
        let body = ok(self.get("/_matrix/client/v3/sync", &*user.token).await);
        body["next_batch"].as_str().unwrap().to_owned()
    }

    /// Syncs from a token until `found` finds something in an answer.
    pub async fn sync_from_until<T>(
        &self,
        since: Option<&str>,
        user: &User,
        what: &str,
        mut found: impl FnMut(&Value) -> Option<T>,
    ) -> T {
        let mut since = since.map(|since| format!("&since={since}")).unwrap_or_default();
        for _ in 0..40 {
            let path = format!("/_matrix/client/v3/sync?timeout=1000{since}");
            let body = ok(self.get(&path, &*user.token).await);
            if let Some(found) = found(&body) {
                return found;
            }
            since = format!("&since={}", body["next_batch"].as_str().unwrap());
        }
        panic!("{} never saw: {what}", user.id);
    }

    /// Waits until a user has seen a text in a room.
    pub async fn until_seen(&self, user: &User, room: &str, text: &str) -> Value {
        self.sync_until(user, text, |body| {
            let events = body["rooms"]["join"][room]["timeline"]["events"].as_array()?;
            events.iter().find(|event| event["content"]["body"] == text).cloned()
        })
        .await
    }

    /// A piece of a room's state as a user sees it.
    pub async fn state(&self, user: &User, room: &str, kind: &str, key: &str) -> (StatusCode, Value) {
        self.get(&format!("/_matrix/client/v3/rooms/{room}/state/{kind}/{key}"), &*user.token).await
    }
}
