//! Messages from device to device: encrypted keys, verification and the like.
//!
//! A message is a row for each device. It waits until the device says that it has seen it, by a /sync with the token of
//! the answer that held it. A repeated transaction id sends nothing: the id is noted in the commit of the messages.

use crate::cache::{Cache, Caches, Weight};
use crate::error::{Error, Result};
use crate::keys::Device;
use crate::ports::random_text;
use crate::server::Server;
use myelin_storage::changes::{Changes, NewToDevice, Outcome};
use myelin_storage::keys::device_keys;
use myelin_storage::log::Kind;
use myelin_storage::{Entry, to_device};
use ruma::to_device::DeviceIdOrAllDevices;
use ruma::{OwnedServerName, OwnedUserId, UserId};
use serde::Serialize;
use serde_json::value::RawValue;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Messages of one /sync.
const MOST: i64 = 100;
/// Bytes of one /sync's messages, as far as it has more than one.
const MOST_BYTES: usize = 1 << 20;

/// Contents by user and device.
pub type Messages = BTreeMap<OwnedUserId, BTreeMap<DeviceIdOrAllDevices, Box<RawValue>>>;

/// An event as /sync gives it.
#[derive(Serialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    sender: &'a str,
    content: &'a RawValue,
}

/// Sends messages to devices. Devices of this server's users that are not there are passed over; those of others are
/// their servers' affair, for which the messages wait in the outbox.
///
/// # Errors
/// M_BAD_JSON when a content is not an object.
pub async fn send(
    server: &Server,
    sender: Device<'_>,
    event_type: &str,
    txn_id: String,
    messages: Messages,
) -> Result<()> {
    if messages.values().flat_map(BTreeMap::values).any(|content| !content.get().starts_with('{')) {
        return Err(Error::bad_json("the content of a message must be an object"));
    }
    let (messages, elsewhere): (Messages, Messages) =
        messages.into_iter().partition(|(user, _)| server.is_local(user));
    let rows = address(server, sender.user_id, event_type, messages).await?;
    let outbox = for_others(server, sender.user_id, event_type, elsewhere)?;
    let scope = format!("sendToDevice/{event_type}");
    let transaction = (sender.device_pk, scope, txn_id, "{}".to_owned(), server.now_ms());
    write(server, transaction, rows, outbox).await
}

/// Takes messages in that a user of another server sent. A message id that came before sends nothing again.
pub async fn deliver(
    server: &Server,
    sender: &UserId,
    event_type: &str,
    message_id: String,
    messages: Messages,
) -> Result<()> {
    let rows = address(server, sender, event_type, messages).await?;
    let scope = format!("directToDevice/{sender}");
    let transaction = (0, scope, message_id, "{}".to_owned(), server.now_ms());
    write(server, transaction, rows, Vec::new()).await
}

/// The EDUs for other servers, one each.
fn for_others(
    server: &Server,
    sender: &UserId,
    event_type: &str,
    messages: Messages,
) -> Result<Vec<(String, String)>> {
    if messages.is_empty() || server.remote().is_err() {
        return Ok(Vec::new());
    }
    let mut by_server: BTreeMap<OwnedServerName, Messages> = BTreeMap::new();
    for (user, devices) in messages {
        by_server.entry(user.server_name().to_owned()).or_default().insert(user, devices);
    }
    let mut edus = Vec::with_capacity(by_server.len());
    for (to, messages) in by_server {
        let content = serde_json::json!({
            "sender": sender, "type": event_type, "message_id": random_text(&*server.random, 24),
            "messages": messages,
        });
        let edu = serde_json::json!({ "edu_type": "m.direct_to_device", "content": content });
        edus.push((to.to_string(), edu.to_string()));
    }
    Ok(edus)
}

async fn write(
    server: &Server,
    transaction: (i64, String, String, String, i64),
    rows: Vec<NewToDevice>,
    outbox: Vec<(String, String)>,
) -> Result<()> {
    let kept: Vec<_> = rows.iter().map(|row| (row.device_pk, row.json.clone())).collect();
    let changes = Changes { transactions: vec![transaction], to_device: rows, outbox, ..Changes::default() };
    let recent = server.recent_messages.clone();
    let publish = move |outcome: &Outcome| {
        for ((device_pk, json), pos) in kept.into_iter().zip(&outcome.to_device) {
            if let Ok(json) = RawValue::from_string(json) {
                recent.messages.insert(*pos, (device_pk, json.into()));
            }
        }
    };
    server.commit.write(changes, publish).await.map(drop)
}

/// One row for each device.
async fn address(
    server: &Server,
    sender: &UserId,
    event_type: &str,
    messages: Messages,
) -> Result<Vec<NewToDevice>> {
    let ids: Vec<&str> = messages.keys().map(|user| user.as_str()).collect();
    let users: HashMap<i64, String> =
        server.ids.find_users(&ids).await?.into_iter().map(|(id, pk)| (pk, id)).collect();
    let pks: Vec<i64> = users.keys().copied().collect();
    if pks.is_empty() {
        return Ok(Vec::new());
    }
    let devices = device_keys::devices(&mut server.database.read().await?, &pks).await?;
    let mut rows = Vec::new();
    for device in devices {
        let of_user = users.get(&device.user_pk).and_then(|id| messages.get(id.as_str()));
        let Some(of_user) = of_user else { continue };
        let named = of_user.get(&DeviceIdOrAllDevices::DeviceId(device.device_id.into()));
        let Some(content) = named.or_else(|| of_user.get(&DeviceIdOrAllDevices::AllDevices)) else {
            continue;
        };
        let event = Event { kind: event_type, sender: sender.as_str(), content };
        let json = serde_json::to_string(&event).map_err(|error| Error::internal(error.to_string()))?;
        rows.push(NewToDevice { user_pk: device.user_pk, device_pk: device.device_pk, json });
    }
    Ok(rows)
}

/// The messages that were sent here lately, by position: those who listen get them without asking the database.
pub struct RecentMessages {
    messages: Cache<i64, (i64, Arc<RawValue>)>,
}

impl Weight for (i64, Arc<RawValue>) {
    fn weight(&self) -> usize {
        self.1.get().len() + 32
    }
}

impl RecentMessages {
    /// None yet.
    pub fn new(caches: &Caches) -> RecentMessages {
        RecentMessages { messages: caches.cache(6, 1_000) }
    }
}

/// The messages of a device between two positions, if all of them are in memory and they are not too many for one
/// answer.
fn in_memory(server: &Server, device_pk: i64, after: i64, upto: i64) -> Option<Pending> {
    let positions: Vec<i64> = server.log.since(after, |entries| {
        let of_device = |entry: &&Entry| entry.kind == Kind::ToDevice && entry.object == device_pk;
        entries.take_while(|entry| entry.pos <= upto).filter(of_device).map(|entry| entry.pos).collect()
    })?;
    let mut pending = Pending { events: Vec::with_capacity(positions.len()), upto };
    let mut bytes = 0;
    for pos in positions {
        let (_, json) =
            server.recent_messages.messages.get(&pos).filter(|(device, _)| *device == device_pk)?;
        bytes += json.get().len();
        pending.events.push(json);
    }
    let fits = i64::try_from(pending.events.len()).is_ok_and(|count| count < MOST) && bytes < MOST_BYTES;
    fits.then_some(pending)
}

/// What a /sync gives a device.
#[derive(Debug, Default)]
pub struct Pending {
    /// The events, oldest first.
    pub events: Vec<Arc<RawValue>>,
    /// What the token must say, so that the next /sync acknowledges these and no others: the last message's position
    /// where more wait.
    pub upto: i64,
}

/// The oldest messages of a device between two positions, bounded in number and bytes.
pub async fn pending(server: &Server, device_pk: i64, after: i64, upto: i64) -> Result<Pending> {
    if let Some(pending) = in_memory(server, device_pk, after, upto) {
        return Ok(pending);
    }
    let rows = to_device::pending(&mut server.database.read().await?, device_pk, after, upto, MOST).await?;
    let full = i64::try_from(rows.len()).is_ok_and(|count| count == MOST);
    let mut pending = Pending { events: Vec::with_capacity(rows.len()), upto };
    let mut bytes = 0;
    let mut last = upto;
    for (pos, json) in rows {
        bytes += json.len();
        if bytes > MOST_BYTES && !pending.events.is_empty() {
            pending.upto = last;
            return Ok(pending);
        }
        let event = RawValue::from_string(json)
            .map_err(|error| Error::internal(format!("a stored message is damaged: {error}")))?;
        pending.events.push(event.into());
        last = pos;
    }
    if full {
        pending.upto = last;
    }
    Ok(pending)
}

/// Whether messages up to a position wait for a device.
pub async fn waits(server: &Server, device_pk: i64, upto: i64) -> Result<bool> {
    Ok(to_device::waits(&mut server.database.read().await?, device_pk, upto).await?)
}

/// Lets one of the next commits delete what a device has seen: the messages up to the position of its token. Nobody need
/// wait for it, since no answer to that token or a later one has them again. A position of the future acknowledges
/// nothing.
pub fn acknowledge(server: &Server, device_pk: i64, upto: i64) {
    if upto <= server.log.visible() {
        server.commit.seen(device_pk, upto);
    }
}
