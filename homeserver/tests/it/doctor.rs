//! `myelin doctor` at servers that are well and at servers that are not. Names are played, addresses are those of the
//! loopback interface, and certificates come from an authority that is made for the run.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    process::Command,
    sync::{Arc, OnceLock},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{Router, extract::Request, response::IntoResponse as _};
use futures_util::future::BoxFuture;
use hyper::{StatusCode, header};
use myelin::doctor::{
    Doctor,
    certificate::Trust,
    report::{Outcome, Report},
};
use myelin::listeners::Port;
use myelin_core::{config, events::signatures::ServerKey, ports::SystemClock};
use myelin_federation::outbound::discovery::{Dns, Service};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType, date_time_ymd,
};
use ruma::{OwnedServerName, canonical_json::CanonicalJsonObject};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{net::TcpListener, sync::watch};

use crate::{
    pair::certificates,
    support::{MovableClock, Setup, free_port},
};

/// The host of the tests, and the one that it delegates to.
const HOST: &str = "example.test";
const SERVER: &str = "matrix.example.test";
const KEYS: &str = "/_matrix/key/v2/server";
const VERSION: &str = "/_matrix/federation/v1/version";
const WELL_KNOWN: &str = "/.well-known/matrix/server";
const DAY: i64 = 24 * 3_600_000;

fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// An authority, and a file with its certificate.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    file: String,
    _folder: TempDir,
}

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("authority.pem");
    std::fs::write(&path, issuer.pem()).unwrap();
    Authority { issuer, file: path.display().to_string(), _folder: folder }
}

fn known() -> &'static Authority {
    static MADE: OnceLock<Authority> = OnceLock::new();
    MADE.get_or_init(|| authority("Known Authority"))
}

/// A certificate's names and, in days from now, the time in which it counts.
fn params(names: &[&str], from: i64, until: i64) -> CertificateParams {
    let mut params =
        CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
    params.subject_alt_names.push(SanType::IpAddress([127, 0, 0, 1].into()));
    let at = |days: i64| {
        let since = Duration::from_millis(u64::try_from(now() + days * DAY).unwrap());
        date_time_ymd(1970, 1, 1) + Duration::from_secs(since.as_secs())
    };
    (params.not_before, params.not_after) = (at(from), at(until));
    params
}

/// A good certificate for both names.
fn good() -> CertificateParams {
    params(&[HOST, SERVER], -30, 60)
}

/// A chain and its key, as PEM.
type Pem = (String, String);

fn signed(params: CertificateParams, authority: &Authority) -> Pem {
    let key = KeyPair::generate().unwrap();
    (params.signed_by(&key, &authority.issuer).unwrap().pem(), key.serialize_pem())
}

/// Who answers: a path, then status, headers, body.
type Answers = HashMap<String, (u16, Vec<(header::HeaderName, String)>, String)>;

/// A server on a port of its own, until dropped.
struct Patient {
    port: u16,
    stop: watch::Sender<bool>,
}

impl Drop for Patient {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

impl Patient {
    /// Starts one; `answers` is told its port.
    async fn start(pem: Option<Pem>, answers: impl FnOnce(u16) -> Answers) -> Patient {
        let folder = tempfile::tempdir().unwrap();
        let mut variables = vec![("MYELIN_LISTENERS_0_BIND".to_owned(), "127.0.0.1:0".to_owned())];
        if let Some((chain, key)) = pem {
            for (name, text) in [("CERTIFICATE", chain), ("PRIVATE_KEY", key)] {
                let path = folder.path().join(name);
                std::fs::write(&path, text).unwrap();
                variables.push((format!("MYELIN_LISTENERS_0_TLS_{name}"), path.display().to_string()));
            }
        }
        let settings = config::load(None, variables).unwrap();
        let port = Port::open(&settings.listeners[0]).await.unwrap();
        let number = port.address.port();
        let answers = Arc::new(answers(number));
        let router = Router::new().fallback(move |request: Request| {
            let answers = answers.clone();
            async move {
                let Some((status, headers, body)) = answers.get(request.uri().path()) else {
                    return (StatusCode::NOT_FOUND, "nothing here").into_response();
                };
                let mut response = (StatusCode::from_u16(*status).unwrap(), body.clone()).into_response();
                for (name, value) in headers {
                    response.headers_mut().insert(name, value.parse().unwrap());
                }
                response
            }
        });
        let (stop, stopping) = watch::channel(false);
        tokio::spawn(port.serve(router, stopping));
        Patient { port: number, stop }
    }

    /// A server that is well: `HOST` delegates to `SERVER` on its port. `change` may make it ill.
    async fn well(pem: Pem, change: impl FnOnce(&mut Answers)) -> Patient {
        Self::start(Some(pem), |port| {
            let mut answers = Answers::new();
            answers.answer(WELL_KNOWN, 200, json!({ "m.server": format!("{SERVER}:{port}") }));
            answers.answer(KEYS, 200, keys(HOST, 1, now() + DAY));
            answers.answer(VERSION, 200, json!({ "server": { "name": "Test", "version": "1.0" } }));
            change(&mut answers);
            answers
        })
        .await
    }
}

trait Answer {
    fn answer(&mut self, path: &str, status: u16, body: Value);
    fn text(&mut self, path: &str, status: u16, body: &str);
    fn header(&mut self, path: &str, name: header::HeaderName, value: &str);
}

impl Answer for Answers {
    fn answer(&mut self, path: &str, status: u16, body: Value) {
        self.text(path, status, &body.to_string());
    }
    fn text(&mut self, path: &str, status: u16, body: &str) {
        self.insert(path.to_owned(), (status, Vec::new(), body.to_owned()));
    }
    fn header(&mut self, path: &str, name: header::HeaderName, value: &str) {
        self.get_mut(path).unwrap().1.push((name, value.to_owned()));
    }
}

/// A server's document of keys, signed by itself.
fn keys(name: &str, seed: u8, until: i64) -> Value {
    let key = ServerKey::from_seed("a", &[seed; 32]).unwrap();
    let document = json!({
        "server_name": name, "valid_until_ts": until, "old_verify_keys": {},
        "verify_keys": { "ed25519:a": { "key": key.public_base64() } },
    });
    let mut object: CanonicalJsonObject = serde_json::from_value(document).unwrap();
    key.sign_json(&OwnedServerName::try_from(name).unwrap(), &mut object).unwrap();
    serde_json::to_value(object).unwrap()
}

/// Names that the tests play; all other hosts have no address.
#[derive(Default)]
struct Names(HashMap<String, Vec<(&'static str, u16)>>);

impl Dns for Names {
    fn services<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Vec<Service>> {
        let found = self.0.get(name).into_iter().flatten();
        let found = found.map(|(host, port)| Service { host: (*host).to_owned(), port: *port }).collect();
        Box::pin(async move { found })
    }
    fn addresses<'a>(&'a self, host: &'a str) -> BoxFuture<'a, Vec<IpAddr>> {
        let found = if [HOST, SERVER].contains(&host) { vec![IpAddr::from([127, 0, 0, 1])] } else { vec![] };
        Box::pin(async move { found })
    }
}

fn doctor(https_port: u16) -> Doctor {
    let (trust, remarks) = Trust::new(&[&known().file]);
    assert!(remarks.is_empty(), "{remarks:?}");
    Doctor {
        dns: Arc::new(Names::default()),
        trust,
        denied: Vec::new(),
        clock: Arc::new(SystemClock),
        https_port,
        patience: Duration::from_secs(10),
    }
}

async fn examine(doctor: &Doctor, name: &str) -> Report {
    let mut report = Report::new(|_| {});
    assert!(doctor.examine(name, &mut report).await);
    report
}

/// Checks that a report has a finding with these pieces of text.
#[track_caller]
fn says(report: &Report, step: &str, outcome: Outcome, pieces: &[&str]) {
    let all: Vec<String> = report.findings().iter().map(ToString::to_string).collect();
    let all = all.join("\n");
    let found = report.findings().iter().any(|finding| {
        let text = finding.to_string();
        finding.step == step
            && finding.remark.outcome == outcome
            && pieces.iter().all(|piece| text.contains(piece))
    });
    assert!(found, "no {outcome} {step} with {pieces:?} in\n{all}");
}

/// The same, and nothing else is wrong.
#[track_caller]
fn says_only(report: &Report, step: &str, outcome: Outcome, pieces: &[&str]) {
    says(report, step, outcome, pieces);
    let bad: Vec<String> = report
        .findings()
        .iter()
        .filter(|finding| finding.remark.outcome >= Outcome::Warning)
        .map(ToString::to_string)
        .collect();
    assert_eq!(bad.len(), 1, "{}", bad.join("\n"));
}

#[tokio::test]
async fn a_server_that_is_well() {
    let client = json!({ "m.homeserver": { "base_url": "https://matrix.example.test" } });
    let patient = Patient::well(signed(good(), known()), |answers| {
        answers.header(WELL_KNOWN, header::CACHE_CONTROL, "max-age=3600");
        answers.answer("/.well-known/matrix/client", 200, client);
    })
    .await;
    let report = examine(&doctor(patient.port), HOST).await;
    let port = format!("{SERVER}:{}", patient.port);
    for (step, outcome, text) in [
        ("name", Outcome::Ok, "example.test is a host name"),
        (".well-known", Outcome::Ok, &*format!("example.test delegates to {port}; it holds for 60 minutes")),
        ("address", Outcome::Ok, &*format!("servers go to 127.0.0.1:{}, and ask for {port}", patient.port)),
        ("connection", Outcome::Ok, "TLS 1.3 with X25519MLKEM768"),
        ("certificate", Outcome::Ok, "the certificate is for matrix.example.test, for another 59 days"),
        (
            "certificate",
            Outcome::Ok,
            "Known Authority, which is trusted by federation.extra_ca_certificates alone",
        ),
        ("keys", Outcome::Ok, "its keys are valid for another 23 hours"),
        ("keys", Outcome::Ok, "signed by itself with ed25519:a"),
        ("clock", Outcome::Ok, "agrees"),
        ("software", Outcome::Ok, "it is Test 1.0"),
        ("clients", Outcome::Note, "Access-Control-Allow-Origin: * is missing"),
    ] {
        says(&report, step, outcome, &[text]);
    }
    assert!(report.is_well());
    assert_eq!(report.summary(HOST), "All is well with example.test.");
    let json = report.to_json(HOST);
    assert_eq!((&json["server"], &json["well"]), (&json!(HOST), &json!(true)));
    assert_eq!(
        json["findings"][0],
        json!({ "step": "name", "outcome": "ok", "text": "example.test is a host name" })
    );
}

#[tokio::test]
async fn certificates_that_are_not_right() {
    let stranger = authority("Strange Authority");
    let self_signed = |mut params: CertificateParams, ca: bool| {
        if ca {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        let key = KeyPair::generate().unwrap();
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    };
    let with_chain = |(leaf, key): Pem| (leaf + &stranger.issuer.pem(), key);
    let names = |names: &[&str]| params(names, -30, 60);
    for (pem, outcome, pieces) in [
        (
            signed(names(&["*.example.org", HOST]), known()),
            Outcome::Wrong,
            ["is for *.example.org, example.test", "ask for matrix.example.test", "change m.server"],
        ),
        (
            signed(params(&[HOST, SERVER], -90, -3), known()),
            Outcome::Wrong,
            ["ran out 3 days ago", "on ", "renew"],
        ),
        (
            signed(params(&[HOST, SERVER], -90, 10), known()),
            Outcome::Warning,
            ["runs out in 9 days", "on ", "renew"],
        ),
        (
            signed(params(&[HOST, SERVER], 2, 60), known()),
            Outcome::Wrong,
            ["counts only from", "on", "clocks"],
        ),
        (self_signed(good(), false), Outcome::Wrong, ["self-signed", "no authority", "Let's Encrypt"]),
        (self_signed(good(), true), Outcome::Wrong, ["self-signed", "no authority", "Let's Encrypt"]),
        (signed(good(), &stranger), Outcome::Wrong, ["Strange Authority", "not known here", "fullchain.pem"]),
        (
            with_chain(signed(good(), &stranger)),
            Outcome::Wrong,
            ["Strange Authority", "an authority that is not known here", "federation.extra_ca_certificates"],
        ),
    ] {
        let web = Patient::well(signed(good(), known()), |_| {}).await;
        let patient = Patient::well(pem, |answers| {
            answers.answer(KEYS, 200, keys(&format!("{SERVER}:1"), 1, now() + DAY));
        })
        .await;
        // The name has the port, so the certificate of the one that serves `.well-known` is not asked.
        let name = format!("{SERVER}:{}", patient.port);
        let report = examine(&doctor(web.port), &name).await;
        says(&report, "certificate", outcome, &pieces);
        // What stands behind a bad certificate is looked at all the same.
        says(&report, "keys", Outcome::Wrong, &["those of matrix.example.test:1"]);
        says(&report, "software", Outcome::Ok, &["Test 1.0"]);
    }
}

#[tokio::test]
async fn keys_that_are_not_right() {
    let mut forged = keys(HOST, 1, now() + DAY);
    forged["valid_until_ts"] = json!(now() + 2 * DAY);
    let mut old = keys(HOST, 1, now() + DAY);
    old["signatures"] = json!({});
    for (status, body, outcome, pieces) in [
        (
            200,
            keys("other.test", 1, now() + DAY),
            Outcome::Wrong,
            ["those of other.test", "not of example.test"],
        ),
        (200, keys(HOST, 1, now() - DAY), Outcome::Wrong, ["counted until", "24 hours ago"]),
        (200, keys(HOST, 1, now() + 20_000 * DAY), Outcome::Warning, ["valid until", "seven days"]),
        (200, forged, Outcome::Wrong, ["document of its keys is not right", "signing key"]),
        (200, old, Outcome::Wrong, ["document of its keys is not right", "signing key"]),
        (200, json!([]), Outcome::Wrong, ["no JSON object", "/_matrix/"]),
        (404, json!({}), Outcome::Wrong, ["answers 404", "serve federation"]),
        (502, json!({}), Outcome::Wrong, ["answers 502", "start the homeserver"]),
        (302, json!({}), Outcome::Wrong, ["answers 302", "no redirects"]),
    ] {
        let patient =
            Patient::well(signed(good(), known()), |answers| answers.answer(KEYS, status, body)).await;
        says_only(&examine(&doctor(patient.port), HOST).await, "keys", outcome, &pieces);
    }
}

#[tokio::test]
async fn clocks_that_are_off() {
    let at = |seconds: i64| {
        httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(seconds.unsigned_abs()))
    };
    for (ahead, outcome, pieces) in [
        (3, Outcome::Ok, ["agrees", "this machine's"]),
        (30, Outcome::Warning, ["seconds ahead of", "timedatectl"]),
        (300, Outcome::Wrong, ["minutes ahead of", "timedatectl"]),
    ] {
        let patient = Patient::well(signed(good(), known()), |answers| {
            answers.header(KEYS, header::DATE, &at(ahead + 1));
        })
        .await;
        let report = examine(&doctor(patient.port), HOST).await;
        says(&report, "clock", outcome, &pieces);
        assert_eq!(report.outcome(), outcome.max(Outcome::Note));
    }
    let clock = Arc::new(MovableClock::default());
    clock.advance(600_000);
    let patient = Patient::well(signed(good(), known()), |_| {}).await;
    let report = examine(&Doctor { clock, ..doctor(patient.port) }, HOST).await;
    says_only(&report, "clock", Outcome::Wrong, &["minutes behind this machine's"]);
}

#[tokio::test]
async fn nobody_listens_or_not_with_tls() {
    let free = free_port();
    let report = examine(&doctor(free), &format!("{SERVER}:{free}")).await;
    says_only(&report, "connection", Outcome::Wrong, &["nobody listens at 127.0.0.1", "start the server"]);

    let plain = Patient::start(None, |_| Answers::new()).await;
    let report = examine(&doctor(free), &format!("{SERVER}:{}", plain.port)).await;
    says_only(&report, "connection", Outcome::Wrong, &["does not speak TLS", "certificate"]);

    // One that accepts and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let name = format!("127.0.0.1:{}", silent.local_addr().unwrap().port());
    let hasty = Doctor { patience: Duration::from_millis(300), ..doctor(free) };
    says_only(&examine(&hasty, &name).await, "connection", Outcome::Wrong, &["no answer from", "firewall"]);

    let report = examine(&doctor(free), "nowhere.test:8448").await;
    says_only(&report, "address", Outcome::Wrong, &["nowhere.test has no address", "DNS"]);
}

#[tokio::test]
async fn documents_that_delegate_badly() {
    let bad = [
        (200, "<html>", None, Outcome::Wrong, ["no JSON (it begins with \"<html>\")", "m.server"]),
        (200, "{}", None, Outcome::Wrong, ["has no m.server", "m.server"]),
        (
            200,
            r#"{"m.server":"https://a.test"}"#,
            None,
            Outcome::Wrong,
            ["no server name", "without https://"],
        ),
        (200, r#"{"m.server":"a b"}"#, None, Outcome::Wrong, ["\"a b\", which is no server name", "answer"]),
        (200, r#"{"m.server":8448}"#, None, Outcome::Wrong, ["8448, which is no server name", "answer"]),
        (500, "", None, Outcome::Warning, ["answers 500", "404 if example.test delegates to nobody"]),
        (
            302,
            "",
            Some("http://a.test/"),
            Outcome::Warning,
            ["http://a.test/, which is not https", "redirect"],
        ),
        (302, "", Some(WELL_KNOWN), Outcome::Warning, ["more than 5 redirects", "without redirects"]),
        (404, "", None, Outcome::Note, ["answers 404", "delegates to nobody"]),
        (301, "", Some("https://nowhere.test/x"), Outcome::Note, ["nowhere.test has no address", "8448"]),
    ];
    for (status, body, location, outcome, pieces) in bad {
        let patient = Patient::well(signed(good(), known()), |answers| {
            answers.text(WELL_KNOWN, status, body);
            if let Some(location) = location {
                answers.header(WELL_KNOWN, header::LOCATION, location);
            }
        })
        .await;
        let mut doctor = doctor(patient.port);
        // Without a document that counts, SRV records lead to the server.
        let name = format!("_matrix-fed._tcp.{HOST}.");
        doctor.dns = Arc::new(Names(HashMap::from([(name, vec![(SERVER, patient.port)])])));
        let report = examine(&doctor, HOST).await;
        says(&report, ".well-known", outcome, &pieces);
        says(&report, "SRV", Outcome::Ok, &["_matrix-fed._tcp.example.test names matrix.example.test"]);
        says(&report, "certificate", Outcome::Ok, &["is for example.test"]);
        says(&report, "software", Outcome::Ok, &["Test"]);
        assert_eq!(report.outcome(), outcome.max(Outcome::Note));
    }
}

#[tokio::test]
async fn a_document_behind_a_redirect_and_one_behind_a_bad_certificate() {
    let patient = Patient::well(signed(good(), known()), |answers| {
        let document = answers[WELL_KNOWN].2.clone();
        answers.text("/elsewhere", 200, &document);
        answers.text(WELL_KNOWN, 307, "");
        answers.header(WELL_KNOWN, header::LOCATION, &format!("https://{SERVER}/elsewhere"));
    })
    .await;
    let report = examine(&doctor(patient.port), HOST).await;
    says(&report, ".well-known", Outcome::Note, &["redirects lead to", "matrix.example.test", "/elsewhere"]);
    assert!(report.is_well());

    let patient = Patient::well(signed(params(&[SERVER], -1, 60), known()), |_| {}).await;
    let report = examine(&doctor(patient.port), HOST).await;
    let pieces = ["does not count", "is for matrix.example.test", "get a certificate for example.test"];
    says(&report, ".well-known", Outcome::Warning, &pieces);
    says(&report, "SRV", Outcome::Note, &["has none"]);
    let servers = "servers go to 127.0.0.1:8448, and ask for example.test";
    says(&report, "address", Outcome::Ok, &[servers]);
}

#[tokio::test]
async fn records_that_lead_nowhere_and_addresses_that_are_denied() {
    let patient = Patient::well(signed(good(), known()), |answers| {
        answers.text(WELL_KNOWN, 404, "");
    })
    .await;
    let mut doctor = doctor(patient.port);
    doctor.dns = Arc::new(Names(HashMap::from([
        (format!("_matrix-fed._tcp.{HOST}."), vec![("nowhere.test", 1)]),
        (format!("_matrix._tcp.{HOST}."), vec![(SERVER, patient.port)]),
    ])));
    let report = examine(&doctor, HOST).await;
    says_only(
        &report,
        "SRV",
        Outcome::Warning,
        &["nowhere.test, which has no address", "take the SRV record"],
    );
    says(&report, "SRV", Outcome::Ok, &["_matrix._tcp.example.test", "an old record"]);

    doctor.denied = vec!["127.0.0.0/8".parse().unwrap()];
    let report = examine(&doctor, HOST).await;
    says(&report, ".well-known", Outcome::Note, &["only addresses of federation.denied_ip_ranges"]);
    says(&report, "address", Outcome::Wrong, &["127.0.0.1 is in 127.0.0.0/8", "/etc/hosts"]);
    assert!(report.findings().iter().all(|finding| finding.step != "connection"));
}

#[tokio::test]
async fn a_myelin_is_well() {
    let setup = Setup::start_federated(1, None, &[]).await;
    let (trust, _) = Trust::new(&[&certificates().authority]);
    let report = examine(&Doctor { trust, ..doctor(443) }, &setup.name()).await;
    says(&report, "software", Outcome::Ok, &["Myelin"]);
    assert!(report.is_well(), "{:#?}", report.findings());
    setup.end().await;
}

/// Runs the binary; gives its exit code and what it prints.
fn myelin(arguments: &[&str], variables: &[(&str, &str)]) -> (i32, String) {
    let others = std::env::vars_os().map(|(name, _)| name);
    let mut command = Command::new(env!("CARGO_BIN_EXE_myelin"));
    for name in others.filter(|name| name.to_string_lossy().starts_with("MYELIN_")) {
        command.env_remove(name);
    }
    let output = command.arg("doctor").args(arguments).envs(variables.iter().copied()).output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn what_is_no_name_is_misuse() {
    for (name, advice) in [
        ("https://example.test", "without https://"),
        ("@alice:example.test", "behind the colon: example.test"),
        ("bücher.test", "xn--"),
        ("2001:db8::1", "in brackets"),
        ("exa mple", "a host or an IP address"),
    ] {
        let (code, text) = myelin(&[name], &[]);
        assert_eq!(code, 2, "{text}");
        assert!(text.contains("is no server name") && text.contains(advice), "{text}");
    }
    assert_eq!(myelin(&[], &[]).0, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_tells_by_its_exit_code() {
    let patient = Patient::start(Some(signed(good(), known())), |port| {
        let mut answers = Answers::new();
        answers.answer(KEYS, 200, keys(&format!("127.0.0.1:{port}"), 1, now() + DAY));
        answers.answer(VERSION, 200, json!({ "server": { "name": "\u{1b}[31mTest", "version": "1.0" } }));
        answers
    })
    .await;
    let name = SocketAddr::from(([127, 0, 0, 1], patient.port)).to_string();
    let settings = [
        ("MYELIN_FEDERATION_DENIED_IP_RANGES", ""),
        ("MYELIN_FEDERATION_EXTRA_CA_CERTIFICATES", &*known().file),
    ];
    let (code, text) = myelin(&[&name], &settings);
    assert_eq!(code, 0, "{text}");
    assert!(text.ends_with(&format!("All is well with {name}.\n")), "{text}");
    assert!(text.contains("it is \u{fffd}[31mTest 1.0"), "foreign text can't drive the terminal: {text}");

    // A configuration that can't be used is no obstacle; the defaults deny the address.
    let (code, text) = myelin(&["--json", &name, "--config", "/nowhere/myelin.toml"], &settings);
    assert_eq!(code, 1, "{text}");
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(report["well"], false);
    assert_eq!(report["findings"][0]["step"], "settings");
    let findings = report["findings"].as_array().unwrap();
    assert!(findings.iter().any(|finding| finding["step"] == "address" && finding["outcome"] == "wrong"));
}
