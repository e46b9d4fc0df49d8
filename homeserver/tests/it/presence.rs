//! Who is there: off by default, and across the border where it is on.

use serde_json::{Value, json};

use crate::pair::each_pair_with;
use crate::support::{User, each_setup, ok, refused};

fn status(user: &User) -> String {
    format!("/_matrix/client/v3/presence/{}/status", user.id)
}

/// What an answer of /sync tells of a user.
fn told(body: &Value, user: &User) -> Option<Value> {
    let events = body["presence"]["events"].as_array()?;
    events.iter().rfind(|event| event["sender"] == user.id.as_str()).map(|event| event["content"].clone())
}

#[tokio::test]
async fn nobody_is_there_by_default() {
    each_setup(async |setup| {
        let alice = setup.register("alice").await;
        ok(setup.put(&status(&alice), &*alice.token, json!({ "presence": "online" })).await);
        assert_eq!(ok(setup.get(&status(&alice), &*alice.token).await), json!({ "presence": "offline" }));
        assert_eq!(ok(setup.get("/_matrix/client/v3/sync", &*alice.token).await)["presence"], Value::Null);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_share_a_room_see_who_is_there() {
    each_pair_with(&[("PRESENCE_ENABLED", "true")], |pair| async move {
        let (alice, eve) = (pair.one.register("alice").await, pair.one.register("eve").await);
        let bob = pair.two.register("bob").await;
        let room = pair.one.create_room(&alice, json!({ "preset": "public_chat" })).await;
        ok(pair.two.join_by(&bob, &room, &pair.one.name()).await);
        let since = pair.one.since(&alice).await;
        ok(pair.two.get("/_matrix/client/v3/sync", &*bob.token).await);
        let is = |presence: &'static str, status: Value| {
            let bob = bob.clone();
            move |body: &Value| {
                told(body, &bob).filter(|told| told["presence"] == presence && told["status_msg"] == status)
            }
        };
        let shown = is("online", Value::Null);
        let shown = pair.one.sync_from_until(Some(&since), &alice, "bob is there", shown).await;
        assert_eq!(shown["currently_active"], true, "{shown}");
        let away = json!({ "presence": "unavailable", "status_msg": "lunch" });
        ok(pair.two.put(&status(&bob), &*bob.token, away).await);
        let shown = is("unavailable", json!("lunch"));
        pair.one.sync_from_until(Some(&since), &alice, "bob is away", shown).await;
        // Each replica hears it in its time.
        let mut heard = 0;
        for _ in 0..1_000 {
            let shown = ok(pair.one.get(&status(&bob), &*alice.token).await);
            let is_away = shown["presence"] == "unavailable" && shown["status_msg"] == "lunch";
            heard = if is_away { heard + 1 } else { 0 };
            if heard >= pair.one.cores.len() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        assert_eq!(heard, pair.one.cores.len(), "bob is away for every replica");
        // Whoever comes later hears of it, too.
        let all = ok(pair.one.get("/_matrix/client/v3/sync", &*alice.token).await);
        assert_eq!(told(&all, &bob).unwrap()["status_msg"], "lunch");
        let filter = "/_matrix/client/v3/sync?filter=%7B%22presence%22:%7B%22types%22:%5B%5D%7D%7D";
        assert_eq!(ok(pair.one.get(filter, &*alice.token).await)["presence"], Value::Null);
        refused(pair.one.get(&status(&bob), &*eve.token).await, 403, "M_FORBIDDEN");
        refused(
            pair.one.put(&status(&alice), &*eve.token, json!({ "presence": "online" })).await,
            403,
            "M_FORBIDDEN",
        );
        let long = json!({ "presence": "online", "status_msg": "x".repeat(1_001) });
        refused(pair.two.put(&status(&bob), &*bob.token, long).await, 400, "M_INVALID_PARAM");
        assert_eq!(told(&ok(pair.one.get("/_matrix/client/v3/sync", &*eve.token).await), &bob), None);
        // A client that says nothing more is gone.
        pair.two.clock.advance(60_000);
        pair.two.cores[0].tick().await.unwrap();
        let shown = is("offline", json!("lunch"));
        pair.one.sync_from_until(Some(&since), &alice, "bob is gone", shown).await;
    })
    .await;
}
