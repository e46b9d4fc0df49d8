//! TLS, HTTP/2, compression, forwarded addresses, shutdown.

use std::time::{Duration, Instant};

use hyper::{Method, StatusCode, Version};

use myelin::listeners::Certificates;

use crate::harness::Server;

const CERTIFICATE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/data/localhost.pem");
const KEY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/data/localhost.key.pem");

#[tokio::test]
async fn tls_with_http2() {
    let server =
        Server::start(&[("LISTENERS_0_TLS_CERTIFICATE", CERTIFICATE), ("LISTENERS_0_TLS_PRIVATE_KEY", KEY)])
            .await;
    assert!(server.url.starts_with("https://"));
    let client = reqwest::Client::builder().tls_danger_accept_invalid_certs(true).build().unwrap();
    let answer = client.get(format!("{}/_matrix/client/versions", server.url)).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.version(), Version::HTTP_2);
}

#[tokio::test]
async fn large_answers_are_compressed() {
    let server = Server::start(&[]).await;
    let answer =
        server.request(Method::GET, "/test/large").header("accept-encoding", "gzip").send().await.unwrap();
    assert_eq!(answer.headers()["content-encoding"], "gzip");
    assert!(answer.bytes().await.unwrap().len() < 10_000);
    let answer = server
        .request(Method::GET, "/_matrix/client/versions")
        .header("accept-encoding", "gzip")
        .send()
        .await
        .unwrap();
    assert!(!answer.headers().contains_key("content-encoding"));
}

#[tokio::test]
async fn forwarded_addresses_are_believed_only_on_request() {
    for (trust, expected) in [("false", "\"127.0.0.1\""), ("true", "\"9.9.9.9\"")] {
        let server = Server::start(&[("LISTENERS_0_TRUST_FORWARDED_FOR", trust)]).await;
        let answer =
            server.request(Method::GET, "/test/address").header("x-forwarded-for", "1.1.1.1, 9.9.9.9");
        assert_eq!(answer.send().await.unwrap().text().await.unwrap(), expected);
    }
}

#[tokio::test]
async fn shutdown_answers_long_polls_and_ends() {
    let server = Server::start(&[]).await;
    let request = server.request(Method::GET, "/test/wait").send();
    let poll = tokio::spawn(request);
    tokio::time::sleep(Duration::from_millis(200)).await;
    let begin = Instant::now();
    let client = server.client.clone();
    let url = server.url.clone();
    server.stop().await;
    assert!(begin.elapsed() < Duration::from_secs(3));
    assert_eq!(poll.await.unwrap().unwrap().status(), StatusCode::OK);
    assert!(client.get(url).send().await.is_err());
}

#[test]
fn a_changed_certificate_is_used() {
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    std::fs::copy(CERTIFICATE, &certificate).unwrap();
    std::fs::copy(KEY, &key).unwrap();
    let port = Certificates::open(&certificate, &key).unwrap();
    assert!(!port.look(), "nothing changed");
    let later = |path: &std::path::Path, seconds| {
        let file = std::fs::File::options().append(true).open(path).unwrap();
        file.set_modified(std::time::SystemTime::now() + Duration::from_secs(seconds)).unwrap();
    };
    std::fs::write(&certificate, "nonsense").unwrap();
    later(&certificate, 10);
    assert!(!port.look(), "the old one goes on");
    let new = crate::pair::certificates();
    std::fs::copy(&new.certificate, &certificate).unwrap();
    std::fs::copy(&new.key, &key).unwrap();
    later(&certificate, 20);
    assert!(port.look());
}
