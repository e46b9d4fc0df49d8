//! The nearest known name to a mistyped one.

/// The candidate with the fewest edits to `name`; the first one among equals.
pub(super) fn nearest<I>(name: &str, candidates: I) -> Option<String>
where
    I: IntoIterator<Item = String>,
{
    candidates.into_iter().min_by_key(|candidate| distance(name, candidate))
}

/// Insertions, deletions and replacements that turn `a` into `b` (Levenshtein), by rows.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, to) in row.iter_mut().skip(1).zip(&b) {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = *cell;
            left = replaced.min(left + 1).min(diagonal + 1);
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::{distance, nearest};

    #[test]
    fn distances() {
        for (a, b, expected) in
            [("", "", 0), ("abc", "abc", 0), ("abc", "", 3), ("kitten", "sitting", 3), ("", "x", 1)]
        {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }

    #[test]
    fn the_nearest_wins() {
        let names = ["log.level", "log.format"].map(str::to_owned);
        assert_eq!(nearest("log.levle", names).as_deref(), Some("log.level"));
    }
}
