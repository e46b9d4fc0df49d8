//! New events of this server: put together, hashed, signed, named.

use ruma::canonical_json::{CanonicalJsonObject, CanonicalJsonValue};
use ruma::room_version_rules::RoomVersionRules;
use ruma::signatures::JsonError;
use ruma::{Int, OwnedEventId, OwnedRoomId, OwnedUserId, ServerName};
use serde_json::value::RawValue;

use super::hashes::{self, HashError};
use super::signatures::ServerKey;
use super::{MAX_FIELD_BYTES, MAX_PDU_BYTES, canonical};
use crate::rooms::version;

/// What an event is made of.
#[derive(Debug, Clone)]
pub struct PduBuilder {
    /// The room; of no effect on a create event whose hash becomes the room id.
    pub room_id: Option<OwnedRoomId>,
    /// Who sends it.
    pub sender: OwnedUserId,
    /// The type.
    pub kind: String,
    /// Present on state events.
    pub state_key: Option<String>,
    /// The content, an object.
    pub content: Box<RawValue>,
    /// The target of a redaction; goes where the room version wants it.
    pub redacts: Option<OwnedEventId>,
    /// Milliseconds since 1970.
    pub origin_server_ts: u64,
    /// One more than the deepest of `prev_events`.
    pub depth: i64,
    /// The events before this one.
    pub prev_events: Vec<OwnedEventId>,
    /// The events that allow this one; the create event is left out where the version forbids it.
    pub auth_events: Vec<OwnedEventId>,
}

/// Why an event can't be made.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The event is larger than [`MAX_PDU_BYTES`].
    #[error("the event is larger than {MAX_PDU_BYTES} bytes")]
    TooLarge,
    /// A field is longer than [`MAX_FIELD_BYTES`].
    #[error("{0} is longer than {MAX_FIELD_BYTES} bytes")]
    FieldTooLong(&'static str),
    /// A field holds U+0000, which cannot be stored.
    #[error("{0} holds U+0000")]
    Nul(&'static str),
    /// The content is no object, or holds floats or integers outside of ±(2^53 - 1).
    #[error("the content is not canonical JSON: {0}")]
    Content(serde_json::Error),
    /// Only a create event may do without a room id, and only in some versions.
    #[error("an event needs a room id")]
    RoomId,
    /// The event could not be hashed or signed.
    #[error("the event could not be signed: {0}")]
    Sign(String),
}

impl PduBuilder {
    /// Makes the event: its id and its JSON.
    pub fn build(
        self,
        server: &ServerName,
        key: &ServerKey,
        rules: &RoomVersionRules,
    ) -> Result<(OwnedEventId, String), BuildError> {
        let mut event = self.unsigned(rules)?;
        key.hash_and_sign(server, &mut event, rules)?;
        let event_id = hashes::event_id(&event, rules)?;
        let json = canonical::to_string(&event).map_err(|error| BuildError::Sign(error.to_string()))?;
        if json.len() > MAX_PDU_BYTES {
            return Err(BuildError::TooLarge);
        }
        Ok((event_id, json))
    }

    /// The event without hash and signature: what another server is offered to complete.
    pub fn unsigned(self, rules: &RoomVersionRules) -> Result<CanonicalJsonObject, BuildError> {
        self.check_lengths()?;
        let holds_nul = |text: &str| text.contains('\0');
        if holds_nul(&self.kind) {
            return Err(BuildError::Nul("type"));
        }
        if self.state_key.as_deref().is_some_and(holds_nul) {
            return Err(BuildError::Nul("state_key"));
        }
        self.into_object(rules)
    }

    fn check_lengths(&self) -> Result<(), BuildError> {
        let fields = [
            ("type", self.kind.len()),
            ("state_key", self.state_key.as_ref().map_or(0, String::len)),
            ("sender", self.sender.as_str().len()),
            ("room_id", self.room_id.as_ref().map_or(0, |id| id.as_str().len())),
        ];
        match fields.into_iter().find(|(_, length)| *length > MAX_FIELD_BYTES) {
            Some((field, _)) => Err(BuildError::FieldTooLong(field)),
            None => Ok(()),
        }
    }

    fn into_object(self, rules: &RoomVersionRules) -> Result<CanonicalJsonObject, BuildError> {
        let makes_room_id = self.kind == "m.room.create" && version::room_id_is_hash(rules);
        let mut content = canonical::parse(self.content.get()).map_err(BuildError::Content)?;
        let mut event = CanonicalJsonObject::new();
        let mut set = |name: &str, value| event.insert(name.to_owned(), value);

        if let Some(target) = self.redacts {
            if version::redacts_in_content(rules) {
                content.insert("redacts".to_owned(), canonical::string(target));
            } else {
                set("redacts", canonical::string(target));
            }
        }
        let mut left_out = None;
        if !makes_room_id {
            let room_id = self.room_id.ok_or(BuildError::RoomId)?;
            if version::room_id_is_hash(rules) {
                left_out = version::create_of_room_id(&room_id).ok();
            }
            set("room_id", canonical::string(room_id));
        }
        let auth_events = self.auth_events.into_iter().filter(|id| Some(id) != left_out.as_ref());
        set("auth_events", ids(auth_events));
        set("prev_events", ids(self.prev_events));
        set("content", CanonicalJsonValue::Object(content));
        set("depth", Int::new_saturating(self.depth).into());
        let timestamp = i64::try_from(self.origin_server_ts).unwrap_or(i64::MAX);
        set("origin_server_ts", Int::new_saturating(timestamp).into());
        set("sender", canonical::string(self.sender));
        set("type", canonical::string(self.kind));
        if let Some(state_key) = self.state_key {
            set("state_key", canonical::string(state_key));
        }
        Ok(event)
    }
}

fn ids(ids: impl IntoIterator<Item = OwnedEventId>) -> CanonicalJsonValue {
    CanonicalJsonValue::Array(ids.into_iter().map(canonical::string).collect())
}

impl From<JsonError> for BuildError {
    fn from(error: JsonError) -> Self {
        match error {
            JsonError::PduTooLarge => Self::TooLarge,
            other => Self::Sign(other.to_string()),
        }
    }
}

impl From<HashError> for BuildError {
    fn from(error: HashError) -> Self {
        match error {
            HashError::Json(error) => error.into(),
            HashError::Id(error) => Self::Sign(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests;
