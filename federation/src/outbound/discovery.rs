//! Where a server is: from its name to an address, as the specification's "Server discovery" has it.
//!
//! The steps, in their order: an IP address; a name with a port; what the name's `.well-known` document delegates to
//! (an address, a name with a port, SRV records, port 8448); the name's own SRV records; port 8448. The network is asked
//! through [`Dns`] and [`WellKnown`], so that tests decide what it says.
//!
//! What was found is remembered: a `.well-known` document for as long as its headers say (a day without, two days at
//! most), a failure to get it for an hour, SRV records for five minutes.

use futures_util::future::BoxFuture;
use myelin_core::ports::Clock;
use parking_lot::Mutex;
use ruma::{OwnedServerName, ServerName};
use serde::Deserialize;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// The port of servers that say none.
const PORT: u16 = 8448;
/// Milliseconds of an hour.
const HOUR: i64 = 3_600_000;
/// How long SRV records are remembered, in milliseconds.
const SRV_TIME: i64 = 300_000;
/// Servers that are remembered.
const REMEMBERED: usize = 10_000;
/// Largest `.well-known` document that is read, in bytes.
pub const WELL_KNOWN_SIZE: usize = 50 << 10;

/// Where to connect to, and as whom to speak.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// The name or address that the certificate must be valid for.
    pub host: String,
    /// The port.
    pub port: u16,
    /// What the Host header says.
    pub host_header: String,
    /// Where the host is, if SRV records say so; else it is looked up.
    pub addresses: Vec<SocketAddr>,
}

/// A target of SRV records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// The host.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// What a `.well-known` document said.
#[derive(Clone, Debug, Default)]
pub struct Document {
    /// The body.
    pub body: Vec<u8>,
    /// How long it holds, in seconds, if its headers say.
    pub max_age: Option<i64>,
}

/// Names and their addresses.
pub trait Dns: Send + Sync + 'static {
    /// The targets of SRV records, the best first; none where there are no such records.
    fn services<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Vec<Service>>;
    /// The addresses of a host.
    fn addresses<'a>(&'a self, host: &'a str) -> BoxFuture<'a, Vec<IpAddr>>;
}

/// Gets `https://HOST/.well-known/matrix/server`.
pub trait WellKnown: Send + Sync + 'static {
    /// The document, if there is one.
    fn get<'a>(&'a self, host: &'a str) -> BoxFuture<'a, Option<Document>>;
}

#[derive(Deserialize)]
struct Delegation {
    #[serde(rename = "m.server")]
    server: OwnedServerName,
}

/// Reads a `.well-known` document.
pub fn parse_well_known(body: &[u8]) -> Option<OwnedServerName> {
    serde_json::from_slice::<Delegation>(body).ok().map(|delegation| delegation.server)
}

/// Finds servers.
pub struct Discovery {
    dns: Arc<dyn Dns>,
    well_known: Arc<dyn WellKnown>,
    clock: Arc<dyn Clock>,
    found: Mutex<HashMap<OwnedServerName, (i64, Destination)>>,
}

impl Discovery {
    /// Finds servers through these.
    pub fn new(dns: Arc<dyn Dns>, well_known: Arc<dyn WellKnown>, clock: Arc<dyn Clock>) -> Self {
        Self { dns, well_known, clock, found: Mutex::default() }
    }

    /// Where a server is.
    pub async fn find(&self, server: &ServerName) -> Destination {
        if let Some(destination) = literal(server) {
            return destination;
        }
        let now = self.clock.now_ms();
        if let Some((until, destination)) = self.found.lock().get(server)
            && *until > now
        {
            return destination.clone();
        }
        let (destination, holds) = self.look(server).await;
        let mut found = self.found.lock();
        if found.len() >= REMEMBERED {
            found.retain(|_, (until, _)| *until > now);
        }
        if found.len() >= REMEMBERED {
            found.clear();
        }
        found.insert(server.to_owned(), (now + holds, destination.clone()));
        destination
    }

    /// Forgets where a server is: it was not there.
    pub fn forget(&self, server: &ServerName) {
        self.found.lock().remove(server);
    }

    /// The destination, and for how many milliseconds it holds.
    async fn look(&self, server: &ServerName) -> (Destination, i64) {
        let document = self.well_known.get(server.host()).await;
        let delegated = document.as_ref().and_then(|document| parse_well_known(&document.body));
        let (Some(document), Some(delegated)) = (document, delegated) else {
            let (destination, by_srv) = self.host(server.host()).await;
            return (destination, if by_srv { SRV_TIME } else { HOUR });
        };
        let holds = document.max_age.map_or(24 * HOUR, |seconds| seconds.saturating_mul(1_000));
        let holds = holds.clamp(60_000, 48 * HOUR);
        if let Some(destination) = literal(&delegated) {
            return (destination, holds);
        }
        let (destination, by_srv) = self.host(delegated.host()).await;
        (destination, if by_srv { holds.min(SRV_TIME) } else { holds })
    }

    /// A host without a port: SRV records, or the usual port.
    async fn host(&self, host: &str) -> (Destination, bool) {
        for service in ["_matrix-fed._tcp", "_matrix._tcp"] {
            let found = self.dns.services(&format!("{service}.{host}.")).await;
            for Service { host: target, port } in found {
                let addresses = self.dns.addresses(&target).await;
                if !addresses.is_empty() {
                    let addresses = addresses.into_iter().map(|ip| SocketAddr::new(ip, port)).collect();
                    return (Destination { addresses, ..plain(host, port, host) }, true);
                }
            }
        }
        (plain(host, PORT, host), false)
    }
}

fn plain(host: &str, port: u16, host_header: &str) -> Destination {
    Destination { host: host.to_owned(), port, host_header: host_header.to_owned(), addresses: Vec::new() }
}

/// What needs no asking: an IP address, or a name with a port.
fn literal(server: &ServerName) -> Option<Destination> {
    match (server.is_ip_literal(), server.port()) {
        (true, port) => Some(plain(server.host(), port.unwrap_or(PORT), server.as_str())),
        (false, Some(port)) => Some(plain(server.host(), port, server.as_str())),
        (false, None) => None,
    }
}

/// The time for which headers let a document be kept, in seconds: `max-age` of Cache-Control, 0 for what may not be
/// stored.
pub fn max_age(cache_control: &str) -> Option<i64> {
    let mut age = None;
    for directive in cache_control.split(',').map(str::trim) {
        if directive.eq_ignore_ascii_case("no-store") || directive.eq_ignore_ascii_case("no-cache") {
            return Some(0);
        }
        if let Some((name, value)) = directive.split_once('=')
            && name.trim().eq_ignore_ascii_case("max-age")
        {
            age = value.trim().trim_matches('"').parse().ok();
        }
    }
    age
}

#[cfg(test)]
mod tests;
