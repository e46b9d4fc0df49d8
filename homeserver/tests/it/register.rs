//! Registration.

use myelin_core::users::registration_tokens;
use serde_json::json;

use crate::support::{User, asked, each_setup, each_setup_with, ok, refused};

const REGISTER: &str = "/_matrix/client/v3/register";
const WHOAMI: &str = "/_matrix/client/v3/account/whoami";

#[tokio::test]
async fn one_step() {
    each_setup(async |server| {
        let body = json!({
            "username": "Alice", "password": "secret", "device_id": "PHONE",
            "initial_device_display_name": "Alice's phone", "auth": { "type": "m.login.dummy" },
        });
        let alice = User::of(ok(server.post(REGISTER, None, body).await));
        assert_eq!((alice.id.as_str(), alice.device.as_str()), ("@alice:localhost", "PHONE"));
        assert!(alice.token.len() >= 32);
        for _ in 0..3 {
            let who = ok(server.get(WHOAMI, &*alice.token).await);
            assert_eq!(who, json!({ "user_id": "@alice:localhost", "device_id": "PHONE" }));
        }
        let device = ok(server.get("/_matrix/client/v3/devices/PHONE", &*alice.token).await);
        assert_eq!(device["display_name"], "Alice's phone");
        let profile = ok(server.get("/_matrix/client/v3/profile/@alice:localhost", None).await);
        assert_eq!(profile, json!({ "displayname": "alice" }));
    })
    .await;
}

#[tokio::test]
async fn with_a_session() {
    each_setup(async |server| {
        let mut body = json!({ "username": "bob", "password": "secret", "inhibit_login": true });
        let (session, info) = asked(server.post(REGISTER, None, body.clone()).await);
        assert_eq!(info["flows"][0]["stages"], json!(["m.login.dummy"]));
        body["auth"] = json!({ "type": "m.login.dummy", "session": session });
        let answer = ok(server.post(REGISTER, None, body.clone()).await);
        assert_eq!(answer, json!({ "user_id": "@bob:localhost" }));
        // The session is used up.
        body["username"] = "bob2".into();
        let (status, _) = server.post(REGISTER, None, body).await;
        assert_eq!(status, 400);
    })
    .await;
}

#[tokio::test]
async fn names() {
    each_setup(async |server| {
        server.register("taken").await;
        let register = async |name: &str| {
            let body = json!({ "username": name, "password": "p", "auth": { "type": "m.login.dummy" } });
            server.post(REGISTER, None, body).await
        };
        let available = async |name: &str| {
            server.get(&format!("/_matrix/client/v3/register/available?username={name}"), None).await
        };
        refused(register("taken").await, 400, "M_USER_IN_USE");
        refused(register("TAKEN").await, 400, "M_USER_IN_USE");
        refused(available("taken").await, 400, "M_USER_IN_USE");
        assert_eq!(ok(available("free").await), json!({ "available": true }));
        let long = "a".repeat(250);
        for name in ["", "ä", "a b", "a:b", "@a:localhost", "_a", "a\u{0}", long.as_str()] {
            refused(register(name).await, 400, "M_INVALID_USERNAME");
        }
        refused(available("%C3%A4").await, 400, "M_INVALID_USERNAME");
        for name in ["a.b_c=d-e/f+1", "3"] {
            ok(register(name).await);
        }
        let body = json!({ "password": "p", "auth": { "type": "m.login.dummy" } });
        let made_up = User::of(ok(server.post(REGISTER, None, body).await));
        assert!(made_up.id.len() > "@:localhost".len() + 5, "{}", made_up.id);
    })
    .await;
}

#[tokio::test]
async fn what_is_wrong() {
    each_setup(async |server| {
        let dummy = json!({ "type": "m.login.dummy" });
        let body = json!({ "username": "a", "auth": dummy });
        refused(server.post(REGISTER, None, body).await, 400, "M_MISSING_PARAM");
        let body = json!({ "username": "a", "password": "", "auth": dummy });
        refused(server.post(REGISTER, None, body).await, 400, "M_WEAK_PASSWORD");
        let body = json!({ "username": "a", "password": "a", "device_id": "\u{0}", "auth": dummy });
        refused(server.post(REGISTER, None, body).await, 400, "M_INVALID_PARAM");
        let body = json!({ "username": 3 });
        refused(server.post(REGISTER, None, body).await, 400, "M_BAD_JSON");
        refused(server.post(&format!("{REGISTER}?kind=guest"), None, json!({})).await, 403, "M_FORBIDDEN");
        refused(server.post(&format!("{REGISTER}?kind=king"), None, json!({})).await, 400, "M_INVALID_PARAM");
        ok(server.get("/_matrix/client/v3/register/available?username=a", None).await);
    })
    .await;
}

#[tokio::test]
async fn guests() {
    each_setup_with(&[("REGISTRATION_GUESTS", "true")], async |server| {
        let guest = User::of(ok(server.post(&format!("{REGISTER}?kind=guest"), None, json!({})).await));
        assert_eq!(ok(server.get(WHOAMI, &*guest.token).await)["is_guest"], true);
        let path = "/_matrix/client/v3/account/password";
        let answer = server.post(path, &*guest.token, json!({ "new_password": "a" })).await;
        refused(answer, 403, "M_GUEST_ACCESS_FORBIDDEN");
    })
    .await;
}

#[tokio::test]
async fn closed() {
    each_setup_with(&[("REGISTRATION_MODE", "closed")], async |server| {
        let body = json!({ "username": "a", "password": "a", "auth": { "type": "m.login.dummy" } });
        refused(server.post(REGISTER, None, body).await, 403, "M_FORBIDDEN");
        assert_eq!(registration_tokens::first_admin(&server.cores[0]).await.unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn the_first_administrator() {
    each_setup_with(&[("REGISTRATION_MODE", "token")], async |server| {
        let token = registration_tokens::first_admin(&server.cores[0]).await.unwrap().unwrap();
        let again = registration_tokens::first_admin(server.cores.last().unwrap()).await.unwrap();
        assert_eq!(again, Some(token.clone()));
        let validity = async |token: &str| {
            let path = "/_matrix/client/v1/register/m.login.registration_token/validity";
            ok(server.get(&format!("{path}?token={token}"), None).await)["valid"].as_bool().unwrap()
        };
        assert!(validity(&token).await);
        assert!(!validity("wrong").await);
        let mut body = json!({ "username": "root", "password": "secret" });
        let (session, info) = asked(server.post(REGISTER, None, body.clone()).await);
        assert_eq!(info["flows"], json!([{ "stages": ["m.login.registration_token"] }]));
        body["auth"] = json!({ "type": "m.login.dummy", "session": session });
        let (_, info) = asked(server.post(REGISTER, None, body.clone()).await);
        assert_eq!(info["errcode"], "M_UNRECOGNIZED", "{info}");
        body["auth"] = json!({ "type": "m.login.registration_token", "token": "wrong", "session": session });
        let (_, info) = asked(server.post(REGISTER, None, body.clone()).await);
        assert_eq!(info["errcode"], "M_FORBIDDEN", "{info}");
        body["auth"]["token"] = token.clone().into();
        let root = User::of(ok(server.post(REGISTER, None, body.clone()).await));
        assert_eq!(root.id, "@root:localhost");
        assert!(!validity(&token).await);
        assert_eq!(registration_tokens::first_admin(&server.cores[0]).await.unwrap(), None);
        let listed = myelin_core::users::accounts::list(&server.cores[0]).await.unwrap();
        assert!(listed.iter().any(|account| account.user_id == root.id && account.admin));
    })
    .await;
}

#[tokio::test]
async fn by_a_shared_secret() {
    const ADMIN: &str = "/_synapse/admin/v1/register";
    each_setup(async |server| drop(refused(server.get(ADMIN, None).await, 400, "M_UNKNOWN"))).await;
    each_setup_with(&[("REGISTRATION_SHARED_SECRET", "secret")], async |server| {
        let nonce = async || ok(server.get(ADMIN, None).await)["nonce"].as_str().unwrap().to_owned();
        let body = |nonce: &str, admin: bool, signed: &str| {
            let text = format!("{nonce}\0tool\0pass\0{signed}");
            let mac = mac(b"secret", text.as_bytes());
            json!({ "nonce": nonce, "username": "tool", "password": "pass", "admin": admin, "mac": mac })
        };
        let first = nonce().await;
        refused(server.post(ADMIN, None, body(&first, true, "notadmin")).await, 403, "M_FORBIDDEN");
        // A nonce is used once, also in vain.
        refused(server.post(ADMIN, None, body(&first, true, "admin")).await, 400, "M_UNKNOWN");
        let second = nonce().await;
        let tool = User::of(ok(server.post(ADMIN, None, body(&second, true, "admin")).await));
        assert_eq!(ok(server.get(WHOAMI, &*tool.token).await)["user_id"], "@tool:localhost");
        refused(server.post(ADMIN, None, json!({})).await, 400, "M_BAD_JSON");
    })
    .await;
}

fn mac(key: &[u8], text: &[u8]) -> String {
    use hmac::{Hmac, KeyInit as _, Mac as _};
    let mut hmac = Hmac::<sha1::Sha1>::new_from_slice(key).unwrap();
    hmac.update(text);
    hmac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn a_guest_keeps_the_account() {
    each_setup_with(&[("REGISTRATION_GUESTS", "true")], async |server| {
        let guest = "/_matrix/client/v3/register?kind=guest";
        let gus = User::of(ok(server.post(guest, None, json!({})).await));
        let eve = User::of(ok(server.post(guest, None, json!({})).await));
        assert_eq!(ok(server.get(WHOAMI, &*gus.token).await)["is_guest"], true);
        let name = gus.id.trim_start_matches('@').trim_end_matches(":localhost");
        let mut body = json!({ "username": name, "password": "secret", "auth": { "type": "m.login.dummy" } });
        refused(server.post(REGISTER, None, body.clone()).await, 400, "M_USER_IN_USE");
        body["guest_access_token"] = eve.token.into();
        refused(server.post(REGISTER, None, body.clone()).await, 403, "M_FORBIDDEN");
        body["guest_access_token"] = gus.token.clone().into();
        let upgraded = User::of(ok(server.post(REGISTER, None, body).await));
        assert_eq!(upgraded.id, gus.id);
        // Both sessions are a user's now, on every server.
        for token in [&gus.token, &upgraded.token, &gus.token, &upgraded.token] {
            assert_eq!(ok(server.get(WHOAMI, &**token).await)["is_guest"], json!(null));
        }
        let room = server.post("/_matrix/client/v3/createRoom", &*gus.token, json!({})).await;
        assert!(ok(room)["room_id"].is_string());
    })
    .await;
}
