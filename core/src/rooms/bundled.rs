//! What is bundled with an event about those that relate to it: its newest edit, references to it, its thread.

use crate::error::{Error, Result};
use crate::events::client_format::Shape;
use crate::rooms::cache::{Room, Stored};
use crate::rooms::serialize::Reader;
use crate::server::Server;
use myelin_storage::changes::{REDACTED, REJECTED, SOFT_FAILED};
use myelin_storage::rooms::relations;
use serde::Serialize;
use serde_json::json;
use serde_json::value::{RawValue, to_raw_value};
use std::collections::HashMap;

/// `m.relations` of an event.
#[derive(Default, Serialize)]
struct Bundled {
    #[serde(rename = "m.replace", skip_serializing_if = "Option::is_none")]
    replace: Option<Box<RawValue>>,
    #[serde(rename = "m.reference", skip_serializing_if = "Option::is_none")]
    reference: Option<Reference>,
    #[serde(rename = "m.thread", skip_serializing_if = "Option::is_none")]
    thread: Option<Thread>,
}

#[derive(Default, Serialize)]
struct Reference {
    chunk: Vec<serde_json::Value>,
}

#[derive(Serialize)]
struct Thread {
    latest_event: Box<RawValue>,
    count: i64,
    current_user_participated: bool,
}

impl Server {
    /// What is bundled with these events, by event id, for those with something. State events have nothing.
    pub(super) async fn bundled(
        &self,
        room: &Room,
        reader: &Reader<'_>,
        events: &[Stored],
        shape: Shape,
    ) -> Result<HashMap<String, Box<RawValue>>> {
        let related = self.rooms.snapshot(room).await?.related;
        let targets: HashMap<&str, &Stored> = events
            .iter()
            .filter(|event| event.depth < related && !event.is_state() && event.flags & REDACTED == 0)
            .map(|event| (event.event_id.as_str(), event))
            .collect();
        if targets.is_empty() {
            return Ok(HashMap::new());
        }
        let ids: Vec<&str> = targets.keys().copied().collect();
        let mut connection = self.database.read().await?;
        let related = relations::bundled(&mut connection, room.pk, &ids).await?;
        let threads = relations::threads(&mut connection, room.pk, &ids, reader.user_pk).await?;
        drop(connection);
        let mut bundled: HashMap<String, Bundled> = HashMap::new();
        let mut edits: HashMap<String, Stored> = HashMap::new();
        for (target_id, rel_type, pk) in related {
            let (Some(target), Some(event)) = (targets.get(target_id.as_str()), self.rooms.event(pk).await?)
            else {
                continue;
            };
            if event.flags & (REDACTED | REJECTED | SOFT_FAILED) != 0 {
                continue;
            }
            if rel_type == "m.reference" {
                let references = &mut bundled.entry(target_id).or_default().reference;
                references.get_or_insert_default().chunk.push(json!({ "event_id": event.event_id }));
            } else if is_edit(target, &event) && edits.get(&target_id).is_none_or(|old| is_newer(&event, old))
            {
                edits.insert(target_id, event);
            }
        }
        for (target_id, edit) in edits {
            bundled.entry(target_id).or_default().replace = Some(self.plain(&edit, shape)?);
        }
        for row in threads {
            let Some(latest) = self.rooms.event(row.latest_pk).await? else { continue };
            let wrote_root =
                targets.get(row.target_id.as_str()).is_some_and(|root| root.sender == reader.user);
            bundled.entry(row.target_id).or_default().thread = Some(Thread {
                latest_event: self.plain(&latest, shape)?,
                count: row.count,
                current_user_participated: row.participated || wrote_root,
            });
        }
        let write = |(id, bundled)| Ok((id, to_raw_value(&bundled).map_err(Error::internal_display)?));
        bundled.into_iter().map(write).collect()
    }
}

/// Only the sender edits an event, by one of the same type; an edit is not edited itself.
fn is_edit(target: &Stored, event: &Stored) -> bool {
    let replaces = |event: &Stored| {
        crate::rooms::relations::relation(event.content.get())
            .is_some_and(|relation| relation.target("m.replace").is_some())
    };
    target.sender == event.sender && target.kind == event.kind && !event.is_state() && !replaces(target)
}

fn is_newer(event: &Stored, than: &Stored) -> bool {
    (event.origin_server_ts, &event.event_id) > (than.origin_server_ts, &than.event_id)
}
