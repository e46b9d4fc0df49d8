//! What somebody who is invited or knocks is shown of a room.

use crate::error::{Error, Result};
use crate::events::client_format;
use crate::events::pdu::Pdu;
use std::sync::Arc;

/// The state that is shown, the member event of who invited among it.
pub(crate) fn keys(sender: &str) -> [(&str, &str); 8] {
    [
        ("m.room.create", ""),
        ("m.room.name", ""),
        ("m.room.avatar", ""),
        ("m.room.topic", ""),
        ("m.room.join_rules", ""),
        ("m.room.canonical_alias", ""),
        ("m.room.encryption", ""),
        ("m.room.member", sender),
    ]
}

/// That state as a JSON list, the member event itself last.
pub(super) fn write(mut state: Vec<Arc<Pdu>>, own: &Pdu) -> Result<String> {
    state.retain(|event| event.event_id != own.event_id);
    let events = state.iter().map(|event| &**event).chain([own]);
    let stripped: Result<Vec<_>, _> = events.map(client_format::stripped).collect();
    let text = stripped.and_then(|list| serde_json::to_string(&list));
    text.map_err(|error| Error::internal(error.to_string()))
}
