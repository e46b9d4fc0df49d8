//! What can go wrong between us and the database.

use crate::sqlite;

/// The result of a storage function.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the database, of our schema, or of a row that does not hold what it must.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The engine or the connection to it failed.
    #[error("database: {0}")]
    Engine(#[from] sqlx::Error),
    /// The same of SQLite.
    #[error("database: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// A text holds U+0000, which PostgreSQL cannot store. It is refused on both engines.
    #[error("database: a text holds U+0000")]
    Nul,
    /// The database was closed.
    #[error("database: it is closed")]
    Closed,
    /// A thread that writes cannot be waited for.
    #[error("database: a thread that writes can't be waited for: {0}")]
    Wait(#[source] std::io::Error),
    /// A column does not hold what the schema promises.
    #[error("database: column {column} of `{statement}` holds something else than expected: {reason}")]
    Row {
        /// The column's index in the row.
        column: usize,
        /// The beginning of the statement.
        statement: &'static str,
        /// What the engine says.
        reason: String,
    },
    /// An event's body cannot be unpacked: the file was damaged, or changed by hand.
    #[error("database: the body of event {event_pk} is damaged")]
    Damaged {
        /// The event.
        event_pk: i64,
    },
    /// A statement was called with another number of arguments than it has.
    #[error("database: `{statement}` wants {wanted} arguments and was given {given}")]
    Arity {
        /// The beginning of the statement.
        statement: &'static str,
        /// Placeholders in the statement.
        wanted: usize,
        /// Arguments that came.
        given: usize,
    },
    /// The database was written by a newer version of Myelin.
    #[error(
        "database: its schema is version {found}, and this Myelin knows versions up to {known}. \
         Start a Myelin at least as new as the one that wrote it, or restore a back-up"
    )]
    TooNew {
        /// The version found.
        found: i64,
        /// The newest version known.
        known: i64,
    },
    /// The database's URL is of no form that we know.
    #[error("database: {0}")]
    Url(String),
    /// Another writer changed what this write was planned on: plan it again.
    #[error("database: another writer was faster")]
    GuardLost,
    /// A rule of the caller's refused the write inside the transaction.
    #[error("database: refused: {0}")]
    Refused(&'static str),
}

impl Error {
    /// True where trying again may help: the connection broke, or the engine asks for it.
    pub fn is_passing(&self) -> bool {
        match self {
            Error::Engine(sqlx::Error::Database(e)) => {
                matches!(e.code().as_deref(), Some("40001" | "40P01" | "57P01" | "57P03"))
            }
            Error::Sqlite(e) => sqlite::is_passing(e),
            Error::Engine(e) => {
                matches!(e, sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::Tls(_))
            }
            _ => false,
        }
    }

    /// True where the engine can do nothing of the kind now, whatever it is asked: besides what passes by itself, a full or
    /// broken disk, no memory, too many connections, a database that only reads. It is not the request's fault, and after
    /// somebody has looked the same request will do.
    pub fn is_outage(&self) -> bool {
        match self {
            Error::Engine(sqlx::Error::Database(e)) => {
                let code = e.code();
                let code = code.as_deref().unwrap_or_default();
                // Connections, resources, the operator's intervention, the system, damage; a standby, and sessions
                // that were given up.
                self.is_passing()
                    || ["08", "53", "57", "58", "XX"].iter().any(|class| code.starts_with(class))
                    || ["25006", "25P03", "25P04"].contains(&code)
            }
            Error::Sqlite(e) => sqlite::is_outage(e),
            _ => self.is_passing(),
        }
    }

    /// True where what was to be stored is at fault: it holds U+0000, or is longer than an index takes. It will be
    /// refused whenever it comes.
    pub fn is_unstorable(&self) -> bool {
        match self {
            Error::Nul => true,
            // Values that no column of the kind can hold; limits of the engine.
            Error::Engine(sqlx::Error::Database(e)) => {
                e.code().is_some_and(|code| code.starts_with("22") || code.starts_with("54"))
            }
            Error::Sqlite(e) => e.sqlite_error_code() == Some(rusqlite::ErrorCode::TooBig),
            _ => false,
        }
    }

    /// True where what was stored is not what it was, so that trying again helps nobody.
    pub fn is_damage(&self) -> bool {
        matches!(self, Error::Row { .. } | Error::Damaged { .. })
    }
}
