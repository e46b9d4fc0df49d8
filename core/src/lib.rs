//! Core.

pub mod events;
pub mod rooms;
