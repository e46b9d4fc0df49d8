//! PostgreSQL: how connections are made, and when they are used no more.

use crate::database::Options;
use crate::error::{Error, Result};
use sqlx::ConnectOptions as _;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// When connections were last known to break: older ones are not used again.
pub(crate) type Suspect = Arc<parking_lot::Mutex<Option<Instant>>>;

/// Opens a pool. Connections from before what `suspect` tells are closed, not used.
pub(crate) async fn pool(options: &Options, replica: &str, suspect: Suspect) -> Result<PgPool> {
    let connect = PgConnectOptions::from_str(&options.url)
        .map_err(|e| Error::Url(e.to_string()))?
        .application_name(&crate::replicas::application(replica))
        .statement_cache_capacity(512)
        // Our statements are probes of indexes and rows by UNNEST: planning each anew for its arguments costs more than
        // running it, and compiling it more still. Nor is a table that is small today to be read whole for ever.
        .options([("plan_cache_mode", "force_generic_plan"), ("jit", "off"), ("enable_seqscan", "off")])
        .disable_statement_logging();
    Ok(PgPoolOptions::new()
        .max_connections(options.connections.max(3))
        .min_connections(1)
        .acquire_timeout(Duration::from_secs(20))
        .test_before_acquire(false)
        .before_acquire(move |_, about| {
            let broke = *suspect.lock();
            let is_good = broke.is_none_or(|broke| about.age < broke.elapsed());
            Box::pin(async move { Ok(is_good) })
        })
        .connect_with(connect)
        .await?)
}
