//! Puts the server together and runs it.

use std::{io::Write as _, sync::Arc};

use futures_util::future::join_all;
use myelin_core::{
    Server,
    config::{DatabaseUrl, Listener, Settings},
    ports::{Clock, SystemClock, SystemRandom, random_text},
    server::Parts,
    users::{accounts, registration_tokens},
};
use myelin_federation::Federation;
use myelin_storage::Options;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use crate::{
    app::{App, AppState},
    listeners::{self, Port},
    router, sessions,
    startup::{Accounts, Ready},
};

/// Any failure that keeps the server from starting; it is only ever shown.
pub type StartError = Box<dyn std::error::Error + Send + Sync>;

/// Runs the server until SIGINT or SIGTERM.
pub async fn run(settings: Settings) -> Result<(), StartError> {
    let (stop, stopping) = watch::channel(false);
    let server = open_server(settings).await?;
    if speaks_tls(&server.settings) {
        listeners::gather_entropy();
    }
    let ports = open(&server.settings).await?;
    let accounts = Box::new(sessions::Accounts(server.clone()));
    let federation = federate(&server).await?;
    let app: App = Arc::new(AppState::new(server.clone(), federation, accounts, stopping.clone()));
    announce(&server, &ports).await?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let certificates: Vec<_> = ports.iter().filter_map(Port::certificates).collect();
    let signals = async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => break,
                _ = terminate.recv() => break,
                _ = hang_up.recv() => certificates.iter().for_each(|one| {
                    one.look();
                }),
            }
        }
        tracing::info!("stopping");
        stop.send_replace(true);
    };
    tokio::join!(serve(&app, ports, stopping), signals);
    close(&server, app.federation.as_deref()).await;
    Ok(())
}

/// Ends in good order what no port serves any more.
pub async fn close(server: &Server, federation: Option<&Federation>) {
    if let Some(federation) = federation {
        federation.end().await;
    }
    server.close().await;
}

/// Opens the database of the settings, and all that decides on top of it.
pub async fn open_server(settings: Settings) -> Result<Arc<Server>, StartError> {
    open_server_with(settings, Arc::new(SystemClock)).await
}

/// The same with a clock: tests set theirs.
pub async fn open_server_with(settings: Settings, clock: Arc<dyn Clock>) -> Result<Arc<Server>, StartError> {
    let url = match settings.database_url() {
        DatabaseUrl::Sqlite(path) => {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            if let Some(folder) = folder {
                std::fs::create_dir_all(folder)
                    .map_err(|error| format!("can't make the folder {}: {error}", folder.display()))?;
            }
            format!("sqlite:{}", path.display())
        }
        DatabaseUrl::Postgres(url) => url.expose().to_owned(),
    };
    let database = Options { url, connections: settings.database.connections };
    let replica = replica_name();
    let random = Arc::new(SystemRandom);
    Ok(Server::open(Parts { settings, database, replica, clock, random }).await?)
}

/// Whether TLS is spoken on any side.
fn speaks_tls(settings: &Settings) -> bool {
    let serves = |listener: &Listener| listener.tls_certificate.is_some();
    settings.federation.enabled || settings.listeners.iter().any(serves)
}

/// Starts to speak with other servers, if the settings want it.
pub async fn federate(server: &Arc<Server>) -> Result<Option<Arc<Federation>>, StartError> {
    match server.settings.federation.enabled {
        true => Ok(Some(Federation::start(server.clone()).await?)),
        false => Ok(None),
    }
}

/// This process's name among those over one database: the machine's, for people, and something random, since a
/// machine may run several and no name may come again.
fn replica_name() -> String {
    let machine = std::fs::read_to_string("/proc/sys/kernel/hostname")
        .ok()
        .or_else(|| std::env::var("HOSTNAME").ok())
        .unwrap_or_default();
    let allowed = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    let machine: String = machine.chars().filter(allowed).take(32).collect();
    format!("{machine}/{}", random_text(&SystemRandom, 12))
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
        let router = router::build(app, router::routes_of(&port.apis));
        port.serve(router, stop.clone())
    }))
    .await;
}

async fn announce(server: &Server, ports: &[Port]) -> Result<(), StartError> {
    let settings = &server.settings;
    let database = match settings.database_url() {
        DatabaseUrl::Sqlite(path) => format!("sqlite, {}", path.display()),
        DatabaseUrl::Postgres(_) => "postgresql".to_owned(),
    };
    let token = registration_tokens::first_admin(server).await?;
    let accounts = match &token {
        Some(token) => Accounts::FirstToken(token),
        None if accounts::exist(server).await? => Accounts::Exist,
        None => Accounts::None,
    };
    let ready = Ready {
        server_name: settings.server_name.as_str(),
        ports,
        data_dir: &settings.data_dir,
        database: &database,
        accounts,
    };
    writeln!(std::io::stdout(), "{ready}")?;
    Ok(())
}
