//! Keys: each one-time key is given once, also under concurrency and across replicas; signatures; who sees what.

use crate::support::{log_in, register, setups};
use futures_util::future::join_all;
use myelin_core::keys::{Device, claim, cross_signing, device_lists, query, signatures, upload};
use myelin_core::users::sessions::Session;
use myelin_core::{Error, Server};
use myelin_storage::keys::device_lists as stored_lists;
use ruma::OwnedUserId;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashSet};
use vodozemac::olm::{Account, OlmMessage, SessionConfig};
use vodozemac::{Curve25519PublicKey, Ed25519SecretKey};

pub fn device(session: &Session) -> Device<'_> {
    Device {
        user_pk: session.user_pk,
        user_id: &session.user,
        device_pk: session.device_pk,
        device_id: &session.device,
    }
}

fn raw(value: &Value) -> Box<RawValue> {
    RawValue::from_string(value.to_string()).expect("JSON")
}

/// A signed one-time key whose public key is the text; nobody here looks at the signature.
fn key(text: &str) -> Box<RawValue> {
    raw(&json!({ "key": text, "signatures": { "@a:b": { "ed25519:D": "s" } } }))
}

pub fn one_time(keys: impl IntoIterator<Item = (String, String)>) -> upload::Upload {
    let entry = |(id, text): (String, String)| {
        (format!("signed_curve25519:{id}").parse().expect("a key id"), key(&text))
    };
    upload::Upload { one_time_keys: keys.into_iter().map(entry).collect(), ..Default::default() }
}

pub fn fallback(id: &str, text: &str) -> upload::Upload {
    let id = format!("signed_curve25519:{id}").parse().expect("a key id");
    upload::Upload { fallback_keys: BTreeMap::from([(id, key(text))]), ..Default::default() }
}

pub fn pair(id: &str, text: &str) -> [(String, String); 1] {
    [(id.to_owned(), text.to_owned())]
}

/// Claims a key of one device: its id, and the key.
pub async fn claim_one(server: &Server, session: &Session) -> Option<(String, Value)> {
    let of_user = BTreeMap::from([(session.device.clone(), "signed_curve25519".to_owned())]);
    let wanted = claim::Wanted::from([(session.user.clone(), of_user)]);
    let answer = claim::claim(server, wanted).await.expect("a claim");
    let devices = answer.keys.into_values().next()?;
    let (id, json) = devices.into_values().next()?.into_iter().next()?;
    Some((id, serde_json::from_str(json.get()).expect("JSON")))
}

#[tokio::test(flavor = "multi_thread")]
async fn each_key_is_given_once_to_sixteen_claimers() {
    for setup in setups("claim").await {
        let alice = register(setup.replica(0), "alice", "A").await;
        for part in 0..8 {
            let keys = (0..50).map(|i| (format!("{part}x{i}"), format!("key {part} {i}")));
            upload::upload(setup.replica(part), device(&alice), one_time(keys)).await.expect("an upload");
        }
        upload::upload(setup.replica(0), device(&alice), fallback("F", "fallback")).await.expect("an upload");
        let claimers = (0..16).map(|claimer| {
            let (server, alice) = (setup.replica(claimer).clone(), alice.clone());
            tokio::spawn(async move {
                let mut got = Vec::new();
                for _ in 0..25 {
                    got.push(claim_one(&server, &alice).await.expect("a key").0);
                }
                got
            })
        });
        let got: Vec<String> =
            join_all(claimers).await.into_iter().flat_map(|keys| keys.expect("a claimer")).collect();
        let distinct: HashSet<&String> = got.iter().collect();
        assert_eq!((got.len(), distinct.len()), (400, 400), "{}", setup.name);
        assert!(!distinct.contains(&"signed_curve25519:F".to_owned()), "{}", setup.name);
        // Now, and not before, comes the fallback key, again and again.
        let unused =
            upload::unused_fallback_keys(setup.replica(0), alice.device_pk).await.expect("algorithms");
        assert_eq!(unused, ["signed_curve25519"]);
        for turn in 0..2 {
            let (id, _) = claim_one(setup.replica(turn), &alice).await.expect("a key");
            assert_eq!(id, "signed_curve25519:F");
        }
        let unused =
            upload::unused_fallback_keys(setup.replica(0), alice.device_pk).await.expect("algorithms");
        assert!(unused.is_empty());
        let counts = upload::counts(setup.replica(0), alice.device_pk).await.expect("counts");
        assert_eq!(counts, BTreeMap::from([("signed_curve25519".to_owned(), 0)]));
        // The same fallback key again stays used, another one does not.
        upload::upload(setup.replica(0), device(&alice), fallback("F", "fallback")).await.expect("an upload");
        let unused =
            upload::unused_fallback_keys(setup.replica(0), alice.device_pk).await.expect("algorithms");
        assert!(unused.is_empty());
        upload::upload(setup.replica(0), device(&alice), fallback("G", "another")).await.expect("an upload");
        let unused =
            upload::unused_fallback_keys(setup.replica(0), alice.device_pk).await.expect("algorithms");
        assert_eq!(unused, ["signed_curve25519"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_given_in_the_order_of_their_upload() {
    for setup in setups("order").await {
        let alice = register(setup.replica(0), "alice", "A").await;
        for (turn, id) in ["Z", "M", "A", "Q"].into_iter().enumerate() {
            let keys = one_time(pair(id, id));
            upload::upload(setup.replica(turn + 1), device(&alice), keys).await.expect("an upload");
        }
        for (turn, id) in ["Z", "M", "A", "Q"].into_iter().enumerate() {
            let (got, _) = claim_one(setup.replica(turn), &alice).await.expect("a key");
            assert_eq!(got, format!("signed_curve25519:{id}"), "{}", setup.name);
        }
        assert!(claim_one(setup.replica(0), &alice).await.is_none());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_used_id_never_stands_for_another_key() {
    for setup in setups("ledger").await {
        let server = setup.replica(0);
        let alice = register(server, "alice", "A").await;
        let count = |keys| async {
            upload::upload(server, device(&alice), keys).await.map(|counts| counts["signed_curve25519"])
        };
        assert_eq!(count(one_time(pair("1", "one"))).await.expect("an upload"), 1);
        // Unclaimed: the same again is fine, another one is not.
        assert_eq!(count(one_time(pair("1", "one"))).await.expect("an upload"), 1);
        let refused = count(one_time(pair("1", "two"))).await;
        assert!(matches!(refused, Err(Error::InvalidParam(_))), "{refused:?}");
        // Claimed: neither is stored again.
        assert!(claim_one(server, &alice).await.is_some());
        assert_eq!(count(one_time(pair("1", "one"))).await.expect("an upload"), 0);
        let refused = count(one_time(pair("1", "two"))).await;
        assert!(matches!(refused, Err(Error::InvalidParam(_))), "{refused:?}");
        // A refused upload leaves nothing of its other keys.
        let mixed = [("1", "two"), ("2", "new")].map(|(id, text)| (id.to_owned(), text.to_owned()));
        assert!(count(one_time(mixed)).await.is_err());
        assert!(claim_one(server, &alice).await.is_none());
        // Another device may use the id.
        let other = log_in(server, alice.user_pk, "B").await;
        upload::upload(server, device(&other), one_time(pair("1", "two"))).await.expect("an upload");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claimed_key_opens_an_olm_session() {
    for setup in setups("olm").await {
        let server = setup.replica(0);
        let alice = register(server, "alice", "A").await;
        let bob = register(server, "bob", "B").await;
        let mut account = Account::new();
        account.generate_one_time_keys(3);
        let identity = account.identity_keys();
        let mut device_keys = json!({
            "user_id": alice.user, "device_id": alice.device, "algorithms": ["m.olm.v1.curve25519-aes-sha2"],
            "keys": {
                "curve25519:A": identity.curve25519.to_base64(),
                "ed25519:A": identity.ed25519.to_base64(),
            },
        });
        let signature = account.sign(device_keys.to_string()).to_base64();
        device_keys["signatures"] = json!({ alice.user.as_str(): { "ed25519:A": signature } });
        let keys = account.one_time_keys().into_iter();
        let mut upload = one_time(keys.map(|(id, key)| (id.to_base64(), key.to_base64())));
        upload.device_keys = Some(raw(&device_keys));
        upload::upload(server, device(&alice), upload).await.expect("an upload");
        account.mark_keys_as_published();

        let wanted = query::Wanted::from([(alice.user.clone(), Vec::new())]);
        let found = query::query(server, bob.user_pk, &bob.user, wanted).await.expect("keys");
        let shown: Value =
            serde_json::from_str(found.device_keys[&alice.user][&alice.device].get()).expect("JSON");
        assert_eq!(shown["keys"], device_keys["keys"]);
        let curve = shown["keys"]["curve25519:A"].as_str().expect("a key");
        let (_, key) = claim_one(server, &alice).await.expect("a key");
        let one_time_key = key["key"].as_str().expect("a key");
        let parse = |text| Curve25519PublicKey::from_base64(text).expect("a key");
        let bobs = Account::new();
        let mut session = bobs
            .create_outbound_session(SessionConfig::version_1(), parse(curve), parse(one_time_key))
            .expect("a session");
        let OlmMessage::PreKey(message) = session.encrypt("hello").expect("a message") else {
            panic!("the first message carries the keys");
        };
        let created = account
            .create_inbound_session(SessionConfig::version_1(), bobs.curve25519_key(), &message)
            .expect("a session");
        assert_eq!(created.plaintext, b"hello");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn device_keys_of_another_device_are_refused() {
    for setup in setups("device_keys").await {
        let server = setup.replica(0);
        let alice = register(server, "alice", "A").await;
        for (user, id) in [("@bob:test.example", "A"), (alice.user.as_str(), "B")] {
            let keys = json!({
                "user_id": user, "device_id": id, "algorithms": [], "keys": {}, "signatures": {},
            });
            let upload = upload::Upload { device_keys: Some(raw(&keys)), ..Default::default() };
            let refused = upload::upload(server, device(&alice), upload).await;
            assert!(matches!(refused, Err(Error::InvalidParam(_))), "{refused:?}");
        }
    }
}

/// A cross-signing key, signed by `by` if there is one.
fn cross_signing_key(
    user: &OwnedUserId,
    usage: &str,
    key: &Ed25519SecretKey,
    by: Option<&Ed25519SecretKey>,
) -> Value {
    let public = key.public_key().to_base64();
    let mut json =
        json!({ "user_id": user, "usage": [usage], "keys": { format!("ed25519:{public}"): public } });
    if let Some(by) = by {
        sign(&mut json, user, &by.public_key().to_base64(), by);
    }
    json
}

fn sign(json: &mut Value, user: &OwnedUserId, key_id: &str, key: &Ed25519SecretKey) {
    let mut signed = json.clone();
    let object = signed.as_object_mut().expect("an object");
    object.remove("signatures");
    object.remove("unsigned");
    let object: ruma::CanonicalJsonObject = serde_json::from_value(signed).expect("canonical JSON");
    let signature = key.sign(serde_json::to_string(&object).expect("JSON").as_bytes());
    json["signatures"][user.as_str()][format!("ed25519:{key_id}")] = signature.to_base64().into();
}

struct Identity {
    master: Ed25519SecretKey,
    self_signing: Ed25519SecretKey,
    user_signing: Ed25519SecretKey,
}

impl Identity {
    fn new() -> Identity {
        let key = Ed25519SecretKey::new;
        Identity { master: key(), self_signing: key(), user_signing: key() }
    }

    fn upload(&self, user: &OwnedUserId) -> cross_signing::Upload {
        let by = Some(&self.master);
        cross_signing::Upload {
            master_key: Some(raw(&cross_signing_key(user, "master", &self.master, None))),
            self_signing_key: Some(raw(&cross_signing_key(user, "self_signing", &self.self_signing, by))),
            user_signing_key: Some(raw(&cross_signing_key(user, "user_signing", &self.user_signing, by))),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cross_signing_keys_are_replaced_only_after_authentication() {
    for setup in setups("cross_signing").await {
        let server = setup.replica(0);
        let alice = register(server, "alice", "A").await;
        let bob = register(server, "bob", "B").await;
        let first = Identity::new();
        let put = |upload, authenticated| {
            cross_signing::upload(server, alice.user_pk, &alice.user, upload, authenticated)
        };
        let alone = cross_signing::Upload { master_key: None, ..first.upload(&alice.user) };
        assert!(matches!(put(alone, true).await, Err(Error::MissingParam(_))));
        let stranger = Identity::new();
        let forged = cross_signing::Upload {
            self_signing_key: stranger.upload(&alice.user).self_signing_key,
            ..first.upload(&alice.user)
        };
        assert!(matches!(put(forged, true).await, Err(Error::InvalidSignature(_))));
        put(first.upload(&alice.user), false).await.expect("the first keys");
        put(first.upload(&alice.user), false).await.expect("the same keys");
        let another = Identity::new();
        assert!(matches!(put(another.upload(&alice.user), false).await, Err(Error::Forbidden(_))));
        put(another.upload(&alice.user), true).await.expect("other keys, authenticated");
        let wanted = || query::Wanted::from([(alice.user.clone(), Vec::new())]);
        let own = query::query(server, alice.user_pk, &alice.user, wanted()).await.expect("keys");
        let public = another.master.public_key().to_base64();
        assert!(own.master_keys[&alice.user].get().contains(&public));
        assert_eq!(own.user_signing_keys.len(), 1);
        let others = query::query(server, bob.user_pk, &bob.user, wanted()).await.expect("keys");
        assert_eq!((others.master_keys.len(), others.self_signing_keys.len()), (1, 1));
        assert!(others.user_signing_keys.is_empty());
        for (identity, expected) in [(&another, false), (&first, true)] {
            let upload = identity.upload(&alice.user);
            let needs = cross_signing::needs_reauthentication(server, alice.user_pk, &upload).await;
            assert_eq!(needs.expect("an answer"), expected);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn signatures_are_checked_and_shown_to_those_they_concern() {
    for setup in setups("signatures").await {
        let server = setup.replica(0);
        let [alice, bob, carol] = [
            register(server, "alice", "A").await,
            register(server, "bob", "B").await,
            register(server, "carol", "C").await,
        ];
        let identities = [Identity::new(), Identity::new()];
        for (session, identity) in [&alice, &bob].into_iter().zip(&identities) {
            let keys = identity.upload(&session.user);
            cross_signing::upload(server, session.user_pk, &session.user, keys, false).await.expect("keys");
        }
        let mut keys = json!({
            "user_id": alice.user, "device_id": "A", "algorithms": [], "keys": {}, "signatures": {},
        });
        let upload = upload::Upload { device_keys: Some(raw(&keys)), ..Default::default() };
        upload::upload(server, device(&alice), upload).await.expect("an upload");

        let [alices, bobs] = &identities;
        let self_signing = alices.self_signing.public_key().to_base64();
        sign(&mut keys, &alice.user, &self_signing, &alices.self_signing);
        let mut wrong = keys.clone();
        wrong["signatures"][alice.user.as_str()][format!("ed25519:{self_signing}")] = "AAAA".into();
        let mut master = cross_signing_key(&bob.user, "master", &bobs.master, None);
        let user_signing = alices.user_signing.public_key().to_base64();
        sign(&mut master, &alice.user, &user_signing, &alices.user_signing);
        let bobs_master = bobs.master.public_key().to_base64();
        let signed = |own: &Value| {
            signatures::Signed::from([
                (
                    alice.user.clone(),
                    BTreeMap::from([("A".to_owned(), raw(own)), ("X".to_owned(), raw(own))]),
                ),
                (bob.user.clone(), BTreeMap::from([(bobs_master.clone(), raw(&master))])),
            ])
        };
        let start = server.log.visible();
        let failures =
            signatures::upload(server, alice.user_pk, &alice.user, signed(&wrong)).await.expect("an answer");
        assert_eq!(failures[&alice.user]["A"], signatures::Failure::InvalidSignature);
        assert_eq!(failures[&alice.user]["X"], signatures::Failure::NotFound);
        assert!(!failures.contains_key(&bob.user));
        // What she signed of Bob only her own devices hear of, though they share no room, from memory and from the table.
        let hears = async |session: &Session, from| {
            let lists = device_lists::changes(server, session.user_pk, from, server.log.visible()).await;
            lists.expect("lists").changed
        };
        assert_eq!(hears(&alice, start).await, [bob.user.as_str()]);
        assert!(hears(&bob, start).await.is_empty() && hears(&carol, start).await.is_empty());
        let signed_since = async |pos| {
            let mut connection = server.database.read().await.expect("a connection");
            stored_lists::signed_since(&mut connection, alice.user_pk, pos).await.expect("users")
        };
        assert_eq!(signed_since(start).await, [bob.user_pk]);
        let middle = server.log.visible();
        assert!(signed_since(middle).await.is_empty());
        let failures =
            signatures::upload(server, alice.user_pk, &alice.user, signed(&keys)).await.expect("an answer");
        assert!(!failures[&alice.user].contains_key("A"));
        assert_eq!(hears(&alice, middle).await, [alice.user.as_str(), bob.user.as_str()]);

        let wanted =
            || query::Wanted::from([(alice.user.clone(), Vec::new()), (bob.user.clone(), Vec::new())]);
        for (asker, sees_hers) in [(&alice, true), (&bob, false), (&carol, false)] {
            let answer = query::query(server, asker.user_pk, &asker.user, wanted()).await.expect("keys");
            let device = answer.device_keys[&alice.user][&alice.device].get();
            assert!(device.contains(&self_signing), "signatures by the owner are for everybody");
            assert_eq!(answer.master_keys[&bob.user].get().contains(&user_signing), sees_hers);
        }
        // Changed device keys lose the signatures on the old ones.
        keys["algorithms"] = json!(["m.megolm.v1.aes-sha2"]);
        keys["signatures"] = json!({});
        let upload = upload::Upload { device_keys: Some(raw(&keys)), ..Default::default() };
        upload::upload(server, device(&alice), upload).await.expect("an upload");
        let answer = query::query(server, bob.user_pk, &bob.user, wanted()).await.expect("keys");
        assert!(!answer.device_keys[&alice.user][&alice.device].get().contains(&self_signing));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn own_device_lists_change_with_keys() {
    for setup in setups("device_lists").await {
        let server = setup.replica(0);
        let alice = register(server, "alice", "A").await;
        let bob = register(server, "bob", "B").await;
        let from = server.log.visible();
        let keys = json!({ "user_id": alice.user, "device_id": "A", "algorithms": [], "keys": {}, "signatures": {} });
        let upload = || upload::Upload { device_keys: Some(raw(&keys)), ..Default::default() };
        upload::upload(server, device(&alice), upload()).await.expect("an upload");
        let to = server.log.visible();
        let changes = |user_pk, from| device_lists::changes(server, user_pk, from, to);
        assert_eq!(changes(alice.user_pk, from).await.expect("lists").changed, [alice.user.as_str()]);
        // Who shares no room hears nothing; the same keys again change nothing.
        assert_eq!(changes(bob.user_pk, from).await.expect("lists"), device_lists::DeviceLists::default());
        upload::upload(server, device(&alice), upload()).await.expect("an upload");
        assert!(changes(alice.user_pk, to).await.expect("lists").changed.is_empty());
    }
}
