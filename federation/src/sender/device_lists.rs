//! Telling of changed devices and cross-signing keys.
//!
//! The changes of a user's devices are a chain: each says which one came before it, so that others can put it into the
//! list that they have. Every server that shares a room with the user is told of the same chain; one that came later, or
//! missed a link, notices by that and asks for the whole list.
//!
//! A server that a user meets by joining a room is told to fetch the list ([`introduce`]). That goes with the next that it
//! is sent: it hears of the join itself, so that nothing is lost with it, and a join of a room with thousands of servers
//! need not speak to all of them at once.
//!
//! A change waits in the outbox until its server has it. A later one takes its place there, and says that the list is to be
//! fetched: a server that is gone for long has one line for each user.

use super::Inner;
use super::edus::{local, others, raw, sharing};
use myelin_core::Result;
use myelin_core::keys::query::{self, Wanted};
use myelin_core::rooms::cache::Stored;
use myelin_core::rooms::visibility::Membership;
use myelin_storage::federation::outbox;
use myelin_storage::keys::device_keys;
use myelin_storage::keys::device_lists::{self, Told};
use myelin_storage::users::devices;
use ruma::{OwnedDeviceId, OwnedUserId};
use serde_json::{Value, json};

/// Tells the servers that share a room with a user of ours what changed of the user's keys at a position.
pub(super) async fn tell(inner: &Inner, user_pk: i64, pos: i64, told: Told) -> Result<()> {
    let Some(user) = local(inner, user_pk).await?.and_then(|id| OwnedUserId::try_from(&*id).ok()) else {
        return Ok(());
    };
    let servers: Vec<String> = sharing(inner, user_pk, 0).await?.into_iter().map(String::from).collect();
    if servers.is_empty() {
        return Ok(());
    }
    if told == Told::CrossSigning {
        let edu = cross_signing(inner, &user).await?.to_string();
        return put(inner, -user_pk, servers, edu.clone(), edu).await;
    }
    let whole = whole(inner, &user, user_pk, pos).await?;
    let change = match told {
        Told::Device => link(inner, &user, user_pk, pos).await?,
        Told::Whole | Told::CrossSigning => None,
    };
    let change = change.unwrap_or_else(|| whole.clone());
    put(inner, user_pk, servers, change.to_string(), whole.to_string()).await
}

/// Where an event brings a user of ours into a room, the servers there that shared none with the user are told so.
pub(super) async fn introduce(inner: &Inner, event: &Stored, pos: i64) -> Result<()> {
    let Some(user) = event.state_key.as_deref().and_then(|key| OwnedUserId::try_from(key).ok()) else {
        return Ok(());
    };
    if event.membership().as_deref() != Some("join") || !inner.server.is_local(&user) {
        return Ok(());
    }
    let room = inner.server.rooms.by_pk(event.room_pk).await?;
    if inner.server.membership_in(&room, event.state_root, &user).await? == Membership::Join {
        return Ok(());
    }
    let Some(user_pk) = inner.server.ids.find_user(user.as_str()).await? else { return Ok(()) };
    let mut servers = others(inner, event.room_pk).await?;
    if !servers.is_empty() {
        let met = sharing(inner, user_pk, event.room_pk).await?;
        servers.retain(|server| !met.contains(server));
    }
    if servers.is_empty() {
        return Ok(());
    }
    let edu = raw(&whole(inner, &user, user_pk, pos).await?)?;
    for server in servers {
        inner.destination(&server).push_volatile(format!("devices {user_pk}"), edu.clone());
    }
    Ok(())
}

/// Puts a change into the outbox; servers that have not got an earlier one get `whole`.
async fn put(inner: &Inner, about: i64, servers: Vec<String>, change: String, whole: String) -> Result<()> {
    inner
        .server
        .commit
        .run(move |tx| {
            Box::pin(async move {
                let behind = outbox::servers_about(tx, about).await?;
                let edus: Vec<(String, String)> = servers
                    .into_iter()
                    .map(|server| match behind.contains(&server) {
                        true => (server, whole.clone()),
                        false => (server, change.clone()),
                    })
                    .collect();
                Ok(outbox::replace(tx, about, &edus).await?)
            })
        })
        .await
}

/// The list is to be fetched: a change that follows no other.
async fn whole(inner: &Inner, user: &OwnedUserId, user_pk: i64, pos: i64) -> Result<Value> {
    let devices = device_keys::devices(&mut inner.server.database.read().await?, &[user_pk]).await?;
    let device_id = devices.first().map_or("none", |device| device.device_id.as_str());
    Ok(json!({
        "edu_type": "m.device_list_update",
        "content": { "user_id": user, "device_id": device_id, "stream_id": pos, "prev_id": [] },
    }))
}

/// The link at a position, with the device as it is now; `None` where the link is not known any more.
async fn link(inner: &Inner, user: &OwnedUserId, user_pk: i64, pos: i64) -> Result<Option<Value>> {
    let mut connection = inner.server.database.read().await?;
    let Some(link) = device_lists::link(&mut connection, pos).await? else { return Ok(None) };
    let device = devices::get(&mut connection, user_pk, &link.device_id).await?;
    drop(connection);
    let prev_id: Vec<i64> = Some(link.prev_pos).filter(|pos| *pos > 0).into_iter().collect();
    let mut content =
        json!({ "user_id": user, "device_id": link.device_id, "stream_id": pos, "prev_id": prev_id });
    match device {
        None => content["deleted"] = true.into(),
        Some(device) => {
            let id = OwnedDeviceId::from(link.device_id);
            let wanted = Wanted::from([(user.clone(), vec![id.clone()])]);
            let mut answer = query::for_server(&inner.server, wanted).await?;
            let keys = answer.device_keys.remove(user).and_then(|mut devices| devices.remove(&id));
            if let Some(keys) = keys {
                content["keys"] = serde_json::to_value(keys).unwrap_or_default();
            }
            if let Some(name) = device.display_name.filter(|_| inner.server.settings.federation.device_names)
            {
                content["device_display_name"] = name.into();
            }
        }
    }
    Ok(Some(json!({ "edu_type": "m.device_list_update", "content": content })))
}

/// The keys with which a user vouches for devices, as they are now.
async fn cross_signing(inner: &Inner, user: &OwnedUserId) -> Result<Value> {
    let answer = query::for_server(&inner.server, Wanted::from([(user.clone(), Vec::new())])).await?;
    let mut content = json!({ "user_id": user });
    let keys = [("master_key", &answer.master_keys), ("self_signing_key", &answer.self_signing_keys)];
    for (name, keys) in keys {
        if let Some(key) = keys.get(user) {
            content[name] = serde_json::to_value(key).unwrap_or_default();
        }
    }
    Ok(json!({ "edu_type": "m.signing_key_update", "content": content }))
}
