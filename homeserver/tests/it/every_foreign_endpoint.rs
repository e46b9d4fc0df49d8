//! Every endpoint for servers, against what no server should send. The routes are the router's own, so a new one is tried
//! without a line here.

use hyper::Method;
use myelin::router;
use myelin_core::config::Api;
use ruma::canonical_json::CanonicalJsonValue;

use crate::every_endpoint::{ARGUMENTS, bodies, filled};
use crate::pair::each_pair;
use crate::stranger::Stranger;

/// Sends a request, signed for a destination, and checks what holds for every answer. A body that nobody can sign gets the
/// signature of another one.
async fn send(
    stranger: &Stranger,
    to: &str,
    destination: &str,
    method: &Method,
    path: &str,
    body: &[u8],
) -> (u16, String) {
    let can_be_signed = serde_json::from_slice::<CanonicalJsonValue>(body).is_ok();
    let signed = if can_be_signed { body } else { b"{}" };
    let header = stranger.header(destination, method, path, signed);
    let answer = stranger.send(to, method.clone(), path, Some(&header), body.to_vec()).await;
    let what = format!("{method} {path}: {} {}", answer.0, answer.1);
    assert!(answer.0.as_u16() < 500, "{what}");
    let errcode = answer.1["errcode"].as_str().unwrap_or_default().to_owned();
    assert!(answer.0.is_success() || !errcode.is_empty(), "{what}");
    (answer.0.as_u16(), errcode)
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_a_server_sends_breaks_an_endpoint() {
    each_pair(|pair| async move {
        let stranger = Stranger::start(49).await;
        let (one, two) = (pair.one.name(), pair.two.name());
        let head = pair.one.cores[0].log.visible();
        let mut tried = 0;
        for route in router::routes(Api::Federation) {
            if route.authentication != "server signature" {
                continue;
            }
            let has_body = matches!(route.method, Method::PUT | Method::POST);
            for path in &route.paths {
                let first = filled(path, ARGUMENTS[0]);
                let nobody = stranger.send(&one, route.method.clone(), &first, None, b"{}".to_vec()).await;
                assert_eq!(
                    (nobody.0.as_u16(), &nobody.1["errcode"]),
                    (401, &"M_UNAUTHORIZED".into()),
                    "{first}"
                );
                let elsewhere = send(&stranger, &one, &two, &route.method, &first, b"").await;
                assert_eq!(elsewhere, (401, "M_UNAUTHORIZED".to_owned()), "{first}");
                for argument in ARGUMENTS {
                    let path = filled(path, argument);
                    send(&stranger, &one, &one, &route.method, &path, if has_body { b"{}" } else { b"" })
                        .await;
                }
                for body in bodies().into_iter().filter(|_| has_body) {
                    let (status, errcode) = send(&stranger, &one, &one, &route.method, &first, &body).await;
                    let is_json =
                        serde_json::from_slice::<serde_json::Value>(&body).is_ok() || body.is_empty();
                    assert!(is_json || status >= 400, "{first} took what is no JSON: {status} {errcode}");
                }
                tried += 1;
            }
        }
        assert!(tried >= 25, "{tried}");
        if pair.one.cores.len() == 1 {
            assert_eq!(pair.one.cores[0].log.visible(), head, "nonsense was written");
        }
    })
    .await;
}
