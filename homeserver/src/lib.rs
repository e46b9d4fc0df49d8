//! Myelin.
