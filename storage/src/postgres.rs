//! PostgreSQL's connections: how they are made, in which order they are used, and when they are used no more.
//!
//! sqlx's pool gives out its connections in turns, so each of them would have to plan every statement, and asks each
//! whether it still lives when it comes back: a round trip more for every few statements. Here the connection that was
//! used last is used next, and one that came to a good end is not asked. What came to a bad end goes back to sqlx's pool,
//! which looks at it.

use crate::database::Options;
use crate::error::{Error, Result};
use parking_lot::Mutex;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgArguments, PgConnectOptions, PgConnection, PgPool, PgPoolOptions, PgRow};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Postgres};
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long to wait for a connection.
const PATIENCE: Duration = Duration::from_secs(20);

/// Connections to a database.
pub(crate) struct Pool {
    all: PgPool,
    idle: Mutex<Idle>,
    /// As many as there may be connections: who has one gets a connection.
    permits: Arc<Semaphore>,
    /// When connections were last known to break: older ones are not used again.
    suspect: Arc<Mutex<Option<Instant>>>,
}

/// Connections that nobody uses, the one that was used last on top.
#[derive(Default)]
struct Idle {
    connections: Vec<PoolConnection<Postgres>>,
    /// Counts how often all connections were suspected.
    generation: u64,
}

/// A connection in use; dropped, it goes back.
pub(crate) struct Lease {
    // Always there but while it is dropped.
    connection: Option<PoolConnection<Postgres>>,
    pool: Arc<Pool>,
    generation: u64,
    /// The last statement came to an end that leaves the connection as it was.
    is_sound: bool,
    in_transaction: bool,
    _permit: OwnedSemaphorePermit,
}

impl Pool {
    /// Connects.
    pub(crate) async fn open(options: &Options, replica: &str) -> Result<Arc<Pool>> {
        let connect = PgConnectOptions::from_str(&options.url)
            .map_err(|e| Error::Url(e.to_string()))?
            .application_name(&crate::replicas::application(replica))
            .statement_cache_capacity(512)
            // Our statements are probes of indexes and rows by UNNEST: planning each anew for its arguments costs more
            // than running it, and compiling it more still. Nor is a table that is small today to be read whole for ever.
            .options([("plan_cache_mode", "force_generic_plan"), ("jit", "off"), ("enable_seqscan", "off")])
            .disable_statement_logging();
        let suspect = Arc::<Mutex<Option<Instant>>>::default();
        let broke_at = suspect.clone();
        let most = options.connections.max(3);
        let all = PgPoolOptions::new()
            .max_connections(most)
            .min_connections(1)
            .acquire_timeout(PATIENCE)
            .test_before_acquire(false)
            .before_acquire(move |_, about| {
                let broke = *broke_at.lock();
                let is_good = broke.is_none_or(|broke| about.age < broke.elapsed());
                Box::pin(async move { Ok(is_good) })
            })
            .connect_with(connect)
            .await?;
        let permits = Arc::new(Semaphore::new(usize::try_from(most).unwrap_or(3)));
        Ok(Arc::new(Pool { all, idle: Mutex::default(), permits, suspect }))
    }

    /// sqlx's pool, for what needs connections of its own.
    pub(crate) fn all(&self) -> &PgPool {
        &self.all
    }

    /// A connection, when one is free.
    pub(crate) async fn lease(self: &Arc<Self>) -> Result<Lease> {
        let waiting = self.permits.clone().acquire_owned();
        let permit = tokio::time::timeout(PATIENCE, waiting).await;
        let permit = permit.map_err(|_| sqlx::Error::PoolTimedOut)?.map_err(|_| Error::Closed)?;
        let (idle, generation) = {
            let mut idle = self.idle.lock();
            (idle.connections.pop(), idle.generation)
        };
        let connection = match idle {
            Some(connection) => connection,
            None => self.all.acquire().await?,
        };
        Ok(Lease {
            connection: Some(connection),
            pool: self.clone(),
            generation,
            is_sound: true,
            in_transaction: false,
            _permit: permit,
        })
    }

    /// A connection inside a transaction.
    pub(crate) async fn begin(self: &Arc<Self>) -> Result<Lease> {
        let mut lease = self.lease().await?;
        lease.in_transaction = true;
        lease.script("BEGIN".to_owned()).await?;
        Ok(lease)
    }

    /// A connection broke, so the others may have: none of those that are open now is used again.
    pub(crate) fn suspect(&self) {
        *self.suspect.lock() = Some(Instant::now());
        let mut idle = self.idle.lock();
        idle.generation += 1;
        idle.connections.clear();
    }

    /// Closes all connections, those in use when they come back.
    pub(crate) async fn close(&self) {
        self.permits.close();
        self.idle.lock().connections.clear();
        self.all.close().await;
    }
}

impl Lease {
    fn connection(&mut self) -> Result<&mut PgConnection> {
        // Until the answer is there: a caller who goes away leaves the connection in the middle of something.
        self.is_sound = false;
        self.connection.as_deref_mut().ok_or(Error::Closed)
    }

    fn ended<T>(&mut self, result: Result<T, sqlx::Error>) -> Result<T> {
        self.is_sound = match &result {
            Ok(_) => true,
            // What the database refuses leaves the connection as it was, unless it says farewell.
            Err(sqlx::Error::Database(error)) => {
                let ends =
                    |code: &str| ["57P", "08", "25P03", "25P04"].iter().any(|end| code.starts_with(end));
                error.code().is_some_and(|code| !ends(&code))
            }
            Err(_) => false,
        };
        Ok(result?)
    }

    /// All rows of an answer.
    pub(crate) async fn all(&mut self, query: Query<'_, Postgres, PgArguments>) -> Result<Vec<PgRow>> {
        let result = query.fetch_all(self.connection()?).await;
        self.ended(result)
    }

    /// Runs a statement without an answer; gives the number of rows that it changed.
    pub(crate) async fn run(&mut self, query: Query<'_, Postgres, PgArguments>) -> Result<u64> {
        let result = query.execute(self.connection()?).await;
        self.ended(result).map(|done| done.rows_affected())
    }

    /// Runs statements without arguments.
    pub(crate) async fn script(&mut self, text: String) -> Result<()> {
        let result = sqlx::raw_sql(AssertSqlSafe(text)).execute(self.connection()?).await;
        self.ended(result).map(drop)
    }

    /// Ends the transaction, durably or as if it had not been.
    pub(crate) async fn end(mut self, keep: bool) -> Result<()> {
        self.script(if keep { "COMMIT" } else { "ROLLBACK" }.to_owned()).await?;
        self.in_transaction = false;
        Ok(())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(mut connection) = self.connection.take() else { return };
        if self.in_transaction {
            // Closing it is the surest way to take back what was begun.
            connection.close_on_drop();
            return;
        }
        let mut idle = self.pool.idle.lock();
        if self.is_sound && self.generation == idle.generation && !self.pool.permits.is_closed() {
            idle.connections.push(connection);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    async fn process(lease: &mut Lease) -> i32 {
        use sqlx::Row as _;
        lease.all(sqlx::query("SELECT pg_backend_pid()")).await.unwrap()[0].get(0)
    }

    /// Without a PostgreSQL server there is nothing to test.
    async fn pool(name: &str) -> Option<Arc<Pool>> {
        let server = std::env::var(testing::POSTGRES).ok()?;
        let options = testing::postgres(&server, name).await.unwrap();
        Some(Pool::open(&Options { connections: 3, ..options }, "test").await.unwrap())
    }

    #[tokio::test]
    async fn the_connection_that_was_used_last_is_used_next() {
        let Some(pool) = pool("myelin_pool_order").await else { return };
        let (mut first, mut second) = (pool.lease().await.unwrap(), pool.lease().await.unwrap());
        let (one, two) = (process(&mut first).await, process(&mut second).await);
        assert_ne!(one, two);
        drop((first, second));
        for _ in 0..3 {
            assert_eq!(process(&mut pool.lease().await.unwrap()).await, two);
        }
        // What the database refused does no harm, and after all were suspected none is used again.
        let mut lease = pool.lease().await.unwrap();
        assert!(lease.run(sqlx::query("SELECT no_such_thing")).await.is_err());
        drop(lease);
        let mut lease = pool.lease().await.unwrap();
        assert_eq!(process(&mut lease).await, two);
        pool.suspect();
        drop(lease);
        let new = process(&mut pool.lease().await.unwrap()).await;
        assert!(new != one && new != two);
        pool.close().await;
        assert!(matches!(pool.lease().await, Err(Error::Closed)));
    }

    #[tokio::test]
    async fn what_was_broken_off_leaves_nothing_behind() {
        let Some(pool) = pool("myelin_pool_end").await else { return };
        let mut lease = pool.begin().await.unwrap();
        lease.script("CREATE TABLE left_behind(one BIGINT)".to_owned()).await.unwrap();
        let writer = process(&mut lease).await;
        drop(lease);
        // A statement whose caller goes away.
        let mut lease = pool.lease().await.unwrap();
        let sleeping = tokio::spawn(async move { lease.script("SELECT pg_sleep(0.2)".to_owned()).await });
        tokio::task::yield_now().await;
        sleeping.abort();
        assert!(sleeping.await.is_err());
        let mut lease = pool.lease().await.unwrap();
        assert_ne!(process(&mut lease).await, writer);
        let found = lease.all(sqlx::query("SELECT 1 FROM pg_tables WHERE tablename = 'left_behind'")).await;
        assert!(found.unwrap().is_empty());
        // Closing waits for those that are in use.
        drop(lease);
        pool.close().await;
    }
}
