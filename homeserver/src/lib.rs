//! Myelin's client-server API, its assembly and the binary `myelin`.
//!
//! ```text
//! listeners -> router (one table of routes) -> dispatch -> extract (identity, body) -> client_api -> core
//!                                                          response (answers, errors) <-
//! ```
//!
//! Handlers parse, call, answer; what a homeserver decides stands in `myelin-core`.

pub mod admin;
pub mod app;
pub mod assembly;
pub mod cli;
pub mod client_api;
pub mod doctor;
pub mod extract;
pub mod health;
pub mod listeners;
pub mod logging;
pub mod ratelimit;
pub mod response;
pub mod router;
pub mod sessions;
pub mod startup;
pub mod sync;
