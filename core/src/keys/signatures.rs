//! Signatures that users make on their devices, on their own master key and on other users' master keys.

use super::cross_signing::Usage;
use super::query::{self, Wanted};
use super::remote_device_lists::{self, Found};
use super::{object, signatures_by, signed_part, verifies};
use crate::error::Result;
use crate::server::Server;
use myelin_storage::keys::cross_signing::{self, CrossSigningRow, SignatureRow};
use myelin_storage::keys::device_keys;
use myelin_storage::keys::device_lists::{self, Change};
use ruma::canonical_json::CanonicalJsonObject;
use ruma::{OwnedUserId, UserId};
use serde_json::value::RawValue;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// Signed keys by user, and by device id or public key.
pub type Signed = BTreeMap<OwnedUserId, BTreeMap<String, Box<RawValue>>>;
/// What was not taken.
pub type Failures = BTreeMap<OwnedUserId, BTreeMap<String, Failure>>;

/// Why a signed key was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// M_INVALID_SIGNATURE: missing, wrong, or on something else than what is stored.
    InvalidSignature,
    /// M_NOT_FOUND: there is no such key, or no key to check with.
    NotFound,
}

/// What is stored of the users whose keys are signed.
struct Stored {
    signer_pk: i64,
    signer_id: OwnedUserId,
    cross_signing: Vec<CrossSigningRow>,
    devices: HashMap<String, CanonicalJsonObject>,
}

/// Stores the signatures that hold, and tells which do not.
pub async fn upload(server: &Server, user_pk: i64, user_id: &UserId, signed: Signed) -> Result<Failures> {
    let ids: Vec<&str> = signed.keys().map(|user| user.as_str()).collect();
    let users: HashMap<String, i64> = server.ids.find_users(&ids).await?.into_iter().collect();
    let mut stored = Stored::read(server, user_pk, user_id, users.values().copied().collect()).await?;
    stored.cross_signing.extend(of_others(server, user_pk, &users, &signed).await?);
    let mut failures = Failures::new();
    let mut good = Vec::new();
    for (target_id, keys) in &signed {
        for (target, json) in keys {
            let checked = match users.get(target_id.as_str()) {
                Some(target_pk) => stored.check(*target_pk, target, json)?,
                None => Err(Failure::NotFound),
            };
            match checked {
                Ok(rows) => good.extend(rows),
                Err(failure) => {
                    failures.entry(target_id.clone()).or_default().insert(target.clone(), failure);
                }
            }
        }
    }
    if !good.is_empty() {
        let own_devices: HashSet<String> = stored.devices.into_keys().collect();
        server
            .commit
            .run(move |tx| {
                Box::pin(async move {
                    cross_signing::put_signatures(tx, &good).await?;
                    // Everybody sees how users sign their own keys; a signature on others' only who made it.
                    let (own, others): (Vec<SignatureRow>, Vec<SignatureRow>) =
                        good.into_iter().partition(|row| row.target_user_pk == user_pk);
                    let others: BTreeSet<i64> = others.iter().map(|row| row.target_user_pk).collect();
                    for target in others {
                        device_lists::signed(tx, user_pk, target).await?;
                    }
                    let targets: BTreeSet<&str> = own.iter().map(|row| row.target.as_str()).collect();
                    let (signed_devices, signed_keys): (Vec<&str>, Vec<&str>) =
                        targets.into_iter().partition(|target| own_devices.contains(*target));
                    device_lists::changed(tx, user_pk, Change::Devices(&signed_devices)).await?;
                    if !signed_keys.is_empty() {
                        device_lists::changed(tx, user_pk, Change::CrossSigning).await?;
                    }
                    Ok(())
                })
            })
            .await?;
    }
    Ok(failures)
}

/// The master keys of those users of other servers whose keys are signed. The signatures are kept here alone, for who
/// made them.
async fn of_others(
    server: &Server,
    signer_pk: i64,
    users: &HashMap<String, i64>,
    signed: &Signed,
) -> Result<Vec<CrossSigningRow>> {
    let others = signed.keys().filter(|user| user.server_name() != server.name());
    let wanted: Wanted = others.map(|user| (user.clone(), Vec::new())).collect();
    let Found { kept, asked } = remote_device_lists::find(server, signer_pk, wanted).await?;
    let master = Usage::Master.as_str();
    let row = |(user, key): (OwnedUserId, Box<RawValue>)| {
        // What another server damaged is as good as not there.
        object(key.get()).ok()?;
        Some(CrossSigningRow {
            user_pk: *users.get(user.as_str())?,
            usage: master.to_owned(),
            public_key: query::public_key(key.get())?,
            json: key.get().to_owned(),
        })
    };
    let kept = kept.into_values().flat_map(|keys| keys.cross_signing).filter(|key| key.usage == master);
    Ok(kept.chain(asked.master_keys.into_iter().filter_map(row)).collect())
}

impl Stored {
    async fn read(
        server: &Server,
        signer_pk: i64,
        signer_id: &UserId,
        mut users: Vec<i64>,
    ) -> Result<Stored> {
        users.push(signer_pk);
        let mut connection = server.database.read().await?;
        let cross_signing = cross_signing::of_users(&mut connection, &users).await?;
        let mut devices = HashMap::new();
        for device in device_keys::of_users(&mut connection, &[signer_pk]).await? {
            devices.insert(device.device_id, object(&device.json)?);
        }
        Ok(Stored { signer_pk, signer_id: signer_id.to_owned(), cross_signing, devices })
    }

    fn key(&self, user_pk: i64, usage: &str) -> Option<&CrossSigningRow> {
        self.cross_signing.iter().find(|key| key.user_pk == user_pk && key.usage == usage)
    }

    /// The signatures to store for one signed key.
    fn check(
        &self,
        target_pk: i64,
        target: &str,
        json: &RawValue,
    ) -> Result<Result<Vec<SignatureRow>, Failure>> {
        let Ok(signed) = object(json.get()) else { return Ok(Err(Failure::InvalidSignature)) };
        let master = self.key(target_pk, "master").filter(|key| key.public_key == target);
        match master {
            Some(master) if target_pk == self.signer_pk => self.check_own_master_key(target, &signed, master),
            Some(master) => {
                let key = self.key(self.signer_pk, "user_signing");
                self.check_by(key, target_pk, target, &signed, &object(&master.json)?)
            }
            None if target_pk == self.signer_pk => match self.devices.get(target) {
                Some(device) => {
                    let key = self.key(self.signer_pk, "self_signing");
                    self.check_by(key, target_pk, target, &signed, device)
                }
                None => Ok(Err(Failure::NotFound)),
            },
            None => Ok(Err(Failure::NotFound)),
        }
    }

    /// A signature by one of the signer's cross-signing keys.
    fn check_by(
        &self,
        key: Option<&CrossSigningRow>,
        target_pk: i64,
        target: &str,
        signed: &CanonicalJsonObject,
        stored: &CanonicalJsonObject,
    ) -> Result<Result<Vec<SignatureRow>, Failure>> {
        let Some(key) = key else { return Ok(Err(Failure::NotFound)) };
        let key_id = format!("ed25519:{}", key.public_key);
        let signature = signatures_by(signed, &self.signer_id).find(|(id, _)| *id == key_id);
        match signature {
            Some((_, signature))
                if same(signed, stored)? && verifies(signed, &key.public_key, signature)? =>
            {
                Ok(Ok(vec![self.row(target_pk, target, &key_id, signature)]))
            }
            _ => Ok(Err(Failure::InvalidSignature)),
        }
    }

    /// Signatures by the signer's devices: all of them must hold.
    fn check_own_master_key(
        &self,
        target: &str,
        signed: &CanonicalJsonObject,
        master: &CrossSigningRow,
    ) -> Result<Result<Vec<SignatureRow>, Failure>> {
        if !same(signed, &object(&master.json)?)? {
            return Ok(Err(Failure::InvalidSignature));
        }
        let mut rows = Vec::new();
        for (key_id, signature) in signatures_by(signed, &self.signer_id) {
            let public_key = key_id
                .strip_prefix("ed25519:")
                .and_then(|device| self.devices.get(device))
                .and_then(|device| device.get("keys")?.as_object()?.get(key_id)?.as_str());
            match public_key {
                Some(key) if verifies(signed, key, signature)? => {
                    rows.push(self.row(self.signer_pk, target, key_id, signature));
                }
                _ => return Ok(Err(Failure::InvalidSignature)),
            }
        }
        Ok(if rows.is_empty() { Err(Failure::InvalidSignature) } else { Ok(rows) })
    }

    fn row(&self, target_user_pk: i64, target: &str, key_id: &str, signature: &str) -> SignatureRow {
        SignatureRow {
            target_user_pk,
            target: target.to_owned(),
            signer_user_pk: self.signer_pk,
            signer_key_id: key_id.to_owned(),
            signature: signature.to_owned(),
        }
    }
}

/// Whether a key that was signed is the one that is stored.
fn same(signed: &CanonicalJsonObject, stored: &CanonicalJsonObject) -> Result<bool> {
    Ok(signed_part(signed)? == signed_part(stored)?)
}
