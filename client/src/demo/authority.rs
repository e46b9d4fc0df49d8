//! A certificate authority for one demo: its key is never written, and its certificates go with the demo's folder.

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};
use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

/// The authority.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: PathBuf,
    /// Its certificate, as a PEM file.
    pub file: PathBuf,
}

/// A server's certificate and key, as PEM files.
pub struct Certificate {
    /// The certificate.
    pub chain: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl Authority {
    /// Makes one whose files are in `folder`.
    pub fn new(folder: &Path) -> Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.distinguished_name.push(DnType::CommonName, "Authority of one demo");
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let file = folder.join("authority.pem");
        fs::write(&file, issuer.pem())?;
        Ok(Self { issuer, folder: folder.to_owned(), file })
    }

    /// A certificate for a server on the loopback interface; `name` is that of its files.
    pub fn certify(&self, name: &str) -> Result<Certificate> {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()])?;
        params.subject_alt_names.push(SanType::IpAddress(Ipv4Addr::LOCALHOST.into()));
        let key = KeyPair::generate()?;
        let chain = params.signed_by(&key, &self.issuer)?.pem();
        let file = |ending: &str| self.folder.join(format!("{name}{ending}"));
        let files = Certificate { chain: file(".pem"), key: file(".key.pem") };
        fs::write(&files.chain, chain)?;
        fs::write(&files.key, key.serialize_pem())?;
        Ok(files)
    }
}
