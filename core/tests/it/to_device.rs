//! To-device messages: once for each transaction id, kept until acknowledged.

use crate::support::{log_in, open, register, setups};
use futures_util::future::join_all;
use myelin_core::keys::Device;
use myelin_core::to_device::{self, Messages};
use myelin_core::users::sessions::Session;
use myelin_storage::changes::Changes;
use ruma::to_device::DeviceIdOrAllDevices;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

fn device(session: &Session) -> Device<'_> {
    Device {
        user_pk: session.user_pk,
        user_id: &session.user,
        device_pk: session.device_pk,
        device_id: &session.device,
    }
}

fn message(to: &Session, device: DeviceIdOrAllDevices, text: &str) -> Messages {
    let content = RawValue::from_string(serde_json::json!({ "body": text }).to_string()).expect("JSON");
    Messages::from([(to.user.clone(), BTreeMap::from([(device, content)]))])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_id_sends_once_on_all_replicas_and_after_a_restart() {
    for setup in setups("to_device_once").await {
        let alice = register(setup.replica(0), "alice", "A").await;
        let bob = register(setup.replica(0), "bob", "B").await;
        let to_bob = || message(&bob, bob.device.clone().into(), "hello");
        let sends = (0..8).map(|turn| {
            let server = setup.replica(turn);
            to_device::send(server, device(&alice), "m.dummy", "txn".to_owned(), to_bob())
        });
        for sent in join_all(sends).await {
            sent.expect("a send");
        }
        let restarted = open(&setup.options, "another").await;
        to_device::send(&restarted, device(&alice), "m.dummy", "txn".to_owned(), to_bob())
            .await
            .expect("a send");
        let pending = to_device::pending(&restarted, bob.device_pk, 0, i64::MAX).await.expect("messages");
        assert_eq!(pending.events.len(), 1, "{}", setup.name);
        // The id counts for its path only.
        to_device::send(&restarted, device(&alice), "m.other", "txn".to_owned(), to_bob())
            .await
            .expect("a send");
        let pending = to_device::pending(&restarted, bob.device_pk, 0, i64::MAX).await.expect("messages");
        assert_eq!(pending.events.len(), 2, "{}", setup.name);
        restarted.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_wait_until_they_are_acknowledged() {
    for setup in setups("to_device_wait").await {
        let server = setup.replica(0);
        let alice = register(server, "alice", "A").await;
        let bob = register(server, "bob", "B").await;
        let second = log_in(server, bob.user_pk, "C").await;
        for index in 0..105 {
            let messages = message(&bob, DeviceIdOrAllDevices::AllDevices, &index.to_string());
            to_device::send(server, device(&alice), "m.dummy", format!("t{index}"), messages)
                .await
                .expect("a send");
        }
        let unknown = message(&bob, DeviceIdOrAllDevices::DeviceId("NOBODY".into()), "lost");
        to_device::send(server, device(&alice), "m.dummy", "unknown".to_owned(), unknown)
            .await
            .expect("a send");
        let visible = server.log.visible();
        let pending = |device_pk| to_device::pending(server, device_pk, 0, visible);
        let page = pending(bob.device_pk).await.expect("messages");
        assert_eq!(page.events.len(), 100);
        assert!(page.events[0].get().contains("\"sender\":\"@alice:test.example\""));
        // A position of the future acknowledges nothing.
        to_device::acknowledge(server, bob.device_pk, visible + 1);
        assert_eq!(pending(bob.device_pk).await.expect("messages").events.len(), 100);
        to_device::acknowledge(server, bob.device_pk, page.upto);
        // It goes along with the next commit.
        server.commit.write(Changes::default(), |_| {}).await.expect("a commit");
        let rest = pending(bob.device_pk).await.expect("messages");
        assert_eq!((rest.events.len(), rest.upto), (5, visible));
        assert!(rest.events[0].get().contains("\"100\""), "{}", rest.events[0]);
        assert_eq!(pending(second.device_pk).await.expect("messages").events.len(), 100);
    }
}
