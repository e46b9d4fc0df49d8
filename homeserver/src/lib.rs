//! Myelin.

