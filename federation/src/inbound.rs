//! What other servers ask of this one: one file for each module of ruma's.
//!
//! A handler takes the server that asks, which has shown who it is ([`crate::origin`]), and the request.

pub mod authorization;
pub mod backfill;
pub mod device;
pub mod directory;
pub mod discovery;
pub mod event;
pub mod keys;
pub mod membership;
pub mod openid;
pub mod query;
pub mod space;
pub mod thirdparty;
pub mod transactions;

use myelin_core::events::canonical;
use myelin_core::events::pdu::Pdu;
use myelin_core::rooms::cache::Stored;
use myelin_core::{Error, Result};
use ruma::canonical_json::CanonicalJsonObject;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use std::sync::Arc;

/// Events as they go to other servers.
pub(crate) fn pdus<'a>(events: impl IntoIterator<Item = &'a Arc<Pdu>>) -> Result<Vec<Box<RawValue>>> {
    events.into_iter().map(|event| raw(event.json())).collect()
}

/// Stored events as they go to other servers.
pub(crate) fn stored_pdus(events: &[Stored]) -> Result<Vec<Box<RawValue>>> {
    pdus(events.iter().map(|event| &event.pdu))
}

/// An event that is not stored here, or not yet, as it goes to other servers.
pub(crate) fn raw_event(event: &CanonicalJsonObject) -> Result<Box<RawValue>> {
    raw(canonical::to_string(event).map_err(Error::internal_display)?)
}

/// JSON text as it goes into an answer.
pub(crate) fn raw(json: String) -> Result<Box<RawValue>> {
    RawValue::from_string(json).map_err(Error::internal_display)
}

/// The same JSON as another type: the core's own types and ruma's are written alike.
///
/// # Errors
/// M_BAD_JSON for JSON that is none of the other type, which foreign JSON may be.
pub(crate) fn same_json<T: Serialize, U: DeserializeOwned>(value: &T) -> Result<U> {
    let wrong = |error| Error::bad_json(format!("{error}"));
    serde_json::from_str(&serde_json::to_string(value).map_err(wrong)?).map_err(wrong)
}
