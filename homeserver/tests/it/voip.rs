//! Credentials for calls.

use serde_json::json;

use crate::support::{each_setup, each_setup_with, ok};

const TURN_SERVER: &str = "/_matrix/client/v3/voip/turnServer";

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_server_is_told_with_credentials_that_end() {
    let settings = [
        ("TURN_URIS", "turn:turn.example:3478?transport=udp, turns:turn.example"),
        ("TURN_SHARED_SECRET", "secret"),
    ];
    each_setup_with(&settings, |setup| async move {
        let alice = setup.register("alice").await;
        let turn = ok(setup.get(TURN_SERVER, &*alice.token).await);
        assert_eq!(turn["uris"], json!(["turn:turn.example:3478?transport=udp", "turns:turn.example"]));
        assert_eq!(turn["ttl"], 86_400);
        let (ends, name) = turn["username"].as_str().unwrap().split_once(':').unwrap();
        let lasts = ends.parse::<i64>().unwrap() - setup.cores[0].now_ms() / 1_000;
        assert!((86_000..=86_400).contains(&lasts), "{turn}");
        assert!(!name.contains("alice"), "the relay does not learn who calls: {turn}");
        let again = ok(setup.get(TURN_SERVER, &*alice.token).await);
        assert_ne!(turn["username"], again["username"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_turn_server_there_is_nothing_to_tell() {
    each_setup(|setup| async move {
        let alice = setup.register("alice").await;
        assert_eq!(ok(setup.get(TURN_SERVER, &*alice.token).await), json!({}));
        let (status, _) = setup.get(TURN_SERVER, None).await;
        assert_eq!(status, 401);
    })
    .await;
}
