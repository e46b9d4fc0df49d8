//! `myelin doctor NAME`: goes the way that other servers go to a server, and says in words where it ends.
//!
//! * [`report`] is what was found, step by step; [`words`] has times and foreign texts in it.
//! * `name`, `delegation`, `place`: the name, `.well-known`, SRV records and addresses. Host and port come from the
//!   server's own [`Discovery`](myelin_federation::outbound::discovery::Discovery), so they are those that it uses.
//! * [`connection`] and [`certificate`]: TLS to each address. A bad certificate ends nothing: what comes after it is
//!   looked at all the same.
//! * `page` and `answers`: keys, clock and software.
//!
//! No database and no running server are needed, and nothing is sent that would tell who asks.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use futures_util::future::join_all;
use myelin_core::{
    config::{IpRange, Settings},
    ports::{Clock, SystemClock},
};
use myelin_federation::outbound::{
    discovery::{Destination, Dns},
    dns::SystemDns,
};
use ruma::ServerName;

mod answers;
pub mod certificate;
pub mod connection;
mod delegation;
mod name;
mod page;
mod place;
pub mod report;
pub mod words;

use certificate::Trust;
use connection::{Connected, Trouble, connect, tls_name};
use page::{Ask, Page};
use report::{Outcome, Remark, Report};

/// How long anything that is asked may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Largest answer that is read.
const SIZE: usize = 1 << 20;

/// What examines servers.
pub struct Doctor {
    /// Names and addresses.
    pub dns: Arc<dyn Dns>,
    /// Believed authorities.
    pub trust: Trust,
    /// Where requests never go.
    pub denied: Vec<IpRange>,
    /// This machine's clock.
    pub clock: Arc<dyn Clock>,
    /// The port of `https://` addresses without one: 443, but in tests.
    pub https_port: u16,
    /// How long each thing that is asked may take.
    pub patience: Duration,
}

impl Doctor {
    /// One that sees with the eyes of a server with these settings; also what is wrong with them.
    pub fn new(settings: &Settings) -> (Self, Vec<Remark>) {
        let (trust, remarks) = Trust::new(&settings.federation.extra_ca_certificates);
        let doctor = Self {
            dns: Arc::new(SystemDns::new()),
            trust,
            denied: settings.federation.denied_ip_ranges.clone(),
            clock: Arc::new(SystemClock),
            https_port: 443,
            patience: PATIENCE,
        };
        (doctor, remarks)
    }

    /// Examines a server. False if the name is none, and nothing was asked.
    pub async fn examine(&self, name: &str, report: &mut Report) -> bool {
        let Some(server) = name::check(name, report) else { return false };
        let plain = !server.is_ip_literal() && server.port().is_none();
        let document = if plain { self.delegation(server.host(), report).await } else { None };
        if let Some(host) = delegation::host_of_services(&server, document.as_ref()) {
            self.services(&host, report).await;
        }
        match self.destination(&server, document).await {
            Some(destination) => self.server(&server, &destination, report).await,
            None => report.add(
                "address",
                Remark::wrong(
                    "DNS gives no answer in time",
                    "see that the name servers of the domain answer",
                ),
            ),
        }
        if !server.is_ip_literal() {
            self.client_document(server.host(), report).await;
        }
        true
    }

    /// Looks at the server where it is.
    async fn server(&self, server: &ServerName, destination: &Destination, report: &mut Report) {
        let addresses = self.addresses(destination, report).await;
        let mut connections = self.connections(&addresses, &destination.host, report).await;
        self.certificates(&connections, &destination.host, report);
        if connections.is_empty() {
            return;
        }
        let first = connections.remove(0);
        let at = first.at;
        drop(connections);
        let ask =
            |path| Ask { host_header: &destination.host_header, path, size: SIZE, patience: self.patience };
        match ask(answers::KEYS).over(first, &*self.clock).await {
            Ok(page) => self.keys(&page, server, report),
            Err(reason) => report.add("keys", silence(at, &reason)),
        }
        match ask(answers::VERSION).at(at, &destination.host, &*self.clock).await {
            Ok(page) => report.add("software", answers::software(&page)),
            Err(reason) => report.add("software", silence(at, &reason)),
        }
    }

    /// Connects to all addresses, at once.
    async fn connections(&self, addresses: &[SocketAddr], host: &str, report: &mut Report) -> Vec<Connected> {
        let tries = addresses.iter().map(|at| async move { (*at, connect(*at, host, self.patience).await) });
        let (good, bad): (Vec<_>, Vec<_>) =
            join_all(tries).await.into_iter().partition(|(_, made)| made.is_ok());
        let good: Vec<Connected> = good.into_iter().filter_map(|(_, made)| made.ok()).collect();
        for one in &good {
            let text = format!("{} answers after {} ms: {}", one.at, one.took.as_millis(), one.protocol());
            report.add("connection", Remark::ok(text));
        }
        let worst = if good.is_empty() { Outcome::Wrong } else { Outcome::Warning };
        for (at, trouble) in bad.into_iter().filter_map(|(at, made)| Some((at, made.err()?))) {
            report.add("connection", self.trouble(at, &trouble, host, good.is_empty()).at_most(worst));
        }
        good
    }

    fn trouble(&self, at: SocketAddr, trouble: &Trouble, host: &str, alone: bool) -> Remark {
        if trouble.is_ours(at) && !alone {
            return Remark::note(format!("{at} was not tried: this machine has no way to IPv6 addresses"));
        }
        trouble.remark(at, host)
    }

    /// Judges the certificates of all addresses; most show the same one.
    fn certificates(&self, connections: &[Connected], host: &str, report: &mut Report) {
        let Some(name) = tls_name(host) else { return };
        let mut said: Vec<Remark> = Vec::new();
        for connected in connections {
            for remark in certificate::judge(&connected.chain, host, &name, self.clock.now_ms(), &self.trust)
            {
                if !said.contains(&remark) {
                    said.push(remark.clone());
                    report.add("certificate", remark);
                }
            }
        }
    }

    fn keys(&self, page: &Page, server: &ServerName, report: &mut Report) {
        for remark in answers::keys(page, server, self.clock.now_ms()) {
            report.add("keys", remark);
        }
        report.add("clock", answers::clock(page));
    }
}

fn silence(at: SocketAddr, reason: &str) -> Remark {
    Remark::wrong(format!("{at} {reason}"), "see what the server or its proxy logs at this moment")
}
