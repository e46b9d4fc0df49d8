//! One-time keys for those who want to begin an encrypted session.

use super::hash;
use super::upload::key_hash;
use crate::error::{Error, Result};
use crate::server::Server;
use myelin_storage::Tx;
use myelin_storage::keys::one_time_keys::{Claimed, Issued};
use myelin_storage::keys::{device_keys, fallback_keys, one_time_keys};
use ruma::{OwnedDeviceId, OwnedServerName, OwnedUserId};
use serde_json::value::RawValue;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The devices of users for which a key is wanted, each with its algorithm.
pub type Wanted = BTreeMap<OwnedUserId, BTreeMap<OwnedDeviceId, String>>;
/// A key of a device, by its id with its algorithm.
pub type Keys = BTreeMap<OwnedUserId, BTreeMap<OwnedDeviceId, BTreeMap<String, Box<RawValue>>>>;

/// What a claim gives.
#[derive(Debug, Default)]
pub struct Answer {
    /// Keys, for the devices that had any.
    pub keys: Keys,
    /// Servers that could not be asked.
    pub failures: BTreeSet<String>,
}

/// Whose device a number stands for.
struct Owner {
    user_pk: i64,
    user_id: OwnedUserId,
    device_id: OwnedDeviceId,
}

/// Takes a one-time key of each device, or its fallback key where none is left.
pub async fn claim(server: &Server, wanted: Wanted) -> Result<Answer> {
    let (local, remote): (Wanted, Wanted) =
        wanted.into_iter().partition(|(user, _)| user.server_name() == server.name());
    let here = of_local(server, local);
    let (here, elsewhere) = futures_util::future::join(here, of_others(server, remote)).await;
    let mut answer = elsewhere;
    answer.keys.extend(here?);
    Ok(answer)
}

/// Asks other servers, all at once.
async fn of_others(server: &Server, wanted: Wanted) -> Answer {
    let mut by_server: BTreeMap<OwnedServerName, Wanted> = BTreeMap::new();
    for (user, devices) in wanted {
        by_server.entry(user.server_name().to_owned()).or_default().insert(user, devices);
    }
    let ask = |(name, wanted): (OwnedServerName, Wanted)| async move {
        let keys = match server.remote() {
            Ok(remote) => remote.claim_keys(&name, wanted).await,
            Err(error) => Err(error),
        };
        (name, keys)
    };
    let mut answer = Answer::default();
    for (name, keys) in futures_util::future::join_all(by_server.into_iter().map(ask)).await {
        match keys {
            Ok(keys) => answer.keys.extend(keys),
            Err(error) => {
                tracing::debug!(%error, "another server's one-time keys were not to be had");
                answer.failures.insert(name.to_string());
            }
        }
    }
    answer
}

async fn of_local(server: &Server, local: Wanted) -> Result<Keys> {
    let (owners, by_algorithm) = find_devices(server, local).await?;
    if owners.is_empty() {
        return Ok(Keys::new());
    }
    let users: Vec<(i64, i64)> = owners.iter().map(|(device, owner)| (*device, owner.user_pk)).collect();
    let taken = server
        .commit
        .run(move |tx| {
            Box::pin(async move {
                let users: HashMap<i64, i64> = users.into_iter().collect();
                let mut taken = Vec::with_capacity(users.len());
                for (algorithm, devices) in by_algorithm {
                    for claimed in take(tx, &algorithm, devices).await? {
                        taken.push((algorithm.clone(), claimed));
                    }
                }
                let changed: Vec<(i64, i64)> = taken
                    .iter()
                    .filter_map(|(_, key)| Some((*users.get(&key.device_pk)?, key.device_pk)))
                    .collect();
                one_time_keys::counts_changed(tx, &changed);
                Ok(taken)
            })
        })
        .await?;
    shape(taken, &owners)
}

/// The numbers of the wanted devices, by algorithm.
async fn find_devices(
    server: &Server,
    wanted: Wanted,
) -> Result<(HashMap<i64, Owner>, BTreeMap<String, Vec<i64>>)> {
    let ids: Vec<&str> = wanted.keys().map(|user| user.as_str()).collect();
    let users: HashMap<i64, String> =
        server.ids.find_users(&ids).await?.into_iter().map(|(id, pk)| (pk, id)).collect();
    let pks: Vec<i64> = users.keys().copied().collect();
    let mut owners = HashMap::new();
    let mut by_algorithm: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    if pks.is_empty() {
        return Ok((owners, by_algorithm));
    }
    let devices = device_keys::devices(&mut server.database.read().await?, &pks).await?;
    for device in devices {
        let user = users.get(&device.user_pk).and_then(|id| wanted.get_key_value(id.as_str()));
        let Some((user_id, of_user)) = user else { continue };
        let device_id = OwnedDeviceId::from(device.device_id);
        let Some(algorithm) = of_user.get(&device_id) else { continue };
        super::check_id(algorithm)?;
        by_algorithm.entry(algorithm.clone()).or_default().push(device.device_pk);
        let owner = Owner { user_pk: device.user_pk, user_id: user_id.clone(), device_id };
        owners.insert(device.device_pk, owner);
    }
    Ok((owners, by_algorithm))
}

/// One-time keys into the ledger, and fallback keys for those who had none.
async fn take(tx: &mut Tx, algorithm: &str, mut devices: Vec<i64>) -> Result<Vec<Claimed>> {
    let mut taken = one_time_keys::claim(tx, algorithm, &devices).await?;
    let mut issued = Vec::with_capacity(taken.len());
    for key in &taken {
        issued.push(ledger_row(key.device_pk, algorithm, &key.key_id, &key.json)?);
    }
    one_time_keys::insert_issued(tx, &issued).await?;
    devices.retain(|device| taken.iter().all(|key| key.device_pk != *device));
    if !devices.is_empty() {
        taken.extend(fallback_keys::claim(tx, algorithm, &devices).await?);
    }
    Ok(taken)
}

/// What the ledger keeps of a key.
pub(crate) fn ledger_row(device_pk: i64, algorithm: &str, key_id: &str, json: &str) -> Result<Issued> {
    Ok(Issued { device_pk, id_hash: hash(&format!("{algorithm}:{key_id}")), key_hash: key_hash(json)? })
}

fn shape(taken: Vec<(String, Claimed)>, owners: &HashMap<i64, Owner>) -> Result<Keys> {
    let mut keys = Keys::new();
    for (algorithm, key) in taken {
        let Some(owner) = owners.get(&key.device_pk) else { continue };
        let json = RawValue::from_string(key.json)
            .map_err(|error| Error::internal(format!("a stored key is damaged: {error}")))?;
        let of_user = keys.entry(owner.user_id.clone()).or_default();
        let of_device = of_user.entry(owner.device_id.clone()).or_default();
        of_device.insert(format!("{algorithm}:{}", key.key_id), json);
    }
    Ok(keys)
}
