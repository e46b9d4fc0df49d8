//! Opening an engine; connections that read and transactions that write.
//!
//! SQLite: one connection writes and checkpoints, the others are read-only; WAL, `synchronous = FULL`, so that a
//! commit has reached the disk when it returns. PostgreSQL: a pool; writers are ordered by a lock on the head row
//! of the log, so that positions become visible in their order and without gaps on any number of replicas.

use crate::args;
use crate::batch::{self, Batch};
use crate::error::{Error, Result};
use crate::log::{self, Entry};
use crate::migrations;
use crate::postgres;
use crate::sqlite;
use crate::statement::{Arg, Bulk, Col, Row, Sql, head, placeholders, postgres_arguments};
use crate::witness::Witness;
use parking_lot::Mutex;
use sqlx::{AssertSqlSafe, Postgres};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// How to open a database.
#[derive(Clone, Debug)]
pub struct Options {
    /// `sqlite:PATH` or `postgres://...`.
    pub url: String,
    /// Connections that read (SQLite), or all of them (PostgreSQL).
    pub connections: u32,
}

#[derive(Clone)]
enum Pools {
    Sqlite { read: Arc<sqlite::Pool>, write: Arc<sqlite::Pool> },
    Postgres { pool: Arc<postgres::Pool> },
}

/// An open database; cheap to clone.
#[derive(Clone)]
pub struct Database {
    pools: Pools,
    replica: Arc<str>,
    pub(crate) witness: Option<Arc<Witness>>,
    statements: Arc<AtomicU64>,
    /// Until when nobody else follows what is committed here, if so.
    alone_until: Arc<Mutex<Option<Instant>>>,
}

enum Handle {
    Sqlite(sqlite::Lease),
    Postgres(postgres::Lease),
    PostgresTx(postgres::Lease, Batch),
}

enum Raw<'a> {
    Sqlite(&'a mut sqlite::Lease),
    Postgres(&'a mut postgres::Lease),
}

/// A connection that reads; every statement sees a snapshot of its own unless it belongs to a [`Tx`].
pub struct Connection {
    handle: Handle,
    statements: Arc<AtomicU64>,
}

/// A transaction that writes. Its log entries get their positions as they are made; [`Tx::commit`] makes all of it
/// durable at once. Dropped, it leaves nothing behind.
pub struct Tx {
    connection: Connection,
    entries: Vec<Entry>,
    head: i64,
    replica: Arc<str>,
    batch: i64,
    witness: Option<Arc<Witness>>,
    /// Others may follow what is committed here.
    is_followed: bool,
}

/// A point inside a transaction to which it can be taken back.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    entries: usize,
    head: i64,
}

impl Database {
    /// Opens the database, brings its schema up to date and tells of a schema that is too new.
    pub async fn open(options: &Options, replica: &str) -> Result<Database> {
        let database = Database::connect(options, replica).await?;
        migrations::run(&database).await?;
        Ok(database)
    }

    /// Opens the database with the schema that it has.
    pub(crate) async fn connect(options: &Options, replica: &str) -> Result<Database> {
        let pools = if options.url.starts_with("sqlite:") {
            open_sqlite(options).await?
        } else if options.url.starts_with("postgres:") || options.url.starts_with("postgresql:") {
            Pools::Postgres { pool: postgres::Pool::open(options, replica).await? }
        } else {
            return Err(Error::Url("the URL must begin with sqlite: or postgres:".to_owned()));
        };
        let witness = match &pools {
            Pools::Sqlite { .. } => Some(Arc::new(Witness::beside(&sqlite::path(&options.url)?))),
            Pools::Postgres { .. } => None,
        };
        let replica = replica.into();
        Ok(Database { pools, replica, witness, statements: Arc::default(), alone_until: Arc::default() })
    }

    /// True on SQLite, where no other process shares the database.
    pub fn is_sqlite(&self) -> bool {
        matches!(self.pools, Pools::Sqlite { .. })
    }

    /// This process's name among those that share the database.
    pub fn replica(&self) -> &str {
        &self.replica
    }

    /// This process knows itself to be alone until a time: its commits are not told to others before that.
    pub fn alone_until(&self, time: Option<Instant>) {
        *self.alone_until.lock() = time;
    }

    fn is_followed(&self) -> bool {
        self.alone_until.lock().is_none_or(|time| time <= Instant::now())
    }

    /// Statements that read a table from end to end so far (SQLite; empty on PostgreSQL). On a table that grows none
    /// should; tests ask for it.
    pub fn whole_table_reads(&self) -> Vec<String> {
        match &self.pools {
            Pools::Sqlite { read, write } => [read.scans(), write.scans()].concat(),
            Pools::Postgres { .. } => Vec::new(),
        }
    }

    /// How many statements were run so far.
    pub fn statements(&self) -> u64 {
        self.statements.load(Ordering::Relaxed)
    }

    /// The pool of PostgreSQL.
    pub(crate) fn postgres(&self) -> Option<&sqlx::PgPool> {
        match &self.pools {
            Pools::Sqlite { .. } => None,
            Pools::Postgres { pool } => Some(pool.all()),
        }
    }

    /// A connection broke, so the others may have: none of those that are open now is used again.
    pub fn suspect_connections(&self) {
        if let Pools::Postgres { pool } = &self.pools {
            pool.suspect();
        }
    }

    /// A connection for reading.
    pub async fn read(&self) -> Result<Connection> {
        let handle = match &self.pools {
            Pools::Sqlite { read, .. } => Handle::Sqlite(read.lease().await?),
            Pools::Postgres { pool } => Handle::Postgres(pool.lease().await?),
        };
        Ok(Connection { handle, statements: self.statements.clone() })
    }

    /// A transaction for writing, with the head of the log locked: it is the only one that writes until its end.
    pub async fn write(&self) -> Result<Tx> {
        let mut connection = self.begin().await?;
        let (head, batch) = log::lock_head(&mut connection, &self.replica).await?;
        let (replica, witness) = (self.replica.clone(), self.witness.clone());
        let (batch, is_followed) = (batch + 1, self.is_followed());
        Ok(Tx { connection, entries: Vec::new(), head, replica, batch, witness, is_followed })
    }

    /// Whether the batch that a broken commit belonged to is in the database after all.
    pub async fn has_batch(&self, batch: i64) -> Result<bool> {
        Ok(log::last_batch(&mut self.read().await?, &self.replica).await? >= batch)
    }

    /// A bare transaction; for migrations and for what has no log entry.
    pub(crate) async fn begin(&self) -> Result<Connection> {
        let handle = match &self.pools {
            Pools::Sqlite { write, .. } => Handle::Sqlite(write.begin().await?),
            Pools::Postgres { pool } => Handle::PostgresTx(pool.begin().await?, Batch::default()),
        };
        Ok(Connection { handle, statements: self.statements.clone() })
    }

    /// Reserves `count` numbers of a counter for this process: it returns the first. Reserved numbers that are not
    /// used are lost, which does no harm.
    pub async fn reserve(&self, counter: &str, count: i64) -> Result<i64> {
        const RESERVE: Sql = Sql::both(
            "INSERT INTO counters(name, next) VALUES ($1, 1 + $2) \
             ON CONFLICT (name) DO UPDATE SET next = counters.next + $2 RETURNING next",
        );
        let mut connection = self.begin().await?;
        let row = connection.one(RESERVE, args![counter, count]).await?;
        let next = row.map_or(Ok(1 + count), |row| row.int(0))?;
        connection.end().await?;
        Ok(next - count)
    }

    /// Moves the write-ahead log into the database file (SQLite; nothing to do on PostgreSQL). With `all`, readers
    /// are waited for and the file is emptied.
    pub async fn checkpoint(&self, all: bool) -> Result<()> {
        if let Pools::Sqlite { write, .. } = &self.pools {
            let text = if all { "PRAGMA wal_checkpoint(TRUNCATE)" } else { "PRAGMA wal_checkpoint(PASSIVE)" };
            write.lease().await?.wait_and(text).await?;
        }
        Ok(())
    }

    /// Closes all connections, after a last checkpoint.
    pub async fn close(&self) {
        if let Err(error) = self.checkpoint(true).await {
            tracing::warn!(%error, "the last checkpoint failed; the next start will recover the write-ahead log");
        }
        self.close_witness().await;
        match &self.pools {
            Pools::Sqlite { read, write } => {
                read.close();
                write.close();
            }
            Pools::Postgres { pool } => pool.close().await,
        }
    }
}

async fn open_sqlite(options: &Options) -> Result<Pools> {
    let path = sqlite::path(&options.url)?;
    let write = sqlite::Pool::writer(&path);
    // The writer comes first: it makes the file, and the readers cannot.
    drop(write.lease().await?);
    Ok(Pools::Sqlite { read: sqlite::Pool::readers(&path, options.connections), write })
}

impl Connection {
    /// The connection, with everything run that was put off.
    async fn raw(&mut self) -> Result<Raw<'_>> {
        self.statements.fetch_add(1, Ordering::Relaxed);
        self.flush().await?;
        Ok(match &mut self.handle {
            Handle::Sqlite(c) => Raw::Sqlite(c),
            Handle::Postgres(c) => Raw::Postgres(c),
            Handle::PostgresTx(c, _) => Raw::Postgres(c),
        })
    }

    /// Runs the writes that were put off to be one statement.
    pub(crate) async fn flush(&mut self) -> Result<()> {
        match &mut self.handle {
            Handle::PostgresTx(connection, batch) => run_batch(connection, batch).await,
            Handle::Sqlite(_) | Handle::Postgres(_) => Ok(()),
        }
    }

    /// Forgets the writes that were put off.
    fn discard(&mut self) {
        if let Handle::PostgresTx(_, batch) = &mut self.handle {
            drop(batch.take());
        }
    }

    /// Runs a statement that writes and whose answer nobody needs: on PostgreSQL together with the bulk writes around
    /// it. `$1` and so on are its own arguments.
    pub(crate) async fn write(&mut self, sql: Sql, args: &[Arg<'_>]) -> Result<()> {
        match &mut self.handle {
            Handle::PostgresTx(connection, batch) => {
                check(sql.postgres, args)?;
                make_way(connection, batch, batch::written(sql.postgres)).await?;
                batch.add(sql.postgres, args)
            }
            Handle::Sqlite(_) | Handle::Postgres(_) => self.run(sql, args).await.map(drop),
        }
    }

    /// All rows of an answer.
    pub async fn all(&mut self, sql: Sql, args: &[Arg<'_>]) -> Result<Vec<Row>> {
        match self.raw().await? {
            Raw::Sqlite(c) => {
                check(sql.sqlite, args)?;
                let rows = c.all(sql.sqlite, args)?;
                Ok(rows.into_iter().map(|row| Row::sqlite(row, sql.sqlite)).collect())
            }
            Raw::Postgres(c) => {
                check(sql.postgres, args)?;
                let rows = c.all(sqlx::query_with(sql.postgres, postgres_arguments(args)?)).await?;
                Ok(rows.into_iter().map(|row| Row::postgres(row, sql.postgres)).collect())
            }
        }
    }

    /// The first row of an answer, if there is one.
    pub async fn one(&mut self, sql: Sql, args: &[Arg<'_>]) -> Result<Option<Row>> {
        Ok(self.all(sql, args).await?.into_iter().next())
    }

    /// Runs a statement that has no answer; gives the number of rows that it changed.
    pub(crate) async fn run(&mut self, sql: Sql, args: &[Arg<'_>]) -> Result<u64> {
        match self.raw().await? {
            Raw::Sqlite(c) => {
                check(sql.sqlite, args)?;
                c.run(sql.sqlite, args)
            }
            Raw::Postgres(c) => {
                check(sql.postgres, args)?;
                c.run(sqlx::query_with(sql.postgres, postgres_arguments(args)?)).await
            }
        }
    }

    /// Runs a script of several statements without arguments (migrations only).
    pub(crate) async fn script(&mut self, text: String) -> Result<()> {
        match self.raw().await? {
            Raw::Sqlite(c) => c.script(&text)?,
            Raw::Postgres(c) => c.script(text).await?,
        }
        Ok(())
    }

    /// True on SQLite.
    pub(crate) fn is_sqlite(&self) -> bool {
        matches!(self.handle, Handle::Sqlite(_))
    }

    /// Ends a bare transaction durably.
    pub(crate) async fn end(mut self) -> Result<()> {
        self.flush().await?;
        match self.handle {
            Handle::Sqlite(mut lease) => lease.wait_and("COMMIT").await?,
            Handle::PostgresTx(lease, _) => lease.end(true).await?,
            Handle::Postgres(_) => {}
        }
        Ok(())
    }

    /// Takes a bare transaction back.
    async fn undo(self) -> Result<()> {
        match self.handle {
            // A lease takes back what is not committed.
            Handle::Sqlite(lease) => drop(lease),
            Handle::PostgresTx(lease, _) => lease.end(false).await?,
            Handle::Postgres(_) => {}
        }
        Ok(())
    }

    async fn bulk(&mut self, bulk: Bulk, columns: &[Col<'_>]) -> Result<()> {
        let rows = columns.first().map_or(0, Col::len);
        if rows == 0 {
            return Ok(());
        }
        if columns.iter().any(Col::has_nul) {
            return Err(Error::Nul);
        }
        if columns.iter().any(|c| c.len() != rows) {
            return Err(Error::Arity { statement: head(bulk.into), wanted: rows, given: 0 });
        }
        self.statements.fetch_add(1, Ordering::Relaxed);
        match &mut self.handle {
            Handle::Sqlite(c) => c.bulk(bulk, columns, rows),
            Handle::PostgresTx(connection, batch) => {
                make_way(connection, batch, batch::table(bulk.into)).await?;
                batch.add_rows(bulk, columns)
            }
            Handle::Postgres(_) => Err(Error::Refused("rows are written inside a transaction")),
        }
    }
}

/// Runs the parts of a batch as one statement.
async fn run_batch(connection: &mut postgres::Lease, batch: &mut Batch) -> Result<()> {
    if let Some((text, args)) = batch.take() {
        connection.run(sqlx::query_with::<Postgres, _>(AssertSqlSafe(text), args)).await?;
    }
    Ok(())
}

/// Parts of one statement do not see each other's rows: a table that one of them writes already needs another statement.
async fn make_way(connection: &mut postgres::Lease, batch: &mut Batch, table: &str) -> Result<()> {
    match batch.writes(table) {
        true => run_batch(connection, batch).await,
        false => Ok(()),
    }
}

/// Refuses arguments that one of the engines would refuse or not notice.
fn check(text: &'static str, args: &[Arg<'_>]) -> Result<()> {
    let has_nul = |arg: &Arg<'_>| match *arg {
        Arg::Text(text) | Arg::OptText(Some(text)) => text.contains('\0'),
        Arg::Texts(texts) => texts.iter().any(|text| text.contains('\0')),
        _ => false,
    };
    if args.iter().any(has_nul) {
        return Err(Error::Nul);
    }
    // SQLite binds a missing argument as NULL without a word, so this is checked in every build.
    let wanted = placeholders(text);
    if wanted == args.len() {
        Ok(())
    } else {
        Err(Error::Arity { statement: head(text), wanted, given: args.len() })
    }
}

impl std::ops::Deref for Tx {
    type Target = Connection;
    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl std::ops::DerefMut for Tx {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.connection
    }
}

impl Tx {
    /// Runs a statement that writes; gives the number of rows that it changed.
    pub async fn run(&mut self, sql: Sql, args: &[Arg<'_>]) -> Result<u64> {
        self.connection.run(sql, args).await
    }

    /// Writes many rows with as few statements as the engine allows.
    pub async fn bulk(&mut self, bulk: Bulk, columns: &[Col<'_>]) -> Result<()> {
        self.connection.bulk(bulk, columns).await
    }

    /// Adds an entry to the log and gives its position. Readers see it when the transaction has committed.
    pub fn entry(&mut self, kind: log::Kind, scope: i64, object: i64) -> i64 {
        let pos = self.position() + 1;
        self.entries.push(Entry { pos, kind, scope, object });
        pos
    }

    /// The last position so far, that of the newest entry of this transaction included.
    pub fn position(&self) -> i64 {
        self.entries.last().map_or(self.head, |entry| entry.pos.max(self.head))
    }

    /// Moves the head forward without entries, as a new epoch does, so that no position is ever given twice.
    pub(crate) fn skip_to(&mut self, pos: i64) {
        self.head = pos.max(self.position());
    }

    /// The number by which [`Database::has_batch`] knows this transaction.
    pub fn batch(&self) -> i64 {
        self.batch
    }

    /// Marks a point to which [`Tx::back_to`] can return.
    pub async fn mark(&mut self) -> Result<Mark> {
        self.connection.run(Sql::both("SAVEPOINT unit"), &[]).await?;
        Ok(Mark { entries: self.entries.len(), head: self.head })
    }

    /// Takes back everything since the mark.
    pub async fn back_to(&mut self, mark: Mark) -> Result<()> {
        self.entries.truncate(mark.entries);
        self.head = mark.head;
        self.connection.discard();
        self.connection.run(Sql::both("ROLLBACK TO SAVEPOINT unit"), &[]).await?;
        self.release().await
    }

    /// Runs what was put off, so that what is refused is refused now.
    pub async fn flush(&mut self) -> Result<()> {
        self.connection.flush().await
    }

    /// Keeps everything since the mark, as part of the transaction.
    pub async fn release(&mut self) -> Result<()> {
        self.connection.run(Sql::both("RELEASE SAVEPOINT unit"), &[]).await.map(drop)
    }

    /// Takes everything back. Dropping does it too; this waits until the next writer may go on.
    pub async fn abandon(self) -> Result<()> {
        self.connection.undo().await
    }

    /// Writes the log entries and makes everything durable. After an error the outcome may be unknown: see
    /// [`Database::has_batch`].
    pub async fn commit(mut self) -> Result<Vec<Entry>> {
        let head = self.position();
        let entries = std::mem::take(&mut self.entries);
        log::insert(&mut self, &entries).await?;
        let (replica, batch) = (self.replica.clone(), self.batch);
        log::move_head(&mut self.connection, head, &replica, batch, self.is_followed).await?;
        self.connection.end().await?;
        if let Some(witness) = &self.witness {
            witness.note(head, &entries);
        }
        Ok(entries)
    }
}
