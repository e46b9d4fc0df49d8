//! Handlers of the client-server API, one file for each ruma module: parse, call, answer.

pub mod account;
pub mod alias;
pub mod backup;
pub mod capabilities;
pub mod config;
pub mod device;
pub mod directory;
pub mod discovery;
pub mod filter;
pub mod keys;
pub mod knock;
pub mod membership;
pub mod message;
pub mod openid;
pub mod profile;
pub mod push;
pub mod receipt;
pub mod register;
pub mod room;
pub mod send;
pub mod session;
pub mod space;
pub mod state;
pub mod tag;
pub mod to_device;
pub mod typing;
