//! Web clients of any origin, HEAD, and what clients ask first.

use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::Server;

#[tokio::test]
async fn preflight_requests_run_nothing() {
    let server = Server::start(&[]).await;
    for path in ["/_matrix/client/v3/account/whoami", "/test/panic", "/nowhere"] {
        let answer = server.request(Method::OPTIONS, path).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        let headers = answer.headers();
        assert_eq!(headers["access-control-allow-origin"], "*");
        assert!(headers["access-control-allow-methods"].to_str().unwrap().contains("PUT"));
        assert!(headers["access-control-allow-headers"].to_str().unwrap().contains("Authorization"));
    }
}

#[tokio::test]
async fn discovery() {
    let server = Server::start(&[("PUBLIC_BASEURL", "https://matrix.example.org/")]).await;
    let answer = server.request(Method::GET, "/_matrix/client/versions").send().await.unwrap();
    assert_eq!(answer.headers()["access-control-allow-origin"], "*");
    assert_eq!(answer.headers()["content-type"], "application/json");
    let body: Value = answer.json().await.unwrap();
    assert!(body["versions"].as_array().unwrap().contains(&json!("v1.11")), "{body}");

    let answer = server.request(Method::GET, "/.well-known/matrix/client").send().await.unwrap();
    let body: Value = answer.json().await.unwrap();
    assert_eq!(body, json!({ "m.homeserver": { "base_url": "https://matrix.example.org" } }));
}

#[tokio::test]
async fn head_is_get_without_a_body() {
    let server = Server::start(&[]).await;
    let path = "/_matrix/client/v3/account/whoami";
    let get = server.alice(Method::GET, path).send().await.unwrap();
    let length = get.headers()["content-length"].clone();
    let head = server.alice(Method::HEAD, path).send().await.unwrap();
    assert_eq!(head.status(), StatusCode::OK);
    assert_eq!(head.headers()["content-length"], length);
    assert!(head.bytes().await.unwrap().is_empty());
}
