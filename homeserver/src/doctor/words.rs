//! Times, counts and foreign text as people read them.

use std::time::{Duration, UNIX_EPOCH};

/// Milliseconds of a day.
pub const DAY: i64 = 24 * 3_600_000;
/// The end of the year 9999 in milliseconds since the epoch: the calendar knows no later day.
const LAST: i64 = 253_402_300_799_000;
/// Characters of a foreign text that are shown.
const SHOWN: usize = 200;

/// A moment, given in milliseconds since the epoch.
pub fn date(ms: i64) -> String {
    match u64::try_from(ms) {
        Ok(since) if ms <= LAST => httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_millis(since)),
        _ => format!("{ms} milliseconds after 1970"),
    }
}

/// A span of milliseconds, roughly.
pub fn span(ms: i64) -> String {
    let seconds = ms.unsigned_abs() / 1_000;
    let (count, unit) = match seconds {
        0..120 => (seconds, "second"),
        120..7_200 => (seconds / 60, "minute"),
        7_200..172_800 => (seconds / 3_600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

/// "1 thing", "2 things".
pub fn things(count: usize) -> String {
    if count == 1 { "1 thing".to_owned() } else { format!("{count} things") }
}

/// "1 thing is", "2 things are".
pub fn things_are(count: usize) -> String {
    format!("{} {}", things(count), if count == 1 { "is" } else { "are" })
}

/// A foreign text within bounds.
pub fn foreign(text: &str) -> String {
    let mut short: String = text.chars().take(SHOWN).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    clean(&short)
}

/// Replaces what a terminal would obey: control characters, and those that turn the direction of text.
pub fn clean(text: &str) -> String {
    let obeyed = |c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().map(|c| if obeyed(c) { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_and_spans() {
        assert_eq!(date(784_111_777_000), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(date(i64::MAX), "9223372036854775807 milliseconds after 1970");
        assert_eq!(date(-1), "-1 milliseconds after 1970");
        assert_eq!(date(LAST), "Fri, 31 Dec 9999 23:59:59 GMT");
        for (ms, expected) in [
            (1_000, "1 second"),
            (-90_000, "90 seconds"),
            (180_000, "3 minutes"),
            (7_200_000, "2 hours"),
            (13 * DAY, "13 days"),
            (i64::MIN, "106751991167 days"),
        ] {
            assert_eq!(span(ms), expected);
        }
    }

    #[test]
    fn foreign_text_can_not_drive_the_terminal() {
        assert_eq!(foreign("a\u{1b}[2J\nb\u{202e}"), "a\u{fffd}[2J\u{fffd}b\u{fffd}");
        assert_eq!(foreign(&"x".repeat(1_000)).chars().count(), SHOWN + 1);
    }
}
