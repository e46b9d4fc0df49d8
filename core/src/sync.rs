//! What a client is told since it last asked.

pub mod filter;
