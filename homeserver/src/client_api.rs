//! Handlers of the client-server API, one file for each ruma module: parse, call, answer.

pub mod account;
pub mod backup;
pub mod capabilities;
pub mod config;
pub mod device;
pub mod discovery;
pub mod filter;
pub mod keys;
pub mod profile;
pub mod push;
pub mod register;
pub mod session;
pub mod tag;
pub mod to_device;
