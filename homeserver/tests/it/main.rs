//! The HTTP side of the server, started in the process on free ports of the loopback interface.

// Clippy's exception for tests covers functions marked as tests, not what they call.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod bad_requests;
mod crash;
mod cross_origin;
mod docs;
mod harness;
mod ports;
mod tidy;
