//! Device lists of other servers' users.
//!
//! Whoever shares a room with a user of ours has their list kept here from the first time somebody asks for their keys.
//! Their server tells of each change (`m.device_list_update`), with its number and those of the changes before it, and a
//! change that continues what is kept is put into it ([`follow`]). Where one was missed the list is stale: the whole is
//! fetched anew ([`renew`]), by who notices, or by who next asks for the keys.
//!
//! A list that was fetched before the two users shared a room, or that a change overtook on its way, can't be followed:
//! the log's position at its fetching tells. It is shown only while its server does not answer.
//!
//! Keys of others, who share no room, are asked for each time.

use super::known::UserKeys;
use super::query::{self, Answer, Wanted};
use super::{object, text};
use crate::error::Result;
use crate::server::Server;
use crate::users::{LONGEST_TEXT, check_text};
use myelin_storage::Tx;
use myelin_storage::keys::cross_signing::CrossSigningRow;
use myelin_storage::keys::device_keys::DeviceKeysRow;
use myelin_storage::keys::device_lists::{self, Change};
use myelin_storage::keys::remote_device_lists::{self as lists, ListRow};
use myelin_storage::rooms::memberships;
use ruma::canonical_json::CanonicalJsonValue;
use ruma::{OwnedDeviceId, OwnedUserId, UserId};
use serde_json::value::RawValue;
use std::collections::{HashMap, HashSet};

/// Devices of one user that are kept; a longer list is asked for each time.
const MOST_DEVICES: usize = 1_000;
/// Bytes of keys of one device that are kept.
const LONGEST_KEYS: usize = 64 << 10;

/// A whole list, as its server tells it.
#[derive(Debug, Default)]
pub struct List {
    /// The newest change in it, where the server says so.
    pub stream_id: Option<i64>,
    /// The devices with keys, and their names.
    pub devices: Vec<(OwnedDeviceId, Option<String>, Box<RawValue>)>,
    /// The master key.
    pub master_key: Option<Box<RawValue>>,
    /// The self-signing key.
    pub self_signing_key: Option<Box<RawValue>>,
}

/// A change of a list: `m.device_list_update`.
#[derive(Debug)]
pub struct Update {
    /// Whose list it is.
    pub user: OwnedUserId,
    /// The device that changed.
    pub device: OwnedDeviceId,
    /// The number of the change.
    pub stream_id: i64,
    /// The changes that it follows.
    pub prev_ids: Vec<i64>,
    /// The device is gone.
    pub deleted: bool,
    /// Its name.
    pub display_name: Option<String>,
    /// Its keys, if it has any.
    pub keys: Option<Box<RawValue>>,
}

/// What is here of the users that were asked for.
#[derive(Default)]
pub(super) struct Found {
    /// What is kept, by the user's number.
    pub(super) kept: HashMap<i64, UserKeys>,
    /// What was asked for.
    pub(super) asked: Answer,
}

/// Gives the keys of other servers' users, those that are kept from here.
pub(super) async fn find(server: &Server, asker_pk: i64, wanted: Wanted) -> Result<Found> {
    if wanted.is_empty() {
        return Ok(Found::default());
    }
    let ids: Vec<&str> = wanted.keys().map(|user| user.as_str()).collect();
    let users: HashMap<String, i64> = server.ids.find_users(&ids).await?.into_iter().collect();
    let pks: Vec<i64> = users.values().copied().collect();
    // What changes from here on is not in what is fetched, as far as anybody knows.
    let before = server.log.visible();
    let mut connection = server.database.read().await?;
    let kept = lists::of_users(&mut connection, &pks).await?;
    let whole: Vec<i64> = kept.iter().filter(|list| !list.stale).map(|list| list.user_pk).collect();
    let whole: HashSet<i64> = lists::followed(&mut connection, asker_pk, &whole).await?.into_iter().collect();
    let sharing: HashSet<i64> =
        memberships::sharing(&mut connection, asker_pk, &pks).await?.into_iter().collect();
    drop(connection);
    let pk_of = |user: &UserId| users.get(user.as_str()).copied();
    let (known, mut missing): (Wanted, Wanted) =
        wanted.into_iter().partition(|(user, _)| pk_of(user).is_some_and(|pk| whole.contains(&pk)));
    let mut shown: Vec<i64> = known.keys().filter_map(|user| pk_of(user)).collect();
    let of_interest = missing.clone();
    for (user, devices) in &mut missing {
        if pk_of(user).is_some_and(|pk| sharing.contains(&pk)) {
            // To be kept, it has to be the whole list.
            devices.clear();
        }
    }
    let mut asked = query::of_others(server, missing).await;
    keep_all(server, &asked, before, |user| pk_of(user).filter(|pk| sharing.contains(pk))).await?;
    for (user, devices) in of_interest {
        match asked.device_keys.get_mut(&user) {
            Some(found) if !devices.is_empty() => found.retain(|id, _| devices.contains(id)),
            Some(_) => {}
            // Its server does not answer: what was known of it last is better than nothing.
            None if asked.failures.contains(user.server_name().as_str()) => {
                shown.extend(pk_of(&user).filter(|pk| sharing.contains(pk)));
            }
            None => {}
        }
    }
    Ok(Found { kept: read(server, &shown).await?, asked })
}

/// The lists of users, in the form in which those of this server's users are in memory.
async fn read(server: &Server, user_pks: &[i64]) -> Result<HashMap<i64, UserKeys>> {
    let mut keys: HashMap<i64, UserKeys> = HashMap::new();
    if user_pks.is_empty() {
        return Ok(keys);
    }
    let mut connection = server.database.read().await?;
    for list in lists::of_users(&mut connection, user_pks).await? {
        let of_user = keys.entry(list.user_pk).or_default();
        let both = [("master", list.master_key), ("self_signing", list.self_signing_key)];
        of_user.cross_signing.extend(both.into_iter().filter_map(|(usage, json)| {
            let json = json?;
            let (usage, public_key) = (usage.to_owned(), query::public_key(&json)?);
            Some(CrossSigningRow { user_pk: list.user_pk, usage, public_key, json })
        }));
    }
    for device in lists::devices(&mut connection, user_pks).await? {
        keys.entry(device.user_pk).or_default().devices.push(device);
    }
    Ok(keys)
}

/// Keeps what servers answered of users who share a room.
async fn keep_all(
    server: &Server,
    answer: &Answer,
    before: i64,
    sharing: impl Fn(&UserId) -> Option<i64>,
) -> Result<()> {
    let mut rows = Vec::new();
    for (user, devices) in &answer.device_keys {
        let Some(user_pk) = sharing(user) else { continue };
        let list = List {
            stream_id: None,
            devices: devices
                .iter()
                .map(|(id, keys)| (id.clone(), query::name_in(keys), keys.clone()))
                .collect(),
            master_key: answer.master_keys.get(user).cloned(),
            self_signing_key: answer.self_signing_keys.get(user).cloned(),
        };
        rows.extend(list.rows(user_pk, user, before));
    }
    if rows.is_empty() {
        return Ok(());
    }
    server.commit.run(move |tx| Box::pin(async move { put(tx, rows).await })).await
}

/// Writes lists down, and notes whose has changed since it was kept last.
async fn put(tx: &mut Tx, mut rows: Vec<(ListRow, Vec<DeviceKeysRow>)>) -> Result<()> {
    let users: Vec<i64> = rows.iter().map(|(list, _)| list.user_pk).collect();
    let positions: HashMap<i64, i64> = device_lists::positions(tx, &users).await?.into_iter().collect();
    let known: HashMap<i64, ListRow> =
        lists::of_users(tx, &users).await?.into_iter().map(|list| (list.user_pk, list)).collect();
    let mut known_devices: HashMap<i64, Vec<DeviceKeysRow>> = HashMap::new();
    for device in lists::devices(tx, &users).await? {
        known_devices.entry(device.user_pk).or_default().push(device);
    }
    let mut moved = Vec::new();
    for (list, devices) in &mut rows {
        // A change was told of while the list was on its way: it may be in it or not.
        list.stale = positions.get(&list.user_pk).is_some_and(|pos| *pos > list.since_pos);
        let Some(known) = known.get(&list.user_pk) else { continue };
        let mut before = known_devices.remove(&list.user_pk).unwrap_or_default();
        before.sort_unstable_by(|a, b| a.device_id.cmp(&b.device_id));
        devices.sort_unstable_by(|a, b| a.device_id.cmp(&b.device_id));
        let same_keys =
            known.master_key == list.master_key && known.self_signing_key == list.self_signing_key;
        if !same_keys || before != *devices {
            moved.push(list.user_pk);
        }
    }
    let (rows, devices): (Vec<ListRow>, Vec<Vec<DeviceKeysRow>>) = rows.into_iter().unzip();
    lists::put(tx, &rows, &devices.concat()).await?;
    for user_pk in moved {
        device_lists::changed(tx, user_pk, Change::Whole).await?;
    }
    Ok(())
}

/// Puts a change into the list that is kept, and tells those who share a room. True when the list is kept and has missed
/// something: it should be fetched ([`renew`]).
pub async fn follow(server: &Server, update: Update) -> Result<bool> {
    let Some(user_pk) = server.ids.find_user(update.user.as_str()).await? else { return Ok(false) };
    server.commit.run(move |tx| Box::pin(async move { follow_in(tx, user_pk, update).await })).await
}

async fn follow_in(tx: &mut Tx, user_pk: i64, update: Update) -> Result<bool> {
    let Some(list) = lists::get(tx, user_pk).await? else {
        device_lists::changed(tx, user_pk, Change::Whole).await?;
        return Ok(false);
    };
    let number = Some(update.stream_id);
    if !list.stale && list.stream_id == number {
        // It was told twice.
        return Ok(false);
    }
    let continues =
        !update.prev_ids.is_empty() && update.prev_ids.iter().all(|id| list.stream_id == Some(*id));
    let missed = list.stale || !continues;
    if missed {
        lists::set_stream(tx, user_pk, list.stream_id, true).await?;
    } else {
        let row = |keys: &RawValue| {
            device(user_pk, &update.user, &update.device, update.display_name.clone(), keys)
        };
        match update.keys.as_deref().filter(|_| !update.deleted).and_then(row) {
            Some(row) => lists::put_devices(tx, &[row]).await?,
            None => lists::delete_device(tx, user_pk, update.device.as_str()).await?,
        }
        lists::set_stream(tx, user_pk, number, false).await?;
    }
    device_lists::changed(tx, user_pk, Change::Whole).await?;
    Ok(missed)
}

/// A user of another server has new keys to vouch for devices: `m.signing_key_update`.
pub async fn cross_signing_changed(
    server: &Server,
    user: &UserId,
    master_key: Option<Box<RawValue>>,
    self_signing_key: Option<Box<RawValue>>,
) -> Result<()> {
    let Some(user_pk) = server.ids.find_user(user.as_str()).await? else { return Ok(()) };
    let master = master_key.and_then(|key| cross_signing(user, &key));
    let self_signing = self_signing_key.and_then(|key| cross_signing(user, &key));
    server
        .commit
        .run(move |tx| {
            Box::pin(async move {
                lists::set_cross_signing(tx, user_pk, master.as_deref(), self_signing.as_deref()).await?;
                Ok(device_lists::changed(tx, user_pk, Change::Whole).await?)
            })
        })
        .await
}

/// Fetches a list anew that has missed something.
///
/// # Errors
/// The other server's, and the database's. The list stays stale then.
pub async fn renew(server: &Server, user: &UserId) -> Result<()> {
    let Some(user_pk) = server.ids.find_user(user.as_str()).await? else { return Ok(()) };
    let before = server.log.visible();
    let kept = lists::get(&mut server.database.read().await?, user_pk).await?;
    if !kept.is_some_and(|list| list.stale) {
        return Ok(());
    }
    let list = server.remote()?.device_list(user).await?;
    let Some(row) = list.rows(user_pk, user, before) else { return Ok(()) };
    server.commit.run(move |tx| Box::pin(async move { put(tx, vec![row]).await })).await
}

impl List {
    /// The list as it is kept; `None` where it is too long for that.
    fn rows(self, user_pk: i64, user: &UserId, since_pos: i64) -> Option<(ListRow, Vec<DeviceKeysRow>)> {
        if self.devices.len() > MOST_DEVICES {
            return None;
        }
        let row = ListRow {
            user_pk,
            stream_id: self.stream_id,
            stale: false,
            since_pos,
            master_key: self.master_key.and_then(|key| cross_signing(user, &key)),
            self_signing_key: self.self_signing_key.and_then(|key| cross_signing(user, &key)),
        };
        let devices = self.devices.into_iter();
        let devices = devices.filter_map(|(id, name, keys)| device(user_pk, user, &id, name, &keys));
        Some((row, devices.collect()))
    }
}

/// A device as it is kept; `None` for what is not this device's.
fn device(
    user_pk: i64,
    user: &UserId,
    id: &OwnedDeviceId,
    display_name: Option<String>,
    keys: &RawValue,
) -> Option<DeviceKeysRow> {
    let is_good = |text: &str| check_text("a device's id or name", text, LONGEST_TEXT).is_ok();
    if keys.get().len() > LONGEST_KEYS || !is_good(id.as_str()) {
        return None;
    }
    let mut keys = object(keys.get()).ok()?;
    let says = |field: &str, value: &str| {
        keys.get(field).and_then(CanonicalJsonValue::as_str).is_some_and(|text| text == value)
    };
    if !says("user_id", user.as_str()) || !says("device_id", id.as_str()) {
        return None;
    }
    keys.remove("unsigned");
    let json = text(&keys).ok()?;
    let display_name = display_name.map(|name| name.replace('\0', "")).filter(|name| is_good(name));
    Some(DeviceKeysRow { user_pk, device_id: id.to_string(), display_name, json })
}

/// A cross-signing key as it is kept; `None` for what is none, or another user's.
fn cross_signing(user: &UserId, key: &RawValue) -> Option<String> {
    if key.get().len() > LONGEST_KEYS {
        return None;
    }
    let key = object(key.get()).ok()?;
    let owner = key.get("user_id").and_then(CanonicalJsonValue::as_str);
    let json = text(&key).ok()?;
    (owner == Some(user.as_str()) && query::public_key(&json).is_some()).then_some(json)
}
