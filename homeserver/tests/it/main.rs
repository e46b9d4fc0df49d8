//! The HTTP side of the server, started in the process on free ports of the loopback interface.

// Clippy's exception for tests covers functions marked as tests, not what they call.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)]

mod account_data;
mod bad_events;
mod bad_requests;
mod crash;
mod cross_origin;
mod device_lists;
mod devices;
mod docs;
mod doctor;
mod epochs;
mod every_endpoint;
mod every_foreign_endpoint;
mod federation;
mod foreign_requests;
mod harness;
mod healing;
mod login;
mod pair;
mod policy;
mod ports;
mod presence;
mod profile;
mod refusals;
mod register;
mod replicas;
mod rooms;
mod seen_from_outside;
mod signing_key;
mod slow_joins;
mod stranger;
mod support;
mod synapse;
mod sync;
mod thirdparty;
mod tidy;
mod uia;
mod visit;
mod visits;
mod voip;
