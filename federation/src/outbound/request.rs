//! A request to another server: found, signed, sent, bounded in time and size.

use super::backoff::Backoff;
use super::discovery::{Destination, Discovery};
use super::dns::{Hosts, HttpWellKnown, SystemDns};
use super::large::{Large, Share};
use myelin_core::Error;
use myelin_core::server::Server;
use reqwest::Method;
use reqwest::header::{HOST, HeaderValue, USER_AGENT};
use ruma::api::auth_scheme::{AuthScheme, NoAuthentication};
use ruma::api::federation::authentication::{ServerSignatures, XMatrixSigningInput};
use ruma::api::path_builder::PathBuilder;
use ruma::api::{IncomingResponseExt as _, OutgoingRequest, OutgoingRequestExt as _};
use ruma::{OwnedServerName, ServerName};
use serde::Deserialize;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(10);
/// How long an unused connection is kept.
const IDLE: Duration = Duration::from_secs(120);
/// How large the whole state of a room may be, and all large answers together that are read at once.
const LARGE: usize = 512 << 20;

/// How long a request may take, how large its answer may be, and whether it is made to a server that lately did not
/// answer.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    time: Duration,
    size: usize,
    insist: bool,
    /// An answer shows that the server is there, and it is not left alone any more.
    counts: bool,
}

impl Patience {
    /// For a hundred events at most, in the background.
    pub const SOME: Patience =
        Patience { time: Duration::from_secs(60), size: 8 << 20, insist: false, counts: true };
    /// For what knows no bounds but those of a room, in the background.
    pub const EVENTS: Patience = Patience { size: 64 << 20, ..Self::SOME };
    /// For the answer to a transaction, which holds no more than what was wrong with each of its events.
    pub const TRANSACTION: Patience = Patience { size: 1 << 20, ..Self::SOME };
    /// For what somebody waits for: a profile, keys.
    pub const QUICK: Patience = Patience { time: Duration::from_secs(15), ..Self::SOME };
    /// For a look whether a server that did not answer is there again; that it is, what is sent to it then has to show.
    pub const PROBE: Patience = Patience { size: 64 << 10, counts: false, ..Self::QUICK };
    /// For what a user asked for, once: a join, an invitation.
    pub const INSIST: Patience = Patience { insist: true, ..Self::SOME };
    /// For the whole state of a room.
    pub const ROOM: Patience = Patience { time: Duration::from_secs(300), size: LARGE, ..Self::INSIST };
}

/// What a server answered, and what that takes of the room for large answers.
struct Body {
    status: u16,
    bytes: Vec<u8>,
    share: Share,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The server did not answer lately and is left alone for now.
    #[error("{0} did not answer lately and is left alone for now")]
    LeftAlone(OwnedServerName),
    /// It can't be reached.
    #[error("{server} can't be reached: {reason}")]
    Unreachable {
        /// Who.
        server: OwnedServerName,
        /// Why.
        reason: String,
    },
    /// Its answer is large, and so are others that are under way.
    #[error("the answer of {0} is too large beside others that are being read; try again later")]
    NoRoom(OwnedServerName),
    /// It answered with an error.
    #[error("{server} answered {status} {errcode}: {message}")]
    Refused {
        /// Who.
        server: OwnedServerName,
        /// The HTTP status.
        status: u16,
        /// The errcode; empty where there was none.
        errcode: String,
        /// What it says.
        message: String,
        /// The whole error, for fields beside these.
        body: serde_json::Value,
    },
    /// The answer makes no sense.
    #[error("{server} answered nonsense: {reason}")]
    Nonsense {
        /// Who.
        server: OwnedServerName,
        /// What is wrong with it.
        reason: String,
    },
    /// The request can't be made.
    #[error("the request can't be made: {0}")]
    Impossible(String),
}

impl RequestError {
    /// The status that a server answered with.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }
}

impl From<RequestError> for Error {
    /// What the client is told that wanted something from there.
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::Refused { status: 403, message, .. } => Error::Forbidden(message),
            RequestError::Refused { status: 404, message, .. } => Error::NotFound(message),
            RequestError::Refused { ref errcode, ref body, .. }
                if errcode == "M_INCOMPATIBLE_ROOM_VERSION" =>
            {
                let version = body.get("room_version").and_then(|version| version.as_str());
                Error::IncompatibleRoomVersion(version.unwrap_or("unknown").to_owned())
            }
            // It is this server that has no room for it.
            RequestError::NoRoom(_) => Error::Unavailable(error.to_string()),
            other => Error::Elsewhere(other.to_string()),
        }
    }
}

/// A scheme of authentication of the server-server API.
pub trait Sign: AuthScheme {
    /// What the scheme needs to sign a request from one server to another.
    fn input<'a>(server: &'a Server, to: &ServerName) -> Self::Input<'a>;
}

impl Sign for ServerSignatures {
    fn input<'a>(server: &'a Server, to: &ServerName) -> XMatrixSigningInput<'a> {
        XMatrixSigningInput::new(server.owned_name(), to.to_owned(), server.key.pair())
    }
}

impl Sign for NoAuthentication {
    fn input(_: &Server, _: &ServerName) {}
}

/// Speaks to other servers.
pub struct Client {
    server: Arc<Server>,
    http: reqwest::Client,
    hosts: Hosts,
    large: Large,
    /// Where servers are.
    pub discovery: Discovery,
    /// Who does not answer.
    pub backoff: Backoff,
}

impl Client {
    /// A client with the settings' certificate authorities and forbidden addresses.
    pub async fn new(server: Arc<Server>) -> myelin_core::Result<Self> {
        let settings = &server.settings.federation;
        let dns = Arc::new(SystemDns::new());
        let hosts = Hosts::new(dns.clone(), &settings.denied_ip_ranges);
        let mut extra = Vec::new();
        for path in &settings.extra_ca_certificates {
            extra.extend(authorities(path)?);
        }
        let builder = || {
            reqwest::Client::builder()
                .dns_resolver(hosts.clone())
                .tls_certs_merge(extra.clone())
                .no_proxy()
                .http1_only()
                .connect_timeout(CONNECT)
                .pool_idle_timeout(IDLE)
        };
        let failed = |error: reqwest::Error| {
            Error::InvalidParam(format!(
                "other servers can't be trusted: {}. Install the system's certificate authorities \
                 (ca-certificates), name some in federation.extra_ca_certificates, or set federation.enabled to false",
                causes(&error)
            ))
        };
        let http = builder().redirect(reqwest::redirect::Policy::none()).build().map_err(failed)?;
        let follow = reqwest::redirect::Policy::custom(redirect(hosts.clone()));
        let well_known = builder().redirect(follow).build().map_err(failed)?;
        let discovery = Discovery::new(dns, Arc::new(HttpWellKnown(well_known)), server.clock.clone());
        let backoff = Backoff::load(&server).await?;
        Ok(Self { server, http, hosts, large: Large::new(LARGE), discovery, backoff })
    }

    /// Sends a request and reads its answer.
    pub async fn send<R>(
        &self,
        to: &ServerName,
        request: R,
        patience: Patience,
    ) -> Result<R::IncomingResponse, RequestError>
    where
        R: OutgoingRequest,
        R::Authentication: Sign,
        for<'a> R::PathBuilder: PathBuilder<Input<'a> = ()>,
    {
        let Body { status, bytes, share: _share } = self.exchange(to, request, patience).await?;
        let response = http::Response::builder().status(status).body(&*bytes);
        let response = response.map_err(|error| RequestError::Impossible(error.to_string()))?;
        let parsed = R::IncomingResponse::try_from_http_response(response);
        parsed.map_err(|error| RequestError::Nonsense { server: to.to_owned(), reason: error.to_string() })
    }

    /// Whether a server may be asked now.
    pub fn is_left_alone(&self, server: &ServerName) -> bool {
        self.backoff.until(server, self.server.now_ms()).is_some()
    }

    async fn exchange<R>(&self, to: &ServerName, request: R, patience: Patience) -> Result<Body, RequestError>
    where
        R: OutgoingRequest,
        R::Authentication: Sign,
        for<'a> R::PathBuilder: PathBuilder<Input<'a> = ()>,
    {
        if !patience.insist && self.is_left_alone(to) {
            return Err(RequestError::LeftAlone(to.to_owned()));
        }
        let work = async {
            let destination = self.discovery.find(to).await;
            let request = self.prepare(to, &destination, request)?;
            self.transfer(to, request, patience.size).await
        };
        let unreachable = |reason: String| RequestError::Unreachable { server: to.to_owned(), reason };
        let answer = match tokio::time::timeout(patience.time, work).await {
            Ok(answer) => answer,
            Err(_) => Err(unreachable(format!("no answer within {} s", patience.time.as_secs()))),
        };
        match &answer {
            Err(RequestError::Unreachable { .. }) => {
                self.discovery.forget(to);
                let mut spread = [0];
                self.server.random.fill(&mut spread);
                self.backoff.failed(&self.server, to, spread[0]).await;
            }
            _ if patience.counts => self.backoff.answered(&self.server, to).await,
            _ => {}
        }
        let body = answer?;
        match body.status {
            200..300 => Ok(body),
            status => Err(refused(to, status, &body.bytes)),
        }
    }

    /// The request as it goes over the wire, signed.
    fn prepare<R>(
        &self,
        to: &ServerName,
        destination: &Destination,
        request: R,
    ) -> Result<reqwest::Request, RequestError>
    where
        R: OutgoingRequest,
        R::Authentication: Sign,
        for<'a> R::PathBuilder: PathBuilder<Input<'a> = ()>,
    {
        let Destination { host, port, host_header, addresses } = destination;
        if let Ok(address) = host.trim_matches(['[', ']']).parse::<IpAddr>()
            && !self.hosts.allows(address)
        {
            let reason = format!("requests may not go to {address}");
            return Err(RequestError::Unreachable { server: to.to_owned(), reason });
        }
        self.hosts.put(host, addresses);
        let input = <R::Authentication as Sign>::input(&self.server, to);
        let request: http::Request<Vec<u8>> = request
            .try_into_http_request(&format!("https://{host}:{port}"), input, ())
            .map_err(|error| RequestError::Impossible(error.to_string()))?;
        let mut request = reqwest::Request::try_from(request)
            .map_err(|error| RequestError::Impossible(error.to_string()))?;
        let header = HeaderValue::from_str(host_header);
        let header = header.map_err(|error| RequestError::Impossible(error.to_string()))?;
        request.headers_mut().insert(HOST, header);
        request.headers_mut().insert(USER_AGENT, HeaderValue::from_static("Myelin"));
        Ok(request)
    }

    async fn transfer(
        &self,
        to: &ServerName,
        request: reqwest::Request,
        limit: usize,
    ) -> Result<Body, RequestError> {
        let unreachable = |error: reqwest::Error| RequestError::Unreachable {
            server: to.to_owned(),
            reason: causes(&error.without_url()),
        };
        // A connection that was kept may be closed by the other side just when it is used again, which says nothing about
        // that side. Of what is asked by POST some is given once only.
        let again = if request.method() == Method::POST { None } else { request.try_clone() };
        let response = match (self.http.execute(request).await, again) {
            (Err(error), Some(again)) if broke_off(&error) => self.http.execute(again).await,
            (response, _) => response,
        };
        let mut response = response.map_err(unreachable)?;
        let status = response.status().as_u16();
        let mut body = Body { status, bytes: Vec::new(), share: Share::default() };
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            let size = body.bytes.len() + chunk.len();
            if size > limit {
                let reason = format!("the answer is larger than {limit} bytes");
                return Err(RequestError::Nonsense { server: to.to_owned(), reason });
            }
            if !self.large.grow(&mut body.share, size) {
                return Err(RequestError::NoRoom(to.to_owned()));
            }
            body.bytes.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

/// There was a connection, and nothing that is an answer came over it.
fn broke_off(error: &reqwest::Error) -> bool {
    error.is_request() && !error.is_connect() && !error.is_timeout()
}

/// An error and what caused it, in one line.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

fn refused(server: &ServerName, status: u16, body: &[u8]) -> RequestError {
    #[derive(Default, Deserialize)]
    struct Body {
        #[serde(default)]
        errcode: String,
        #[serde(default)]
        error: String,
    }
    // What others say goes into answers and logs: not without bounds.
    let short = |text: String| text.chars().take(500).collect::<String>();
    let value: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let Body { errcode, error } = serde_json::from_value(value.clone()).unwrap_or_default();
    let (errcode, message) = (short(errcode), short(error));
    let server = server.to_owned();
    if matches!(status, 429 | 500..) && errcode.is_empty() {
        // A proxy speaks, whose server is not there.
        return RequestError::Unreachable { server, reason: format!("status {status}") };
    }
    RequestError::Refused { server, status, errcode, message, body: value }
}

/// The certificates of a PEM file.
fn authorities(path: &std::path::Path) -> myelin_core::Result<Vec<reqwest::Certificate>> {
    let failed = |error: &dyn std::fmt::Display| {
        Error::InvalidParam(format!(
            "federation.extra_ca_certificates: can't read {}: {error}",
            path.display()
        ))
    };
    let pem = std::fs::read(path).map_err(|error| failed(&error))?;
    reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| failed(&error))
}

/// Follows redirects of `.well-known` documents, but not to addresses that requests may not go to.
fn redirect(hosts: Hosts) -> impl Fn(reqwest::redirect::Attempt<'_>) -> reqwest::redirect::Action {
    move |attempt| {
        let host = attempt.url().host_str().unwrap_or_default().trim_matches(['[', ']']);
        let address = host.parse::<IpAddr>().ok();
        if attempt.previous().len() > 5
            || attempt.url().scheme() != "https"
            || address.is_some_and(|address| !hosts.allows(address))
        {
            return attempt.stop();
        }
        attempt.follow()
    }
}
