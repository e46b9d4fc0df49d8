//! `.well-known`: whether a host delegates its server's name to another, and where it sends clients.

use hyper::{Uri, header};
use myelin_federation::outbound::discovery::{Document, WELL_KNOWN_SIZE, max_age, parse_well_known};
use ruma::ServerName;
use serde_json::Value;

use super::{
    Doctor,
    certificate::judge,
    connection::{Connected, Trouble, connect, tls_name},
    page::{Ask, Page},
    report::{Outcome, Remark, Report},
    words::{foreign, span},
};

const STEP: &str = ".well-known";
const SERVER: &str = "/.well-known/matrix/server";
const CLIENT: &str = "/.well-known/matrix/client";
/// Redirects that the server follows.
const REDIRECTS: usize = 5;
/// How long a document without headers is kept, and any at most, in seconds.
const USUAL_AGE: i64 = 24 * 3_600;
const MOST_AGE: i64 = 48 * 3_600;
/// What follows where there is no document that counts.
const ABSENT: &str = "servers go on as if there were no document, to SRV records and port 8448";
/// How the document looks.
const EXAMPLE: &str = r#"{"m.server":"matrix.example.org:443"}"#;

/// A page, and over which addresses it came.
struct Found {
    page: Page,
    by: Vec<String>,
}

impl Doctor {
    /// The document by which a host delegates, if there is one.
    pub(super) async fn delegation(&self, host: &str, report: &mut Report) -> Option<Document> {
        let found = match self.fetch(host, SERVER).await {
            Ok(found) => found,
            Err(remark) => {
                let text = format!("{}: {ABSENT}", remark.text);
                report.add(STEP, Remark { text, ..remark });
                return None;
            }
        };
        let Found { page, by } = found;
        if by.len() > 1 {
            report.add(STEP, Remark::note(format!("redirects lead to {}", by.join(", then "))));
        }
        if !(200..300).contains(&page.status) {
            report.add(STEP, no_document(host, page.status));
            return None;
        }
        let max_age = page.header(header::CACHE_CONTROL).and_then(max_age);
        report.add(STEP, document(host, &page.body, max_age));
        Some(Document { body: page.body, max_age })
    }

    /// Where a host sends clients. Servers do not look at it, so nothing of it is wrong here.
    pub(super) async fn client_document(&self, host: &str, report: &mut Report) {
        let remark = match self.fetch(host, CLIENT).await {
            Ok(Found { page, .. }) => client_document(&page),
            Err(remark) => Remark::note(format!("clients find no {CLIENT}: {}", remark.text)),
        };
        report.add("clients", remark.at_most(Outcome::Note));
    }

    /// Gets a page by HTTPS as the server does: with redirects, and only with a good certificate.
    async fn fetch(&self, host: &str, path: &str) -> Result<Found, Remark> {
        let (mut host, mut port, mut path) = (host.to_owned(), self.https_port, path.to_owned());
        let mut by = Vec::new();
        loop {
            let connected = self.reach(&host, port).await?;
            let host_header = if port == 443 { host.clone() } else { format!("{host}:{port}") };
            let ask = Ask {
                host_header: &host_header,
                path: &path,
                size: WELL_KNOWN_SIZE,
                patience: self.patience,
            };
            let page = ask.over(connected, &*self.clock).await.map_err(|reason| {
                Remark::warning(
                    format!("{host} {reason}"),
                    format!("see what the web server of {host} logs about {path}"),
                )
            })?;
            by.push(format!("https://{host_header}{path}"));
            let Some(target) =
                (300..400).contains(&page.status).then(|| page.header(header::LOCATION)).flatten()
            else {
                return Ok(Found { page, by });
            };
            if by.len() > REDIRECTS {
                return Err(Remark::warning(
                    format!("{path} is behind more than {REDIRECTS} redirects"),
                    format!("answer {path} at {host} without redirects"),
                ));
            }
            (host, port, path) = self.target(target, host, port)?;
        }
    }

    /// Where a redirect leads.
    fn target(&self, location: &str, host: String, port: u16) -> Result<(String, u16, String), Remark> {
        if location.starts_with('/') && !location.starts_with("//") {
            return Ok((host, port, location.to_owned()));
        }
        let refused = |what: &str| {
            Remark::warning(
                format!("{host} redirects to {}, {what}", foreign(location)),
                "redirect to an https:// address, or answer without a redirect",
            )
        };
        let uri: Uri = location.parse().map_err(|_| refused("which is no address"))?;
        if uri.scheme_str() != Some("https") {
            return Err(refused("which is not https"));
        }
        let target = uri.host().ok_or_else(|| refused("which is no address"))?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        Ok((target.to_owned(), uri.port_u16().unwrap_or(self.https_port), path.to_owned()))
    }

    /// A connection to a web server whose certificate is good. Where nobody is there the host just does not delegate.
    async fn reach(&self, host: &str, port: u16) -> Result<Connected, Remark> {
        let addresses = self.lookup(host, port).await;
        if addresses.is_empty() {
            return Err(Remark::note(format!("{host} has no address")));
        }
        let allowed: Vec<_> = addresses.into_iter().filter(|at| self.denial(at.ip()).is_none()).collect();
        let mut failed = Remark::note(format!(
            "{host} has only addresses of federation.denied_ip_ranges, where nothing is asked"
        ));
        for at in allowed {
            match connect(at, host, self.patience).await {
                Ok(connected) => {
                    self.insist_on_trust(&connected, host)?;
                    return Ok(connected);
                }
                Err(trouble) => {
                    let remark = trouble.remark(at, host);
                    failed = match trouble {
                        Trouble::Tcp(_) => Remark::note(remark.text),
                        _ => remark.at_most(Outcome::Warning),
                    };
                }
            }
        }
        Err(failed)
    }

    fn insist_on_trust(&self, connected: &Connected, host: &str) -> Result<(), Remark> {
        let Some(name) = tls_name(host) else { return Ok(()) };
        let remarks = judge(&connected.chain, host, &name, self.clock.now_ms(), &self.trust);
        match remarks.into_iter().find(|remark| remark.outcome == Outcome::Wrong) {
            None => Ok(()),
            Some(remark) => {
                let text = format!("what {host} says does not count, since {}", remark.text);
                let advice = format!(
                    "if {host} is to delegate, get a certificate for {host}: what it delegates to needs one of its own besides"
                );
                Err(Remark::warning(text, advice))
            }
        }
    }
}

fn no_document(host: &str, status: u16) -> Remark {
    let text = format!("{host} answers {status} to {SERVER}");
    match status {
        404 | 410 => Remark::note(format!("{text}: it delegates to nobody, {ABSENT}")),
        _ => Remark::warning(
            format!("{text}, so {ABSENT}"),
            format!("answer with 200 and {EXAMPLE}, or with 404 if {host} delegates to nobody"),
        ),
    }
}

/// What the document says and for how long.
fn document(host: &str, body: &[u8], max_age: Option<i64>) -> Remark {
    if let Some(server) = parse_well_known(body) {
        let age = match max_age {
            None => format!("it does not say for how long, so servers take {}", span(USUAL_AGE * 1_000)),
            Some(age) => format!("it holds for {}", span(age.clamp(60, MOST_AGE) * 1_000)),
        };
        return Remark::ok(format!("{host} delegates to {server}; {age}"));
    }
    let advice =
        format!("let https://{host}{SERVER} answer {EXAMPLE}, with the name that servers are to go to");
    let Ok(value) = serde_json::from_slice::<Value>(body) else {
        let begin = foreign(String::from_utf8_lossy(body).trim());
        let begin: String = begin.chars().take(40).collect();
        return Remark::wrong(format!("{SERVER} is no JSON (it begins with {begin:?}), so {ABSENT}"), advice);
    };
    match value.get("m.server") {
        None => Remark::wrong(format!("{SERVER} has no m.server, so {ABSENT}"), advice),
        Some(Value::String(server)) if server.contains("://") || server.contains('/') => Remark::wrong(
            format!("m.server is {:?}, an address and no server name, so {ABSENT}", foreign(server)),
            "give host and port alone, without https:// and without a path: matrix.example.org:443",
        ),
        Some(server) => {
            let text =
                format!("m.server is {}, which is no server name, so {ABSENT}", foreign(&server.to_string()));
            Remark::wrong(text, advice)
        }
    }
}

fn client_document(page: &Page) -> Remark {
    if page.status != 200 {
        return Remark::note(format!(
            "{CLIENT} answers {}: users have to type the server's address",
            page.status
        ));
    }
    let value: Value = serde_json::from_slice(&page.body).unwrap_or_default();
    let Some(url) = value.pointer("/m.homeserver/base_url").and_then(Value::as_str) else {
        return Remark::note(format!(
            "{CLIENT} names no m.homeserver.base_url, so clients stop with an error"
        ));
    };
    let url = foreign(url);
    match page.header(header::ACCESS_CONTROL_ALLOW_ORIGIN) {
        Some("*") => Remark::note(format!("clients are sent to {url}")),
        _ => Remark::note(format!(
            "clients are sent to {url}, but those in browsers may not read it: the header Access-Control-Allow-Origin: * \
             is missing"
        )),
    }
}

/// The host whose SRV records count: what is delegated to, if that needs any.
pub fn host_of_services(server: &ServerName, document: Option<&Document>) -> Option<String> {
    let needs_none = |server: &ServerName| server.is_ip_literal() || server.port().is_some();
    if needs_none(server) {
        return None;
    }
    match document.and_then(|document| parse_well_known(&document.body)) {
        Some(delegated) if needs_none(&delegated) => None,
        Some(delegated) => Some(delegated.host().to_owned()),
        None => Some(server.host().to_owned()),
    }
}
