//! The log.

use std::io::{self, IsTerminal as _};

use myelin_core::config::{Log, LogFormat};
use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _};

/// Starts logging to standard error. Called once, by the binary.
pub fn start(settings: &Log) -> Result<(), String> {
    // ruma tells each step of each decision about an event, at the same level as we tell what an operator needs.
    let level = format!("ruma_state_res=warn,{}", settings.level);
    let filter = EnvFilter::try_new(level)
        .map_err(|error| format!("log.level: {:?} stands there: {error}", settings.level))?;
    let registry = tracing_subscriber::registry().with(filter);
    let layer = fmt::layer().with_writer(io::stderr).with_ansi(io::stderr().is_terminal());
    let result = match settings.format {
        LogFormat::Text => registry.with(layer).try_init(),
        LogFormat::Json => registry.with(layer.json()).try_init(),
    };
    result.map_err(|error| error.to_string())
}
