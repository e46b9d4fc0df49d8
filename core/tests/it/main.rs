//! Tests of the core on real databases: SQLite always, PostgreSQL and two replicas where `MYELIN_TEST_POSTGRES` says.

mod backups;
mod keys;
mod rooms;
mod support;
mod to_device;
