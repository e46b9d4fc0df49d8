//! Other servers: their keys, what waits for them, and how they fare.

pub mod destinations;
pub mod outbox;
pub mod rooms;
pub mod server_keys;
