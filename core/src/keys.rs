//! Encryption keys: what devices publish, what others get of it, and who hears of changes.
//!
//! Uploads and claims look at the database inside the transaction that changes it, never at a cache: a one-time key is
//! given to one claimer, and what was given is never stored again, on any number of replicas and across restarts.
//!
//! * [`upload`]: device keys, one-time keys, fallback keys.
//! * [`claim`]: one-time keys for others; fallback keys only where none is left.
//! * [`query`]: device keys and cross-signing keys, with the signatures that who asks may see.
//! * [`known`]: what of that is kept in memory.
//! * [`cross_signing`] and [`signatures`]: the keys with which users vouch for devices and each other.
//! * [`device_lists`]: whose keys a client should query again.
//! * [`remote_device_lists`]: other servers' users, whose lists are kept and followed.
//! * [`backups`]: encrypted copies of room keys.

pub mod backups;
pub mod claim;
pub mod cross_signing;
pub mod device_lists;
pub mod known;
pub mod query;
pub mod remote_device_lists;
pub mod signatures;
pub mod upload;

use crate::error::{Error, Result};
use crate::events::canonical;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use ruma::canonical_json::{CanonicalJsonObject, CanonicalJsonValue};
use ruma::{DeviceId, SigningKeyAlgorithm, UserId};
use sha2::{Digest as _, Sha256};

/// A device that acts, as its session names it.
#[derive(Clone, Copy, Debug)]
pub struct Device<'a> {
    /// The user's number.
    pub user_pk: i64,
    /// The user.
    pub user_id: &'a UserId,
    /// The device's number.
    pub device_pk: i64,
    /// The device.
    pub device_id: &'a DeviceId,
}

/// Reads a key's JSON object.
fn object(json: &str) -> Result<CanonicalJsonObject> {
    canonical::parse(json).map_err(|error| Error::bad_json(format!("a key is malformed: {error}")))
}

/// The canonical text of an object.
fn text(object: &CanonicalJsonObject) -> Result<String> {
    canonical::to_string(object).map_err(|error| Error::internal(error.to_string()))
}

/// What signatures are made of: the object without its signatures and without what is unsigned.
fn signed_part(object: &CanonicalJsonObject) -> Result<String> {
    let mut object = object.clone();
    object.remove("signatures");
    object.remove("unsigned");
    text(&object)
}

fn hash(text: &str) -> String {
    STANDARD_NO_PAD.encode(Sha256::digest(text.as_bytes()))
}

/// Refuses what PostgreSQL cannot store.
fn check_id(id: &str) -> Result<()> {
    if id.contains('\0') { Err(Error::invalid_param("an id must not contain U+0000")) } else { Ok(()) }
}

/// The signatures on an object by a user: (key id, signature).
fn signatures_by<'a>(
    object: &'a CanonicalJsonObject,
    user_id: &UserId,
) -> impl Iterator<Item = (&'a str, &'a str)> {
    let of_user = object
        .get("signatures")
        .and_then(CanonicalJsonValue::as_object)
        .and_then(|all| all.get(user_id.as_str()))
        .and_then(CanonicalJsonValue::as_object);
    of_user.into_iter().flatten().filter_map(|(id, signature)| Some((id.as_str(), signature.as_str()?)))
}

/// Whether an ed25519 key made the signature on an object. Key and signature are base64, padded or not.
fn verifies(object: &CanonicalJsonObject, public_key: &str, signature: &str) -> Result<bool> {
    let decode = |text: &str| STANDARD_NO_PAD.decode(text.trim_end_matches('='));
    let (Ok(key), Ok(signature)) = (decode(public_key), decode(signature)) else { return Ok(false) };
    let signed = signed_part(object)?;
    let algorithm = SigningKeyAlgorithm::Ed25519;
    Ok(ruma::signatures::verify_canonical_json_bytes(&algorithm, &key, &signature, signed.as_bytes()).is_ok())
}
