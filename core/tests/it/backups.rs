//! Key backups: only the newest version takes sessions, and a session gives way to a better one only.

use crate::support::{register, setups};
use myelin_core::Error;
use myelin_core::keys::backups::{self, Algorithm, Session, Which, parse_session};
use serde_json::json;

fn algorithm(name: &str) -> Algorithm {
    serde_json::from_value(json!({ "algorithm": name, "auth_data": { "public_key": "k" } })).expect("JSON")
}

fn session(room: &str, id: &str, index: u32, verified: bool) -> Session {
    let json = json!({
        "first_message_index": index, "forwarded_count": 0, "is_verified": verified,
        "session_data": { "ciphertext": index.to_string() },
    });
    parse_session(room, id, &json.to_string()).expect("a session")
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_kept_replaced_and_deleted() {
    for setup in setups("backup").await {
        let server = setup.replica(0);
        let user = register(server, "alice", "A").await.user_pk;
        assert!(matches!(backups::latest(server, user).await, Err(Error::NotFound(_))));
        let version = backups::create(server, user, algorithm("a")).await.expect("a version");
        let put = |sessions| backups::put(server, user, version.clone(), sessions);
        let sessions =
            vec![session("!r", "1", 5, false), session("!r", "2", 5, false), session("!q", "1", 5, true)];
        let first = put(sessions).await.expect("sessions");
        assert_eq!(first.count, 3);
        // Worse ones change nothing, so the etag stays.
        let worse =
            put(vec![session("!r", "1", 6, false), session("!q", "1", 0, false)]).await.expect("sessions");
        assert_eq!(worse, first);
        let better = put(vec![session("!r", "1", 9, true)]).await.expect("sessions");
        assert_ne!(better.etag, first.etag);
        let one = Which::Session("!r".to_owned(), "1".to_owned());
        let got = backups::sessions(server, user, &version, &one).await.expect("a session");
        assert_eq!(got, [session("!r", "1", 9, true)]);
        let room = Which::Room("!r".to_owned());
        assert_eq!(backups::sessions(server, user, &version, &room).await.expect("sessions").len(), 2);
        assert_eq!(
            backups::delete_sessions(server, user, version.clone(), one.clone()).await.expect("it").count,
            2
        );
        let gone = backups::sessions(server, user, &version, &one).await;
        assert!(matches!(gone, Err(Error::NotFound(_))));
        assert_eq!(
            backups::delete_sessions(server, user, version.clone(), room).await.expect("them").count,
            1
        );
        assert_eq!(
            backups::delete_sessions(server, user, version.clone(), Which::All).await.expect("all").count,
            0
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_newest_version_takes_sessions() {
    for setup in setups("backup_versions").await {
        let server = setup.replica(0);
        let user = register(server, "alice", "A").await.user_pk;
        let old = backups::create(server, user, algorithm("a")).await.expect("a version");
        let new = backups::create(server, user, algorithm("a")).await.expect("a version");
        let put =
            |version: &str| backups::put(server, user, version.to_owned(), vec![session("!r", "1", 0, true)]);
        let refused = put(&old).await;
        assert!(
            matches!(&refused, Err(Error::WrongRoomKeysVersion { current }) if *current == new),
            "{refused:?}"
        );
        assert!(matches!(put("99").await, Err(Error::NotFound(_))));
        assert!(matches!(put("x").await, Err(Error::NotFound(_))));
        put(&new).await.expect("sessions");
        let other = backups::update(server, user, new.clone(), algorithm("b")).await;
        assert!(matches!(other, Err(Error::InvalidParam(_))));
        backups::update(server, user, new.clone(), algorithm("a")).await.expect("auth_data");
        backups::delete(server, user, &new).await.expect("a deletion");
        assert!(matches!(backups::get(server, user, &new).await, Err(Error::NotFound(_))));
        assert_eq!(backups::latest(server, user).await.expect("the old one").version, old);
        // Its number is not given again.
        let third = backups::create(server, user, algorithm("a")).await.expect("a version");
        assert!(third != new && third != old);
    }
}
