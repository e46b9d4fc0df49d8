//! A server in the process, with the real routes and a few of the tests' own.

use std::sync::Arc;

use axum::response::Response;
use futures_util::future::{BoxFuture, FutureExt as _};
use hyper::{Method, StatusCode};
use myelin::{
    app::{App, AppState},
    assembly,
    extract::{Incoming, Ruma, Session, Sessions},
    listeners::Port,
    response::{ApiError, json_response},
    router::{self, Route, route, route_raw, route_response},
};
use myelin_core::config::{self, Api, Settings};
use reqwest::Client;
use ruma::{
    api::client::{
        account::whoami, message::get_message_events, message::send_message_event, room::create_room,
    },
    event_id, room_id, user_id,
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{sync::watch, task::JoinHandle};

/// A running server.
pub struct Server {
    /// `http://127.0.0.1:PORT`
    pub url: String,
    /// A client that does not follow redirects or unpack answers.
    pub client: Client,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
    _folder: TempDir,
}

impl Server {
    /// Starts with settings as variables: `("LIMITS_REQUEST_SIZE", "65536")`.
    pub async fn start(variables: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let free_port = ("MYELIN_LISTENERS_0_BIND".to_owned(), "127.0.0.1:0".to_owned());
        let data = ("MYELIN_DATA_DIR".to_owned(), folder.path().display().to_string());
        let variables = variables.iter().map(|(name, value)| (format!("MYELIN_{name}"), (*value).to_owned()));
        let settings = config::load(None, [free_port, data].into_iter().chain(variables)).unwrap();
        Self::start_with(settings, folder).await
    }

    async fn start_with(settings: Settings, folder: TempDir) -> Self {
        let (stop, stopping) = watch::channel(false);
        let port = Port::open(&settings.listeners[0]).await.unwrap();
        let scheme = if port.is_tls() { "https" } else { "http" };
        let url = format!("{scheme}://{}", port.address);
        let core = assembly::open_server(settings).await.unwrap();
        let app: App = Arc::new(AppState::new(core, None, Box::new(TestSessions), stopping.clone()));
        // The tests' own routes take the place of the real ones.
        let own = test_routes();
        let is_own = |route: &Route| {
            own.iter().any(|own| own.method == route.method && own.paths.contains(&route.paths[0]))
        };
        let mut routes = router::routes(Api::Client);
        routes.retain(|route| !is_own(route));
        routes.extend(own);
        let task = tokio::spawn(port.serve(router::build(&app, routes), stopping));
        let client = Client::builder().no_gzip().build().unwrap();
        Self { url, client, stop, task, _folder: folder }
    }

    /// A request without a token.
    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url))
    }

    /// A request of alice.
    pub fn alice(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.request(method, path).bearer_auth("alice")
    }

    /// Tells the server to stop and waits until it has.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        self.task.await.unwrap();
    }
}

/// Checks status and errcode of an answer, and returns its JSON.
#[track_caller]
pub fn check(
    answer: reqwest::Result<reqwest::Response>,
    status: StatusCode,
    errcode: &str,
) -> BoxFuture<'static, Value> {
    let answer = answer.unwrap();
    assert_eq!(answer.status(), status);
    assert_eq!(answer.headers()["access-control-allow-origin"], "*");
    let errcode = errcode.to_owned();
    async move {
        let body: Value = answer.json().await.unwrap();
        assert_eq!(body["errcode"], errcode, "{body}");
        assert!(body["error"].is_string(), "{body}");
        body
    }
    .boxed()
}

struct TestSessions;

impl Sessions for TestSessions {
    fn authenticate<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Arc<Session>, ApiError>> {
        let session = |guest| Session {
            user: user_id!("@alice:localhost").to_owned(),
            user_pk: 1,
            device: Some("DEVICE".into()),
            device_pk: 1,
            guest,
            admin: false,
        };
        let result = match token {
            "alice" => Ok(Arc::new(session(false))),
            "guest" => Ok(Arc::new(session(true))),
            other => Err(ApiError::unknown_token(other == "expired")),
        };
        async { result }.boxed()
    }
}

fn test_routes() -> Vec<Route> {
    vec![
        route(who_am_i),
        route(create_a_room),
        route(send),
        route_response(messages),
        route_raw(Method::GET, "/test/panic", "none", "panic", |_, _| async { panic!("on purpose") }),
        route_raw(Method::GET, "/test/large", "none", "large", |_, _| async {
            Ok(json_response(StatusCode::OK, format!("\"{}\"", "a".repeat(100_000))))
        }),
        route_raw(Method::GET, "/test/wait", "none", "wait", wait),
        route_raw(Method::GET, "/test/address", "none", "address", address),
        route_raw(Method::POST, "/test/json", "none", "json", read_json),
    ]
}

async fn who_am_i(_app: App, request: Ruma<whoami::v3::Request>) -> Result<whoami::v3::Response, ApiError> {
    Ok(whoami::v3::Response::new(request.identity.user.clone(), false))
}

async fn create_a_room(
    _app: App,
    _request: Ruma<create_room::v3::Request>,
) -> Result<create_room::v3::Response, ApiError> {
    Ok(create_room::v3::Response::new(room_id!("!room:localhost").to_owned()))
}

async fn send(
    _app: App,
    _request: Ruma<send_message_event::v3::Request>,
) -> Result<send_message_event::v3::Response, ApiError> {
    Ok(send_message_event::v3::Response::new(event_id!("$event").to_owned()))
}

async fn messages(_app: App, request: Ruma<get_message_events::v3::Request>) -> Result<Response, ApiError> {
    Ok(json_response(StatusCode::OK, format!("{{\"limit\":{}}}", request.body.limit)))
}

async fn wait(app: App, _request: Incoming) -> Result<Response, ApiError> {
    app.stopping().await;
    Ok(json_response(StatusCode::OK, "{}"))
}

async fn address(_app: App, request: Incoming) -> Result<Response, ApiError> {
    Ok(json_response(StatusCode::OK, format!("{:?}", request.address.unwrap().to_string())))
}

async fn read_json(app: App, request: Incoming) -> Result<Response, ApiError> {
    #[derive(serde::Deserialize)]
    struct Body {
        number: u32,
    }
    let body: Body = request.read_json(&app).await?;
    Ok(json_response(StatusCode::OK, body.number.to_string()))
}
