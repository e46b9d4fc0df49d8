//! Invitations of people of whom only an address was known.

use hyper::Method;
use myelin_core::events::signatures::ServerKey;
use ruma::ServerName;
use ruma::canonical_json::CanonicalJsonObject;
use serde_json::{Value, json};

use crate::pair::each_pair;
use crate::stranger::Stranger;
use crate::support::{ok, refused};

/// What an identity server signs when somebody has proved an address to be theirs.
fn signed(key: &ServerKey, user: &str, token: &str) -> Value {
    let object = json!({ "mxid": user, "token": token });
    let mut object: CanonicalJsonObject = serde_json::from_value(object).unwrap();
    key.sign_json(ServerName::parse("id.example").unwrap().as_ref(), &mut object).unwrap();
    serde_json::to_value(object).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_becomes_an_invitation() {
    each_pair(|pair| async move {
        let (alice, bob) = (pair.one.register("alice").await, pair.two.register("bob").await);
        let carol = pair.one.register("carol").await;
        let room = pair.one.create_room(&alice, json!({ "preset": "private_chat" })).await;
        let identity = ServerKey::from_seed("0", &[7; 32]).unwrap();
        let key = identity.public_base64();
        let waiting = |name: &str| {
            json!({
                "display_name": name, "key_validity_url": "https://id.example/valid", "public_key": key,
                "public_keys": [{ "public_key": key }],
            })
        };
        for token in ["for-bob", "for-carol"] {
            let path = format!("/_matrix/client/v3/rooms/{room}/state/m.room.third_party_invite/{token}");
            ok(pair.one.put(&path, &*alice.token, waiting("b...@e...")).await);
        }
        let bound = |user: &str, signed: Value| {
            let invite = json!({
                "medium": "email", "address": "b@example.org", "mxid": user, "room_id": room, "sender": alice.id,
                "signed": signed,
            });
            json!({ "medium": "email", "address": "b@example.org", "mxid": user, "invites": [invite] })
        };
        let stranger = Stranger::start(61).await;
        let path = "/_matrix/federation/v1/3pid/onbind";

        // Bob's server is not in the room, so it has Alice's make the invitation. A wrong signature brings none.
        let wrong = signed(&ServerKey::from_seed("0", &[8; 32]).unwrap(), &bob.id, "for-bob");
        for (proof, comes) in [(wrong, false), (signed(&identity, &bob.id, "for-bob"), true)] {
            let body = serde_json::to_vec(&bound(&bob.id, proof)).unwrap();
            ok(stranger.send(&pair.two.name(), Method::PUT, path, None, body).await);
            let sync = ok(pair.two.get("/_matrix/client/v3/sync", &*bob.token).await);
            assert_eq!(sync["rooms"]["invite"][&room].is_object(), comes, "{sync}");
        }
        ok(pair.two.join_by(&bob, &room, &pair.one.name()).await);
        let (_, member) = pair.one.state(&alice, &room, "m.room.member", &bob.id).await;
        assert_eq!(member["membership"], "join");

        // Carol's is in the room, and needs nobody.
        let proof = signed(&identity, &carol.id, "for-carol");
        let body = serde_json::to_vec(&bound(&carol.id, proof)).unwrap();
        ok(stranger.send(&pair.one.name(), Method::PUT, path, None, body).await);
        let sync = ok(pair.one.get("/_matrix/client/v3/sync", &*carol.token).await);
        assert!(sync["rooms"]["invite"][&room].is_object(), "{sync}");
        let name = "b...@e...";
        let (_, member) = pair.one.state(&alice, &room, "m.room.member", &carol.id).await;
        assert_eq!(member["third_party_invite"]["display_name"], name, "{member}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_signed_for_the_room_is_not_exchanged() {
    each_pair(|pair| async move {
        let alice = pair.one.register("alice").await;
        let room = pair.one.create_room(&alice, json!({ "preset": "private_chat" })).await;
        let stranger = Stranger::start(62).await;
        let eve = stranger.user("eve");
        let identity = ServerKey::from_seed("0", &[7; 32]).unwrap();
        let path = format!("/_matrix/federation/v1/exchange_third_party_invite/{room}");
        let event = |sender: &str, membership: &str, signed: Value| {
            json!({
                "type": "m.room.member", "room_id": room, "sender": sender, "state_key": eve,
                "content": {
                    "membership": membership,
                    "third_party_invite": { "display_name": "e", "signed": signed },
                },
            })
        };
        let host = pair.one.name();
        let good = || signed(&identity, &eve, "token");
        for (body, status, code) in [
            (event(&alice.id, "invite", good()), 404, "M_NOT_FOUND"),
            (event(&alice.id, "join", good()), 400, "M_BAD_JSON"),
            (event(&eve, "invite", good()), 403, "M_FORBIDDEN"),
            (event(&alice.id, "invite", signed(&identity, &alice.id, "token")), 403, "M_FORBIDDEN"),
            (event(&alice.id, "invite", json!({ "token": 5 })), 400, "M_BAD_JSON"),
        ] {
            refused(stranger.ask(&host, Method::PUT, &path, Some(&body)).await, status, code);
        }
    })
    .await;
}
