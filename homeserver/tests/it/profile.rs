//! Profiles.

use serde_json::json;

use crate::support::{each_setup, ok, refused};

const ALICE: &str = "/_matrix/client/v3/profile/@alice:localhost";

#[tokio::test]
async fn fields() {
    each_setup(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let field = |name: &str| format!("{ALICE}/{name}");
        ok(server.put(&field("displayname"), &*alice.token, json!({ "displayname": "Alice" })).await);
        ok(server
            .put(&field("avatar_url"), &*alice.token, json!({ "avatar_url": "mxc://localhost/a" }))
            .await);
        ok(server.put(&field("m.tz"), &*alice.token, json!({ "m.tz": "Europe/Berlin" })).await);
        let custom = json!({ "org.example.x": { "a": [1, null, "\u{0}"] } });
        ok(server.put(&field("org.example.x"), &*alice.token, custom.clone()).await);
        assert_eq!(
            ok(server.get(ALICE, None).await),
            json!({
                "displayname": "Alice", "avatar_url": "mxc://localhost/a", "m.tz": "Europe/Berlin",
                "org.example.x": { "a": [1, null, "\u{0}"] },
            })
        );
        assert_eq!(ok(server.get(&field("org.example.x"), None).await), custom);
        assert_eq!(ok(server.get(&field("displayname"), None).await), json!({ "displayname": "Alice" }));
        ok(server.delete(&field("m.tz"), &*alice.token, json!({})).await);
        refused(server.get(&field("m.tz"), None).await, 404, "M_NOT_FOUND");
        ok(server.put(&field("avatar_url"), &*alice.token, json!({ "avatar_url": "" })).await);
        refused(server.get(&field("avatar_url"), None).await, 404, "M_NOT_FOUND");
        let answer = server.put(&field("displayname"), &*bob.token, json!({ "displayname": "Bob" })).await;
        refused(answer, 403, "M_FORBIDDEN");
        refused(server.get("/_matrix/client/v3/profile/@nobody:localhost", None).await, 404, "M_NOT_FOUND");
        refused(server.get("/_matrix/client/v3/profile/nobody", None).await, 400, "M_INVALID_PARAM");
    })
    .await;
}

#[tokio::test]
async fn limits() {
    each_setup(async |server| {
        let alice = server.register("alice").await;
        let put = async |name: &str, value: serde_json::Value| {
            server.put(&format!("{ALICE}/{name}"), &*alice.token, json!({ name: value })).await
        };
        refused(put("displayname", json!("a".repeat(257))).await, 400, "M_INVALID_PARAM");
        refused(put("displayname", json!(3)).await, 400, "M_BAD_JSON");
        refused(put("avatar_url", json!("http://x")).await, 400, "M_INVALID_PARAM");
        refused(put("Upper", json!(1)).await, 400, "M_INVALID_PARAM");
        refused(put(&"a".repeat(256), json!(1)).await, 400, "M_KEY_TOO_LARGE");
        ok(put("org.example.a", json!("a".repeat(40_000))).await);
        refused(put("org.example.b", json!("a".repeat(40_000))).await, 400, "M_PROFILE_TOO_LARGE");
        ok(put("org.example.a", json!("b".repeat(60_000))).await);
        let answer = server.put(&format!("{ALICE}/m.tz"), &*alice.token, json!({ "other": 1 })).await;
        refused(answer, 400, "M_MISSING_PARAM");
    })
    .await;
}
