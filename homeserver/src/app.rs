//! What all handlers share.

use std::sync::Arc;

use myelin_core::config::Settings;
use tokio::sync::watch;

use crate::{extract::Sessions, ratelimit::RateLimits};

/// Handle to what all handlers share; cheap to clone.
pub type App = Arc<AppState>;

/// What all handlers share.
pub struct AppState {
    /// The settings.
    pub settings: Settings,
    /// The access tokens.
    pub sessions: Box<dyn Sessions>,
    /// Counts what clients do.
    pub rate_limits: RateLimits,
    stop: watch::Receiver<bool>,
}

impl AppState {
    /// Assembles the state. `stop` turns true when the server is to end.
    pub fn new(settings: Settings, sessions: Box<dyn Sessions>, stop: watch::Receiver<bool>) -> Self {
        Self { rate_limits: RateLimits::new(&settings.limits), settings, sessions, stop }
    }

    /// Returns when the server is to end: long polls wait for this too, and answer early.
    pub async fn stopping(&self) {
        // An error means that the sender is gone, which is an end as well.
        let _ = self.stop.clone().wait_for(|stop| *stop).await;
    }
}
