//! User-interactive authentication.

use serde_json::json;

use crate::support::{asked, each_setup, ok, password_auth, refused};

const DELETE: &str = "/_matrix/client/v3/delete_devices";

#[tokio::test]
async fn a_session_is_bound_to_its_request() {
    each_setup(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let second = server.login("alice").await;
        let (session, _) = asked(server.post(DELETE, &*alice.token, json!({ "devices": ["X"] })).await);
        let mut body = json!({ "devices": [second.device], "auth": password_auth("alice", &session) });
        refused(server.post(DELETE, &*alice.token, body.clone()).await, 403, "M_FORBIDDEN");
        // Another user's request is another request, and the session no licence.
        body["devices"] = json!(["X"]);
        refused(server.post(DELETE, &*bob.token, body.clone()).await, 403, "M_FORBIDDEN");
        let path = "/_matrix/client/v3/account/deactivate";
        refused(server.post(path, &*alice.token, body.clone()).await, 403, "M_FORBIDDEN");
        body["auth"]["session"] = "unknown".into();
        refused(server.post(DELETE, &*alice.token, body.clone()).await, 400, "M_UNKNOWN");
        body["auth"]["session"] = "\u{0}".into();
        refused(server.post(DELETE, &*alice.token, body.clone()).await, 400, "M_UNKNOWN");
        ok(server.get("/_matrix/client/v3/devices", &*second.token).await);
        body["auth"]["session"] = session.into();
        ok(server.post(DELETE, &*alice.token, body.clone()).await);
        // It was for once.
        refused(server.post(DELETE, &*alice.token, body).await, 400, "M_UNKNOWN");
    })
    .await;
}

#[tokio::test]
async fn stages() {
    each_setup(async |server| {
        let alice = server.register("alice").await;
        let mut body = json!({ "devices": ["X"] });
        let (session, info) = asked(server.post(DELETE, &*alice.token, body.clone()).await);
        assert_eq!(info["flows"], json!([{ "stages": ["m.login.password"] }]));
        assert_eq!(info["params"], json!({}));
        for auth in [
            json!({ "type": "m.login.dummy", "session": session }),
            json!({ "type": "org.example.custom", "session": session }),
            json!({ "type": "m.login.recaptcha", "response": "x", "session": session }),
        ] {
            body["auth"] = auth;
            let (again, info) = asked(server.post(DELETE, &*alice.token, body.clone()).await);
            assert_eq!((again.as_str(), &info["errcode"]), (session.as_str(), &json!("M_UNRECOGNIZED")));
        }
        // How far is it?
        body["auth"] = json!({ "session": session });
        let (again, info) = asked(server.post(DELETE, &*alice.token, body.clone()).await);
        assert_eq!((again.as_str(), info.get("errcode")), (session.as_str(), None));
        body["auth"] = json!({ "type": "m.login.password", "session": session });
        refused(server.post(DELETE, &*alice.token, body.clone()).await, 400, "M_BAD_JSON");
        // Without a session, all at once.
        let mut auth = password_auth("alice", "");
        auth.as_object_mut().unwrap().remove("session");
        body["auth"] = auth;
        ok(server.post(DELETE, &*alice.token, body).await);
    })
    .await;
}
