//! Numbers for changes that are kept in memory only (typing, presence): they stand in the tokens of /sync beside the
//! position of the log.
//!
//! A number is the time of the change in microseconds, or one more than the last. They begin at the time of the start, so
//! that those of an earlier run of the server, which clients still hold, are smaller. Replicas hear of the changes in one
//! order and with one time, so they give them the same numbers.

use std::sync::atomic::{AtomicI64, Ordering};

/// Gives the numbers.
#[derive(Debug)]
pub struct Serials(AtomicI64);

impl Serials {
    /// From a time in microseconds on.
    pub fn new(now_us: i64) -> Serials {
        Serials(AtomicI64::new(now_us))
    }

    /// The number of a change at a time in microseconds.
    pub fn next(&self, at_us: i64) -> i64 {
        let next = |last: i64| at_us.max(last.saturating_add(1));
        let before = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, |last| Some(next(last)));
        next(before.unwrap_or_else(|last| last))
    }

    /// The number of the newest change.
    pub fn newest(&self) -> i64 {
        self.0.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_times_that_only_grow() {
        let serials = Serials::new(5);
        assert_eq!([serials.next(9), serials.next(9), serials.next(3), serials.next(100)], [9, 10, 11, 100]);
        assert_eq!(serials.newest(), 100);
    }
}
