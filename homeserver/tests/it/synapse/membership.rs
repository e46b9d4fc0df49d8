//! Who is in a room: joins, leaves, invitations, knocks, kicks and bans across the border.

use serde_json::{Value, json};

use super::home::escaped;
use super::{ALL, BOTH_KINDS, Border};
use crate::support::{ok, refused};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Synapse"]
async fn rooms_are_joined_by_alias_and_by_id_and_left() {
    let border = Border::open().await;
    border
        .each(ALL, async |here, there, version| {
            let (alice, bob, carol) =
                (here.register("alice").await, there.register("bob").await, there.register("carol").await);
            let local = format!("hall-{}", super::home::number());
            let wish = json!({
                "preset": "public_chat", "room_version": version, "name": "Hall", "room_alias_name": local,
            });
            let room = alice.create_room(wish).await;
            alice.say(&room, "before").await;
            let alias = format!("#{local}:{}", here.name);
            let found = ok(bob.get(&format!("/directory/room/{}", escaped(&alias))).await);
            assert_eq!(found["room_id"], *room);
            let joined = ok(bob.post(&format!("/join/{}", escaped(&alias)), json!({})).await);
            assert_eq!(joined["room_id"], *room);
            ok(carol.join(&room, &here).await);
            assert_eq!(bob.state(&room, "m.room.create", "").await["room_version"], version);
            assert_eq!(carol.state(&room, "m.room.name", "").await["name"], "Hall");
            alice.until_member(&room, &carol, "join").await;
            alice.say(&room, "from here").await;
            for there in [&bob, &carol] {
                there.until_seen(&room, "from here").await;
            }
            bob.say(&room, "from there").await;
            alice.until_seen(&room, "from there").await;
            alice.until_agreed(&bob, &room).await;
            ok(carol.act("leave", &room, None).await);
            alice.until_member(&room, &carol, "leave").await;
            ok(bob.act("leave", &room, None).await);
            alice.until_member(&room, &bob, "leave").await;
            // Nobody is left there, so this goes across the border again.
            let since = carol.since().await;
            alice.say(&room, "while they were gone").await;
            ok(carol.join(&room, &here).await);
            carol.until_in(Some(&since), "join", &room).await;
            alice.until_member(&room, &carol, "join").await;
            alice.say(&room, "once more").await;
            carol.until_seen(&room, "once more").await;
            alice.until_agreed(&carol, &room).await;
        })
        .await;
    border.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Synapse"]
async fn invitations_are_taken_declined_and_taken_back() {
    let border = Border::open().await;
    border
        .each(BOTH_KINDS, async |here, there, version| {
            let (alice, bob) = (here.register("alice").await, there.register("bob").await);
            let wish = json!({
                "preset": "private_chat", "room_version": version, "invite": [bob.id], "name": "Closet",
                "is_direct": true,
            });
            let room = alice.create_room(wish).await;
            let stranger = there.register("stranger").await;
            refused(stranger.join(&room, &here).await, 403, "M_FORBIDDEN");
            let shown = bob.until_in(None, "invite", &room).await;
            let state = shown["invite_state"]["events"].as_array().unwrap();
            let has = |wanted: &dyn Fn(&Value) -> bool| state.iter().any(wanted);
            assert!(has(&|event| event["content"]["name"] == "Closet"), "{state:?}");
            assert!(has(&|event| event["type"] == "m.room.create"), "{state:?}");
            assert!(
                has(&|event| event["state_key"] == *bob.id && event["content"]["is_direct"] == true),
                "{state:?}"
            );
            let since = bob.since().await;
            ok(bob.act("leave", &room, None).await);
            bob.until_in(Some(&since), "leave", &room).await;
            alice.until_member(&room, &bob, "leave").await;

            ok(alice.act("invite", &room, Some(&bob)).await);
            bob.until_in(Some(&since), "invite", &room).await;
            let since = bob.since().await;
            ok(alice.act("kick", &room, Some(&bob)).await);
            bob.until_in(Some(&since), "leave", &room).await;
            refused(bob.join(&room, &here).await, 403, "M_FORBIDDEN");

            ok(alice.act("invite", &room, Some(&bob)).await);
            bob.until_in(Some(&since), "invite", &room).await;
            // The invitation says where the room is.
            ok(bob.act("join", &room, None).await);
            bob.say(&room, "here I am").await;
            alice.until_seen(&room, "here I am").await;
            // Who came by invitation invites, at home and back across the border.
            for next in [there.register("carol").await, here.register("dave").await] {
                ok(bob.act("invite", &room, Some(&next)).await);
                next.until_in(None, "invite", &room).await;
                ok(next.act("join", &room, None).await);
                alice.until_member(&room, &next, "join").await;
                bob.until_member(&room, &next, "join").await;
            }
            alice.until_agreed(&bob, &room).await;
        })
        .await;
    border.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Synapse"]
async fn who_knocks_is_let_in_or_not() {
    let border = Border::open().await;
    border
        .each(ALL, async |here, there, version| {
            let (alice, bob) = (here.register("alice").await, there.register("bob").await);
            let rule =
                json!({ "type": "m.room.join_rules", "state_key": "", "content": { "join_rule": "knock" } });
            let wish = json!({
                "preset": "private_chat", "room_version": version, "name": "Door", "initial_state": [rule],
            });
            let room = alice.create_room(wish).await;
            let path = format!("/knock/{}?via={}&server_name={}", escaped(&room), here.name, here.name);
            let knock = async || {
                let since = alice.since().await;
                ok(bob.post(&path, json!({ "reason": "please" })).await);
                let event = alice
                    .until_event(Some(&since), &room, "the knock", |event| {
                        event["content"]["membership"] == "knock"
                    })
                    .await;
                assert_eq!(
                    (&event["sender"], &event["content"]["reason"]),
                    (&json!(bob.id), &json!("please"))
                );
            };
            // Taken back.
            let since = bob.since().await;
            knock().await;
            let shown = bob.until_in(Some(&since), "knock", &room).await;
            let state = shown["knock_state"]["events"].as_array().unwrap();
            assert!(state.iter().any(|event| event["content"]["name"] == "Door"), "{state:?}");
            let since = bob.since().await;
            ok(bob.act("leave", &room, None).await);
            bob.until_in(Some(&since), "leave", &room).await;
            if there.kind == "Synapse" {
                // It does not tell others that a knock is taken back.
                ok(alice.act("kick", &room, Some(&bob)).await);
            }
            alice.until_member(&room, &bob, "leave").await;
            // Let in.
            let since = bob.since().await;
            knock().await;
            ok(alice.act("invite", &room, Some(&bob)).await);
            bob.until_in(Some(&since), "invite", &room).await;
            ok(bob.act("join", &room, None).await);
            bob.say(&room, "thank you").await;
            alice.until_seen(&room, "thank you").await;
            alice.until_agreed(&bob, &room).await;
            // Refused.
            if here.kind == "Synapse" {
                // It does not tell who knocked.
                return;
            }
            ok(bob.act("leave", &room, None).await);
            alice.until_member(&room, &bob, "leave").await;
            let since = bob.since().await;
            knock().await;
            ok(alice.act("kick", &room, Some(&bob)).await);
            bob.until_in(Some(&since), "leave", &room).await;
        })
        .await;
    border.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Synapse"]
async fn members_of_one_room_join_another() {
    let border = Border::open().await;
    border
        .each(ALL, async |here, there, version| {
            let (alice, bob, carol) =
                (here.register("alice").await, there.register("bob").await, there.register("carol").await);
            let club = alice.create_room(json!({ "preset": "public_chat", "room_version": version })).await;
            let rule = json!({ "type": "m.room.join_rules", "state_key": "", "content": {
                "join_rule": "restricted", "allow": [{ "type": "m.room_membership", "room_id": club }],
            } });
            let wish = json!({ "preset": "private_chat", "room_version": version, "initial_state": [rule] });
            let room = alice.create_room(wish).await;
            refused(bob.join(&room, &here).await, 403, "M_FORBIDDEN");
            ok(bob.join(&club, &here).await);
            alice.until_member(&club, &bob, "join").await;
            ok(bob.join(&room, &here).await);
            let member = bob.state(&room, "m.room.member", &bob.id).await;
            assert_eq!(member["join_authorised_via_users_server"], *alice.id, "{member}");
            // Bob's server is in both rooms by now, but nobody of it may invite: Alice's lets her in.
            let mut levels = alice.state(&room, "m.room.power_levels", "").await;
            levels["invite"] = json!(50);
            ok(alice.set(&room, "m.room.power_levels", "", levels.clone()).await);
            bob.until_agreed(&alice, &room).await;
            ok(carol.join(&club, &here).await);
            alice.until_member(&club, &carol, "join").await;
            ok(carol.join(&room, &here).await);
            let member = carol.state(&room, "m.room.member", &carol.id).await;
            assert_eq!(member["join_authorised_via_users_server"], *alice.id, "{member}");
            // Now Bob's server lets somebody in itself.
            levels["users"][&bob.id] = json!(50);
            ok(alice.set(&room, "m.room.power_levels", "", levels).await);
            bob.until_agreed(&alice, &room).await;
            let dave = there.register("dave").await;
            ok(dave.join(&club, &there).await);
            ok(dave.join(&room, &there).await);
            let member = dave.state(&room, "m.room.member", &dave.id).await;
            assert_eq!(member["join_authorised_via_users_server"], *bob.id, "{member}");
            alice.until_agreed(&dave, &room).await;
            // Who has left the club does not come back.
            for left in [&club, &room] {
                ok(bob.act("leave", left, None).await);
                alice.until_member(left, &bob, "leave").await;
            }
            refused(bob.join(&room, &here).await, 403, "M_FORBIDDEN");
        })
        .await;
    border.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Synapse"]
async fn who_is_kicked_may_come_back_and_who_is_banned_may_not() {
    let border = Border::open().await;
    border
        .each(BOTH_KINDS, async |here, there, version| {
            let (alice, bob, carol) =
                (here.register("alice").await, there.register("bob").await, there.register("carol").await);
            let room = alice.create_room(json!({ "preset": "public_chat", "room_version": version })).await;
            for member in [&bob, &carol] {
                ok(member.join(&room, &here).await);
                alice.until_member(&room, member, "join").await;
            }
            let since = bob.since().await;
            ok(alice.act("kick", &room, Some(&bob)).await);
            bob.until_in(Some(&since), "leave", &room).await;
            carol.until_member(&room, &bob, "leave").await;
            ok(bob.join(&room, &here).await);
            alice.until_member(&room, &bob, "join").await;
            let since = bob.since().await;
            ok(alice.act("ban", &room, Some(&bob)).await);
            bob.until_in(Some(&since), "leave", &room).await;
            carol.until_member(&room, &bob, "ban").await;
            // Synapse has an errcode of its own for this where it knows the room.
            assert_eq!(bob.join(&room, &here).await.0, 403);
            // Carol may not; then she may, and does it from the other side.
            refused(carol.act("unban", &room, Some(&bob)).await, 403, "M_FORBIDDEN");
            let mut levels = alice.state(&room, "m.room.power_levels", "").await;
            levels["users"][&carol.id] = json!(60);
            ok(alice.set(&room, "m.room.power_levels", "", levels).await);
            carol.until_agreed(&alice, &room).await;
            ok(carol.act("unban", &room, Some(&bob)).await);
            alice.until_member(&room, &bob, "leave").await;
            ok(bob.join(&room, &here).await);
            alice.until_member(&room, &bob, "join").await;
            let erin = here.register("erin").await;
            ok(erin.join(&room, &here).await);
            carol.until_member(&room, &erin, "join").await;
            let since = erin.since().await;
            ok(carol.act("ban", &room, Some(&erin)).await);
            erin.until_in(Some(&since), "leave", &room).await;
            assert_eq!(erin.join(&room, &here).await.0, 403);
            alice.until_agreed(&carol, &room).await;
        })
        .await;
    border.close().await;
}
