//! What a client is told since it last asked.
//!
//! [`look`] makes an answer; [`online`] knows who listens and wakes them; [`gather`] says what changed between two
//! positions. The others are the parts of an answer, named after them.

pub mod account;
pub mod answer;
mod checkpoints;
pub mod device;
mod ephemeral;
pub mod filter;
pub mod gather;
mod history;
pub mod look;
pub mod online;
mod room;
pub mod token;
pub mod unread;
