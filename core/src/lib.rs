//! What a Matrix homeserver decides.
//!
//! There is no HTTP here and no SQL: handlers above call the functions of this crate, and these call `myelin-storage`.
//! A rule is a pure function where it can be; what it decides goes through the [`commit`]ter, which makes it durable
//! before anybody is answered. Modules depend on each other in one direction: events < users < keys < rooms < sync.

pub mod cache;
pub mod commit;
pub mod config;
pub mod epoch;
pub mod error;
pub mod events;
pub mod housekeeping;
pub mod ids;
pub mod keys;
pub mod log;
pub mod ports;
pub mod presence;
pub mod push;
pub mod replicas;
pub mod rooms;
pub mod serial;
pub mod server;
pub mod signing_key;
pub mod state_resolution;
pub mod sync;
pub mod to_device;
pub mod users;
pub mod voip;

pub use error::{Error, Result};
pub use server::Server;
