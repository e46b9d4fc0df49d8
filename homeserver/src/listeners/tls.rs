//! Certificates of a port, read anew when their files change.
//!
//! Whoever renews certificates replaces the files. The next connection sees that, at most [`LOOK`] after the last look,
//! and SIGHUP makes all ports look at once. What can't be read is logged, and the old certificate goes on.

use super::ListenError;
use parking_lot::Mutex;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio_rustls::TlsAcceptor;

/// Time between two looks at the files.
const LOOK: Duration = Duration::from_secs(10);

/// Certificate and key of a port.
pub struct Certificates {
    certificate: PathBuf,
    key: PathBuf,
    current: Mutex<Current>,
}

struct Current {
    config: Arc<ServerConfig>,
    changed: Stamps,
    looked: Instant,
}

/// When the files were written last.
type Stamps = [Option<SystemTime>; 2];

impl Certificates {
    /// Reads them.
    pub fn open(certificate: &Path, key: &Path) -> Result<Self, ListenError> {
        let changed = stamps(certificate, key);
        let config = Arc::new(read(certificate, key)?);
        let current = Mutex::new(Current { config, changed, looked: Instant::now() });
        Ok(Self { certificate: certificate.to_owned(), key: key.to_owned(), current })
    }

    /// What accepts the next connection.
    pub fn acceptor(&self) -> TlsAcceptor {
        if self.current.lock().looked.elapsed() >= LOOK {
            self.look();
        }
        TlsAcceptor::from(self.current.lock().config.clone())
    }

    /// Reads the files again, if they changed. Says whether they did.
    pub fn look(&self) -> bool {
        let changed = stamps(&self.certificate, &self.key);
        {
            let mut current = self.current.lock();
            current.looked = Instant::now();
            if current.changed == changed {
                return false;
            }
        }
        let path = self.certificate.display();
        match read(&self.certificate, &self.key) {
            Ok(config) => {
                let mut current = self.current.lock();
                (current.config, current.changed) = (Arc::new(config), changed);
                tracing::info!(%path, "a new certificate is used");
                true
            }
            Err(error) => {
                tracing::warn!(%error, %path, "the changed certificate can't be used; the old one goes on");
                false
            }
        }
    }
}

/// Makes the first random number for TLS, in the background: its generator then gathers entropy for some 25 ms, which the
/// first who connects would wait for.
pub fn gather_entropy() {
    tokio::task::spawn_blocking(|| {
        // Should it fail, so will whoever needs one, and say so.
        let _ = rustls::crypto::aws_lc_rs::default_provider().secure_random.fill(&mut [0; 32]);
    });
}

fn stamps(certificate: &Path, key: &Path) -> Stamps {
    [certificate, key].map(|path| fs::metadata(path).and_then(|data| data.modified()).ok())
}

fn read(certificate: &Path, key: &Path) -> Result<ServerConfig, ListenError> {
    let pem = |path: &Path| {
        let path = path.to_owned();
        move |error| ListenError::Pem(path, error)
    };
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(pem(certificate))?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(pem(key))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|error| ListenError::Tls(certificate.to_owned(), error))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}
