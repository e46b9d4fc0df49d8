//! What all handlers share.

use std::{sync::Arc, time::Duration};

use myelin_core::{Server, config::Settings};
use myelin_federation::Federation;
use tokio::sync::watch;

use crate::{extract::Sessions, ratelimit::RateLimits};

/// Handle to what all handlers share; cheap to clone.
pub type App = Arc<AppState>;

/// What all handlers share.
pub struct AppState {
    /// What a homeserver decides.
    pub server: Arc<Server>,
    /// The settings.
    pub settings: Settings,
    /// The access tokens.
    pub sessions: Box<dyn Sessions>,
    /// Counts what clients do.
    pub rate_limits: RateLimits,
    /// What speaks with other servers, where this one federates.
    pub federation: Option<Arc<Federation>>,
    stop: watch::Receiver<bool>,
}

impl AppState {
    /// Assembles the state. `stop` turns true when the server is to end.
    pub fn new(
        server: Arc<Server>,
        federation: Option<Arc<Federation>>,
        sessions: Box<dyn Sessions>,
        stop: watch::Receiver<bool>,
    ) -> Self {
        let settings = server.settings.clone();
        Self { server, rate_limits: RateLimits::new(&settings.limits), federation, settings, sessions, stop }
    }

    /// The time by which rate limits count.
    pub fn now(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.server.now_ms()).unwrap_or(0))
    }

    /// Returns when the server is to end: long polls wait for this too, and answer early.
    pub async fn stopping(&self) {
        // An error means that the sender is gone, which is an end as well.
        let _ = self.stop.clone().wait_for(|stop| *stop).await;
    }
}
