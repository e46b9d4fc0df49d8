//! Operations from the core's door to the disk and back, on SQLite: an event is appended, a /sync tells of it, a
//! one-time key is claimed. Each waits until it is durable, so that the disk is part of the figure.

#![expect(clippy::unwrap_used, reason = "a benchmark may stop where a test may")]
#![allow(missing_docs, reason = "criterion's macros make public functions")]

use criterion::{Criterion, criterion_group, criterion_main};
use futures_util::future::join_all;
use myelin_core::config::load;
use myelin_core::keys::{Device, claim, upload};
use myelin_core::ports::{SystemClock, SystemRandom};
use myelin_core::rooms::create::{CreateRoom, Preset};
use myelin_core::rooms::serialize::Reader;
use myelin_core::server::{Parts, Server};
use myelin_core::sync::filter::Members;
use myelin_core::sync::look::{Ask, StateAfter};
use myelin_core::sync::token::Token;
use myelin_core::users::sessions::Session;
use myelin_core::users::{accounts, sessions};
use myelin_storage::testing;
use ruma::OwnedRoomId;
use ruma::api::client::filter::FilterDefinition;
use serde_json::json;
use serde_json::value::{RawValue, to_raw_value};
use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;
use tokio::runtime::Runtime;

/// Keys of one upload.
const KEYS: usize = 500;

async fn server(folder: &std::path::Path) -> Arc<Server> {
    let settings = load(None, [("MYELIN_SERVER_NAME".to_owned(), "bench.example".to_owned())]).unwrap();
    let parts = Parts {
        settings,
        database: testing::sqlite(folder),
        replica: "bench".to_owned(),
        clock: Arc::new(SystemClock),
        random: Arc::new(SystemRandom),
    };
    Server::open(parts).await.unwrap()
}

async fn register(server: &Server, name: &str) -> Arc<Session> {
    let login = Some(sessions::Wanted::default());
    let registration =
        accounts::Registration { username: Some(name.to_owned()), login, ..Default::default() };
    let tokens = accounts::register(server, registration).await.unwrap().login.unwrap().tokens;
    sessions::authenticate(server, &tokens.access_token).await.unwrap()
}

async fn room(server: &Arc<Server>, creator: &Session) -> OwnedRoomId {
    let wish = CreateRoom::new(&creator.user, Preset::PrivateChat);
    server.create_room(wish).await.unwrap()
}

fn ciphertext() -> Box<RawValue> {
    to_raw_value(&json!({ "algorithm": "m.megolm.v1.aes-sha2", "ciphertext": "c".repeat(300) })).unwrap()
}

async fn send(server: &Arc<Server>, room: &OwnedRoomId, sender: &Session) {
    server.send_message(room, &sender.user, "m.room.encrypted".to_owned(), ciphertext(), None).await.unwrap();
}

async fn sync(server: &Server, session: &Session, since: Option<Token>) -> Token {
    let filter = FilterDefinition::default();
    let ask = Ask {
        reader: Reader { user: &session.user, user_pk: session.user_pk, device_pk: session.device_pk },
        since,
        filter: &filter,
        members: Members::All,
        full_state: false,
        state_after: StateAfter::Off,
    };
    let online = server.online.enter(session.user_pk, server.now_ms());
    Token::parse(&black_box(server.sync(&online, &ask).await.unwrap()).next_batch).unwrap()
}

async fn upload_keys(server: &Server, session: &Session, first: usize) {
    let key = |number: usize| {
        let json = json!({ "key": number.to_string(), "signatures": { "@a:b": { "ed25519:D": "s" } } });
        (format!("signed_curve25519:{number}").parse().unwrap(), to_raw_value(&json).unwrap())
    };
    let one_time_keys = (first..first + KEYS).map(key).collect();
    let device = Device {
        user_pk: session.user_pk,
        user_id: &session.user,
        device_pk: session.device_pk,
        device_id: &session.device,
    };
    upload::upload(server, device, upload::Upload { one_time_keys, ..Default::default() }).await.unwrap();
}

fn events(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (server, alice, room) = runtime.block_on(async {
        let server = server(folder.path()).await;
        let alice = register(&server, "alice").await;
        let room = room(&server, &alice).await;
        (server, alice, room)
    });
    criterion.bench_function("append one event", |bench| {
        bench.iter(|| runtime.block_on(send(&server, &room, &alice)));
    });
    criterion.bench_function("append 32 events that come at once", |bench| {
        bench.iter(|| {
            runtime.block_on(join_all((0..32).map(|_| send(&server, &room, &alice))));
        });
    });
    let mut since = runtime.block_on(sync(&server, &alice, None));
    criterion.bench_function("sync without news", |bench| {
        bench.iter(|| since = runtime.block_on(sync(&server, &alice, Some(since))));
    });
    runtime.block_on(send(&server, &room, &alice));
    criterion.bench_function("sync delta of one event", |bench| {
        bench.iter(|| runtime.block_on(sync(&server, &alice, Some(since))));
    });
    criterion.bench_function("state look-up", |bench| {
        bench.iter(|| {
            runtime.block_on(async {
                let room = server.rooms.get(&room).await.unwrap();
                let root = server.current_root(&room).await.unwrap();
                black_box(server.membership_in(&room, root, &alice.user).await.unwrap())
            })
        });
    });
}

fn keys(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (server, alice) = runtime.block_on(async {
        let server = server(folder.path()).await;
        let alice = register(&server, "alice").await;
        (server, alice)
    });
    let of_user = BTreeMap::from([(alice.device.clone(), "signed_curve25519".to_owned())]);
    let wanted = claim::Wanted::from([(alice.user.clone(), of_user)]);
    let (mut uploaded, mut claimed) = (0, 0);
    criterion.bench_function("claim one key", |bench| {
        bench.iter_custom(|rounds| {
            let mut spent = std::time::Duration::ZERO;
            for _ in 0..rounds {
                if claimed == uploaded {
                    runtime.block_on(upload_keys(&server, &alice, uploaded));
                    uploaded += KEYS;
                }
                let began = std::time::Instant::now();
                let answer = runtime.block_on(claim::claim(&server, wanted.clone())).unwrap();
                spent += began.elapsed();
                assert_eq!(answer.keys.len(), 1);
                claimed += 1;
            }
            spent
        });
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(30);
    targets = events, keys
}
criterion_main!(benches);
