//! Devices.

use serde_json::json;

use crate::support::{asked, each_setup, ok, password_auth, refused};

const DEVICES: &str = "/_matrix/client/v3/devices";

#[tokio::test]
async fn list_and_rename() {
    each_setup(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let path = format!("{DEVICES}/{}", alice.device);
        ok(server.put(&path, &*alice.token, json!({ "display_name": "phone" })).await);
        ok(server.put(&path, &*alice.token, json!({})).await);
        let device = ok(server.get(&path, &*alice.token).await);
        assert_eq!((&device["device_id"], &device["display_name"]), (&json!(alice.device), &json!("phone")));
        assert!(device["last_seen_ts"].is_i64());
        let list = ok(server.get(DEVICES, &*alice.token).await);
        assert_eq!(list["devices"], json!([device]));
        // Another user's device is none.
        refused(server.get(&path, &*bob.token).await, 404, "M_NOT_FOUND");
        let answer = server.put(&path, &*bob.token, json!({ "display_name": "x" })).await;
        refused(answer, 404, "M_NOT_FOUND");
        refused(server.put(&path, &*bob.token, json!({})).await, 404, "M_NOT_FOUND");
        let long = json!({ "display_name": "a".repeat(1000) });
        refused(server.put(&path, &*alice.token, long).await, 400, "M_INVALID_PARAM");
        let nul = json!({ "display_name": "\u{0}" });
        refused(server.put(&path, &*alice.token, nul).await, 400, "M_INVALID_PARAM");
        refused(server.get(&format!("{DEVICES}/a%00"), &*alice.token).await, 400, "M_INVALID_PARAM");
    })
    .await;
}

#[tokio::test]
async fn delete_one() {
    each_setup(async |server| {
        let alice = server.register("alice").await;
        let second = server.login("alice").await;
        ok(server.get(DEVICES, &*second.token).await);
        let path = format!("{DEVICES}/{}", second.device);
        let (session, _) = asked(server.delete(&path, &*alice.token, json!({})).await);
        let wrong = json!({ "auth": password_auth("bob", &session) });
        let (_, info) = asked(server.delete(&path, &*alice.token, wrong).await);
        assert_eq!(info["errcode"], "M_FORBIDDEN");
        ok(server.get(DEVICES, &*second.token).await);
        let body = json!({ "auth": password_auth("alice", &session) });
        ok(server.delete(&path, &*alice.token, body).await);
        server.until_refused(&second.token).await;
        refused(server.get(&path, &*alice.token).await, 404, "M_NOT_FOUND");
    })
    .await;
}

#[tokio::test]
async fn delete_several() {
    const DELETE: &str = "/_matrix/client/v3/delete_devices";
    each_setup(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let (second, third) = (server.login("alice").await, server.login("alice").await);
        let mut body = json!({ "devices": [second.device, third.device, bob.device, "NONE"] });
        let (session, _) = asked(server.post(DELETE, &*alice.token, body.clone()).await);
        body["auth"] = password_auth("alice", &session);
        ok(server.post(DELETE, &*alice.token, body).await);
        server.until_refused(&second.token).await;
        server.until_refused(&third.token).await;
        ok(server.get(DEVICES, &*bob.token).await);
        let list = ok(server.get(DEVICES, &*alice.token).await);
        assert_eq!(list["devices"].as_array().unwrap().len(), 1);
    })
    .await;
}
