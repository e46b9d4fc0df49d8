//! Ports: TCP or TLS, HTTP/1.1 and HTTP/2, and a shutdown that lets requests end.

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use axum::body::Body;
use hyper::{Request, body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
};
use myelin_core::config::{Api, Listener};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::{sleep, timeout},
};
use tower::Service as _;
use tower_http::{
    CompressionLevel,
    compression::{
        Compression, CompressionLayer, Predicate as _,
        predicate::{And, NotForContentType, SizeAbove},
    },
};

use crate::extract::{ClientAddress, forwarded_for};

mod again;
mod tls;

use self::again::Again;
pub use self::tls::{Certificates, gather_entropy};

/// How long a client may take to finish a TLS handshake, and how often HTTP/2 clients are asked whether they are there.
const HANDSHAKE_TIME: Duration = Duration::from_secs(30);

/// How long an HTTP/1 connection may be idle, or take for the head of a request. Reverse proxies (nginx 60 s, Caddy 120)
/// and other servers (120) keep their connections for less: if we closed one first, a request could be on its way to it.
const IDLE_TIME: Duration = Duration::from_secs(150);

/// How long requests may go on after the server was told to stop.
const DRAIN_TIME: Duration = Duration::from_secs(5);

/// Smaller answers are not worth compressing.
const COMPRESSED_FROM: u64 = 2048;

/// Buffer of an HTTP/1 connection; longer heads are refused.
const HTTP1_BUFFER: usize = 64 << 10;

/// What went wrong when opening a port.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The port can't be bound.
    #[error("can't listen on {0}: {1}")]
    Bind(SocketAddr, io::Error),
    /// A PEM file can't be read.
    #[error("can't read {0}: {1}")]
    Pem(PathBuf, rustls::pki_types::pem::Error),
    /// Certificate and key are refused.
    #[error("can't use the certificate {0}: {1}")]
    Tls(PathBuf, rustls::Error),
}

/// A port that is open.
pub struct Port {
    listener: TcpListener,
    tls: Option<Arc<Certificates>>,
    trust_forwarded_for: bool,
    /// The address, with the port that the system chose if 0 was asked for.
    pub address: SocketAddr,
    /// The APIs on it.
    pub apis: Vec<Api>,
}

impl Port {
    /// Opens a port.
    pub async fn open(settings: &Listener) -> Result<Self, ListenError> {
        let failed = |error| ListenError::Bind(settings.bind, error);
        let listener = TcpListener::bind(settings.bind).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let tls = match (&settings.tls_certificate, &settings.tls_private_key) {
            (Some(certificate), Some(key)) => Some(Arc::new(Certificates::open(certificate, key)?)),
            _ => None,
        };
        let trust_forwarded_for = settings.trust_forwarded_for;
        Ok(Self { listener, tls, trust_forwarded_for, address, apis: settings.serve.clone() })
    }

    /// The port's certificate, if it speaks TLS: it can be read anew.
    pub fn certificates(&self) -> Option<Arc<Certificates>> {
        self.tls.clone()
    }

    /// Whether the port speaks TLS.
    pub fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Serves until told to stop, then lets requests end for a few seconds.
    pub async fn serve(self, router: axum::Router, mut stop: watch::Receiver<bool>) {
        let connections = Connections::new(router, self.tls, self.trust_forwarded_for);
        let graceful = GracefulShutdown::new();
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = told_to_stop(&mut stop) => break,
            };
            match accepted {
                Ok((stream, peer)) => {
                    tokio::spawn(connections.clone().serve(stream, peer, graceful.watcher()));
                }
                Err(error) => {
                    // No file descriptors left, most likely: trying at once again would only burn time.
                    tracing::warn!(%error, address = %self.address, "can't accept a connection");
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
        drop(self.listener);
        if timeout(DRAIN_TIME, graceful.shutdown()).await.is_err() {
            tracing::warn!(address = %self.address, "requests are still running, ending all the same");
        }
    }
}

async fn told_to_stop(stop: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, which is an end as well.
    let _ = stop.wait_for(|stop| *stop).await;
}

type HttpService = Compression<axum::Router, And<SizeAbove, NotForContentType>>;

/// What a connection needs; cheap to clone.
#[derive(Clone)]
struct Connections {
    service: HttpService,
    http: Arc<auto::Builder<TokioExecutor>>,
    tls: Option<Arc<Certificates>>,
    trust_forwarded_for: bool,
}

impl Connections {
    fn new(router: axum::Router, tls: Option<Arc<Certificates>>, trust_forwarded_for: bool) -> Self {
        let large = SizeAbove::new(COMPRESSED_FROM).and(NotForContentType::IMAGES);
        let compression = CompressionLayer::new().quality(CompressionLevel::Fastest).compress_when(large);
        let service = tower::Layer::layer(&compression, router);
        let mut http = auto::Builder::new(TokioExecutor::new());
        http.http1()
            .timer(TokioTimer::new())
            .header_read_timeout(IDLE_TIME)
            .max_buf_size(HTTP1_BUFFER)
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(Some(HANDSHAKE_TIME));
        Self { service, http: Arc::new(http), tls, trust_forwarded_for }
    }

    async fn serve(
        self,
        stream: TcpStream,
        peer: SocketAddr,
        watcher: hyper_util::server::graceful::Watcher,
    ) {
        // Answers are written in one piece: waiting for more of them only costs time.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "can't switch Nagle's algorithm off");
        }
        match self.tls.as_ref().map(|certificates| certificates.acceptor()) {
            None => self.serve_stream(stream, peer, watcher).await,
            Some(acceptor) => match timeout(HANDSHAKE_TIME, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => self.serve_stream(stream, peer, watcher).await,
                Ok(Err(error)) => tracing::debug!(%error, "TLS handshake failed"),
                Err(_) => tracing::debug!("TLS handshake took too long"),
            },
        }
    }

    async fn serve_stream<S>(
        self,
        stream: S,
        peer: SocketAddr,
        watcher: hyper_util::server::graceful::Watcher,
    ) where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Self { service, http, trust_forwarded_for, .. } = self;
        let service = service_fn(move |mut request: Request<Incoming>| {
            let forwarded = if trust_forwarded_for { forwarded_for(&request) } else { None };
            let address = forwarded.unwrap_or_else(|| peer.ip().to_canonical());
            request.extensions_mut().insert(ClientAddress(address));
            service.clone().call(request.map(Body::new))
        });
        let connection = http.serve_connection(TokioIo::new(stream), service).into_owned();
        if let Err(error) = Again::new(watcher.watch(connection)).await {
            tracing::debug!(%error, "connection ended");
        }
    }
}
