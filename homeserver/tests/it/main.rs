//! The HTTP side of the server, started in the process on free ports of the loopback interface.

// Clippy's exception for tests covers functions marked as tests, not what they call. The set-up of a failed test is told.
#![allow(clippy::unwrap_used, clippy::print_stderr, clippy::expect_used, clippy::panic)]

mod account_data;
mod bad_requests;
mod cross_origin;
mod devices;
mod docs;
mod harness;
mod login;
mod ports;
mod profile;
mod register;
mod support;
mod tidy;
mod uia;
