//! An end-to-end encrypted Matrix client for the terminal, on matrix-sdk.
//!
//! - [`cli`]: what can be asked for, as clap reads it
//! - [`commands`]: one file a command; each is a function of a session and an output
//! - [`session`]: the profile on disk: the encrypted store, the login, the lock
//! - [`passphrase`]: where the passphrase of the store comes from
//! - [`output`]: text for people, one JSON object a line for scripts
//! - [`safety_number`], [`qr_code`]: what people compare, as digits and as a picture
//! - [`demo`]: a whole conversation of two people with two devices each, checked at its end
//!
//! Nothing here depends on a crate of the server: client and server know each other by the
//! Matrix specification only.

// The futures of matrix-sdk are deep; the compiler must follow them to the end.
#![recursion_limit = "512"]

pub mod cli;
pub mod commands;
pub mod demo;
pub mod messages;
pub mod output;
pub mod passphrase;
pub mod qr_code;
pub mod safety_number;
pub mod session;
