//! Core.

pub mod config;
