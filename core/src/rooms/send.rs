//! Sending messages, state and redactions into rooms that the sender is in.

use crate::error::{Error, Result};
use crate::rooms::append::{Draft, Request, Transaction};
use crate::rooms::cache::Room;
use crate::server::Server;
use ruma::{EventId, OwnedEventId, RoomId, UserId};
use serde::Deserialize;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value, json};
use std::sync::Arc;

#[derive(Deserialize)]
struct Redacts {
    redacts: Option<OwnedEventId>,
}

impl Server {
    /// Sends a message event. A repeated transaction gives the id of the first time.
    pub async fn send_message(
        self: &Arc<Self>,
        room_id: &RoomId,
        sender: &UserId,
        kind: String,
        content: Box<RawValue>,
        transaction: Option<Transaction>,
    ) -> Result<OwnedEventId> {
        let room = self.room_to_write(room_id).await?;
        let mut draft = Draft::message(sender.to_owned(), kind, content);
        if draft.kind == "m.room.redaction" {
            let target = serde_json::from_str::<Redacts>(draft.content.get());
            draft.redacts = target.ok().and_then(|content| content.redacts);
            if draft.redacts.is_none() {
                return Err(Error::MissingParam("a redaction must name the event in `redacts`".to_owned()));
            }
        }
        let transaction = in_room(&room, transaction);
        let request = Request { drafts: vec![draft], transaction, creates: false };
        first(self.append(&room, request).await?)
    }

    /// Sets a piece of a room's state. Where nothing changes, the event that stands there is the answer.
    pub async fn send_state(
        self: &Arc<Self>,
        room_id: &RoomId,
        sender: &UserId,
        kind: String,
        state_key: String,
        content: Box<RawValue>,
    ) -> Result<OwnedEventId> {
        let room = self.room_to_write(room_id).await?;
        if kind == "m.room.canonical_alias" && state_key.is_empty() {
            let parsed: Map<String, Value> = serde_json::from_str(content.get())
                .map_err(|_| Error::bad_json("the content is not an object"))?;
            self.check_canonical_alias(&room, &parsed).await?;
        }
        let content = match kind == "m.room.member" && state_key == sender.as_str() {
            true => self.own_member_content(&room, sender, content).await?,
            false => content,
        };
        let draft = Draft { state_key: Some(state_key), ..Draft::message(sender.to_owned(), kind, content) };
        first(self.append(&room, Request { drafts: vec![draft], ..Request::default() }).await?)
    }

    /// Redacts an event.
    pub async fn redact(
        self: &Arc<Self>,
        room_id: &RoomId,
        sender: &UserId,
        target: &EventId,
        reason: Option<String>,
        transaction: Option<Transaction>,
    ) -> Result<OwnedEventId> {
        let room = self.room_to_write(room_id).await?;
        let content = match reason {
            Some(reason) => json!({ "reason": reason }),
            None => json!({}),
        };
        let content = to_raw_value(&content).map_err(|error| Error::internal(error.to_string()))?;
        let draft = Draft::message(sender.to_owned(), "m.room.redaction", content);
        let draft = Draft { redacts: Some(target.to_owned()), ..draft };
        let transaction = in_room(&room, transaction);
        first(self.append(&room, Request { drafts: vec![draft], transaction, creates: false }).await?)
    }

    /// A room to write to. Whether somebody may is for the room's rules; that a room is not here is told as its rules
    /// would: whoever is not in it may not write.
    async fn room_to_write(&self, room_id: &RoomId) -> Result<Arc<Room>> {
        let room = self.rooms.find(room_id).await?;
        room.ok_or_else(|| Error::forbidden("you are not joined to this room"))
    }
}

/// A transaction's scope with the room in it: the same id in another room is another transaction.
fn in_room(room: &Room, transaction: Option<Transaction>) -> Option<Transaction> {
    transaction.map(|own| Transaction { scope: format!("{}/{}", room.pk, own.scope), ..own })
}

fn first(ids: Vec<OwnedEventId>) -> Result<OwnedEventId> {
    ids.into_iter().next().ok_or_else(|| Error::internal("an event without an id"))
}
