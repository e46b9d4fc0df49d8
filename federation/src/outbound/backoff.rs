//! Servers that do not answer are asked again later and later: after ten seconds at first, after a day at most.
//!
//! A server that speaks to us is asked again at once. What is remembered is in the database too, so that a restart does
//! not ask a thousand dead servers at once.

use myelin_core::server::Server;
use myelin_storage::federation::destinations::{self, Failing};
use parking_lot::Mutex;
use ruma::{OwnedServerName, ServerName};
use std::collections::HashMap;

/// The first time, in milliseconds.
const FIRST: i64 = 10_000;
/// The longest.
const LONGEST: i64 = 24 * 3_600_000;

/// Who does not answer.
#[derive(Default)]
pub struct Backoff {
    failing: Mutex<HashMap<OwnedServerName, Failing>>,
}

impl Backoff {
    /// As the database knows it.
    pub async fn load(server: &Server) -> myelin_core::Result<Self> {
        let rows = destinations::failing(&mut server.database.read().await?).await?;
        let named = |row: Failing| Some((OwnedServerName::try_from(row.server.as_str()).ok()?, row));
        Ok(Self { failing: Mutex::new(rows.into_iter().filter_map(named).collect()) })
    }

    /// When a server may be asked again; `None` where it may be now.
    pub fn until(&self, name: &ServerName, now: i64) -> Option<i64> {
        self.failing.lock().get(name).map(|row| row.retry_ts).filter(|retry| *retry > now)
    }

    /// A server did not answer. `spread` is a number from 0 to 255, by which the times of many servers differ.
    pub async fn failed(&self, server: &Server, name: &ServerName, spread: u8) {
        let now = server.now_ms();
        let row = {
            let mut failing = self.failing.lock();
            let row = failing.entry(name.to_owned()).or_insert_with(|| Failing {
                server: name.to_string(),
                since_ts: now,
                retry_ts: 0,
                interval_ms: 0,
            });
            if row.retry_ts > now {
                // Another request found out first.
                return;
            }
            row.interval_ms = row.interval_ms.saturating_mul(3).clamp(FIRST, LONGEST);
            row.retry_ts = now + row.interval_ms + row.interval_ms * i64::from(spread) / 1_024;
            row.clone()
        };
        let noted = server
            .commit
            .run(move |tx| Box::pin(async move { Ok(destinations::put_failing(tx, &row).await?) }));
        if let Err(error) = noted.await {
            tracing::debug!(%error, "that a server does not answer was not written down");
        }
    }

    /// A server answered, or spoke to us.
    pub async fn answered(&self, server: &Server, name: &ServerName) {
        if self.failing.lock().remove(name).is_none() {
            return;
        }
        let row = name.to_string();
        let noted =
            server.commit.run(move |tx| Box::pin(async move { Ok(destinations::answers(tx, &row).await?) }));
        if let Err(error) = noted.await {
            tracing::debug!(%error, "that a server answers again was not written down");
        }
    }
}
