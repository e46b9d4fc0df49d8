//! What this server asks of others: finding them, speaking with them, and waiting when they do not answer.

mod backfill;
pub mod backoff;
mod device;
mod directory;
pub mod discovery;
pub mod dns;
mod event;
mod keys;
mod large;
mod policy;
mod query;
pub mod request;
