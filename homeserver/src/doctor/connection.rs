//! A TLS connection to one address. Certificates are taken as they come and judged afterwards, so that a bad one does
//! not hide what stands behind it.

use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsError, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::report::Remark;

/// A connection after its handshake.
pub struct Connected {
    /// Whom it leads to.
    pub at: SocketAddr,
    /// The stream.
    pub stream: TlsStream<TcpStream>,
    /// The other side's certificates, its own first.
    pub chain: Vec<CertificateDer<'static>>,
    /// How long the TCP connection took to come about.
    pub took: Duration,
}

impl Connected {
    /// The protocol and how keys were agreed on: "TLS 1.3 with X25519MLKEM768".
    pub fn protocol(&self) -> String {
        let tls = self.stream.get_ref().1;
        let version = match tls.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_3) => "TLS 1.3",
            Some(rustls::ProtocolVersion::TLSv1_2) => "TLS 1.2",
            _ => "TLS",
        };
        match tls.negotiated_key_exchange_group() {
            Some(group) => format!("{version} with {:?}", group.name()),
            None => version.to_owned(),
        }
    }
}

/// Why there is no connection.
#[derive(Debug)]
pub enum Trouble {
    /// It took too long.
    Slow(Duration),
    /// No TCP connection came about.
    Tcp(io::Error),
    /// TCP did, TLS did not.
    Tls(io::Error),
    /// What the certificate must be for is no name that TLS knows.
    Name,
}

/// Connects to an address as to `host`.
pub async fn connect(at: SocketAddr, host: &str, patience: Duration) -> Result<Connected, Trouble> {
    let name = tls_name(host).ok_or(Trouble::Name)?;
    let began = Instant::now();
    let stream = match timeout(patience, TcpStream::connect(at)).await {
        Ok(stream) => stream.map_err(Trouble::Tcp)?,
        Err(_) => return Err(Trouble::Slow(patience)),
    };
    let took = began.elapsed();
    let config = config().map_err(|error| Trouble::Tls(io::Error::other(error)))?;
    let stream = match timeout(patience, TlsConnector::from(config).connect(name, stream)).await {
        Ok(stream) => stream.map_err(Trouble::Tls)?,
        Err(_) => return Err(Trouble::Slow(patience)),
    };
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default().to_vec();
    Ok(Connected { at, stream, chain, took })
}

/// A host as TLS names it.
pub fn tls_name(host: &str) -> Option<ServerName<'static>> {
    ServerName::try_from(host.trim_matches(['[', ']']).to_owned()).ok()
}

impl Trouble {
    /// Whether this machine has no way to addresses of this kind at all, which says nothing of the other side.
    pub fn is_ours(&self, at: SocketAddr) -> bool {
        let no_way = |error: &io::Error| {
            matches!(error.kind(), io::ErrorKind::NetworkUnreachable | io::ErrorKind::AddrNotAvailable)
        };
        at.is_ipv6() && matches!(self, Self::Tcp(error) if no_way(error))
    }

    /// What happened, and what to do.
    pub fn remark(&self, at: SocketAddr, host: &str) -> Remark {
        let port = at.port();
        match self {
            Self::Slow(patience) => Remark::wrong(
                format!("no answer from {at} within {} s", patience.as_secs()),
                format!("see that the address is right and that no firewall drops what comes to port {port}"),
            ),
            Self::Tcp(error) if error.kind() == io::ErrorKind::ConnectionRefused => Remark::wrong(
                format!("nobody listens at {at}"),
                format!(
                    "start the server or its proxy on port {port}, or say in .well-known or SRV records where it is"
                ),
            ),
            Self::Tcp(error) => Remark::wrong(
                format!("{at} can't be reached: {error}"),
                "see that the address is right and that this machine has a way there",
            ),
            Self::Name => Remark::wrong(
                format!("TLS knows no name like {host}"),
                "give the server a host name of letters, digits and hyphens",
            ),
            Self::Tls(error) => tls_remark(error, at, host),
        }
    }
}

fn tls_remark(error: &io::Error, at: SocketAddr, host: &str) -> Remark {
    match error.get_ref().and_then(|error| error.downcast_ref::<TlsError>()) {
        Some(TlsError::InvalidMessage(_)) => Remark::wrong(
            format!("what listens at {at} does not speak TLS"),
            "other servers come with TLS only: give this port a certificate, or say in .well-known or SRV records which \
             port has one",
        ),
        Some(TlsError::AlertReceived(alert)) => Remark::wrong(
            format!("{at} refuses TLS for {host}: {alert:?}"),
            format!(
                "give the server or its proxy a certificate for {host}, and see that it speaks TLS 1.2 or 1.3"
            ),
        ),
        Some(TlsError::PeerIncompatible(reason)) => Remark::wrong(
            format!("{at} speaks a kind of TLS that others do not: {reason:?}"),
            "let it speak TLS 1.2 or 1.3 with the usual ciphers",
        ),
        Some(TlsError::InvalidCertificate(CertificateError::BadEncoding)) => {
            Remark::wrong(format!("the certificate at {at} is damaged"), format!("get a new one for {host}"))
        }
        _ => Remark::wrong(
            format!("the TLS handshake with {at} fails: {error}"),
            format!("see what the server or its proxy logs about TLS for {host}"),
        ),
    }
}

/// Speaks as the server does to others: aws-lc-rs and HTTP/1.1.
fn config() -> Result<Arc<ClientConfig>, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = Arc::new(TakesAll(provider.clone()));
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Takes any certificate, but only from who has its key. Nothing secret goes over such a connection.
#[derive(Debug)]
struct TakesAll(Arc<CryptoProvider>);

impl ServerCertVerifier for TakesAll {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
