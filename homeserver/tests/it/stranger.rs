//! A server made by the test: it has a key, a TLS port and prepared answers, and says what the test wants it to say.

use std::{collections::HashMap, sync::Arc};

use axum::{Router, body::Bytes, extract::Request as HttpRequest};
use hyper::{Method, StatusCode};
use myelin::listeners::Port;
use myelin_core::config;
use myelin_core::events::signatures::ServerKey;
use parking_lot::Mutex;
use reqwest::{Certificate, Client};
use ruma::OwnedServerName;
use ruma::api::federation::authentication::{XMatrix, XMatrixSigningInput};
use ruma::canonical_json::CanonicalJsonObject;
use serde_json::{Value, json};
use tokio::{sync::watch, task::JoinHandle};

use crate::pair::certificates;
use crate::support::{Answer, free_port};

/// Where transactions come in.
const SEND: &str = "PUT /_matrix/federation/v1/send/";
/// Among the answers: transactions are taken in.
const LISTENS: &str = "listens";

type Answers = Arc<Mutex<HashMap<String, Known>>>;

/// A prepared answer: what is asked with this body gets that.
type Known = Arc<dyn Fn(Value) -> Value + Send + Sync>;

/// A server of the test's own.
pub struct Stranger {
    /// Its name, which is its address.
    pub name: OwnedServerName,
    /// Its key.
    pub key: ServerKey,
    answers: Answers,
    asked: Arc<Mutex<Vec<String>>>,
    heard: watch::Receiver<Vec<Value>>,
    client: Client,
    stop: watch::Sender<bool>,
    _task: JoinHandle<()>,
}

impl Stranger {
    /// Starts one with a key that its seed decides.
    pub async fn start(seed: u8) -> Stranger {
        let files = certificates();
        let free = format!("127.0.0.1:{}", free_port());
        let variables = [
            ("MYELIN_LISTENERS_0_BIND", free.clone()),
            ("MYELIN_LISTENERS_0_TLS_CERTIFICATE", files.certificate.clone()),
            ("MYELIN_LISTENERS_0_TLS_PRIVATE_KEY", files.key.clone()),
            ("MYELIN_LISTENERS_0_SERVE", "federation".to_owned()),
            ("MYELIN_SERVER_NAME", free),
        ];
        let variables = variables.into_iter().map(|(name, value)| (name.to_owned(), value));
        let settings = config::load(None, variables).unwrap();
        let port = Port::open(&settings.listeners[0]).await.unwrap();
        let name = settings.server_name.clone();
        let key = ServerKey::from_seed("s", &[seed; 32]).unwrap();
        let answers = Answers::default();
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let (stop, stopping) = watch::channel(false);
        let (hear, heard) = watch::channel(Vec::new());
        let (known, log, hear) = (answers.clone(), asked.clone(), Arc::new(hear));
        let router = Router::new().fallback(move |request: HttpRequest| {
            let (known, log, hear) = (known.clone(), log.clone(), hear.clone());
            async move {
                let path = request.uri().path().replace("%21", "!").replace("%3A", ":").replace("%24", "$");
                let path = format!("{} {path}", request.method());
                log.lock().push(path.clone());
                if path.starts_with(SEND) && known.lock().contains_key(LISTENS) {
                    let body = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap();
                    let transaction: Value = serde_json::from_slice(&body).unwrap();
                    let edus = transaction["edus"].as_array().cloned().unwrap_or_default();
                    hear.send_modify(|heard| heard.extend(edus));
                    return (StatusCode::OK, json!({ "pdus": {} }).to_string());
                }
                let known = known.lock().clone();
                let of_all =
                    || known.iter().find(|(start, _)| start.ends_with('/') && path.starts_with(*start));
                let answer = known.get(&path).or_else(|| of_all().map(|(_, answer)| answer)).cloned();
                match answer {
                    Some(answer) => {
                        let body = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap();
                        let answer = answer(serde_json::from_slice(&body).unwrap_or_default());
                        (StatusCode::OK, answer.to_string())
                    }
                    None => (StatusCode::NOT_FOUND, json!({ "errcode": "M_NOT_FOUND" }).to_string()),
                }
            }
        });
        let task = tokio::spawn(port.serve(router, stopping));
        let authority = Certificate::from_pem(&std::fs::read(&files.authority).unwrap()).unwrap();
        let client = Client::builder().tls_certs_merge([authority]).build().unwrap();
        let stranger = Stranger { name, key, answers, asked, heard, client, stop, _task: task };
        let document = json!({
            "server_name": stranger.name, "valid_until_ts": 4_000_000_000_000_i64,
            "verify_keys": { "ed25519:s": { "key": stranger.key.public_base64() } }, "old_verify_keys": {},
        });
        stranger.answer("GET /_matrix/key/v2/server", stranger.signed(document));
        stranger
    }

    /// Prepares an answer: `GET /path`.
    pub fn answer(&self, request: &str, answer: Value) {
        self.answers_by(request, move |_| answer.clone());
    }

    /// Prepares an answer that depends on what it is asked.
    pub fn answers_by(&self, request: &str, answer: impl Fn(Value) -> Value + Send + Sync + 'static) {
        self.answers.lock().insert(request.to_owned(), Arc::new(answer));
    }

    /// From now on it takes transactions in; before, it answers as if it did not know them.
    pub fn listens(&self) {
        self.answer(LISTENS, Value::Null);
    }

    /// Waits for an EDU of a type in which `found` finds something, also among those that came before.
    pub async fn hears<T>(&self, kind: &str, mut found: impl FnMut(&Value) -> Option<T>) -> T {
        let mut heard = self.heard.clone();
        let mut next = 0;
        let search = async {
            loop {
                let edus = heard.borrow_and_update()[next..].to_vec();
                next += edus.len();
                let of_kind = edus.iter().filter(|edu| edu["edu_type"] == kind);
                if let Some(found) = of_kind.map(|edu| &edu["content"]).find_map(&mut found) {
                    return found;
                }
                heard.changed().await.unwrap();
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(30), search)
            .await
            .expect("it heard nothing of it")
    }

    /// No longer answers something.
    pub fn forgets(&self, request: &str) {
        self.answers.lock().remove(request);
    }

    /// Prepares an answer to all requests that begin so: `PUT /path/`.
    pub fn answer_all(&self, start: &str, answer: Value) {
        assert!(start.ends_with('/'));
        self.answer(start, answer);
    }

    /// Waits until it was asked so often for something that begins so.
    pub async fn until_asked(&self, start: &str, times: usize) {
        for _ in 0..400 {
            if self.times_asked(start) >= times {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(25)).await;
        }
        panic!("it was not asked {times} times: {start}");
    }

    /// How often it was asked for something that begins so.
    pub fn times_asked(&self, start: &str) -> usize {
        self.asked.lock().iter().filter(|asked| asked.starts_with(start)).count()
    }

    /// Whether it was asked for something: `GET /path`, or the beginning of it.
    pub fn was_asked(&self, request: &str) -> bool {
        self.asked.lock().iter().any(|asked| asked.starts_with(request))
    }

    /// How often it was asked for something.
    pub fn questions(&self) -> usize {
        self.asked.lock().len()
    }

    /// A JSON object with this server's signature.
    pub fn signed(&self, object: Value) -> Value {
        let mut object: CanonicalJsonObject = serde_json::from_value(object).unwrap();
        self.key.sign_json(&self.name, &mut object).unwrap();
        serde_json::to_value(object).unwrap()
    }

    /// A user's id.
    pub fn user(&self, name: &str) -> String {
        format!("@{name}:{}", self.name)
    }

    /// The Authorization header of a request.
    pub fn header(&self, to: &str, method: &Method, path: &str, body: &[u8]) -> String {
        let request = http::Request::builder()
            .method(method.clone())
            .uri(format!("https://{to}{path}"))
            .body(Bytes::copy_from_slice(body))
            .unwrap();
        let to = OwnedServerName::try_from(to).unwrap();
        let input = XMatrixSigningInput::new(self.name.clone(), to, self.key.pair());
        XMatrix::sign_http_request(&request, input).unwrap().to_string()
    }

    /// Asks a server, signed.
    pub async fn ask(&self, to: &str, method: Method, path: &str, body: Option<&Value>) -> Answer {
        let body = body.map(|body| serde_json::to_vec(body).unwrap()).unwrap_or_default();
        let header = self.header(to, &method, path, &body);
        self.send(to, method, path, Some(&header), body).await
    }

    /// Asks a server with any header.
    pub async fn send(
        &self,
        to: &str,
        method: Method,
        path: &str,
        header: Option<&str>,
        body: Vec<u8>,
    ) -> Answer {
        let mut request = self.client.request(method, format!("https://{to}{path}"));
        if let Some(header) = header {
            request = request.header("authorization", header);
        }
        if !body.is_empty() {
            request = request.header("content-type", "application/json").body(body);
        }
        let answer = request.send().await.unwrap();
        let status = answer.status();
        (status, answer.json().await.unwrap_or_default())
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}
