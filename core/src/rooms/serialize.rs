//! Events for a reader: which of them the reader may see, and what stands in their `unsigned`.

use crate::error::{Error, Result};
use crate::events::client_format::{self, Shape, Unsigned};
use crate::rooms::cache::{Room, Stored};
use crate::rooms::lookup::membership_of;
use crate::rooms::state::NodeId;
use crate::rooms::visibility::{self, Membership, Sets, View, Visibility};
use crate::server::Server;
use myelin_storage::changes::REDACTED;
use myelin_storage::rooms::events;
use ruma::UserId;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::HashMap;

/// Who reads.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    /// The user.
    pub user: &'a UserId,
    /// The user's number.
    pub user_pk: i64,
    /// The device that asks; it is told the transaction ids of its own events.
    pub device_pk: i64,
}

#[derive(Deserialize)]
struct HistoryVisibility {
    history_visibility: String,
}

/// What decides about events behind one root.
#[derive(Clone, Copy)]
struct At {
    visibility: Visibility,
    membership: Membership,
}

impl Server {
    /// Leaves out the events that the reader may not see. `joined_until` is the position of the end of the reader's last
    /// time in the room, `i64::MAX` for somebody who is joined: `shared` history before it may be seen.
    pub async fn visible_events(
        &self,
        room: &Room,
        reader: &Reader<'_>,
        joined_until: i64,
        events: Vec<Stored>,
    ) -> Result<Vec<Stored>> {
        let at = self.at_events(room, reader, &events).await?;
        let sees = |event: &Stored| {
            at.get(&event.state_root).is_some_and(|at| {
                visibility::may_see(&View {
                    visibility: at.visibility,
                    membership: at.membership,
                    sets: sets(event, reader),
                    joined_later: event.pos < joined_until,
                })
            })
        };
        Ok(events.into_iter().filter(sees).collect())
    }

    /// Visibility and membership before each of the events, by root: neighbouring messages share theirs.
    async fn at_events(
        &self,
        room: &Room,
        reader: &Reader<'_>,
        events: &[Stored],
    ) -> Result<HashMap<NodeId, At>> {
        let mut found = HashMap::new();
        for event in events {
            if found.contains_key(&event.state_root) {
                continue;
            }
            let root = event.state_root;
            let keys = [("m.room.history_visibility", ""), ("m.room.member", reader.user.as_str())];
            let state = self.state_events(room, root, &keys).await?;
            let content = state.iter().find(|event| &*event.kind == "m.room.history_visibility");
            let content = content.and_then(|event| event.content_as::<HistoryVisibility>());
            let visibility =
                content.map_or(Visibility::Shared, |content| Visibility::parse(&content.history_visibility));
            let member = state.iter().find(|event| &*event.kind == "m.room.member");
            found.insert(root, At { visibility, membership: membership_of(member) });
        }
        Ok(found)
    }

    /// Events as the reader gets them, in their order.
    pub async fn serialize(
        &self,
        room: &Room,
        reader: &Reader<'_>,
        events: &[Stored],
        shape: Shape,
    ) -> Result<Vec<Box<RawValue>>> {
        let at = self.at_events(room, reader, events).await?;
        let redacting = self.redacting(events).await?;
        let bundled = self.bundled(room, reader, events, shape).await?;
        let mut shown = Vec::with_capacity(events.len());
        for event in events {
            let before = self.replaced(room, event).await?;
            let because = match redacting.get(event.event_id.as_str()) {
                Some(because) => Some(self.plain(because, shape)?),
                None => None,
            };
            let unsigned = Unsigned {
                age: Some(client_format::age(event, self.now_ms().cast_unsigned())),
                transaction_id: transaction_of(event, reader),
                prev_content: before.as_ref().map(|before| &*before.content),
                prev_sender: before.as_ref().map(|before| &*before.sender),
                replaces_state: before.as_ref().map(|before| &*before.event_id),
                redacted_because: because.as_deref(),
                membership: at.get(&event.state_root).map(|at| after(event, reader, at.membership).as_str()),
                relations: bundled.get(event.event_id.as_str()).map(|bundled| &**bundled),
                ..Unsigned::default()
            };
            shown.push(write(event, shape, &unsigned)?);
        }
        Ok(shown)
    }

    /// State events as they stand in a room's state: nothing of them depends on the reader but their age.
    pub fn serialize_state(&self, events: &[Stored], shape: Shape) -> Result<Vec<Box<RawValue>>> {
        events.iter().map(|event| self.plain(event, shape)).collect()
    }

    pub(super) fn plain(&self, event: &Stored, shape: Shape) -> Result<Box<RawValue>> {
        let age = Some(client_format::age(event, self.now_ms().cast_unsigned()));
        write(event, shape, &Unsigned { age, ..Unsigned::default() })
    }

    /// The state event that an event replaced.
    async fn replaced(&self, room: &Room, event: &Stored) -> Result<Option<Stored>> {
        let Some(state_key) = &event.state_key else { return Ok(None) };
        self.state_event(room, event.state_root, &event.kind, state_key).await
    }

    /// The redactions of those events that were redacted.
    async fn redacting(&self, events: &[Stored]) -> Result<HashMap<String, Stored>> {
        let redacted: Vec<&str> =
            events.iter().filter(|e| e.flags & REDACTED != 0).map(|e| e.event_id.as_str()).collect();
        if redacted.is_empty() {
            return Ok(HashMap::new());
        }
        let found = events::redactions(&mut self.database.read().await?, &redacted).await?;
        let mut because = HashMap::new();
        for (target, event_pk) in found {
            if let Some(event) = self.rooms.event(event_pk).await? {
                because.insert(target, event);
            }
        }
        Ok(because)
    }
}

fn write(event: &Stored, shape: Shape, unsigned: &Unsigned<'_>) -> Result<Box<RawValue>> {
    client_format::client_event(event, shape, unsigned).map_err(|error| Error::internal(error.to_string()))
}

/// The transaction id of an event that the reader's device sent.
fn transaction_of<'a>(event: &'a Stored, reader: &Reader<'_>) -> Option<&'a str> {
    let (device_pk, id) = event.transaction.as_deref()?;
    (*device_pk == reader.device_pk && event.sender == reader.user).then_some(id)
}

/// What an event changes of what decides who sees it.
fn sets(event: &Stored, reader: &Reader<'_>) -> Sets {
    if event.is("m.room.history_visibility", "") {
        let content: Option<HistoryVisibility> = event.content_as();
        let visibility = content.map_or(Visibility::Shared, |c| Visibility::parse(&c.history_visibility));
        return Sets::Visibility(visibility);
    }
    if event.is("m.room.member", reader.user.as_str()) {
        return Sets::Membership(membership_of(Some(event)));
    }
    Sets::Nothing
}

/// The reader's membership at an event, the event included.
fn after(event: &Stored, reader: &Reader<'_>, before: Membership) -> Membership {
    match sets(event, reader) {
        Sets::Membership(after) => after,
        Sets::Nothing | Sets::Visibility(_) => before,
    }
}
