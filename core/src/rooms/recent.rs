//! The newest events of a room by position, in memory, so that whoever follows the room finds them without SQL.
//!
//! The list follows the log: an event is in it before its position is visible. It is complete from `from` on.

use std::collections::VecDeque;

/// Events that are kept of a room.
pub(crate) const KEPT: usize = 40;

/// The newest events of a room: (position, event), oldest first.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    /// Everything behind this position is here; `None` before the list was read.
    from: Option<i64>,
    events: VecDeque<(i64, i64)>,
    /// The newest position that the log told of, read or not.
    told: i64,
}

impl Recent {
    /// Takes what was read of a room: its newest events, newest first, at most [`KEPT`].
    pub(crate) fn read(newest_first: &[(i64, i64)]) -> Recent {
        let all = newest_first.len() < KEPT;
        let from = if all { 0 } else { newest_first.last().map_or(0, |(pos, _)| pos - 1) };
        let told = newest_first.first().map_or(0, |(pos, _)| *pos);
        Recent { from: Some(from), events: newest_first.iter().rev().copied().collect(), told }
    }

    /// True once the list was read.
    pub(crate) fn is_known(&self) -> bool {
        self.from.is_some()
    }

    /// Puts what was read in the place of an empty list, unless the log told of more in the meantime.
    pub(crate) fn offer(&mut self, read: Recent) {
        if self.from.is_none() && self.told <= read.told {
            *self = read;
        }
    }

    /// Takes a new event, of which the log tells.
    pub(crate) fn push(&mut self, pos: i64, event_pk: i64) {
        if pos <= self.told {
            return;
        }
        self.told = pos;
        if self.from.is_some() {
            self.events.push_back((pos, event_pk));
            if self.events.len() > KEPT
                && let Some((dropped, _)) = self.events.pop_front()
            {
                self.from = Some(dropped);
            }
        }
    }

    /// The events with `after < pos <= upto`, newest first, at most `limit`; `None` where the list does not tell.
    pub(crate) fn newest(&self, after: i64, upto: i64, limit: usize) -> Option<Vec<(i64, i64)>> {
        let from = self.from?;
        let between = self.events.iter().rev().skip_while(|(pos, _)| *pos > upto);
        let found: Vec<_> = between.take_while(|(pos, _)| *pos > after).take(limit).copied().collect();
        (from <= after || found.len() == limit).then_some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(positions: impl IntoIterator<Item = i64>) -> Vec<(i64, i64)> {
        positions.into_iter().map(|pos| (pos, pos * 10)).collect()
    }

    #[test]
    fn a_short_room_is_known_whole() {
        let mut recent = Recent::read(&numbered([7, 5, 2]));
        recent.push(9, 90);
        recent.push(9, 90);
        assert_eq!(recent.newest(0, 9, 10), Some(numbered([9, 7, 5, 2])));
        assert_eq!(recent.newest(2, 7, 10), Some(numbered([7, 5])));
        assert_eq!(recent.newest(0, 100, 2), Some(numbered([9, 7])));
        assert_eq!(recent.newest(9, 100, 2), Some(Vec::new()));
    }

    #[test]
    fn what_fell_out_is_not_told() {
        let mut recent = Recent::read(&numbered((2..=KEPT as i64 + 1).rev()));
        assert_eq!(recent.newest(0, 100, 100), None);
        assert_eq!(recent.newest(1, 100, 100).map(|found| found.len()), Some(KEPT));
        recent.push(100, 1000);
        assert_eq!(recent.newest(1, 100, 100), None);
        assert_eq!(recent.newest(2, 100, 100).map(|found| found.len()), Some(KEPT));
        assert_eq!(recent.newest(0, 100, 3).map(|found| found.len()), Some(3));
        assert_eq!(recent.newest(0, 2, 1), None);
    }

    #[test]
    fn a_reading_that_the_log_has_overtaken_does_not_count() {
        let mut recent = Recent::default();
        assert_eq!(recent.newest(0, 9, 1), None);
        recent.push(8, 80);
        recent.offer(Recent::read(&numbered([7])));
        assert_eq!(recent.newest(0, 9, 1), None);
        recent.offer(Recent::read(&numbered([8, 7])));
        assert_eq!(recent.newest(0, 9, 9), Some(numbered([8, 7])));
    }
}
