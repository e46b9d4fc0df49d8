//! Push: whom an event concerns, and how much.

pub mod rules;
