//! Tests of the core on real databases: SQLite always, PostgreSQL and two replicas where `MYELIN_TEST_POSTGRES` says.

// Clippy's exception for tests covers functions marked as tests, not what they call.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod backups;
mod commit;
mod epochs;
mod foreign;
mod housekeeping;
mod keys;
mod log;
mod receive;
mod receive_orders;
mod rooms;
mod support;
mod sync;
mod to_device;
