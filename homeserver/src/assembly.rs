//! Puts the server together and runs it.

use std::{io::Write as _, sync::Arc};

use futures_util::future::{BoxFuture, FutureExt as _, join_all};
use myelin_core::config::{DatabaseUrl, Settings};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use crate::{
    app::{App, AppState},
    extract::{Session, Sessions},
    listeners::Port,
    response::ApiError,
    router,
    startup::{Accounts, Ready},
};

/// Any failure that keeps the server from starting; it is only ever shown.
pub type StartError = Box<dyn std::error::Error + Send + Sync>;

/// Runs the server until SIGINT or SIGTERM.
pub async fn run(settings: Settings) -> Result<(), StartError> {
    let (stop, stopping) = watch::channel(false);
    let app: App = Arc::new(AppState::new(settings, Box::new(NoAccounts), stopping.clone()));
    let ports = open(&app.settings).await?;
    announce(&app.settings, &ports)?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let signals = async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        tracing::info!("stopping");
        stop.send_replace(true);
    };
    tokio::join!(serve(&app, ports, stopping), signals);
    Ok(())
}

/// Opens the ports of the settings.
pub async fn open(settings: &Settings) -> Result<Vec<Port>, StartError> {
    let mut ports = Vec::new();
    for listener in &settings.listeners {
        ports.push(Port::open(listener).await?);
    }
    Ok(ports)
}

/// Serves on open ports until told to stop.
pub async fn serve(app: &App, ports: Vec<Port>, stop: watch::Receiver<bool>) {
    join_all(ports.into_iter().map(|port| {
        let routes = port.apis.iter().flat_map(|api| router::routes(*api)).collect();
        port.serve(router::build(app, routes), stop.clone())
    }))
    .await;
}

fn announce(settings: &Settings, ports: &[Port]) -> Result<(), StartError> {
    let database = match settings.database_url() {
        DatabaseUrl::Sqlite(path) => format!("sqlite, {}", path.display()),
        DatabaseUrl::Postgres(_) => "postgresql".to_owned(),
    };
    let ready = Ready {
        server_name: settings.server_name.as_str(),
        ports,
        data_dir: &settings.data_dir,
        database: &database,
        accounts: Accounts::None,
    };
    writeln!(std::io::stdout(), "{ready}")?;
    Ok(())
}

/// Until accounts are there, no token is known.
struct NoAccounts;

impl Sessions for NoAccounts {
    fn authenticate<'a>(&'a self, _token: &'a str) -> BoxFuture<'a, Result<Arc<Session>, ApiError>> {
        async { Err(ApiError::unknown_token(false)) }.boxed()
    }
}
