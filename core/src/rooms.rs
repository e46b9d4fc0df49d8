//! Rooms: what their versions differ in, how their state is kept, who may do and see what.

pub mod append;
pub mod authorize;
pub mod cache;
pub mod lookup;
pub mod relations;
pub mod state;
pub mod version;
pub mod visibility;
