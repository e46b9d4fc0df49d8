//! Every endpoint that stands, against what no client should send. The routes are the router's own, so a new one is
//! tried without a line here.

use std::sync::atomic::{AtomicUsize, Ordering};

use myelin::router::{self, Route};
use myelin_core::config::Api;
use reqwest::{Client, Method, StatusCode, header};
use serde_json::{Value, json};

use crate::support::{Setup, User, each_setup_with, ok};

/// Arguments of paths, of which none names anything: ids as they should be, and as they should not.
pub const ARGUMENTS: [fn(&str) -> String; 6] = [
    |name| match name {
        "user_id" | "userId" => "@nobody:localhost".to_owned(),
        "room_id" | "roomId" | "room_id_or_alias" | "roomIdOrAlias" => "!nowhere:localhost".to_owned(),
        "event_id" | "eventId" => "$nothing".to_owned(),
        "room_alias" | "roomAlias" => "%23nothing:localhost".to_owned(),
        _ => "something".to_owned(),
    },
    |_| "x".to_owned(),
    |_| "%00".to_owned(),
    |_| "a%2Fb%2F..%2F%2E%2E".to_owned(),
    |_| "%FF%FE".to_owned(),
    |_| format!("@{}:localhost", "a".repeat(3_000)),
];

/// Fields of many requests.
const FIELDS: [&str; 36] = [
    "type",
    "username",
    "user",
    "password",
    "new_password",
    "auth",
    "identifier",
    "token",
    "refresh_token",
    "device_id",
    "devices",
    "display_name",
    "displayname",
    "avatar_url",
    "user_id",
    "reason",
    "name",
    "topic",
    "invite",
    "preset",
    "room_version",
    "initial_state",
    "power_level_content_override",
    "room_alias_name",
    "room_id",
    "membership",
    "typing",
    "timeout",
    "events",
    "order",
    "actions",
    "enabled",
    "one_time_keys",
    "device_keys",
    "messages",
    "room",
];

/// Bodies of which no endpoint can make anything, or at most nothing.
pub fn bodies() -> Vec<Vec<u8>> {
    let mut bodies: Vec<Vec<u8>> = [
        "",
        "x",
        "{",
        "[]",
        "1",
        "null",
        "\"text\"",
        "{\"a\":1e999}",
        "{\"a\":1.5}",
        "{\"a\":9007199254740993}",
    ]
    .into_iter()
    .map(|text| text.as_bytes().to_vec())
    .collect();
    bodies.push(b"{\"a\":\"\xff\xfe\"}".to_vec());
    bodies.push(format!("{}{}", "[".repeat(10_000), "]".repeat(10_000)).into_bytes());
    bodies.push(format!("{}1{}", "{\"a\":".repeat(10_000), "}".repeat(10_000)).into_bytes());
    for wrong in ["7", "true", "null", "\"\"", "\"\\u0000\"", "[[]]", "{\"\":{}}", "-1", "[7,{}]"] {
        let fields: Vec<String> = FIELDS.iter().map(|field| format!("\"{field}\":{wrong}")).collect();
        bodies.push(format!("{{{}}}", fields.join(",")).into_bytes());
    }
    bodies
}

/// A path with its variables replaced.
pub fn filled(path: &str, argument: impl Fn(&str) -> String) -> String {
    let fill = |part: &str| match part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) {
        Some(name) => argument(name.trim_start_matches('*')),
        None => part.to_owned(),
    };
    path.split('/').map(fill).collect::<Vec<_>>().join("/")
}

struct Walk<'a> {
    setup: &'a Setup,
    client: Client,
    tried: AtomicUsize,
}

impl Walk<'_> {
    /// Sends a request and checks what holds for every answer; gives its status and errcode.
    async fn send(
        &self,
        method: &Method,
        path: &str,
        token: Option<&str>,
        body: Vec<u8>,
    ) -> (StatusCode, String) {
        let mut request =
            self.client.request(method.clone(), format!("{}{path}", self.setup.url())).body(body);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let answer = request.send().await.unwrap();
        self.tried.fetch_add(1, Ordering::Relaxed);
        let (status, headers) = (answer.status(), answer.headers().clone());
        let text = answer.text().await.unwrap();
        let what = format!("{method} {path}: {status} {text}");
        assert!(status < StatusCode::INTERNAL_SERVER_ERROR, "{what}");
        assert!(headers.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN), "{what}");
        if status.is_success() {
            return (status, String::new());
        }
        let json: Value = serde_json::from_str(&text).expect(&what);
        if json.get("flows").is_some() {
            return (status, "interactive".to_owned());
        }
        assert!(json["error"].is_string(), "{what}");
        (status, json["errcode"].as_str().expect(&what).to_owned())
    }

    async fn refused(&self, route: &Route, path: &str, token: Option<&str>, status: u16, errcode: &str) {
        let got = self.send(&route.method, path, token, b"{}".to_vec()).await;
        assert_eq!((got.0.as_u16(), got.1.as_str()), (status, errcode), "{} {path}", route.method);
    }
}

/// Arguments of paths that name a user's own things, so that handlers come to what stands behind their first look.
async fn own_things(setup: &Setup, user: &User) -> impl Fn(&str) -> String + use<> {
    let room = ok(setup.post("/_matrix/client/v3/createRoom", &*user.token, json!({})).await);
    let room = room["room_id"].as_str().unwrap().to_owned();
    let path = format!("/_matrix/client/v3/rooms/{room}/send/m.room.message/1");
    let event = ok(setup.put(&path, &*user.token, json!({ "body": "hello" })).await);
    let event = event["event_id"].as_str().unwrap().to_owned();
    let (user, device) = (user.id.clone(), user.device.clone());
    move |name| match name {
        "user_id" | "userId" => user.clone(),
        "device_id" | "deviceId" => device.clone(),
        "room_id" | "roomId" | "room_id_or_alias" | "roomIdOrAlias" => room.clone(),
        "event_id" | "eventId" | "parent_id" => event.clone(),
        "room_alias" | "roomAlias" => "%23own:localhost".to_owned(),
        "event_type" | "eventType" | "type" => "m.room.topic".to_owned(),
        "receipt_type" => "m.read".to_owned(),
        "scope" => "global".to_owned(),
        "kind" => "override".to_owned(),
        "attr" => "enabled".to_owned(),
        _ => "something".to_owned(),
    }
}

#[tokio::test]
async fn nothing_that_is_sent_breaks_an_endpoint() {
    each_setup_with(&[], async |setup| {
        let alice = setup.register("alice").await;
        let walk = Walk { setup: &setup, client: Client::new(), tried: AtomicUsize::new(0) };
        let head = setup.cores[0].log.visible();
        let routes = router::routes(Api::Client);
        let needs_token = |route: &&Route| route.authentication == "access token";
        for route in routes.iter().filter(needs_token) {
            for path in &route.paths {
                let path = filled(path, ARGUMENTS[0]);
                walk.refused(route, &path, None, 401, "M_MISSING_TOKEN").await;
                walk.refused(route, &path, Some("none"), 401, "M_UNKNOWN_TOKEN").await;
            }
        }
        assert_eq!(setup.cores[0].log.visible(), head, "somebody without a token wrote something");
        for route in &routes {
            let path = filled(route.paths[0], ARGUMENTS[0]);
            let wrong = walk.send(&Method::TRACE, &path, Some(&alice.token), Vec::new()).await;
            assert_eq!((wrong.0.as_u16(), wrong.1.as_str()), (405, "M_UNRECOGNIZED"), "{path}");
        }
        let unknown =
            walk.send(&Method::GET, "/_matrix/client/v3/nothing", Some(&alice.token), Vec::new()).await;
        assert_eq!((unknown.0.as_u16(), unknown.1.as_str()), (404, "M_UNRECOGNIZED"));
        let own = own_things(&setup, &alice).await;
        // Session and room are needed to the end.
        let ends = |path: &str| ["/logout", "/leave", "/forget"].iter().any(|end| path.contains(end));
        for route in routes.iter().filter(|route| !ends(route.paths[0])) {
            let path = filled(route.paths[0], |name| own(name));
            for body in bodies() {
                let before = setup.cores[0].log.visible();
                let is_json =
                    serde_json::from_slice::<serde::de::IgnoredAny>(&body).is_ok() || body.is_empty();
                let (status, errcode) = walk.send(&route.method, &path, Some(&alice.token), body).await;
                let reads_body = matches!(route.method, Method::POST | Method::PUT);
                assert!(is_json || !reads_body || !status.is_success(), "{path} took what is no JSON");
                if setup.cores.len() == 1 && !status.is_success() {
                    let after = setup.cores[0].log.visible();
                    assert_eq!(after, before, "{path} wrote something and answered {status} {errcode}");
                }
            }
            let path = filled(route.paths[0], ARGUMENTS[0]);
            for body in bodies() {
                walk.send(&route.method, &path, Some(&alice.token), body).await;
            }
            for argument in ARGUMENTS {
                let path = filled(route.paths[0], argument);
                walk.send(&route.method, &path, Some(&alice.token), b"{}".to_vec()).await;
                let query =
                    format!("{path}?from=x&limit=-1&since=s1&filter=%7B&dir=q&at=%FF&{}", "a=b&".repeat(500));
                walk.send(&route.method, &query, Some(&alice.token), b"{}".to_vec()).await;
            }
        }
        assert!(walk.tried.into_inner() > 2_000);
    })
    .await;
}
