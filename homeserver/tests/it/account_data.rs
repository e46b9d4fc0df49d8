//! Account data, tags, filters, push rules, capabilities.

use serde_json::json;

use crate::support::{each_setup, ok, refused};

const DATA: &str = "/_matrix/client/v3/user/@alice:localhost/account_data";
const ROOM: &str = "/_matrix/client/v3/user/@alice:localhost/rooms/!none:localhost";
const RULES: &str = "/_matrix/client/v3/pushrules";

#[tokio::test]
async fn global() {
    each_setup(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let path = format!("{DATA}/org.example.data");
        refused(server.get(&path, &*alice.token).await, 404, "M_NOT_FOUND");
        for content in [json!({ "a": 1.5, "b": "\u{0}" }), json!({})] {
            ok(server.put(&path, &*alice.token, content.clone()).await);
            assert_eq!(ok(server.get(&path, &*alice.token).await), content);
        }
        refused(server.get(&path, &*bob.token).await, 403, "M_FORBIDDEN");
        refused(server.put(&path, &*bob.token, json!({})).await, 403, "M_FORBIDDEN");
        refused(server.put(&path, &*alice.token, json!([])).await, 400, "M_BAD_JSON");
        refused(
            server.put(&path, &*alice.token, json!({ "a": "a".repeat(70_000) })).await,
            413,
            "M_TOO_LARGE",
        );
        for reserved in ["m.fully_read", "m.push_rules"] {
            let answer = server.put(&format!("{DATA}/{reserved}"), &*alice.token, json!({})).await;
            refused(answer, 405, "M_BAD_JSON");
        }
        let path = format!("{ROOM}/account_data/m.x");
        refused(server.put(&path, &*alice.token, json!({})).await, 404, "M_NOT_FOUND");
        // Who only looks is told that there are none.
        assert_eq!(ok(server.get(&format!("{ROOM}/tags"), &*alice.token).await), json!({ "tags": {} }));
    })
    .await;
}

#[tokio::test]
async fn filters() {
    const FILTER: &str = "/_matrix/client/v3/user/@alice:localhost/filter";
    each_setup(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let filter = json!({ "room": { "timeline": { "limit": 3, "types": ["m.room.message"] } } });
        let id = ok(server.post(FILTER, &*alice.token, filter.clone()).await)["filter_id"].clone();
        let again = ok(server.post(FILTER, &*alice.token, filter.clone()).await)["filter_id"].clone();
        assert_eq!(id, again);
        let other = ok(server.post(FILTER, &*alice.token, json!({})).await)["filter_id"].clone();
        assert_ne!(id, other);
        let path = format!("{FILTER}/{}", id.as_str().unwrap());
        assert_eq!(ok(server.get(&path, &*alice.token).await), filter);
        refused(server.get(&path, &*bob.token).await, 403, "M_FORBIDDEN");
        for unknown in ["17", "x"] {
            let answer = server.get(&format!("{FILTER}/{unknown}"), &*alice.token).await;
            refused(answer, 404, "M_NOT_FOUND");
        }
        let wrong = json!({ "room": { "timeline": { "limit": "x" } } });
        refused(server.post(FILTER, &*alice.token, wrong).await, 400, "M_BAD_JSON");
    })
    .await;
}

#[tokio::test]
async fn push_rules() {
    each_setup(async |server| {
        let alice = server.register("alice").await;
        let token = &*alice.token;
        let all = ok(server.get(&format!("{RULES}/"), token).await);
        assert_eq!(all["global"]["override"][0]["rule_id"], ".m.rule.master");
        assert_eq!(ok(server.get(&format!("{RULES}/global/"), token).await), all["global"]);
        assert_eq!(ok(server.get(&format!("{DATA}/m.push_rules"), token).await), all);
        let rule = format!("{RULES}/global/content/cake");
        let body = json!({ "pattern": "cake", "actions": ["notify"] });
        ok(server.put(&rule, token, body.clone()).await);
        let stored = ok(server.get(&rule, token).await);
        assert_eq!((&stored["pattern"], &stored["enabled"]), (&json!("cake"), &json!(true)));
        ok(server.put(&format!("{rule}/enabled"), token, json!({ "enabled": false })).await);
        let enabled = ok(server.get(&format!("{rule}/enabled"), token).await);
        assert_eq!(enabled, json!({ "enabled": false }));
        ok(server.put(&format!("{rule}/actions"), token, json!({ "actions": [] })).await);
        let actions = ok(server.get(&format!("{rule}/actions"), token).await);
        assert_eq!(actions, json!({ "actions": [] }));
        // Predefined rules can be switched off, and not removed.
        let master = format!("{RULES}/global/override/.m.rule.master");
        ok(server.put(&format!("{master}/enabled"), token, json!({ "enabled": true })).await);
        refused(server.delete(&master, token, json!({})).await, 400, "M_INVALID_PARAM");
        let after = format!("{RULES}/global/content/pie?after=none");
        refused(server.put(&after, token, body.clone()).await, 404, "M_NOT_FOUND");
        let dotted = format!("{RULES}/global/content/.pie");
        refused(server.put(&dotted, token, body).await, 400, "M_INVALID_PARAM");
        ok(server.delete(&rule, token, json!({})).await);
        refused(server.get(&rule, token).await, 404, "M_NOT_FOUND");
        refused(server.delete(&rule, token, json!({})).await, 404, "M_NOT_FOUND");
    })
    .await;
}

#[tokio::test]
async fn capabilities() {
    each_setup(async |server| {
        let alice = server.register("alice").await;
        let body = ok(server.get("/_matrix/client/v3/capabilities", &*alice.token).await);
        let capabilities = &body["capabilities"];
        assert_eq!(capabilities["m.change_password"], json!({ "enabled": true }));
        assert_eq!(capabilities["m.room_versions"]["default"], "12");
        assert_eq!(capabilities["m.room_versions"]["available"].as_object().unwrap().len(), 7);
    })
    .await;
}
