//! Where the server is: SRV records, host and port, addresses.

use std::net::{IpAddr, SocketAddr};

use futures_util::{FutureExt as _, future::BoxFuture};
use myelin_core::config::IpRange;
use myelin_federation::outbound::discovery::{Destination, Discovery, Document, WellKnown};
use ruma::ServerName;
use tokio::time::timeout;

use super::{
    Doctor,
    report::{Remark, Report},
    words::foreign,
};

const SERVICES: &str = "SRV";
const ADDRESSES: &str = "address";
/// Addresses that are tried.
const MOST: usize = 8;
/// Records that are looked at.
const MOST_SERVICES: usize = 8;

/// A `.well-known` document that is here already.
struct Known(Option<Document>);

impl WellKnown for Known {
    fn get<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Option<Document>> {
        std::future::ready(self.0.clone()).boxed()
    }
}

impl Doctor {
    /// Says which SRV records a host has.
    pub(super) async fn services(&self, host: &str, report: &mut Report) {
        let mut any = false;
        for (service, old) in [("_matrix-fed._tcp", false), ("_matrix._tcp", true)] {
            let name = format!("{service}.{host}.");
            let Ok(found) = timeout(self.patience, self.dns.services(&name)).await else {
                let text = format!("DNS gives no answer about {service}.{host}");
                report.add(SERVICES, Remark::warning(text, "see that the name servers of the domain answer"));
                continue;
            };
            for one in found.iter().take(MOST_SERVICES) {
                let (target, port) = (foreign(&one.host), one.port);
                any = true;
                let remark = if self.lookup(&one.host, port).await.is_empty() {
                    Remark::warning(
                        format!("{service}.{host} names {target}, which has no address"),
                        format!("give {target} an A or AAAA record, or take the SRV record away"),
                    )
                } else {
                    let old = if old { " (an old record, which servers still read)" } else { "" };
                    Remark::ok(format!("{service}.{host} names {target} port {port}{old}"))
                };
                report.add(SERVICES, remark);
            }
        }
        if !any {
            report.add(SERVICES, Remark::note(format!("{host} has none: servers go to port 8448 of it")));
        }
    }

    /// Where the server would connect to, by its own discovery.
    pub(super) async fn destination(
        &self,
        server: &ServerName,
        document: Option<Document>,
    ) -> Option<Destination> {
        let discovery =
            Discovery::new(self.dns.clone(), std::sync::Arc::new(Known(document)), self.clock.clone());
        // Two kinds of records, and the addresses of what they name.
        timeout(self.patience * 3, discovery.find(server)).await.ok()
    }

    /// The addresses that may be connected to.
    pub(super) async fn addresses(&self, destination: &Destination, report: &mut Report) -> Vec<SocketAddr> {
        let Destination { host, port, host_header, addresses } = destination;
        let mut found = match addresses.is_empty() {
            true => self.lookup(host, *port).await,
            false => addresses.clone(),
        };
        found.sort();
        found.dedup();
        if found.is_empty() {
            report.add(
                ADDRESSES,
                Remark::wrong(
                    format!("{host} has no address"),
                    format!("give {host} an A or AAAA record in DNS, or say in .well-known or SRV records where the server is. \
                         If no name has one, this machine can't ask DNS"),
                ),
            );
            return found;
        }
        let list: Vec<String> = found.iter().take(MOST).map(ToString::to_string).collect();
        let more =
            if found.len() > MOST { format!(" and {} more", found.len() - MOST) } else { String::new() };
        report.add(
            ADDRESSES,
            Remark::ok(format!("servers go to {}{more}, and ask for {host_header}", list.join(", "))),
        );
        let (denied, allowed): (Vec<_>, Vec<_>) =
            found.into_iter().take(MOST).partition(|at| self.denial(at.ip()).is_some());
        for at in denied {
            if let Some(range) = self.denial(at.ip()) {
                report.add(ADDRESSES, denied_remark(at.ip(), range, allowed.is_empty()));
            }
        }
        allowed
    }

    /// The addresses of a host; an address is its own.
    pub(super) async fn lookup(&self, host: &str, port: u16) -> Vec<SocketAddr> {
        if let Ok(address) = host.trim_matches(['[', ']']).parse::<IpAddr>() {
            return vec![SocketAddr::new(address, port)];
        }
        let found = timeout(self.patience, self.dns.addresses(host)).await.unwrap_or_default();
        found.into_iter().map(|ip| SocketAddr::new(ip, port)).collect()
    }

    /// The range of the settings for which requests to an address are not made.
    pub(super) fn denial(&self, address: IpAddr) -> Option<IpRange> {
        self.denied.iter().copied().find(|range| range.contains(address))
    }
}

fn denied_remark(address: IpAddr, range: IpRange, all: bool) -> Remark {
    let text = format!("{address} is in {range} of federation.denied_ip_ranges: nothing is asked there");
    let advice = "other servers do likewise: let DNS name a public address (and see what /etc/hosts says on this machine). In \
                  a closed network take the range out of federation.denied_ip_ranges";
    if all { Remark::wrong(text, advice) } else { Remark::warning(text, advice) }
}
