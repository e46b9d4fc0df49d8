//! What other servers ask of this one: one file for each module of ruma's.
//!
//! A handler takes the server that asks, which has shown who it is ([`crate::origin`]), and the request.

pub mod authorization;
pub mod backfill;
pub mod device;
pub mod discovery;
pub mod event;
pub mod keys;
pub mod membership;
pub mod query;
pub mod transactions;

use myelin_core::events::canonical;
use myelin_core::rooms::cache::Stored;
use myelin_core::{Error, Result};
use ruma::canonical_json::CanonicalJsonObject;
use serde_json::value::RawValue;

/// Events as they go to other servers.
pub(crate) fn pdus(events: &[Stored]) -> Result<Vec<Box<RawValue>>> {
    events.iter().map(|event| raw(event.pdu.json())).collect()
}

/// An event that is not stored here, or not yet, as it goes to other servers.
pub(crate) fn raw_event(event: &CanonicalJsonObject) -> Result<Box<RawValue>> {
    raw(canonical::to_string(event).map_err(Error::internal_display)?)
}

/// JSON text as it goes into an answer.
pub(crate) fn raw(json: String) -> Result<Box<RawValue>> {
    RawValue::from_string(json).map_err(Error::internal_display)
}
