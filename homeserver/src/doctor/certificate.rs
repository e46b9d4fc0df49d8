//! Certificates: for whom, until when, by whom.

use std::{path::Path, sync::Arc, time::Duration};

use der::{
    Decode as _, Reader as _, SliceReader, Tag, Tagged as _,
    asn1::{AnyRef, GeneralizedTime, UtcTime},
};
use rustls::{
    CertificateError, Error as TlsError,
    client::{danger::ServerCertVerifier as _, verify_server_name},
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _},
    server::ParsedCertificate,
};
use rustls_platform_verifier::Verifier;

use super::report::{Outcome, Remark};
use super::words::{DAY, date, foreign, span};

/// A certificate that runs out sooner than this is warned of, in milliseconds.
const SOON: i64 = 14 * DAY;
/// Names of a certificate that are shown.
const SHOWN_NAMES: usize = 5;

/// The authorities that are believed.
pub struct Trust {
    system: Option<Verifier>,
    /// The system's and the additional ones, as the server believes them when it speaks to others.
    all: Option<Verifier>,
}

impl Trust {
    /// The system's authorities, and those of PEM files; also what is wrong with them.
    pub fn new(extra: &[impl AsRef<Path>]) -> (Self, Vec<Remark>) {
        let mut remarks = Vec::new();
        let mut certificates = Vec::new();
        for path in extra {
            let path = path.as_ref();
            let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
            match read {
                Ok(read) => certificates.extend(read),
                Err(error) => remarks.push(Remark::warning(
                    format!("federation.extra_ca_certificates: can't read {}: {error}", path.display()),
                    "name a PEM file that this user may read; the server does not start without it",
                )),
            }
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let system = Verifier::new(provider.clone()).ok();
        let all = match Verifier::new_with_extra_roots(certificates, provider) {
            Ok(all) => Some(all),
            Err(error) => {
                remarks.push(Remark::wrong(
                    format!("this machine knows no certificate authorities: {error}"),
                    "install the system's (ca-certificates), or name some in federation.extra_ca_certificates",
                ));
                None
            }
        };
        (Self { system, all }, remarks)
    }
}

/// What a certificate says of itself.
struct Certificate {
    issuer: Vec<u8>,
    subject: Vec<u8>,
    /// Its authority's name.
    by: String,
    /// From when and until when it counts, in milliseconds.
    from: i64,
    until: i64,
}

/// Judges the certificates that a server showed to those who came for `host`. The remarks are all that is wrong, or one
/// that says that nothing is.
pub fn judge(
    chain: &[CertificateDer<'_>],
    host: &str,
    name: &ServerName<'_>,
    now: i64,
    trust: &Trust,
) -> Vec<Remark> {
    let unreadable =
        || Remark::wrong("the server's certificate can't be read", format!("get a new one for {host}"));
    let Some((leaf, others)) = chain.split_first() else { return vec![unreadable()] };
    let (Ok(certificate), Ok(parsed)) = (read(leaf), ParsedCertificate::try_from(leaf)) else {
        return vec![unreadable()];
    };
    let mut remarks = Vec::new();
    if let Err(error) = verify_server_name(&parsed, name) {
        remarks.push(wrong_name(&error, host));
    }
    let dates = validity(&certificate, host, now);
    // An authority is asked about the time in which the certificate counts: that it has run out is said already.
    let then = now.clamp(certificate.from, certificate.until.max(certificate.from));
    let by = &certificate.by;
    let trusted = match trusted(leaf, others, name, then, trust) {
        Ok(true) => format!("it comes from {by}"),
        Ok(false) => format!(
            "it comes from {by}, which is trusted by federation.extra_ca_certificates alone: servers that do not trust it \
             too refuse it"
        ),
        Err(error) => {
            remarks.push(untrusted(&error, &certificate, others.len(), host));
            String::new()
        }
    };
    if dates.outcome > Outcome::Ok {
        remarks.push(dates);
    } else if remarks.is_empty() {
        remarks.push(Remark::ok(format!("the certificate is for {host}, {}; {trusted}", dates.text)));
    }
    remarks
}

/// Whether it has run out or soon will.
fn validity(certificate: &Certificate, host: &str, now: i64) -> Remark {
    let Certificate { from, until, .. } = *certificate;
    let renew = format!("renew the certificate for {host}");
    if now > until {
        let text = format!("the certificate ran out {} ago, on {}", span(now - until), date(until));
        return Remark::wrong(text, format!("{renew}, and see why that did not happen by itself"));
    }
    if now < from {
        let text = format!("the certificate counts only from {} on", date(from));
        return Remark::wrong(text, "see that the clocks are right where it was made and here");
    }
    if until - now < SOON {
        let text = format!("the certificate runs out in {}, on {}", span(until - now), date(until));
        return Remark::warning(text, renew);
    }
    Remark::ok(format!("for another {}", span(until - now)))
}

/// Whether an authority stands for the chain; `Ok(false)` if only additional ones of the settings do.
fn trusted(
    leaf: &CertificateDer<'_>,
    others: &[CertificateDer<'_>],
    name: &ServerName<'_>,
    at: i64,
    trust: &Trust,
) -> Result<bool, TlsError> {
    let at = UnixTime::since_unix_epoch(Duration::from_millis(u64::try_from(at).unwrap_or_default()));
    let ask = |verifier: &Option<Verifier>| {
        let Some(verifier) = verifier else {
            return Err(TlsError::InvalidCertificate(CertificateError::UnknownIssuer));
        };
        match verifier.verify_server_cert(leaf, others, name, &[], at) {
            // The chain is looked at before the name, which is judged by itself.
            Ok(_)
            | Err(TlsError::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(()),
            Err(error) => Err(error),
        }
    };
    match ask(&trust.system) {
        Ok(()) => Ok(true),
        Err(_) => ask(&trust.all).map(|()| false),
    }
}

fn untrusted(error: &TlsError, certificate: &Certificate, others: usize, host: &str) -> Remark {
    let by = &certificate.by;
    let public = format!("get a certificate for {host} from a public authority such as Let's Encrypt");
    let closed =
        "in a closed network let all servers trust this authority (federation.extra_ca_certificates)";
    match error {
        // Whatever else is said of it: many of them call themselves an authority too.
        _ if certificate.issuer == certificate.subject => {
            Remark::wrong("the certificate is self-signed: no authority stands for it", public)
        }
        TlsError::InvalidCertificate(CertificateError::UnknownIssuer) if others == 0 => Remark::wrong(
            format!(
                "the certificate is from {by}, which is not known here, and nothing leads from it to a known authority"
            ),
            format!(
                "if the authority is a public one, the server leaves its intermediate certificate out: use the whole chain \
                 (fullchain.pem). Otherwise {public}; {closed}"
            ),
        ),
        TlsError::InvalidCertificate(CertificateError::UnknownIssuer) => Remark::wrong(
            format!("the certificate is from {by}, an authority that is not known here"),
            format!("{public}; {closed}"),
        ),
        TlsError::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            Remark::wrong(
                format!("an intermediate certificate between {host} and its authority has run out"),
                "use the chain that came with the newest certificate (fullchain.pem)",
            )
        }
        error => Remark::wrong(format!("the certificate is refused: {error}"), public),
    }
}

fn wrong_name(error: &TlsError, host: &str) -> Remark {
    let presented = match error {
        TlsError::InvalidCertificate(CertificateError::NotValidForNameContext { presented, .. }) => {
            presented.as_slice()
        }
        _ => &[],
    };
    let mut names: Vec<String> = presented.iter().take(SHOWN_NAMES).map(|name| bare(name)).collect();
    if presented.len() > SHOWN_NAMES {
        names.push(format!("{} more", presented.len() - SHOWN_NAMES));
    }
    let names = if names.is_empty() { "no name at all".to_owned() } else { names.join(", ") };
    Remark::wrong(
        format!("the certificate is for {names}, and servers ask for {host}"),
        format!(
            "get a certificate for {host}, or change m.server in .well-known to a name that the certificate is for"
        ),
    )
}

/// A name out of rustls' description of it, such as `DnsName("example.org")`.
fn bare(name: &str) -> String {
    foreign(name.split('"').nth(1).unwrap_or(name))
}

/// Reads what is needed of a certificate.
fn read(certificate: &[u8]) -> der::Result<Certificate> {
    let whole = AnyRef::from_der(certificate)?;
    let mut reader = SliceReader::new(whole.value())?;
    let body = AnyRef::decode(&mut reader)?;
    let mut reader = SliceReader::new(body.value())?;
    // The version, which the oldest certificates leave out, comes before the serial number.
    if AnyRef::decode(&mut reader)?.tag() != Tag::Integer {
        AnyRef::decode(&mut reader)?;
    }
    let _algorithm = AnyRef::decode(&mut reader)?;
    let issuer = AnyRef::decode(&mut reader)?;
    let validity = AnyRef::decode(&mut reader)?;
    let subject = AnyRef::decode(&mut reader)?;
    let mut reader = SliceReader::new(validity.value())?;
    let (from, until) = (moment(AnyRef::decode(&mut reader)?)?, moment(AnyRef::decode(&mut reader)?)?);
    let by = match common_name(issuer.value()) {
        Ok(Some(name)) => name,
        _ => "an authority without a name".to_owned(),
    };
    Ok(Certificate { issuer: issuer.value().to_vec(), subject: subject.value().to_vec(), by, from, until })
}

fn moment(time: AnyRef<'_>) -> der::Result<i64> {
    let since = match time.tag() {
        Tag::UtcTime => time.decode_as::<UtcTime>()?.to_unix_duration(),
        _ => time.decode_as::<GeneralizedTime>()?.to_unix_duration(),
    };
    Ok(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// The common name of a distinguished name, or its organisation.
fn common_name(name: &[u8]) -> der::Result<Option<String>> {
    const COMMON_NAME: &[u8] = &[0x55, 4, 3];
    const ORGANISATION: &[u8] = &[0x55, 4, 10];
    let mut organisation = None;
    let mut parts = SliceReader::new(name)?;
    while !parts.is_finished() {
        let set = AnyRef::decode(&mut parts)?;
        let mut set = SliceReader::new(set.value())?;
        let pair = AnyRef::decode(&mut set)?;
        let mut pair = SliceReader::new(pair.value())?;
        let (kind, value) = (AnyRef::decode(&mut pair)?, AnyRef::decode(&mut pair)?);
        let text = || foreign(&String::from_utf8_lossy(value.value()));
        match kind.value() {
            COMMON_NAME => return Ok(Some(text())),
            ORGANISATION => organisation = Some(text()),
            _ => {}
        }
    }
    Ok(organisation)
}
