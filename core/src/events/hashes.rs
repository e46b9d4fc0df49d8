//! Hashes of events: the content hash inside them and the reference hash that is their id.

use ruma::canonical_json::CanonicalJsonObject;
use ruma::room_version_rules::RoomVersionRules;
use ruma::signatures::JsonError;
use ruma::{EventId, OwnedEventId};

/// The id of an event: the hash of its redacted form, without signatures.
pub fn event_id(event: &CanonicalJsonObject, rules: &RoomVersionRules) -> Result<OwnedEventId, HashError> {
    let hash = ruma::signatures::reference_hash(event, rules)?;
    Ok(EventId::parse(format!("${hash}"))?)
}

/// Why an event has no hash.
#[derive(Debug, thiserror::Error)]
pub enum HashError {
    /// The event lacks what the hash covers, or is too large.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// The hash makes no event id; ruma would have to be wrong.
    #[error(transparent)]
    Id(#[from] ruma::IdParseError),
}
