//! Writes that go to PostgreSQL as one statement.
//!
//! A commit writes into a dozen tables. As statements of their own they cost a round trip each while the head of the log
//! is locked; as parts of one `WITH` they cost one. All parts see the database as it was before the statement, so a
//! table is written by one part only.

use crate::error::Result;
use crate::statement::{Arg, Bulk, Col, add_postgres_argument};
use sqlx::postgres::PgArguments;
use std::fmt::Write as _;

/// Parts of a statement to come.
#[derive(Default)]
pub(crate) struct Batch {
    parts: Vec<String>,
    tables: Vec<String>,
    args: PgArguments,
    count: usize,
}

impl Batch {
    /// True when one of the parts writes this table.
    pub(crate) fn writes(&self, table: &str) -> bool {
        self.tables.iter().any(|written| written == table)
    }

    /// Adds rows for a table.
    pub(crate) fn add_rows(&mut self, bulk: Bulk, columns: &[Col<'_>]) -> Result<()> {
        let mut lists = String::new();
        for column in columns {
            column.add_whole(&mut self.args)?;
            self.count += 1;
            let comma = if lists.is_empty() { "" } else { "," };
            // Writing into a String cannot fail.
            let _ = write!(lists, "{comma}${}::{}", self.count, column.postgres_type());
        }
        self.parts.push(format!("INSERT INTO {} SELECT * FROM UNNEST({lists}) {}", bulk.into, bulk.suffix));
        self.tables.push(table(bulk.into).to_owned());
        Ok(())
    }

    /// Adds a statement whose arguments begin with `$1`.
    pub(crate) fn add(&mut self, text: &str, args: &[Arg<'_>]) -> Result<()> {
        self.parts.push(renumbered(text, self.count));
        for arg in args {
            add_postgres_argument(arg, &mut self.args)?;
        }
        self.count += args.len();
        self.tables.push(written(text).to_owned());
        Ok(())
    }

    /// The statement, if there is anything to do.
    pub(crate) fn take(&mut self) -> Option<(String, PgArguments)> {
        if self.parts.is_empty() {
            return None;
        }
        let Batch { parts, args, .. } = std::mem::take(self);
        let mut text = String::new();
        for (index, part) in parts.iter().enumerate() {
            let before = if index == 0 { "WITH" } else { "," };
            let _ = write!(text, "{before} part{index} AS ({part}) ");
        }
        text.push_str("SELECT 1");
        Some((text, args))
    }
}

/// The table that a statement writes: the word behind INTO, UPDATE or DELETE FROM.
pub(crate) fn written(text: &str) -> &str {
    let mut words = text.split_whitespace().skip_while(|word| !matches!(*word, "INTO" | "UPDATE" | "FROM"));
    words.nth(1).map_or("", table)
}

/// `events(event_pk, pos)` is of the table `events`.
pub(crate) fn table(into: &str) -> &str {
    into.split_once('(').map_or(into, |(table, _)| table)
}

/// A statement's text with its placeholders moved by `by`.
fn renumbered(text: &str, by: usize) -> String {
    let mut pieces = text.split('$');
    let mut out = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let digits = piece.find(|c: char| !c.is_ascii_digit()).unwrap_or(piece.len());
        let (number, rest) = piece.split_at(digits);
        let number: usize = number.parse().unwrap_or(0);
        let _ = write!(out, "${}{rest}", number + by);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_become_one_statement() {
        let mut batch = Batch::default();
        assert!(batch.take().is_none());
        let rows = Bulk { into: "log(pos, kind)", suffix: "ON CONFLICT DO NOTHING" };
        batch.add_rows(rows, &[Col::Ints(vec![1]), Col::Ints(vec![2])]).unwrap();
        batch.add("UPDATE head SET pos = $1 WHERE $2 < $1", &[Arg::Int(1), Arg::Int(2)]).unwrap();
        assert!(batch.writes("log") && batch.writes("head") && !batch.writes("events"));
        let (text, _) = batch.take().unwrap();
        assert_eq!(
            text,
            "WITH part0 AS (INSERT INTO log(pos, kind) SELECT * FROM UNNEST($1::bigint[],$2::bigint[]) \
             ON CONFLICT DO NOTHING) , part1 AS (UPDATE head SET pos = $3 WHERE $4 < $3) SELECT 1"
        );
        assert!(batch.take().is_none() && !batch.writes("log"));
        assert_eq!(written("DELETE FROM to_device AS t USING x"), "to_device");
        assert_eq!(written("INSERT INTO writers(replica) VALUES ($1)"), "writers");
    }
}
