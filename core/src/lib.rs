//! Core.

pub mod events;
pub mod push;
pub mod rooms;
pub mod state_resolution;
pub mod sync;
