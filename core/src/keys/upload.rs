//! A device publishes its keys.

use super::{Device, check_id, hash, object, signed_part, text};
use crate::error::{Error, Result};
use crate::server::Server;
use myelin_storage::Tx;
use myelin_storage::keys::device_lists::{self, Change};
use myelin_storage::keys::one_time_keys::NewKey;
use myelin_storage::keys::{cross_signing, device_keys, fallback_keys, one_time_keys};
use ruma::OwnedOneTimeKeyId;
use ruma::canonical_json::{CanonicalJsonObject, CanonicalJsonValue};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::{BTreeMap, HashMap};

/// The algorithm whose count is always told: a client learns from 0 that it has to upload.
const SIGNED_CURVE25519: &str = "signed_curve25519";
/// One-time keys of one upload. Their numbers are made of the log's position and their place in the upload.
const MOST_KEYS: usize = 1 << 12;

/// What a device uploads.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Upload {
    /// The device's identity keys.
    pub device_keys: Option<Box<RawValue>>,
    /// One-time keys by algorithm and id.
    pub one_time_keys: BTreeMap<OwnedOneTimeKeyId, Box<RawValue>>,
    /// Fallback keys by algorithm and id.
    pub fallback_keys: BTreeMap<OwnedOneTimeKeyId, Box<RawValue>>,
}

/// How many one-time keys a device has, by algorithm.
pub type Counts = BTreeMap<String, i64>;

/// An upload that was checked, before it is known what is stored already.
pub struct Checked {
    device_keys: Option<CheckedDeviceKeys>,
    one_time_keys: Vec<CheckedKey>,
    fallback_keys: Vec<NewKey>,
}

struct CheckedDeviceKeys {
    json: String,
    signed: String,
}

struct CheckedKey {
    key: NewKey,
    id_hash: String,
    key_hash: String,
}

/// Stores what a device uploads and tells how many one-time keys it has now.
///
/// # Errors
/// M_INVALID_PARAM when device keys are another device's, or when the id of a one-time key was used for another key.
pub async fn upload(server: &Server, device: Device<'_>, upload: Upload) -> Result<Counts> {
    let checked = check(device, &upload)?;
    let (user_pk, device_pk, device_id) = (device.user_pk, device.device_pk, device.device_id.to_owned());
    server
        .commit
        .run(move |tx| {
            Box::pin(async move {
                if !device_keys::device_exists(tx, device_pk).await? {
                    return Err(Error::UnknownToken { soft_logout: false });
                }
                if let Some(keys) = checked.device_keys {
                    put_device_keys(tx, user_pk, device_pk, device_id.as_str(), &keys).await?;
                }
                let new = unknown_keys(tx, device_pk, checked.one_time_keys).await?;
                if !new.is_empty() || !checked.fallback_keys.is_empty() {
                    one_time_keys::counts_changed(tx, &[(user_pk, device_pk)]);
                }
                let numbered = number(tx.position(), new);
                one_time_keys::insert(tx, device_pk, &numbered).await?;
                fallback_keys::put(tx, device_pk, &checked.fallback_keys).await?;
                Ok(with_zero(one_time_keys::counts(tx, device_pk).await?))
            })
        })
        .await
}

/// How many one-time keys a device has, for /sync.
pub async fn counts(server: &Server, device_pk: i64) -> Result<Counts> {
    let mut connection = server.database.read().await?;
    Ok(with_zero(one_time_keys::counts(&mut connection, device_pk).await?))
}

/// The algorithms for which a device has an unused fallback key, for /sync.
pub async fn unused_fallback_keys(server: &Server, device_pk: i64) -> Result<Vec<String>> {
    Ok(fallback_keys::unused(&mut server.database.read().await?, device_pk).await?)
}

fn with_zero(counts: Vec<(String, i64)>) -> Counts {
    let mut counts: Counts = counts.into_iter().collect();
    counts.entry(SIGNED_CURVE25519.to_owned()).or_insert(0);
    counts
}

/// Numbers keys behind all that were uploaded before, whichever replica took them: the log's positions only grow.
fn number(pos: i64, mut keys: Vec<NewKey>) -> Vec<NewKey> {
    for (key, index) in keys.iter_mut().zip(0..) {
        key.key_pk = pos * MOST_KEYS as i64 + index;
    }
    keys
}

/// Checks the form of an upload.
///
/// # Errors
/// M_INVALID_PARAM, M_BAD_JSON: see [`upload`].
pub fn check(device: Device<'_>, upload: &Upload) -> Result<Checked> {
    if upload.one_time_keys.len() > MOST_KEYS {
        return Err(Error::invalid_param("too many one-time keys at once"));
    }
    let device_keys =
        upload.device_keys.as_deref().map(|json| check_device_keys(device, json)).transpose()?;
    let mut one_time = Vec::with_capacity(upload.one_time_keys.len());
    for (id, json) in &upload.one_time_keys {
        let key = check_key(id, json)?;
        let key_hash = key_hash(&key.json)?;
        one_time.push(CheckedKey { id_hash: hash(id.as_str()), key_hash, key });
    }
    let mut fallback: Vec<NewKey> = Vec::with_capacity(upload.fallback_keys.len());
    for (id, json) in &upload.fallback_keys {
        let key = check_key(id, json)?;
        if fallback.iter().any(|other| other.algorithm == key.algorithm) {
            return Err(Error::invalid_param("there can be one fallback key for each algorithm"));
        }
        fallback.push(key);
    }
    Ok(Checked { device_keys, one_time_keys: one_time, fallback_keys: fallback })
}

fn check_device_keys(device: Device<'_>, json: &RawValue) -> Result<CheckedDeviceKeys> {
    let mut keys = object(json.get())?;
    let field = |keys: &CanonicalJsonObject, name: &str| match keys.get(name) {
        Some(CanonicalJsonValue::String(text)) => Ok(text.clone()),
        _ => Err(Error::bad_json(format!("device_keys.{name} must be a string"))),
    };
    if field(&keys, "user_id")? != device.user_id.as_str() {
        return Err(Error::invalid_param("device_keys.user_id is not the user who uploads"));
    }
    if field(&keys, "device_id")? != device.device_id.as_str() {
        return Err(Error::invalid_param("device_keys.device_id is not the device that uploads"));
    }
    if !matches!(keys.get("algorithms"), Some(CanonicalJsonValue::Array(_))) {
        return Err(Error::bad_json("device_keys.algorithms must be a list"));
    }
    for name in ["keys", "signatures"] {
        if !matches!(keys.get(name), Some(CanonicalJsonValue::Object(_))) {
            return Err(Error::bad_json(format!("device_keys.{name} must be an object")));
        }
    }
    // What is unsigned is the server's to say.
    keys.remove("unsigned");
    Ok(CheckedDeviceKeys { json: text(&keys)?, signed: signed_part(&keys)? })
}

/// A key is a string, or an object with the key and its signatures.
fn check_key(id: &OwnedOneTimeKeyId, json: &RawValue) -> Result<NewKey> {
    let (algorithm, key_id) = id
        .as_str()
        .split_once(':')
        .ok_or_else(|| Error::invalid_param("a key's id must have an algorithm"))?;
    check_id(id.as_str())?;
    let value: CanonicalJsonValue = serde_json::from_str(json.get())
        .map_err(|error| Error::bad_json(format!("key {id} is malformed: {error}")))?;
    let well_formed = match &value {
        CanonicalJsonValue::String(_) => algorithm != SIGNED_CURVE25519,
        CanonicalJsonValue::Object(object) => {
            matches!(object.get("key"), Some(CanonicalJsonValue::String(_)))
                && matches!(object.get("signatures"), Some(CanonicalJsonValue::Object(_)))
        }
        _ => false,
    };
    if !well_formed {
        return Err(Error::bad_json(format!("key {id} must have a key and signatures")));
    }
    let json = serde_json::to_string(&value).map_err(|error| Error::internal(error.to_string()))?;
    Ok(NewKey { key_pk: 0, algorithm: algorithm.to_owned(), key_id: key_id.to_owned(), json })
}

/// The hash by which a key is known again. Signatures do not count: those of two uploads may differ.
pub(super) fn key_hash(json: &str) -> Result<String> {
    match serde_json::from_str(json) {
        Ok(CanonicalJsonValue::Object(mut object)) => {
            object.remove("signatures");
            Ok(hash(&text(&object)?))
        }
        Ok(_) => Ok(hash(json)),
        Err(error) => Err(Error::internal(format!("a stored key is damaged: {error}"))),
    }
}

async fn put_device_keys(
    tx: &mut Tx,
    user_pk: i64,
    device_pk: i64,
    device_id: &str,
    keys: &CheckedDeviceKeys,
) -> Result<()> {
    let old = device_keys::get(tx, device_pk).await?;
    if old.as_ref() == Some(&keys.json) {
        return Ok(());
    }
    if let Some(old) = old
        && signed_part(&object(&old)?)? != keys.signed
    {
        // Signatures of the old keys do not hold for the new ones.
        cross_signing::delete_signatures(tx, user_pk, device_id).await?;
    }
    device_keys::put(tx, device_pk, user_pk, &keys.json).await?;
    Ok(device_lists::changed(tx, user_pk, Change::Devices(&[device_id])).await?)
}

/// Of these keys, those that are new. A key that waits already, or that was handed out, is not stored again.
async fn unknown_keys(tx: &mut Tx, device_pk: i64, keys: Vec<CheckedKey>) -> Result<Vec<NewKey>> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<&str> = keys.iter().map(|k| k.key.key_id.as_str()).collect();
    let id_hashes: Vec<&str> = keys.iter().map(|k| k.id_hash.as_str()).collect();
    let mut known: HashMap<String, String> =
        one_time_keys::find_issued(tx, device_pk, &id_hashes).await?.into_iter().collect();
    for (algorithm, key_id, json) in one_time_keys::find(tx, device_pk, &ids).await? {
        known.insert(hash(&format!("{algorithm}:{key_id}")), key_hash(&json)?);
    }
    let mut new = Vec::with_capacity(keys.len());
    for checked in keys {
        match known.get(&checked.id_hash) {
            None => new.push(checked.key),
            Some(key_hash) if *key_hash == checked.key_hash => {}
            Some(_) => {
                let NewKey { algorithm, key_id, .. } = checked.key;
                return Err(Error::invalid_param(format!(
                    "the id {algorithm}:{key_id} was used for another one-time key"
                )));
            }
        }
    }
    Ok(new)
}
