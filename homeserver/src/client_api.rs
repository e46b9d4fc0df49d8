//! Handlers of the client-server API, one file for each ruma module: parse, call, answer.

pub mod discovery;
