//! Each step of the specification's server discovery.

use super::*;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

#[derive(Default)]
struct Network {
    documents: HashMap<&'static str, (&'static str, Option<i64>)>,
    services: HashMap<&'static str, Vec<(&'static str, u16)>>,
    asked: AtomicUsize,
    now: AtomicI64,
}

impl Dns for Network {
    fn services<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Vec<Service>> {
        let found = self.services.get(name).into_iter().flatten();
        let found = found.map(|(host, port)| Service { host: (*host).to_owned(), port: *port }).collect();
        Box::pin(async move { found })
    }
    fn addresses<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Vec<IpAddr>> {
        Box::pin(async { vec![IpAddr::from([192, 0, 2, 1])] })
    }
}

impl WellKnown for Network {
    fn get<'a>(&'a self, host: &'a str) -> BoxFuture<'a, Option<Document>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let found = self.documents.get(host);
        let found =
            found.map(|(body, max_age)| Document { body: body.as_bytes().to_vec(), max_age: *max_age });
        Box::pin(async move { found })
    }
}

impl Clock for Network {
    fn now_ms(&self) -> i64 {
        self.now.load(Ordering::Relaxed)
    }
}

fn discovery(network: Network) -> (Discovery, Arc<Network>) {
    let network = Arc::new(network);
    (Discovery::new(network.clone(), network.clone(), network.clone()), network)
}

async fn find(network: Network, name: &str) -> (String, u16, String, usize) {
    let (discovery, _) = discovery(network);
    let found = discovery.find(<&ServerName>::try_from(name).unwrap()).await;
    (found.host, found.port, found.host_header, found.addresses.len())
}

fn is(host: &str, port: u16, header: &str, addresses: usize) -> (String, u16, String, usize) {
    (host.to_owned(), port, header.to_owned(), addresses)
}

#[tokio::test]
async fn addresses_and_ports_are_taken_as_they_are() {
    let find = |name| find(Network::default(), name);
    assert_eq!(find("192.0.2.7").await, is("192.0.2.7", 8448, "192.0.2.7", 0));
    assert_eq!(find("192.0.2.7:9000").await, is("192.0.2.7", 9000, "192.0.2.7:9000", 0));
    assert_eq!(find("[2001:db8::1]").await, is("[2001:db8::1]", 8448, "[2001:db8::1]", 0));
    assert_eq!(find("[2001:db8::1]:9000").await, is("[2001:db8::1]", 9000, "[2001:db8::1]:9000", 0));
    assert_eq!(find("example.org:9000").await, is("example.org", 9000, "example.org:9000", 0));
}

#[tokio::test]
async fn a_document_delegates() {
    for (document, services, expected) in [
        (r#"{"m.server":"192.0.2.9"}"#, None, is("192.0.2.9", 8448, "192.0.2.9", 0)),
        (r#"{"m.server":"other.example:443"}"#, None, is("other.example", 443, "other.example:443", 0)),
        (
            r#"{"m.server":"other.example"}"#,
            Some("_matrix-fed._tcp.other.example."),
            is("other.example", 4000, "other.example", 1),
        ),
        (
            r#"{"m.server":"other.example"}"#,
            Some("_matrix._tcp.other.example."),
            is("other.example", 4000, "other.example", 1),
        ),
        (r#"{"m.server":"other.example"}"#, None, is("other.example", 8448, "other.example", 0)),
        ("[]", None, is("example.org", 8448, "example.org", 0)),
        (r#"{"m.server":"no name/"}"#, None, is("example.org", 8448, "example.org", 0)),
    ] {
        let network = Network {
            documents: HashMap::from([("example.org", (document, None))]),
            services: services.into_iter().map(|name| (name, vec![("host.example", 4000)])).collect(),
            ..Network::default()
        };
        assert_eq!(find(network, "example.org").await, expected, "{document}");
    }
}

#[tokio::test]
async fn services_without_a_document() {
    for name in ["_matrix-fed._tcp.example.org.", "_matrix._tcp.example.org."] {
        let services = HashMap::from([(name, vec![("host.example", 4000)])]);
        let found = find(Network { services, ..Network::default() }, "example.org").await;
        assert_eq!(found, is("example.org", 4000, "example.org", 1));
    }
}

#[tokio::test]
async fn what_was_found_holds_as_long_as_it_says() {
    let document = (r#"{"m.server":"other.example:443"}"#, Some(600));
    let (discovery, network) =
        discovery(Network { documents: HashMap::from([("example.org", document)]), ..Network::default() });
    let name = <&ServerName>::try_from("example.org").unwrap();
    for (now, asked) in [(0, 1), (599_999, 1), (600_001, 2), (1_200_000, 2), (1_200_002, 3)] {
        network.now.store(now, Ordering::Relaxed);
        discovery.find(name).await;
        assert_eq!(network.asked.load(Ordering::Relaxed), asked, "at {now}");
    }
}

#[test]
fn ages() {
    assert_eq!(max_age("public, max-age=3600"), Some(3600));
    assert_eq!(max_age("no-store"), Some(0));
    assert_eq!(max_age("private"), None);
    assert_eq!(max_age("max-age=nonsense"), None);
}
