//! The network's own answers: DNS by hickory, `.well-known` by reqwest; and where requests may not go.

use super::discovery::{Dns, Document, Service, WELL_KNOWN_SIZE, WellKnown, max_age};
use futures_util::future::BoxFuture;
use hickory_resolver::TokioResolver;
use hickory_resolver::proto::rr::{RData, RecordType};
use myelin_core::config::IpRange;
use parking_lot::RwLock;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{CACHE_CONTROL, HeaderMap};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// How long a `.well-known` document is waited for.
const WELL_KNOWN_TIME: Duration = Duration::from_secs(10);
/// Hosts whose addresses SRV records gave that are remembered.
const REMEMBERED: usize = 10_000;

/// The system's resolver.
pub struct SystemDns {
    resolver: Option<TokioResolver>,
}

impl SystemDns {
    /// The resolver that the machine is set up with. Without one there are no SRV records; addresses are still found.
    pub fn new() -> Self {
        let resolver = TokioResolver::builder_tokio().and_then(|builder| builder.build());
        if let Err(error) = &resolver {
            tracing::warn!(%error, "the system's resolver can't be read: SRV records are not looked up");
        }
        Self { resolver: resolver.ok() }
    }
}

impl Default for SystemDns {
    fn default() -> Self {
        Self::new()
    }
}

impl Dns for SystemDns {
    fn services<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Vec<Service>> {
        Box::pin(async move {
            let Some(resolver) = &self.resolver else { return Vec::new() };
            let Ok(found) = resolver.lookup(name, RecordType::SRV).await else { return Vec::new() };
            let mut services = Vec::new();
            for record in found.answers() {
                let RData::SRV(srv) = &record.data else { continue };
                let host = srv.target.to_ascii();
                // A single dot says that there is no such service.
                let host = host.trim_end_matches('.').to_owned();
                if !host.is_empty() {
                    services.push((srv.priority, u16::MAX - srv.weight, Service { host, port: srv.port }));
                }
            }
            services.sort_by_key(|(priority, weight, _)| (*priority, *weight));
            services.into_iter().map(|(_, _, service)| service).collect()
        })
    }

    fn addresses<'a>(&'a self, host: &'a str) -> BoxFuture<'a, Vec<IpAddr>> {
        Box::pin(async move {
            let Ok(found) = tokio::net::lookup_host((host, 0)).await else { return Vec::new() };
            found.map(|address| address.ip()).collect()
        })
    }
}

/// Resolves hosts for the HTTP client: SRV records go before the host's own addresses, and addresses that requests may
/// never go to are left out.
#[derive(Clone)]
pub struct Hosts {
    dns: Arc<dyn Dns>,
    overrides: Arc<RwLock<HashMap<String, Vec<SocketAddr>>>>,
    denied: Arc<[IpRange]>,
}

impl Hosts {
    /// Resolves by `dns`, but to no address in `denied`.
    pub fn new(dns: Arc<dyn Dns>, denied: &[IpRange]) -> Self {
        Self { dns, overrides: Arc::default(), denied: denied.into() }
    }

    /// Notes where a host is by its SRV records; forgets it where there are none.
    pub fn put(&self, host: &str, addresses: &[SocketAddr]) {
        if addresses.is_empty() && !self.overrides.read().contains_key(host) {
            return;
        }
        let mut overrides = self.overrides.write();
        if addresses.is_empty() {
            overrides.remove(host);
            return;
        }
        if overrides.len() >= REMEMBERED {
            overrides.clear();
        }
        overrides.insert(host.to_owned(), addresses.to_vec());
    }

    /// Whether requests may go to an address.
    pub fn allows(&self, address: IpAddr) -> bool {
        !self.denied.iter().any(|range| range.contains(address))
    }
}

impl Resolve for Hosts {
    fn resolve(&self, name: Name) -> Resolving {
        let hosts = self.clone();
        Box::pin(async move {
            let known = hosts.overrides.read().get(name.as_str()).cloned();
            let found: Vec<SocketAddr> = match known {
                Some(known) => known,
                None => {
                    let found = hosts.dns.addresses(name.as_str()).await;
                    found.into_iter().map(|ip| SocketAddr::new(ip, 0)).collect()
                }
            };
            if found.is_empty() {
                return Err(format!("{} has no address", name.as_str()).into());
            }
            let allowed: Vec<SocketAddr> = found.into_iter().filter(|at| hosts.allows(at.ip())).collect();
            if allowed.is_empty() {
                let text = format!("{} has only addresses that requests may not go to", name.as_str());
                return Err(text.into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

/// Gets `.well-known` documents from the network.
pub struct HttpWellKnown(pub reqwest::Client);

impl WellKnown for HttpWellKnown {
    fn get<'a>(&'a self, host: &'a str) -> BoxFuture<'a, Option<Document>> {
        Box::pin(async move {
            let url = format!("https://{host}/.well-known/matrix/server");
            let mut response = self.0.get(url).timeout(WELL_KNOWN_TIME).send().await.ok()?;
            if !response.status().is_success() {
                return None;
            }
            let max_age = age(response.headers());
            let mut body = Vec::new();
            while let Some(chunk) = response.chunk().await.ok()? {
                body.extend_from_slice(&chunk);
                if body.len() > WELL_KNOWN_SIZE {
                    return None;
                }
            }
            Some(Document { body, max_age })
        })
    }
}

fn age(headers: &HeaderMap) -> Option<i64> {
    headers.get(CACHE_CONTROL).and_then(|value| value.to_str().ok()).and_then(max_age)
}
