//! Two servers: what their users see of each other.

use serde_json::json;

use crate::pair::each_pair;
use crate::support::{ok, refused};

#[tokio::test(flavor = "multi_thread")]
async fn a_room_across_the_border() {
    each_pair(|pair| async move {
        let (alice, bob) = (pair.one.register("alice").await, pair.two.register("bob").await);
        for version in ["6", "10", "11", "12"] {
            let wish = json!({ "preset": "public_chat", "room_version": version, "name": "Hall" });
            let room = pair.one.create_room(&alice, wish).await;
            pair.one.say(&alice, &room, "before").await;
            ok(pair.two.join_by(&bob, &room, &pair.one.name()).await);
            let (_, name) = pair.two.state(&bob, &room, "m.room.name", "").await;
            assert_eq!(name["name"], "Hall");
            pair.one.say(&alice, &room, "from one").await;
            pair.two.until_seen(&bob, &room, "from one").await;
            pair.two.say(&bob, &room, "from two").await;
            pair.one.until_seen(&alice, &room, "from two").await;
            let (_, member) = pair.one.state(&alice, &room, "m.room.member", &bob.id).await;
            assert_eq!(member["membership"], "join");
            let path = format!("/_matrix/client/v3/rooms/{room}/leave");
            ok(pair.two.post(&path, &*bob.token, json!({})).await);
            pair.one
                .sync_until(&alice, "bob leaves", |body| {
                    let events = body["rooms"]["join"][&room]["timeline"]["events"].as_array()?;
                    let left = |event: &&serde_json::Value| event["content"]["membership"] == "leave";
                    events.iter().find(left).map(drop)
                })
                .await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn invitations_are_taken_and_declined() {
    each_pair(|pair| async move {
        let (alice, bob) = (pair.one.register("alice").await, pair.two.register("bob").await);
        let wish = json!({ "preset": "private_chat", "invite": [bob.id], "name": "Closet" });
        let room = pair.one.create_room(&alice, wish).await;
        refused(
            pair.two.join_by(&pair.two.register("carol").await, &room, &pair.one.name()).await,
            403,
            "M_FORBIDDEN",
        );
        let shown = pair
            .two
            .sync_until(&bob, "the invitation", |body| {
                let state = &body["rooms"]["invite"][&room]["invite_state"]["events"];
                state.as_array().cloned()
            })
            .await;
        assert!(shown.iter().any(|event| event["content"]["name"] == "Closet"), "{shown:?}");
        assert!(shown.iter().any(|event| event["state_key"] == bob.id.as_str()), "{shown:?}");
        let path = format!("/_matrix/client/v3/rooms/{room}/leave");
        ok(pair.two.post(&path, &*bob.token, json!({})).await);
        pair.one
            .sync_until(&alice, "bob declines", |body| {
                let events = body["rooms"]["join"][&room]["timeline"]["events"].as_array()?;
                events.iter().find(|event| event["content"]["membership"] == "leave").map(drop)
            })
            .await;
        let path = format!("/_matrix/client/v3/rooms/{room}/invite");
        ok(pair.one.post(&path, &*alice.token, json!({ "user_id": bob.id })).await);
        // The invitation says where the room is.
        let join = format!("/_matrix/client/v3/rooms/{room}/join");
        pair.two
            .sync_until(&bob, "the second invitation", |body| {
                body["rooms"]["invite"][&room].is_object().then_some(())
            })
            .await;
        ok(pair.two.post(&join, &*bob.token, json!({})).await);
        pair.two.say(&bob, &room, "here I am").await;
        pair.one.until_seen(&alice, &room, "here I am").await;
    })
    .await;
}
