//! SQLite: connections of our own on rusqlite.
//!
//! Statements run where they are called, not on a thread of their own: a probe of an index takes microseconds, and
//! handing it to another thread and back costs ten times as much (docs/decisions/sql-for-two-engines.md). What waits for
//! the disk or for another process, a commit, a checkpoint, a lock, runs on the runtime's blocking threads.
//!
//! One connection writes and checkpoints, the others only read. WAL with `synchronous = FULL`: a commit has reached the
//! disk when it returns.

mod way_back;

use self::way_back::WayBack;
use crate::error::{Error, Result};
use crate::statement::{Arg, Bulk, Col};
use parking_lot::Mutex;
use rusqlite::types::Value;
use rusqlite::{Connection, ErrorCode, OpenFlags, Statement, StatementStatus, ToSql};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long another process may keep the database locked.
const PATIENCE: Duration = Duration::from_secs(10);
/// Prepared statements that a connection keeps.
const STATEMENTS: usize = 512;

/// Connections of one kind.
pub(crate) struct Pool {
    path: PathBuf,
    writes: bool,
    idle: Mutex<Vec<Connection>>,
    /// Statements that read a table from end to end.
    scans: Mutex<BTreeSet<String>>,
    permits: Arc<Semaphore>,
    way_back: WayBack,
}

/// A connection in use; dropped, it goes back, and what it has not committed is taken back.
pub(crate) struct Lease {
    // Always there but in the middle of a commit.
    connection: Option<Connection>,
    pool: Arc<Pool>,
    _permit: OwnedSemaphorePermit,
}

/// The file that a URL names.
pub(crate) fn path(url: &str) -> Result<PathBuf> {
    let path = url.strip_prefix("sqlite:").unwrap_or(url);
    let path = path.strip_prefix("//").unwrap_or(path);
    if path.is_empty() || path.starts_with(':') || path.contains('?') {
        return Err(Error::Url("sqlite: must be followed by the path of a file".to_owned()));
    }
    Ok(PathBuf::from(path))
}

impl Pool {
    /// The pool of the only connection that writes.
    pub(crate) fn writer(path: &Path) -> Arc<Pool> {
        Pool::new(path, true, 1)
    }

    /// Connections that read.
    pub(crate) fn readers(path: &Path, most: u32) -> Arc<Pool> {
        Pool::new(path, false, usize::try_from(most).unwrap_or(1).max(1))
    }

    fn new(path: &Path, writes: bool, most: usize) -> Arc<Pool> {
        let permits = Arc::new(Semaphore::new(most));
        Arc::new(Pool {
            path: path.to_owned(),
            writes,
            idle: Mutex::default(),
            scans: Mutex::default(),
            permits,
            way_back: WayBack::default(),
        })
    }

    /// A connection, when one is free.
    pub(crate) async fn lease(self: &Arc<Self>) -> Result<Lease> {
        let permit = self.permits.clone().acquire_owned().await.map_err(|_| Error::Closed)?;
        let idle = self.idle.lock().pop();
        let connection = match idle {
            Some(connection) => connection,
            None => {
                let pool = self.clone();
                tokio::task::spawn_blocking(move || pool.open()).await.map_err(|_| Error::Closed)??
            }
        };
        Ok(Lease { connection: Some(connection), pool: self.clone(), _permit: permit })
    }

    /// A connection inside a transaction that may write.
    pub(crate) async fn begin(self: &Arc<Self>) -> Result<Lease> {
        let mut lease = self.lease().await?;
        match lease.connection().and_then(|connection| Ok(exhaust(connection, "BEGIN IMMEDIATE")?)) {
            // Another process writes, perhaps `myelin admin`.
            Err(error) if error.is_passing() => lease.wait_and("BEGIN IMMEDIATE").await?,
            other => other?,
        }
        Ok(lease)
    }

    /// The statements that read a table from end to end so far.
    pub(crate) fn scans(&self) -> Vec<String> {
        self.scans.lock().iter().cloned().collect()
    }

    /// Notes a statement that read a table from end to end: on a table that grows none should.
    fn look_for_scans(&self, statement: &Statement<'_>, text: &str) {
        if statement.reset_status(StatementStatus::FullscanStep) > 0 {
            self.scans.lock().insert(text.to_owned());
        }
    }

    /// Closes the connections that nobody uses, and opens no more.
    pub(crate) fn close(&self) {
        self.permits.close();
        self.idle.lock().clear();
    }

    fn open(&self) -> Result<Connection> {
        let flags = match self.writes {
            true => OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE,
            false => OpenFlags::SQLITE_OPEN_READ_ONLY,
        };
        let connection = Connection::open_with_flags(&self.path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
        connection.busy_timeout(PATIENCE)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        connection.execute_batch(match self.writes {
            // An event is 1.4 KB: pages of 4 KiB would be a third empty.
            true => {
                "PRAGMA page_size = 8192; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
                 PRAGMA wal_autocheckpoint = 0; PRAGMA journal_size_limit = 4194304; PRAGMA secure_delete = ON; \
                 PRAGMA foreign_keys = OFF; PRAGMA temp_store = MEMORY; PRAGMA cache_size = -8192;"
            }
            false => "PRAGMA temp_store = MEMORY; PRAGMA cache_size = -2048;",
        })?;
        if self.writes {
            // From now on a lock is waited for on a blocking thread.
            connection.busy_timeout(Duration::ZERO)?;
        }
        Ok(connection)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        if !connection.is_autocommit() && connection.execute_batch("ROLLBACK").is_err() {
            // A connection that cannot go back is of no more use; closing it takes the transaction back.
            return;
        }
        if !self.pool.permits.is_closed() {
            self.pool.idle.lock().push(connection);
        }
    }
}

impl Lease {
    fn connection(&self) -> Result<&Connection> {
        self.connection.as_ref().ok_or(Error::Closed)
    }

    /// All rows of an answer.
    pub(crate) fn all(&mut self, text: &str, args: &[Arg<'_>]) -> Result<Vec<Vec<Value>>> {
        let mut statement = self.connection()?.prepare_cached(text)?;
        bind(&mut statement, args)?;
        let columns = statement.column_count();
        let mut rows = statement.raw_query();
        let mut all = Vec::new();
        while let Some(row) = rows.next()? {
            all.push((0..columns).map(|column| row.get(column)).collect::<Result<_, _>>()?);
        }
        drop(rows);
        self.pool.look_for_scans(&statement, text);
        Ok(all)
    }

    /// Runs a statement without an answer; gives the number of rows that it changed.
    pub(crate) fn run(&mut self, text: &str, args: &[Arg<'_>]) -> Result<u64> {
        let mut statement = self.connection()?.prepare_cached(text)?;
        bind(&mut statement, args)?;
        let changed = statement.raw_execute()?;
        self.pool.look_for_scans(&statement, text);
        Ok(changed as u64)
    }

    /// Runs several statements without arguments.
    pub(crate) fn script(&mut self, text: &str) -> Result<()> {
        Ok(self.connection()?.execute_batch(text)?)
    }

    /// Inserts rows. Without a hand-over to another thread a statement for each row costs no more than one for many.
    pub(crate) fn bulk(&mut self, bulk: Bulk, columns: &[Col<'_>], rows: usize) -> Result<()> {
        let marks = vec!["?"; columns.len()].join(",");
        let text = format!("INSERT INTO {} VALUES ({marks}) {}", bulk.into, bulk.suffix);
        let mut statement = self.connection()?.prepare_cached(&text)?;
        for row in 0..rows {
            for (column, index) in columns.iter().zip(1..) {
                bind_cell(&mut statement, index, column, row)?;
            }
            statement.raw_execute()?;
        }
        Ok(())
    }

    /// Runs statements that wait for the disk or for others.
    pub(crate) async fn wait_and(&mut self, text: &'static str) -> Result<()> {
        let connection = self.connection.take().ok_or(Error::Closed)?;
        let writes = self.pool.writes;
        let work = move || {
            let done = (|| {
                connection.busy_timeout(PATIENCE)?;
                exhaust(&connection, text)?;
                connection.busy_timeout(if writes { Duration::ZERO } else { PATIENCE })
            })();
            Ok((connection, done))
        };
        let (connection, done) = self.pool.way_back.blocking(work).await?;
        self.connection = Some(connection);
        Ok(done?)
    }
}

/// Runs a statement without arguments that is run often, whatever it answers.
fn exhaust(connection: &Connection, text: &str) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(text)?;
    let mut rows = statement.raw_query();
    while rows.next()?.is_some() {}
    Ok(())
}

/// Binds `$n` to the nth argument: SQLite numbers such names by where they first stand.
fn bind(statement: &mut Statement<'_>, args: &[Arg<'_>]) -> Result<()> {
    for index in 1..=statement.parameter_count() {
        let name = statement.parameter_name(index).and_then(|name| name.strip_prefix('$'));
        let number = name.and_then(|number| number.parse().ok()).unwrap_or(index);
        let Some(arg) = args.get(number - 1) else { continue };
        match *arg {
            Arg::Int(value) => statement.raw_bind_parameter(index, value)?,
            Arg::OptInt(value) => statement.raw_bind_parameter(index, value)?,
            Arg::Text(value) => statement.raw_bind_parameter(index, value)?,
            Arg::OptText(value) => statement.raw_bind_parameter(index, value)?,
            Arg::Bytes(value) => statement.raw_bind_parameter(index, value)?,
            Arg::Ints(value) => statement.raw_bind_parameter(index, json(&value)?)?,
            Arg::Texts(value) => statement.raw_bind_parameter(index, json(&value)?)?,
        }
    }
    Ok(())
}

/// A list as json_each takes it.
fn json(list: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(list).map_err(|error| Error::Engine(sqlx::Error::Encode(error.into())))
}

fn bind_cell(statement: &mut Statement<'_>, index: usize, column: &Col<'_>, row: usize) -> Result<()> {
    let mut put = |value: &dyn ToSql| statement.raw_bind_parameter(index, value);
    match column {
        Col::Ints(values) => put(&values.get(row))?,
        Col::OptInts(values) => put(&values.get(row).copied().flatten())?,
        Col::Texts(values) => put(&values.get(row))?,
        Col::OptTexts(values) => put(&values.get(row).copied().flatten())?,
        Col::Blobs(values) => put(&values.get(row))?,
    }
    Ok(())
}

/// What a cell holds, for messages.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "NULL",
        Value::Integer(_) => "an integer",
        Value::Real(_) => "a fraction",
        Value::Text(_) => "text",
        Value::Blob(_) => "bytes",
    }
}

/// True where trying again may help.
pub(crate) fn is_passing(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

/// True where nothing can be read or written now.
pub(crate) fn is_outage(error: &rusqlite::Error) -> bool {
    use ErrorCode::{
        CannotOpen, DatabaseCorrupt, DiskFull, FileLockingProtocolFailed, NotADatabase, OutOfMemory,
        ReadOnly, SystemIoFailure,
    };
    is_passing(error)
        || matches!(
            error.sqlite_error_code(),
            Some(
                DiskFull
                    | SystemIoFailure
                    | CannotOpen
                    | OutOfMemory
                    | ReadOnly
                    | DatabaseCorrupt
                    | NotADatabase
                    | FileLockingProtocolFailed
            )
        )
}
