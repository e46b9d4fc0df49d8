//! Rooms: what their versions differ in, how their state is kept, who may do and see what.

pub mod aliases;
pub mod append;
pub mod authorize;
mod brief;
mod bundled;
pub mod cache;
pub mod create;
pub mod directory;
pub mod graph;
pub mod lookup;
pub mod membership;
pub mod read;
pub mod receipts;
mod recent;
pub mod relations;
pub mod remote;
pub mod send;
pub mod serialize;
pub mod servers;
pub mod state;
pub mod state_keys;
pub mod summary;
pub mod timeline;
pub mod typing;
pub mod version;
pub mod visibility;
mod warm;
