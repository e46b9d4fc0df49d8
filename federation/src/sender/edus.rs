//! EDUs of this server's users that may be lost: typing, presence, receipts.

use super::Inner;
use super::destination::{self, Destination};
use myelin_core::{Error, Result};
use myelin_storage::federation::rooms;
use myelin_storage::rooms::receipts;
use ruma::{OwnedServerName, UserId};
use serde_json::json;
use serde_json::value::{RawValue, to_raw_value};
use std::sync::Arc;

/// The id of a user of this server.
pub(super) async fn local(inner: &Inner, user_pk: i64) -> Result<Option<Arc<str>>> {
    let id = inner.server.ids.user_id(user_pk).await?;
    let user = <&UserId>::try_from(&*id);
    let ours = user.is_ok_and(|user| inner.server.is_local(user));
    Ok(ours.then_some(id))
}

/// An EDU, for a destination.
pub(super) fn raw(value: &serde_json::Value) -> Result<Box<RawValue>> {
    to_raw_value(value).map_err(Error::internal_display)
}

/// The other servers of a room.
pub(super) async fn others(inner: &Inner, room_pk: i64) -> Result<Vec<OwnedServerName>> {
    let room = inner.server.rooms.by_pk(room_pk).await?;
    let servers = inner.server.servers_in(&room).await?;
    Ok(servers.iter().filter(|server| *server != inner.server.name()).cloned().collect())
}

/// The other servers that share a room with a user, one room left out (0 for none).
pub(super) async fn sharing(inner: &Inner, user_pk: i64, but_room_pk: i64) -> Result<Vec<OwnedServerName>> {
    let mut connection = inner.server.database.read().await?;
    let servers = rooms::servers_of_user(&mut connection, user_pk, but_room_pk).await?;
    let servers = servers.into_iter().filter_map(|server| OwnedServerName::try_from(server).ok());
    Ok(servers.filter(|server| server != inner.server.name()).collect())
}

/// Tells the servers of a room that somebody types, or has stopped.
pub(super) async fn typing(inner: &Arc<Inner>, room_pk: i64, user_pk: i64, typing: bool) -> Result<()> {
    let Some(user_id) = local(inner, user_pk).await? else { return Ok(()) };
    let servers = others(inner, room_pk).await?;
    if servers.is_empty() {
        return Ok(());
    }
    let room = inner.server.rooms.by_pk(room_pk).await?;
    let edu = raw(&json!({
        "edu_type": "m.typing",
        "content": { "room_id": room.id, "user_id": &*user_id, "typing": typing },
    }))?;
    for server in servers {
        let to = inner.destination(&server);
        to.push_volatile(format!("typing {room_pk} {user_pk}"), edu.clone());
        destination::wake(inner, &to);
    }
    Ok(())
}

/// Tells the servers that share a room with a user how present the user is.
pub(super) async fn presence(inner: &Arc<Inner>, user_pk: i64) -> Result<()> {
    let Some(user_id) = local(inner, user_pk).await? else { return Ok(()) };
    let servers = sharing(inner, user_pk, 0).await?;
    let now = inner.server.now_ms();
    let mut update = inner.server.presence.of(user_pk, now).content(now);
    update["user_id"] = json!(&*user_id);
    if update.get("last_active_ago").is_none() {
        update["last_active_ago"] = 0.into();
    }
    let edu = raw(&json!({ "edu_type": "m.presence", "content": { "push": [update] } }))?;
    for server in servers {
        let to = inner.destination(&server);
        to.push_volatile(format!("presence {user_pk}"), edu.clone());
        destination::wake(inner, &to);
    }
    Ok(())
}

/// Puts a public receipt into the queues of the room's servers, and gives those.
pub(super) async fn receipt(inner: &Inner, room_pk: i64, user_pk: i64) -> Result<Vec<Arc<Destination>>> {
    let Some(user_id) = local(inner, user_pk).await? else { return Ok(Vec::new()) };
    let servers = others(inner, room_pk).await?;
    if servers.is_empty() {
        return Ok(Vec::new());
    }
    let mut connection = inner.server.database.read().await?;
    let newest = receipts::newest(&mut connection, room_pk, user_pk, receipts::PUBLIC).await?;
    drop(connection);
    let Some(receipt) = newest else { return Ok(Vec::new()) };
    let room = inner.server.rooms.by_pk(room_pk).await?;
    let mut data = json!({ "ts": receipt.ts });
    if !receipt.thread.is_empty()
        && let Some(data) = data.as_object_mut()
    {
        data.insert("thread_id".to_owned(), receipt.thread.as_str().into());
    }
    let mut of_user = serde_json::Map::new();
    of_user.insert(user_id.to_string(), json!({ "data": data, "event_ids": [receipt.event_id] }));
    let mut of_room = serde_json::Map::new();
    of_room.insert(room.id.to_string(), json!({ "m.read": of_user }));
    let edu = raw(&json!({ "edu_type": "m.receipt", "content": of_room }))?;
    let all: Vec<_> = servers.iter().map(|server| inner.destination(server)).collect();
    for to in &all {
        to.push_volatile(format!("receipt {room_pk} {user_pk} {}", receipt.thread), edu.clone());
    }
    Ok(all)
}
