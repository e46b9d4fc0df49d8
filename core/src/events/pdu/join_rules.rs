//! The join rule of a room that names none: `invite`.
//!
//! The specification does not say it (its issue 657), Synapse and others do it. ruma's rules let nobody in there, so
//! they are shown an event that says it.

use std::sync::Arc;

use ruma::{EventId, event_id};
use serde_json::value::{RawValue, to_raw_value};

use super::{Pdu, ruma_type};

/// The id of join rules that nobody sent.
pub fn default_id() -> &'static EventId {
    event_id!("$join-rules-that-nobody-sent")
}

fn invite() -> Option<Box<RawValue>> {
    to_raw_value(&serde_json::json!({ "join_rule": "invite" })).ok()
}

/// The content of join rules with the rule that holds, `None` where they name one.
pub(super) fn named(content: &str) -> Option<Box<RawValue>> {
    let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(content).ok()?;
    if object.contains_key("join_rule") { None } else { invite() }
}

impl Pdu {
    /// Join rules for the event's room where it has none.
    pub fn default_join_rules(&self) -> Option<Arc<Self>> {
        let content = invite()?;
        Some(Arc::new(Self {
            pk: 0,
            event_id: default_id().to_owned(),
            room_id: self.room_id.clone(),
            sender: self.sender.clone(),
            kind: "m.room.join_rules".into(),
            state_key: Some("".into()),
            origin_server_ts: 0,
            depth: 0,
            prev_events: Box::default(),
            auth_events: Box::default(),
            redacts: None,
            content,
            rejected: false,
            soft_failed: false,
            state_root: 0,
            frame: "".into(),
            content_at: 0,
            room_id_in_json: self.room_id_in_json,
            event_type: ruma_type("m.room.join_rules"),
            ruma_content: None,
        }))
    }

    /// The event as if it named the [default join rules](Pdu::default_join_rules) among its auth events.
    pub fn with_default_join_rules(&self) -> Arc<Self> {
        let mut pdu = self.clone();
        pdu.auth_events = self.auth_events.iter().cloned().chain([default_id().to_owned()]).collect();
        Arc::new(pdu)
    }
}
