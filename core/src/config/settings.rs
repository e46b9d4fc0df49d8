//! The typed settings.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use ruma::{OwnedServerName, RoomVersionId};
use serde::{Deserialize, Deserializer};

use super::{ConfigError, DatabaseUrl, Entries, IpRange, Problem, Secret};

/// All settings. What each means stands in [`super::KEYS`].
#[derive(Clone, Debug, Deserialize)]
pub struct Settings {
    /// The server's name.
    pub server_name: OwnedServerName,
    public_baseurl: Option<String>,
    /// Where files are kept.
    pub data_dir: PathBuf,
    /// The database.
    pub database: Database,
    /// What is served where; at least one.
    pub listeners: Vec<Listener>,
    /// Who may register.
    pub registration: Registration,
    /// Rooms.
    pub rooms: Rooms,
    /// Other servers.
    pub federation: Federation,
    /// Presence.
    pub presence: Presence,
    /// Calls.
    pub turn: Turn,
    /// Requests to push gateways and for previews.
    pub outbound_http: OutboundHttp,
    /// Limits.
    pub limits: Limits,
    /// The log.
    pub log: Log,
}

/// The database.
#[derive(Clone, Debug, Deserialize)]
pub struct Database {
    url: Option<DatabaseUrl>,
    /// Connections for reading.
    pub connections: u32,
}

/// One port.
#[derive(Clone, Debug, Deserialize)]
pub struct Listener {
    /// Address and port.
    pub bind: SocketAddr,
    /// The APIs on it.
    pub serve: Vec<Api>,
    /// PEM file with the certificate chain.
    pub tls_certificate: Option<PathBuf>,
    /// PEM file with the private key.
    pub tls_private_key: Option<PathBuf>,
    /// Whether X-Forwarded-For is believed.
    pub trust_forwarded_for: bool,
}

/// A group of endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Api {
    /// Client-server API.
    Client,
    /// Server-server API.
    Federation,
    /// Metrics for Prometheus.
    Metrics,
}

impl Api {
    /// The name in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Federation => "federation",
            Self::Metrics => "metrics",
        }
    }
}

/// Who may register.
#[derive(Clone, Debug, Deserialize)]
pub struct Registration {
    /// Who may register.
    pub mode: RegistrationMode,
    /// Whether guests may.
    pub guests: bool,
    /// The secret of `/_synapse/admin/v1/register`.
    pub shared_secret: Option<Secret>,
}

/// Who may register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RegistrationMode {
    /// Nobody.
    Closed,
    /// Who has a registration token.
    Token,
    /// Anybody.
    Open,
}

/// Rooms.
#[derive(Clone, Debug, Deserialize)]
pub struct Rooms {
    /// Version of new rooms.
    pub default_version: RoomVersionId,
}

/// Other servers.
#[derive(Clone, Debug, Deserialize)]
pub struct Federation {
    /// Whether there are any.
    pub enabled: bool,
    /// PEM files with additional certificate authorities.
    pub extra_ca_certificates: Vec<PathBuf>,
    /// Where requests never go.
    pub denied_ip_ranges: Vec<IpRange>,
    /// Notaries.
    pub trusted_key_servers: Vec<OwnedServerName>,
    /// Whether others may read the directory of rooms.
    pub public_rooms: bool,
    /// Whether others see the names of devices.
    pub device_names: bool,
}

/// Presence.
#[derive(Clone, Debug, Deserialize)]
pub struct Presence {
    /// Whether there is any.
    pub enabled: bool,
}

/// The TURN server.
#[derive(Clone, Debug, Deserialize)]
pub struct Turn {
    /// Where it is; none where there is none.
    pub uris: Vec<String>,
    /// The secret that it shares with this server.
    pub shared_secret: Option<Secret>,
}

/// Requests to push gateways and for previews.
#[derive(Clone, Debug, Deserialize)]
pub struct OutboundHttp {
    /// Where requests never go.
    pub denied_ip_ranges: Vec<IpRange>,
}

/// Limits.
#[derive(Clone, Debug, Deserialize)]
pub struct Limits {
    /// Whether there are rate limits at all.
    pub rate_limits: bool,
    /// Logins.
    pub login: Rate,
    /// Registrations.
    pub registration: Rate,
    /// Events.
    pub message: Rate,
    /// Largest request body in bytes.
    pub request_size: usize,
    #[serde(deserialize_with = "seconds", rename = "request_seconds")]
    /// How long a request body may take.
    pub request_time: Duration,
    /// Cost of hashing passwords.
    pub password_hashing: PasswordHashing,
    /// Budget of all caches in bytes.
    pub cache_bytes: usize,
}

/// A token bucket's figures.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
pub struct Rate {
    /// Whether the limit holds.
    pub enabled: bool,
    /// How fast the bucket fills.
    pub per_second: f64,
    /// How much it holds.
    pub burst: u32,
}

/// Cost of argon2id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct PasswordHashing {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes.
    pub iterations: u32,
    /// Lanes.
    pub parallelism: u32,
}

/// The log.
#[derive(Clone, Debug, Deserialize)]
pub struct Log {
    /// Level, or levels by module.
    pub level: String,
    /// How lines look.
    pub format: LogFormat,
    /// Whether clients' addresses may be kept.
    pub client_addresses: bool,
}

/// How the lines of the log look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}

fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    u64::deserialize(deserializer).map(Duration::from_secs)
}

impl Settings {
    /// Where the database is: as set, else a file in the data directory.
    pub fn database_url(&self) -> DatabaseUrl {
        self.database.url.clone().unwrap_or_else(|| DatabaseUrl::Sqlite(self.data_dir.join("myelin.db")))
    }

    /// Where clients reach the server, without a slash at the end.
    pub fn public_baseurl(&self) -> String {
        if let Some(url) = &self.public_baseurl {
            return url.trim_end_matches('/').to_owned();
        }
        let host = self.server_name.host();
        let address: Option<IpAddr> = host.trim_matches(['[', ']']).parse().ok();
        let local = host == "localhost" || address.is_some_and(|address| address.is_loopback());
        format!("{}://{}", if local { "http" } else { "https" }, self.server_name)
    }
}

/// Turns checked entries into settings, and checks what concerns several keys.
pub(super) fn from_entries(entries: &Entries) -> Result<Settings, ConfigError> {
    let settings = Settings::deserialize(entries.to_toml())
        .map_err(|error| ConfigError { problems: vec![Problem::new("settings", error.message())] })?;
    let problems = cross_checks(&settings);
    if problems.is_empty() { Ok(settings) } else { Err(ConfigError { problems }) }
}

fn cross_checks(settings: &Settings) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (index, listener) in settings.listeners.iter().enumerate() {
        if listener.tls_certificate.is_some() != listener.tls_private_key.is_some() {
            problems.push(Problem::new(
                format!("listeners.{index}"),
                "tls_certificate and tls_private_key are only allowed together",
            ));
        }
        let taken = settings.listeners.iter().take(index).any(|other| other.bind == listener.bind);
        if taken && listener.bind.port() != 0 {
            problems.push(Problem::new(
                format!("listeners.{index}.bind"),
                format!("{} is already another listener's; give it all it has to serve", listener.bind),
            ));
        }
    }
    if settings.turn.uris.is_empty() != settings.turn.shared_secret.is_none() {
        problems.push(Problem::new("turn", "uris and shared_secret are only allowed together"));
    }
    let hashing = settings.limits.password_hashing;
    if hashing.memory_kib < 8 * hashing.parallelism {
        problems.push(Problem::new(
            "limits.password_hashing.memory_kib",
            format!(
                "{} stands there; argon2 needs 8 KiB for each of {} lanes",
                hashing.memory_kib, hashing.parallelism
            ),
        ));
    }
    problems
}
