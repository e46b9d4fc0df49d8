//! Every SQL statement of Myelin, for SQLite and PostgreSQL alike, and nothing else.
//!
//! This crate knows integers, text and bytes; it does not know what a Matrix event means (no ruma here).
//! One function is one statement. A function that only reads takes a [`Connection`]; one that writes takes a
//! [`Tx`], so that no caller can write outside the transaction in which its log entries are numbered.
//!
//! * [`database`] opens an engine and hands out connections and transactions.
//! * [`statement`] is the only place that knows how arguments and rows differ between the engines.
//! * [`migrations`] brings a database to the newest schema.
//! * [`changes`] are rows that many writers planned, written together.
//! * [`log`] is the ordered log of everything that a reader must react to.
//! * [`epochs`] and [`witness`] are about a database that was taken back to an earlier state.
//! * [`replicas`] tells processes that share a database of each other.
//! * the other modules bear the names of the specification's nouns.

mod batch;
pub mod changes;
pub mod database;
pub mod epochs;
pub mod error;
pub mod federation;
pub mod keys;
pub mod log;
pub mod migrations;
mod postgres;
pub mod replicas;
pub mod rooms;
mod sqlite;
pub mod statement;
pub mod testing;
pub mod to_device;
pub mod transaction_ids;
pub mod users;
pub mod witness;

pub use database::{Connection, Database, Options, Tx};
pub use error::{Error, Result};
pub use log::Entry;
