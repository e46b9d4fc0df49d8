//! Core.

pub mod events;
pub mod rooms;
pub mod state_resolution;
