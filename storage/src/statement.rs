//! Statements, arguments and rows: the only place, with [`crate::database`], that tells the engines apart.
//!
//! Placeholders are `$1`, `$2`, ... on both engines. A list is one argument: `= ANY($1)` on PostgreSQL,
//! `IN (SELECT value FROM json_each($1))` on SQLite.

use crate::error::{Error, Result};
use crate::sqlite;
use rusqlite::types::Value;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::{Arguments, Row as _};

/// One statement, in the words of both engines.
#[derive(Clone, Copy, Debug)]
pub struct Sql {
    /// SQLite's text.
    pub sqlite: &'static str,
    /// PostgreSQL's text.
    pub postgres: &'static str,
}

impl Sql {
    /// The same text serves both.
    pub const fn both(text: &'static str) -> Sql {
        Sql { sqlite: text, postgres: text }
    }

    /// Each engine has its own.
    pub const fn per(sqlite: &'static str, postgres: &'static str) -> Sql {
        Sql { sqlite, postgres }
    }
}

/// The beginning of a statement, for error messages.
pub(crate) fn head(text: &'static str) -> &'static str {
    let text = text.trim_start();
    let end = text.char_indices().nth(70).map_or(text.len(), |(at, _)| at);
    text.get(..end).unwrap_or(text)
}

/// How many arguments a text has: the highest number behind a `$`.
pub(crate) fn placeholders(text: &str) -> usize {
    let mut highest = 0;
    for part in text.split('$').skip(1) {
        let digits = part.bytes().take_while(u8::is_ascii_digit).count();
        highest = highest.max(part.get(..digits).and_then(|d| d.parse().ok()).unwrap_or(0));
    }
    highest
}

/// One argument of a statement.
#[derive(Clone, Copy, Debug)]
pub enum Arg<'a> {
    /// An integer.
    Int(i64),
    /// An integer or NULL.
    OptInt(Option<i64>),
    /// Text. It must not contain U+0000, which PostgreSQL cannot store.
    Text(&'a str),
    /// Text or NULL.
    OptText(Option<&'a str>),
    /// Bytes.
    Bytes(&'a [u8]),
    /// A list of integers.
    Ints(&'a [i64]),
    /// A list of texts.
    Texts(&'a [&'a str]),
}

impl From<i64> for Arg<'_> {
    fn from(value: i64) -> Self {
        Arg::Int(value)
    }
}
impl From<Option<i64>> for Arg<'_> {
    fn from(value: Option<i64>) -> Self {
        Arg::OptInt(value)
    }
}
impl From<bool> for Arg<'_> {
    fn from(value: bool) -> Self {
        Arg::Int(value.into())
    }
}
impl<'a> From<&'a str> for Arg<'a> {
    fn from(value: &'a str) -> Self {
        Arg::Text(value)
    }
}
impl<'a> From<Option<&'a str>> for Arg<'a> {
    fn from(value: Option<&'a str>) -> Self {
        Arg::OptText(value)
    }
}
impl<'a> From<&'a [u8]> for Arg<'a> {
    fn from(value: &'a [u8]) -> Self {
        Arg::Bytes(value)
    }
}
impl<'a> From<&'a [i64]> for Arg<'a> {
    fn from(value: &'a [i64]) -> Self {
        Arg::Ints(value)
    }
}
impl<'a> From<&'a [&'a str]> for Arg<'a> {
    fn from(value: &'a [&'a str]) -> Self {
        Arg::Texts(value)
    }
}

/// Turns values into arguments: `args![user, room, "text"]`.
#[macro_export]
macro_rules! args {
    ($($value:expr),* $(,)?) => { &[$($crate::statement::Arg::from($value)),*] };
}

fn encoding(error: Box<dyn std::error::Error + Send + Sync>) -> Error {
    Error::Engine(sqlx::Error::Encode(error))
}

pub(crate) fn postgres_arguments(args: &[Arg<'_>]) -> Result<PgArguments> {
    let mut out = PgArguments::default();
    for arg in args {
        add_postgres_argument(arg, &mut out)?;
    }
    Ok(out)
}

pub(crate) fn add_postgres_argument(arg: &Arg<'_>, out: &mut PgArguments) -> Result<()> {
    match *arg {
        Arg::Int(v) => out.add(v),
        Arg::OptInt(v) => out.add(v),
        Arg::Text(v) => out.add(v),
        Arg::OptText(v) => out.add(v),
        Arg::Bytes(v) => out.add(v),
        Arg::Ints(v) => out.add(v),
        Arg::Texts(v) => out.add(v),
    }
    .map_err(encoding)
}

/// A column of a bulk write; all columns of one write have the same length.
#[derive(Debug)]
pub enum Col<'a> {
    /// Integers.
    Ints(Vec<i64>),
    /// Integers or NULLs.
    OptInts(Vec<Option<i64>>),
    /// Texts.
    Texts(Vec<&'a str>),
    /// Texts or NULLs.
    OptTexts(Vec<Option<&'a str>>),
    /// Bytes.
    Blobs(Vec<&'a [u8]>),
}

impl Col<'_> {
    pub(crate) fn len(&self) -> usize {
        match self {
            Col::Ints(v) => v.len(),
            Col::OptInts(v) => v.len(),
            Col::Texts(v) => v.len(),
            Col::OptTexts(v) => v.len(),
            Col::Blobs(v) => v.len(),
        }
    }

    pub(crate) fn has_nul(&self) -> bool {
        match self {
            Col::Texts(v) => v.iter().any(|text| text.contains('\0')),
            Col::OptTexts(v) => v.iter().flatten().any(|text| text.contains('\0')),
            Col::Ints(_) | Col::OptInts(_) | Col::Blobs(_) => false,
        }
    }

    pub(crate) fn postgres_type(&self) -> &'static str {
        match self {
            Col::Ints(_) | Col::OptInts(_) => "bigint[]",
            Col::Texts(_) | Col::OptTexts(_) => "text[]",
            Col::Blobs(_) => "bytea[]",
        }
    }

    pub(crate) fn add_whole(&self, out: &mut PgArguments) -> Result<()> {
        match self {
            Col::Ints(v) => out.add(v),
            Col::OptInts(v) => out.add(v),
            Col::Texts(v) => out.add(v),
            Col::OptTexts(v) => out.add(v),
            Col::Blobs(v) => out.add(v),
        }
        .map_err(encoding)
    }
}

/// A write of many rows: `INSERT INTO <into> <rows> <suffix>`.
#[derive(Clone, Copy, Debug)]
pub struct Bulk {
    /// Table and columns, as in `events(event_pk, event_id)`.
    pub into: &'static str,
    /// What follows the rows, such as `ON CONFLICT DO NOTHING`.
    pub suffix: &'static str,
}

enum Cells {
    Sqlite(Vec<Value>),
    Postgres(PgRow),
}

/// A row of an answer. Columns are read by their place in the statement.
pub struct Row {
    cells: Cells,
    statement: &'static str,
}

macro_rules! getter {
    ($(#[$doc:meta])* $name:ident, $type:ty, $($value:pat => $got:expr),+) => {
        $(#[$doc])*
        pub fn $name(&self, column: usize) -> Result<$type> {
            let wrong = |reason: String| Error::Row { column, statement: self.statement, reason };
            match &self.cells {
                Cells::Sqlite(row) => match row.get(column) {
                    $(Some($value) => Ok($got),)+
                    Some(other) => Err(wrong(format!("it is {}", sqlite::kind(other)))),
                    None => Err(wrong("there is no such column".to_owned())),
                },
                Cells::Postgres(row) => row.try_get(column).map_err(|e: sqlx::Error| wrong(e.to_string())),
            }
        }
    };
}

impl Row {
    pub(crate) fn sqlite(row: Vec<Value>, text: &'static str) -> Row {
        Row { cells: Cells::Sqlite(row), statement: head(text) }
    }

    pub(crate) fn postgres(row: PgRow, text: &'static str) -> Row {
        Row { cells: Cells::Postgres(row), statement: head(text) }
    }

    getter!(
        /// An integer.
        int, i64, Value::Integer(value) => *value
    );
    getter!(
        /// An integer or NULL.
        opt_int, Option<i64>, Value::Integer(value) => Some(*value), Value::Null => None
    );
    getter!(
        /// Text.
        text, String, Value::Text(value) => value.clone()
    );
    getter!(
        /// Text or NULL.
        opt_text, Option<String>, Value::Text(value) => Some(value.clone()), Value::Null => None
    );
    getter!(
        /// Bytes.
        bytes, Vec<u8>, Value::Blob(value) => value.clone()
    );

    /// An integer that stands for a truth value.
    pub fn bool(&self, column: usize) -> Result<bool> {
        Ok(self.int(column)? != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_counted_by_their_highest_number() {
        assert_eq!(placeholders("SELECT $2, $1, $12"), 12);
        assert_eq!(placeholders("SELECT 1"), 0);
    }
}
