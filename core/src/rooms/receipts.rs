//! Receipts: how far somebody has read.

use crate::error::{Error, Result};
use crate::rooms::cache::Room;
use crate::server::Server;
use crate::users::account_data;
use myelin_storage::changes::{Changes, NewReceipt};
use ruma::EventId;

/// Who may see a receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// Everybody in the room: m.read.
    Public,
    /// The reader only: m.read.private.
    Private,
}

impl Server {
    /// Notes how far somebody has read everything: account data of the room, as the specification has it.
    pub async fn fully_read(&self, room: &Room, user_pk: i64, event_id: &EventId) -> Result<()> {
        let content = serde_json::json!({ "event_id": event_id }).to_string();
        account_data::put(self, user_pk, room.pk, "m.fully_read".to_owned(), content).await
    }

    /// Notes that somebody has read up to an event: in the whole room (`thread` empty), its main timeline (`main`) or a
    /// thread (the id of its root). A receipt for an earlier event than the last one changes nothing.
    pub async fn read(
        &self,
        room: &Room,
        user_pk: i64,
        audience: Audience,
        thread: String,
        event_id: &EventId,
    ) -> Result<()> {
        let event = self.rooms.event_by_id(event_id).await?;
        let Some(event) = event.filter(|event| event.room_pk == room.pk) else {
            return Err(Error::not_found("the event is not in this room"));
        };
        let receipt = NewReceipt {
            room_pk: room.pk,
            user_pk,
            kind: if audience == Audience::Public { 1 } else { 2 },
            thread,
            event_id: event_id.to_string(),
            event_pos: event.pos,
            ts: self.now_ms(),
        };
        let changes = Changes { receipts: vec![receipt], ..Changes::default() };
        self.commit.write(changes, |_| ()).await.map(drop)
    }
}
