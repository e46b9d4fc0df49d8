//! Cross-signing keys: a user's master key, the self-signing key for own devices, the user-signing key for others.

use super::{check_id, object, signatures_by, text, verifies};
use crate::error::{Error, Result};
use crate::server::Server;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use myelin_storage::keys::cross_signing::{self, CrossSigningRow};
use myelin_storage::keys::device_lists::{self, Change};
use ruma::UserId;
use ruma::canonical_json::{CanonicalJsonObject, CanonicalJsonValue};
use serde_json::value::RawValue;

/// Which of the three keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// Signs the other two.
    Master,
    /// Signs the user's devices.
    SelfSigning,
    /// Signs other users' master keys.
    UserSigning,
}

impl Usage {
    /// The specification's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Usage::Master => "master",
            Usage::SelfSigning => "self_signing",
            Usage::UserSigning => "user_signing",
        }
    }
}

/// What a user uploads.
#[derive(Debug, Default)]
pub struct Upload {
    /// The master key.
    pub master_key: Option<Box<RawValue>>,
    /// The self-signing key.
    pub self_signing_key: Option<Box<RawValue>>,
    /// The user-signing key.
    pub user_signing_key: Option<Box<RawValue>>,
}

impl Upload {
    fn keys(&self) -> impl Iterator<Item = (Usage, &RawValue)> {
        [
            (Usage::Master, self.master_key.as_deref()),
            (Usage::SelfSigning, self.self_signing_key.as_deref()),
            (Usage::UserSigning, self.user_signing_key.as_deref()),
        ]
        .into_iter()
        .filter_map(|(usage, key)| Some((usage, key?)))
    }
}

/// Whether a user must prove again who they are before these keys are taken: not for the first ones, nor for those
/// that are stored already.
pub async fn needs_reauthentication(server: &Server, user_pk: i64, upload: &Upload) -> Result<bool> {
    let stored = cross_signing::of_users(&mut server.database.read().await?, &[user_pk]).await?;
    let mut new = Vec::new();
    for (usage, json) in upload.keys() {
        new.push((usage, text(&object(json.get())?)?));
    }
    Ok(replaces(&stored, &new))
}

/// Whether keys would take the place of an existing identity.
fn replaces(stored: &[CrossSigningRow], new: &[(Usage, String)]) -> bool {
    let has = |usage: Usage, json: &str| stored.iter().any(|k| k.usage == usage.as_str() && k.json == json);
    let has_identity = stored.iter().any(|k| k.usage == Usage::Master.as_str());
    has_identity && !new.iter().all(|(usage, json)| has(*usage, json))
}

/// Stores cross-signing keys. `authenticated`: the user has just proved again who they are.
///
/// # Errors
/// M_FORBIDDEN when that would have been needed, M_INVALID_SIGNATURE when the master key did not sign the others,
/// M_MISSING_PARAM without a master key.
pub async fn upload(
    server: &Server,
    user_pk: i64,
    user_id: &UserId,
    upload: Upload,
    authenticated: bool,
) -> Result<()> {
    let mut checked = Vec::new();
    for (usage, json) in upload.keys() {
        let json = object(json.get())?;
        let public_key = public_key(&json, user_id, usage)?;
        checked.push((usage, public_key, json));
    }
    let user_id = user_id.to_owned();
    server
        .commit
        .run(move |tx| {
            Box::pin(async move {
                let stored = cross_signing::of_users(tx, &[user_pk]).await?;
                let mut rows = Vec::with_capacity(checked.len());
                let mut new = Vec::with_capacity(checked.len());
                let master = master_key(&checked, &stored)?;
                for (usage, public_key, json) in &checked {
                    if *usage != Usage::Master {
                        check_signed_by(json, &user_id, &master, *usage)?;
                    }
                    let (usage, json) = (*usage, text(json)?);
                    new.push((usage, json.clone()));
                    let public_key = public_key.clone();
                    rows.push(CrossSigningRow {
                        user_pk,
                        usage: usage.as_str().to_owned(),
                        public_key,
                        json,
                    });
                }
                if replaces(&stored, &new) && !authenticated {
                    return Err(Error::forbidden("replacing cross-signing keys needs authentication"));
                }
                rows.retain(|row| !stored.iter().any(|s| s.usage == row.usage && s.json == row.json));
                if rows.is_empty() {
                    return Ok(());
                }
                cross_signing::put(tx, &rows).await?;
                // Only the user sees the user-signing key.
                match rows.iter().all(|row| row.usage == Usage::UserSigning.as_str()) {
                    true => device_lists::signed(tx, user_pk, user_pk).await?,
                    false => device_lists::changed(tx, user_pk, Change::CrossSigning).await?,
                }
                Ok(())
            })
        })
        .await
}

/// The master key by which the others are checked: the one that comes with them, or the stored one.
fn master_key(
    checked: &[(Usage, String, CanonicalJsonObject)],
    stored: &[CrossSigningRow],
) -> Result<String> {
    let uploaded = checked.iter().find(|(usage, ..)| *usage == Usage::Master).map(|(_, key, _)| key);
    let stored = stored.iter().find(|k| k.usage == Usage::Master.as_str()).map(|k| &k.public_key);
    uploaded.or(stored).cloned().ok_or_else(|| Error::MissingParam("there is no master key".to_owned()))
}

/// The public key of a cross-signing key, whose form is checked.
fn public_key(key: &CanonicalJsonObject, user_id: &UserId, usage: Usage) -> Result<String> {
    let name = usage.as_str();
    let malformed = |what: &str| Error::invalid_param(format!("the {name} key {what}"));
    if key.get("user_id").and_then(CanonicalJsonValue::as_str) != Some(user_id.as_str()) {
        return Err(malformed("must be of the user who uploads it"));
    }
    let usages = key.get("usage").and_then(CanonicalJsonValue::as_array);
    if !usages.is_some_and(|usages| usages.iter().any(|u| u.as_str() == Some(name))) {
        return Err(malformed("does not name its usage"));
    }
    let keys = key.get("keys").and_then(CanonicalJsonValue::as_object);
    let mut keys = keys.into_iter().flatten();
    let (Some((id, value)), None) = (keys.next(), keys.next()) else {
        return Err(malformed("must have one public key"));
    };
    let public_key = id.strip_prefix("ed25519:").filter(|key| value.as_str() == Some(key));
    let public_key = public_key.ok_or_else(|| malformed("must be an ed25519 key named by itself"))?;
    let bytes = STANDARD_NO_PAD.decode(public_key.trim_end_matches('='));
    if bytes.map_or(0, |bytes| bytes.len()) != 32 {
        return Err(malformed("is no ed25519 key"));
    }
    check_id(public_key)?;
    Ok(public_key.to_owned())
}

fn check_signed_by(key: &CanonicalJsonObject, user_id: &UserId, master: &str, usage: Usage) -> Result<()> {
    let key_id = format!("ed25519:{master}");
    let signature = signatures_by(key, user_id).find(|(id, _)| *id == key_id);
    match signature {
        Some((_, signature)) if verifies(key, master, signature)? => Ok(()),
        _ => {
            let name = usage.as_str();
            Err(Error::InvalidSignature(format!("the {name} key is not signed by the master key")))
        }
    }
}
