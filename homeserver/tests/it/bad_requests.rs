//! Whatever a client sends: the specification's status and errcode, never 500.

use std::time::Duration;

use hyper::{Method, StatusCode};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::harness::{Server, check};

const CREATE_ROOM: &str = "/_matrix/client/v3/createRoom";
const WHOAMI: &str = "/_matrix/client/v3/account/whoami";

#[tokio::test]
async fn bodies() {
    let server = Server::start(&[]).await;
    let deep = format!("{{\"initial_state\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let deep_content = format!("{{\"a\":{}{}}}", "{\"a\":".repeat(200), "}".repeat(200));
    for (body, errcode) in [
        ("", None),
        ("{}", None),
        ("{", Some("M_NOT_JSON")),
        ("nonsense", Some("M_NOT_JSON")),
        ("{\"name\":\"\u{1}\"}", Some("M_NOT_JSON")),
        ("[]", Some("M_BAD_JSON")),
        ("null", Some("M_BAD_JSON")),
        ("{\"name\":3}", Some("M_BAD_JSON")),
        ("{\"invite\":[\"nobody\"]}", Some("M_BAD_JSON")),
        (&deep, Some("M_BAD_JSON")),
        (&deep_content, Some("M_BAD_JSON")),
    ] {
        let answer = server.alice(Method::POST, CREATE_ROOM).body(body.to_owned()).send().await;
        match errcode {
            Some(errcode) => drop(check(answer, StatusCode::BAD_REQUEST, errcode).await),
            None => assert_eq!(answer.unwrap().status(), StatusCode::OK, "{body}"),
        }
    }
    let answer = server.alice(Method::POST, CREATE_ROOM).body(&b"{\"name\":\"\xff\"}"[..]).send().await;
    check(answer, StatusCode::BAD_REQUEST, "M_NOT_JSON").await;
}

#[tokio::test]
async fn raw_content_is_an_object_of_bounded_depth() {
    let server = Server::start(&[]).await;
    let path = "/_matrix/client/v3/rooms/!a:b/send/m.test/1";
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(200), "]".repeat(200));
    for body in ["[]", "3", deep.as_str()] {
        let answer = server.alice(Method::PUT, path).body(body.to_owned()).send().await;
        check(answer, StatusCode::BAD_REQUEST, "M_BAD_JSON").await;
    }
    let answer = server.alice(Method::PUT, path).body("{\"a\":1}").send().await;
    assert_eq!(answer.unwrap().status(), StatusCode::OK);
}

/// matrix-nio joins and leaves without a body.
#[tokio::test]
async fn an_empty_body_is_an_empty_object() {
    let server = Server::start(&[]).await;
    for path in ["join/!a:b", "rooms/!a:b/join", "rooms/!a:b/leave", "knock/!a:b", "logout"] {
        let answer = server.alice(Method::POST, &format!("/_matrix/client/v3/{path}")).send().await.unwrap();
        assert!(!answer.text().await.unwrap().contains("JSON"), "{path}");
    }
}

#[tokio::test]
async fn bodies_without_a_ruma_type() {
    let server = Server::start(&[]).await;
    for (body, errcode) in [("{\"number\":-1}", "M_BAD_JSON"), ("{}", "M_BAD_JSON"), ("-", "M_NOT_JSON")] {
        let answer = server.request(Method::POST, "/test/json").body(body).send().await;
        check(answer, StatusCode::BAD_REQUEST, errcode).await;
    }
}

#[tokio::test]
async fn huge_bodies() {
    let server = Server::start(&[("LIMITS_REQUEST_SIZE", "64 KiB")]).await;
    let huge = format!("{{\"name\":\"{}\"}}", "a".repeat(4 << 20));
    let answer = server.alice(Method::POST, CREATE_ROOM).body(huge.clone()).send().await;
    check(answer, StatusCode::PAYLOAD_TOO_LARGE, "M_TOO_LARGE").await;

    // Without a length in front, as chunks.
    let chunks = futures_util::stream::iter([Ok::<_, std::io::Error>(huge)]);
    let answer =
        server.alice(Method::POST, CREATE_ROOM).body(reqwest::Body::wrap_stream(chunks)).send().await;
    check(answer, StatusCode::PAYLOAD_TOO_LARGE, "M_TOO_LARGE").await;
}

#[tokio::test]
async fn slow_bodies() {
    let server = Server::start(&[("LIMITS_REQUEST_SECONDS", "1")]).await;
    let address = server.url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST {CREATE_ROOM} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer alice\r\ncontent-length: 10\r\n\r\n{{"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; 1024];
    let read =
        tokio::time::timeout(Duration::from_secs(10), stream.read(&mut answer)).await.unwrap().unwrap();
    assert!(answer[..read].starts_with(b"HTTP/1.1 408"), "{}", String::from_utf8_lossy(&answer[..read]));
}

#[tokio::test]
async fn tokens() {
    let server = Server::start(&[]).await;
    let answer = server.request(Method::GET, WHOAMI).send().await;
    check(answer, StatusCode::UNAUTHORIZED, "M_MISSING_TOKEN").await;
    let answer = server.request(Method::GET, WHOAMI).header("authorization", "Basic alice").send().await;
    check(answer, StatusCode::UNAUTHORIZED, "M_MISSING_TOKEN").await;
    for (token, soft_logout) in [("nobody", false), ("expired", true)] {
        let answer = server.request(Method::GET, WHOAMI).bearer_auth(token).send().await;
        let body = check(answer, StatusCode::UNAUTHORIZED, "M_UNKNOWN_TOKEN").await;
        assert_eq!(body["soft_logout"], soft_logout);
    }
    let answer = server.request(Method::GET, WHOAMI).bearer_auth("guest").send().await;
    check(answer, StatusCode::FORBIDDEN, "M_GUEST_ACCESS_FORBIDDEN").await;
    let answer = server.request(Method::GET, &format!("{WHOAMI}?access_token=alice")).send().await;
    assert_eq!(answer.unwrap().status(), StatusCode::OK);
    // The token is looked at before the body is.
    let answer = server.request(Method::POST, CREATE_ROOM).body("nonsense").send().await;
    check(answer, StatusCode::UNAUTHORIZED, "M_MISSING_TOKEN").await;
}

#[tokio::test]
async fn paths_and_queries() {
    let server = Server::start(&[]).await;
    let messages = "/_matrix/client/v3/rooms/!a:b/messages";
    for (path, errcode) in [
        (messages.to_owned(), "M_MISSING_PARAM"),
        (format!("{messages}?dir=sideways"), "M_INVALID_PARAM"),
        (format!("{messages}?dir=b&limit=many"), "M_INVALID_PARAM"),
        (format!("{messages}?dir=b&from=%00"), "M_INVALID_PARAM"),
        ("/_matrix/client/v3/rooms/nonsense/messages?dir=b".to_owned(), "M_INVALID_PARAM"),
        ("/_matrix/client/v3/rooms/!a%00:b/messages?dir=b".to_owned(), "M_INVALID_PARAM"),
        ("/_matrix/client/v3/rooms/!a%ff:b/messages?dir=b".to_owned(), "M_INVALID_PARAM"),
    ] {
        let answer = server.alice(Method::GET, &path).send().await;
        check(answer, StatusCode::BAD_REQUEST, errcode).await;
    }
    let answer = server.alice(Method::GET, &format!("{messages}?dir=b&limit=3")).send().await.unwrap();
    assert_eq!(answer.text().await.unwrap(), "{\"limit\":3}");
}

#[tokio::test]
async fn unknown_paths_and_methods() {
    let server = Server::start(&[]).await;
    for path in ["/", "/_matrix/client/v3/nonsense", "/_matrix/client/versions/", "/_matrix//client"] {
        let answer = server.request(Method::GET, path).send().await;
        check(answer, StatusCode::NOT_FOUND, "M_UNRECOGNIZED").await;
    }
    let answer = server.alice(Method::DELETE, WHOAMI).send().await;
    assert_eq!(answer.as_ref().unwrap().headers()["allow"], "GET, OPTIONS");
    check(answer, StatusCode::METHOD_NOT_ALLOWED, "M_UNRECOGNIZED").await;
}

#[tokio::test]
async fn a_panic_costs_only_its_own_request() {
    let server = Server::start(&[]).await;
    let answer = server.request(Method::GET, "/test/panic").send().await;
    check(answer, StatusCode::INTERNAL_SERVER_ERROR, "M_UNKNOWN").await;
    let answer = server.request(Method::GET, "/_matrix/client/versions").send().await;
    assert_eq!(answer.unwrap().status(), StatusCode::OK);
}
