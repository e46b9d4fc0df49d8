//! Logging in, refreshing, logging out, and what ends a session.

use serde_json::{Value, json};

use crate::support::{Setup, User, asked, each_setup, ok, password_auth, refused};

const LOGIN: &str = "/_matrix/client/v3/login";
const REFRESH: &str = "/_matrix/client/v3/refresh";
const WHOAMI: &str = "/_matrix/client/v3/account/whoami";

fn by_password(user: &str, password: &str) -> Value {
    json!({
        "type": "m.login.password",
        "identifier": { "type": "m.id.user", "user": user },
        "password": password,
    })
}

#[tokio::test]
async fn by_password_in_all_forms() {
    each_setup(async |server| {
        server.register("alice").await;
        let flows = ok(server.get(LOGIN, None).await);
        assert_eq!(flows["flows"][0]["type"], "m.login.password");
        assert_eq!(flows["flows"][1], json!({ "type": "m.login.token", "get_login_token": true }));
        for name in ["alice", "@alice:localhost", "ALICE"] {
            let body = ok(server.post(LOGIN, None, by_password(name, "alice")).await);
            assert_eq!(body["user_id"], "@alice:localhost");
            assert_eq!(body["well_known"]["m.homeserver"]["base_url"], "http://localhost");
            assert_eq!(body.get("refresh_token"), None);
        }
        let old = json!({ "type": "m.login.password", "user": "alice", "password": "alice" });
        ok(server.post(LOGIN, None, old).await);
        let mut named = by_password("alice", "alice");
        named["device_id"] = "PHONE".into();
        named["initial_device_display_name"] = "phone".into();
        let first = User::of(ok(server.post(LOGIN, None, named.clone()).await));
        ok(server.get(WHOAMI, &*first.token).await);
        // The same device again: its earlier token is gone, its name stays.
        named["initial_device_display_name"] = "other".into();
        let second = User::of(ok(server.post(LOGIN, None, named).await));
        assert_eq!(server.until_refused(&first.token).await["soft_logout"], false);
        let device = ok(server.get("/_matrix/client/v3/devices/PHONE", &*second.token).await);
        assert_eq!(device["display_name"], "phone");
    })
    .await;
}

#[tokio::test]
async fn what_is_wrong() {
    each_setup(async |server| {
        server.register("alice").await;
        for (body, status, errcode) in [
            (by_password("alice", "wrong"), 403, "M_FORBIDDEN"),
            (by_password("nobody", "alice"), 403, "M_FORBIDDEN"),
            (by_password("@alice:elsewhere", "alice"), 403, "M_FORBIDDEN"),
            (by_password("\u{0}", "alice"), 403, "M_FORBIDDEN"),
            (by_password("alice", &"a".repeat(10_000)), 403, "M_FORBIDDEN"),
            (json!({}), 400, "M_MISSING_PARAM"),
            (json!({ "type": 3 }), 400, "M_BAD_JSON"),
            (json!({ "type": "m.login.password" }), 400, "M_MISSING_PARAM"),
            (json!({ "type": "m.login.password", "password": "alice" }), 400, "M_MISSING_PARAM"),
            (json!({ "type": "m.login.token" }), 400, "M_MISSING_PARAM"),
            (json!({ "type": "m.login.token", "token": "x" }), 403, "M_FORBIDDEN"),
            (json!({ "type": "m.login.magic" }), 400, "M_UNKNOWN"),
        ] {
            refused(server.post(LOGIN, None, body).await, status, errcode);
        }
        refused(server.get(WHOAMI, None).await, 401, "M_MISSING_TOKEN");
        refused(server.get(WHOAMI, "nonsense").await, 401, "M_UNKNOWN_TOKEN");
    })
    .await;
}

#[tokio::test]
async fn by_token() {
    each_setup(async |server| {
        let alice = server.register("alice").await;
        let path = "/_matrix/client/v1/login/get_token";
        let (session, _) = asked(server.post(path, &*alice.token, json!({})).await);
        let body = json!({ "auth": password_auth("alice", &session) });
        let token = ok(server.post(path, &*alice.token, body).await)["login_token"].clone();
        let body = json!({ "type": "m.login.token", "token": token });
        let second = User::of(ok(server.post(LOGIN, None, body.clone()).await));
        assert_eq!(second.id, alice.id);
        refused(server.post(LOGIN, None, body).await, 403, "M_FORBIDDEN");
    })
    .await;
}

async fn login_with_refresh(server: &Setup) -> (String, String) {
    let mut body = by_password("alice", "alice");
    body["refresh_token"] = true.into();
    tokens(&ok(server.post(LOGIN, None, body).await))
}

fn tokens(body: &Value) -> (String, String) {
    assert_eq!(body["expires_in_ms"], 300_000, "{body}");
    let text = |name: &str| body[name].as_str().unwrap().to_owned();
    (text("access_token"), text("refresh_token"))
}

#[tokio::test]
async fn refreshing() {
    each_setup(async |server| {
        server.register("alice").await;
        let (access, refresh) = login_with_refresh(&server).await;
        ok(server.get(WHOAMI, &*access).await);
        // The answer is lost, and the client tries again.
        let lost = tokens(&ok(server.post(REFRESH, None, json!({ "refresh_token": refresh })).await));
        let (second, next) =
            tokens(&ok(server.post(REFRESH, None, json!({ "refresh_token": refresh })).await));
        ok(server.get(WHOAMI, &*access).await);
        // The first use of the new pair ends the old one.
        ok(server.get(WHOAMI, &*second).await);
        ok(server.get(WHOAMI, &*second).await);
        server.until_refused(&access).await;
        server.until_refused(&lost.0).await;
        for gone in [&refresh, &lost.1] {
            let answer = server.post(REFRESH, None, json!({ "refresh_token": gone })).await;
            assert_eq!(refused(answer, 401, "M_UNKNOWN_TOKEN")["soft_logout"], false);
        }
        let (third, _) = tokens(&ok(server.post(REFRESH, None, json!({ "refresh_token": next })).await));
        ok(server.get(WHOAMI, &*third).await);
        ok(server.post("/_matrix/client/v3/logout", &*third, json!({})).await);
        server.until_refused(&third).await;
    })
    .await;
}

#[tokio::test]
async fn logging_out() {
    each_setup(async |server| {
        let first = server.register("alice").await;
        let second = server.login("alice").await;
        let third = server.login("alice").await;
        for token in [&first.token, &second.token, &third.token] {
            ok(server.get(WHOAMI, &**token).await);
            ok(server.get(WHOAMI, &**token).await);
        }
        ok(server.post("/_matrix/client/v3/logout", &*second.token, json!({})).await);
        assert_eq!(server.until_refused(&second.token).await["soft_logout"], false);
        let devices = ok(server.get("/_matrix/client/v3/devices", &*first.token).await);
        assert_eq!(devices["devices"].as_array().unwrap().len(), 2);
        ok(server.post("/_matrix/client/v3/logout/all", &*first.token, json!({})).await);
        server.until_refused(&first.token).await;
        server.until_refused(&third.token).await;
    })
    .await;
}

#[tokio::test]
async fn changing_the_password() {
    const PASSWORD: &str = "/_matrix/client/v3/account/password";
    each_setup(async |server| {
        let first = server.register("alice").await;
        let second = server.login("alice").await;
        refused(server.post(PASSWORD, None, json!({ "new_password": "x" })).await, 401, "M_MISSING_TOKEN");
        let mut body = json!({ "new_password": "other", "logout_devices": false });
        let (session, _) = asked(server.post(PASSWORD, &*first.token, body.clone()).await);
        body["auth"] = password_auth("alice", &session);
        ok(server.post(PASSWORD, &*first.token, body).await);
        ok(server.get(WHOAMI, &*second.token).await);
        refused(server.post(LOGIN, None, by_password("alice", "alice")).await, 403, "M_FORBIDDEN");
        let mut body = json!({ "new_password": "alice" });
        let (session, _) = asked(server.post(PASSWORD, &*first.token, body.clone()).await);
        body["auth"] = password_auth("alice", &session);
        body["auth"]["password"] = "other".into();
        ok(server.post(PASSWORD, &*first.token, body).await);
        server.until_refused(&second.token).await;
        ok(server.get(WHOAMI, &*first.token).await);
        ok(server.post(LOGIN, None, by_password("alice", "alice")).await);
    })
    .await;
}

#[tokio::test]
async fn deactivating() {
    const DEACTIVATE: &str = "/_matrix/client/v3/account/deactivate";
    each_setup(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room = async |invited: &User| {
            let body = json!({ "invite": [invited.id] });
            let room = ok(server.post("/_matrix/client/v3/createRoom", &*bob.token, body).await);
            room["room_id"].as_str().unwrap().to_owned()
        };
        let (joined, invited) = (room(&alice).await, room(&alice).await);
        let join = format!("/_matrix/client/v3/join/{joined}");
        ok(server.post(&join, &*alice.token, json!({})).await);
        let (session, _) = asked(server.post(DEACTIVATE, &*alice.token, json!({ "erase": true })).await);
        let body = json!({ "erase": true, "auth": password_auth("alice", &session) });
        let answer = ok(server.post(DEACTIVATE, &*alice.token, body).await);
        assert_eq!(answer, json!({ "id_server_unbind_result": "success" }));
        server.until_refused(&alice.token).await;
        let answer = server.post(LOGIN, None, by_password("alice", "alice")).await;
        refused(answer, 403, "M_USER_DEACTIVATED");
        let path = "/_matrix/client/v3/register/available?username=alice";
        refused(server.get(path, None).await, 400, "M_USER_IN_USE");
        let profile = ok(server.get("/_matrix/client/v3/profile/@alice:localhost", None).await);
        assert_eq!(profile, json!({}));
        for room in [joined, invited] {
            let path = format!("/_matrix/client/v3/rooms/{room}/state/m.room.member/{}", alice.id);
            assert_eq!(ok(server.get(&path, &*bob.token).await)["membership"], "leave");
        }
    })
    .await;
}
