//! The HTTP side of the server, started in the process on free ports of the loopback interface.

mod bad_requests;
mod cross_origin;
mod docs;
mod harness;
mod ports;
mod tidy;
