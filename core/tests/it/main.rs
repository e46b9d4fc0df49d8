//! Tests of the core on real databases: SQLite always, PostgreSQL and two replicas where `MYELIN_TEST_POSTGRES` says.

mod rooms;
mod support;
