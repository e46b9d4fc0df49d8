//! `/sync`: parse, wait, answer. What is told is [`myelin_core::sync`]'s.

pub mod v3;
mod wait;
