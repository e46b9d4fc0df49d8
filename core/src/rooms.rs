//! Rooms: what their versions differ in, how their state is kept, who may do and see what.

pub mod aliases;
pub mod append;
pub mod authorize;
pub mod cache;
pub mod create;
pub mod lookup;
pub mod membership;
pub mod relations;
pub mod state;
pub mod version;
pub mod visibility;
