//! The commands against a homeserver, given by `MYELIN_TEST_SERVER` (open registration, no rate
//! limits). Without it the tests say so and do nothing.

// The exemption for tests in clippy.toml does not reach helper functions.
#![allow(clippy::unwrap_used, clippy::panic)]

mod commands;
mod encryption;
mod federated;
mod foreign;
mod synapse;
mod world;
