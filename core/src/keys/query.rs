//! Device keys and cross-signing keys of users.

use super::known::UserKeys;
use super::remote_device_lists::{self, Found};
use super::{object, text};
use crate::error::{Error, Result};
use crate::events::signatures;
use crate::server::Server;
use myelin_storage::keys::cross_signing::{self, SignatureRow};
use ruma::{OwnedDeviceId, OwnedServerName, OwnedUserId, UserId};
use serde_json::json;
use serde_json::value::RawValue;
use std::borrow::{Borrow, Cow};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// Whose keys are wanted, of which devices; no devices means all.
pub type Wanted = BTreeMap<OwnedUserId, Vec<OwnedDeviceId>>;

/// Keys of users.
#[derive(Debug, Default)]
pub struct Answer {
    /// Device keys; each user of this server that was asked for has an entry.
    pub device_keys: BTreeMap<OwnedUserId, BTreeMap<OwnedDeviceId, Box<RawValue>>>,
    /// Master keys.
    pub master_keys: BTreeMap<OwnedUserId, Box<RawValue>>,
    /// Self-signing keys.
    pub self_signing_keys: BTreeMap<OwnedUserId, Box<RawValue>>,
    /// User-signing keys: only of who asks.
    pub user_signing_keys: BTreeMap<OwnedUserId, Box<RawValue>>,
    /// Servers that could not be asked.
    pub failures: BTreeSet<String>,
}

/// Who asks.
#[derive(Clone, Copy)]
struct Asker<'a> {
    /// The number; 0 for another server.
    pk: i64,
    /// The user.
    id: &'a UserId,
    /// Whether they see the names of devices.
    names: bool,
}

/// The signatures to add to keys: by user and target, who signed with which key.
struct Signatures<'a> {
    by_target: HashMap<(i64, &'a str), Vec<&'a SignatureRow>>,
    asker_id: &'a UserId,
}

/// Reads keys, as `asker` may see them. Those of other servers' users that are not kept here are asked for there, of all
/// servers at once; a server that does not answer is named.
pub async fn query(server: &Server, asker_pk: i64, asker_id: &UserId, wanted: Wanted) -> Result<Answer> {
    let (local, remote): (Wanted, Wanted) =
        wanted.into_iter().partition(|(user, _)| user.server_name() == server.name());
    let asker = Asker { pk: asker_pk, id: asker_id, names: true };
    let here = of_local(server, asker, local);
    let elsewhere = remote_device_lists::find(server, asker_pk, remote.clone());
    let (here, elsewhere) = futures_util::future::join(here, elsewhere).await;
    let (mut answer, Found { kept, asked }) = (here?, elsewhere?);
    let signed = cross_signed(server, asker_pk, asker_id, asked).await?;
    answer.device_keys.extend(signed.device_keys);
    answer.master_keys.extend(signed.master_keys);
    answer.self_signing_keys.extend(signed.self_signing_keys);
    answer.failures.extend(signed.failures);
    show(server, asker, &remote, &kept, &mut answer).await?;
    Ok(answer)
}

/// Reads keys of users of ours, as other servers may see them.
pub async fn for_server(server: &Server, wanted: Wanted) -> Result<Answer> {
    let Some(anybody) = wanted.keys().next().cloned() else { return Ok(Answer::default()) };
    let names = server.settings.federation.device_names;
    of_local(server, Asker { pk: 0, id: &anybody, names }, wanted).await
}

/// Asks other servers.
pub(super) async fn of_others(server: &Server, wanted: Wanted) -> Answer {
    let mut by_server: BTreeMap<OwnedServerName, Wanted> = BTreeMap::new();
    for (user, devices) in wanted {
        by_server.entry(user.server_name().to_owned()).or_default().insert(user, devices);
    }
    let ask = |(name, wanted): (OwnedServerName, Wanted)| async move {
        let answer = match server.remote() {
            Ok(remote) => remote.query_keys(&name, wanted).await,
            Err(error) => Err(error),
        };
        (name, answer)
    };
    let mut all = Answer::default();
    for (name, answer) in futures_util::future::join_all(by_server.into_iter().map(ask)).await {
        match answer {
            Ok(answer) => {
                all.device_keys.extend(answer.device_keys);
                all.master_keys.extend(answer.master_keys);
                all.self_signing_keys.extend(answer.self_signing_keys);
            }
            Err(error) => {
                tracing::debug!(%error, "another server's keys were not to be had");
                all.failures.insert(name.to_string());
            }
        }
    }
    all
}

/// Adds the asker's own signatures to others' master keys: only the asker sees them, and their server has them.
async fn cross_signed(
    server: &Server,
    asker_pk: i64,
    asker_id: &UserId,
    mut answer: Answer,
) -> Result<Answer> {
    let ids: Vec<&str> = answer.master_keys.keys().map(|user| user.as_str()).collect();
    let users: HashMap<String, i64> = server.ids.find_users(&ids).await?.into_iter().collect();
    let pks: Vec<i64> = users.values().copied().collect();
    if pks.is_empty() {
        return Ok(answer);
    }
    let rows = cross_signing::signatures_by(&mut server.database.read().await?, asker_pk, &pks).await?;
    let signatures = Signatures::new(rows.iter(), asker_id);
    for (user, key) in &mut answer.master_keys {
        let Some(user_pk) = users.get(user.as_str()) else { continue };
        let Some(public) = public_key(key.get()) else { continue };
        *key = raw(signatures.add(key.get(), *user_pk, user, &public)?.into_owned())?;
    }
    Ok(answer)
}

/// The public key in the JSON of a cross-signing key, which has one.
pub(super) fn public_key(json: &str) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Key {
        keys: BTreeMap<String, String>,
    }
    serde_json::from_str::<Key>(json).ok()?.keys.into_values().next()
}

async fn of_local(server: &Server, asker: Asker<'_>, local: Wanted) -> Result<Answer> {
    let mut answer = Answer {
        device_keys: local.keys().map(|user| (user.clone(), BTreeMap::new())).collect(),
        ..Answer::default()
    };
    let ids: Vec<&str> = local.keys().map(|user| user.as_str()).collect();
    let pks: Vec<i64> = server.ids.find_users(&ids).await?.into_iter().map(|(_, pk)| pk).collect();
    let keys: HashMap<i64, Arc<UserKeys>> = server.user_keys(&pks).await?;
    show(server, asker, &local, &keys, &mut answer).await?;
    Ok(answer)
}

/// Puts what users published, and is here, into an answer.
async fn show<K: Borrow<UserKeys>>(
    server: &Server,
    asker: Asker<'_>,
    wanted: &Wanted,
    keys: &HashMap<i64, K>,
    answer: &mut Answer,
) -> Result<()> {
    if keys.is_empty() {
        return Ok(());
    }
    let pks: Vec<i64> = keys.keys().copied().collect();
    let others = cross_signing::signatures_by(&mut server.database.read().await?, asker.pk, &pks).await?;
    let own = keys.values().flat_map(|keys| &keys.borrow().signatures);
    let signatures = Signatures::new(own.chain(&others), asker.id);
    for (user_pk, id) in server.ids.user_ids(&pks).await? {
        let Some((user_id, of_user)) = wanted.get_key_value(&*id) else { continue };
        let Some(keys) = keys.get(&user_pk).map(Borrow::borrow) else { continue };
        let shown = answer.device_keys.entry(user_id.clone()).or_default();
        for device in &keys.devices {
            let device_id = OwnedDeviceId::from(device.device_id.as_str());
            if !of_user.is_empty() && !of_user.contains(&device_id) {
                continue;
            }
            let signed = signatures.add(&device.json, user_pk, user_id, device_id.as_str())?;
            let keys = raw(match device.display_name.as_ref().filter(|_| asker.names) {
                Some(name) => with_name(&signed, name)?,
                None => signed.into_owned(),
            })?;
            shown.insert(device_id, keys);
        }
        for key in &keys.cross_signing {
            let shown = match key.usage.as_str() {
                "master" => &mut answer.master_keys,
                "self_signing" => &mut answer.self_signing_keys,
                "user_signing" if user_pk == asker.pk => &mut answer.user_signing_keys,
                _ => continue,
            };
            let signed = signatures.add(&key.json, user_pk, user_id, &key.public_key)?;
            shown.insert(user_id.clone(), raw(signed.into_owned())?);
        }
    }
    Ok(())
}

impl<'a> Signatures<'a> {
    fn new(rows: impl Iterator<Item = &'a SignatureRow>, asker_id: &'a UserId) -> Signatures<'a> {
        let mut by_target: HashMap<(i64, &str), Vec<&SignatureRow>> = HashMap::new();
        for row in rows {
            by_target.entry((row.target_user_pk, &row.target)).or_default().push(row);
        }
        Signatures { by_target, asker_id }
    }

    /// Adds the signatures on a target to its JSON.
    fn add<'j>(&self, json: &'j str, user_pk: i64, user_id: &UserId, target: &str) -> Result<Cow<'j, str>> {
        let Some(rows) = self.by_target.get(&(user_pk, target)) else { return Ok(json.into()) };
        let mut json = object(json)?;
        for row in rows {
            let signer = if row.signer_user_pk == user_pk { user_id } else { self.asker_id };
            signatures::add(&mut json, signer.as_str(), &row.signer_key_id, row.signature.clone());
        }
        Ok(text(&json)?.into())
    }
}

/// Device keys with the device's name. What was uploaded as `unsigned` is not stored, so there is none yet; the rest
/// need not be parsed.
fn with_name(json: &str, name: &str) -> Result<String> {
    let unsigned =
        serde_json::to_string(&json!({ "device_display_name": name })).map_err(Error::internal_display)?;
    let rest = json.strip_suffix('}').ok_or_else(|| Error::internal("stored device keys are damaged"))?;
    let comma = if rest.ends_with('{') { "" } else { "," };
    Ok(format!(r#"{rest}{comma}"unsigned":{unsigned}}}"#))
}

/// The device's name in device keys, as [`Answer`] has them.
pub fn name_in(keys: &RawValue) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Named {
        unsigned: Unsigned,
    }
    #[derive(serde::Deserialize)]
    struct Unsigned {
        device_display_name: Option<String>,
    }
    serde_json::from_str::<Named>(keys.get()).ok()?.unsigned.device_display_name
}

fn raw(json: String) -> Result<Box<RawValue>> {
    RawValue::from_string(json).map_err(Error::internal_display)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_put_behind_what_is_there() {
        assert_eq!(with_name("{}", "a").unwrap(), r#"{"unsigned":{"device_display_name":"a"}}"#);
        let named = with_name(r#"{"keys":{}}"#, "\"}").unwrap();
        assert_eq!(named, r#"{"keys":{},"unsigned":{"device_display_name":"\"}"}}"#);
    }
}
