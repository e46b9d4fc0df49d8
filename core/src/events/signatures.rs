//! Signatures of this server and checks of others'.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use ruma::canonical_json::{CanonicalJsonObject, CanonicalJsonValue};
use ruma::room_version_rules::RoomVersionRules;
use ruma::signatures::{Ed25519KeyPair, JsonError, PublicKeyMap, VerificationError, Verified};
use ruma::{OwnedServerName, OwnedServerSigningKeyId, ServerName, ServerSigningKeyId, SigningKeyAlgorithm};

use super::{canonical, redaction};

/// Standard alphabet, no padding written, either form read.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// What stands before the 32 secret bytes in a PKCS#8 document with an Ed25519 key (RFC 8410).
const PKCS8_PREFIX: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// The key pair with which this server signs.
pub struct ServerKey {
    pair: Ed25519KeyPair,
    id: OwnedServerSigningKeyId,
    public: String,
}

/// Why a server key can't be read.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The text is not `ed25519 VERSION BASE64`.
    #[error("a signing key is one line: `ed25519`, a version, the secret key in base64")]
    Format,
    /// The version has characters other than letters, digits and underscores.
    #[error("the version of a signing key has letters, digits and underscores only")]
    Version,
    /// The bytes are no key.
    #[error("the signing key is not valid: 32 bytes in base64 are needed")]
    Secret,
}

impl ServerKey {
    /// A key from its secret bytes, which are 32 random ones.
    pub fn from_seed(version: &str, seed: &[u8; 32]) -> Result<Self, KeyError> {
        let valid = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if version.is_empty() || !version.chars().all(valid) {
            return Err(KeyError::Version);
        }
        let document = [&PKCS8_PREFIX[..], seed].concat();
        let pair = Ed25519KeyPair::from_der(&document, version.to_owned()).map_err(|_| KeyError::Secret)?;
        let id = ServerSigningKeyId::parse(format!("ed25519:{version}")).map_err(|_| KeyError::Version)?;
        let public = BASE64.encode(pair.public_key());
        Ok(Self { pair, id, public })
    }

    /// Reads the text form that Synapse keeps in its signing key file: `ed25519 VERSION BASE64`.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let line = text.lines().map(str::trim).find(|line| !line.is_empty()).ok_or(KeyError::Format)?;
        let mut words = line.split_whitespace();
        let (Some("ed25519"), Some(version), Some(secret), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(KeyError::Format);
        };
        let seed = BASE64.decode(secret).map_err(|_| KeyError::Secret)?;
        Self::from_seed(version, &seed.try_into().map_err(|_| KeyError::Secret)?)
    }

    /// The text form of a key, secret, for [`ServerKey::parse`].
    pub fn to_text(version: &str, seed: &[u8; 32]) -> String {
        format!("ed25519 {version} {}\n", BASE64.encode(seed))
    }

    /// The key's id, such as `ed25519:a_1`.
    pub fn id(&self) -> &ServerSigningKeyId {
        &self.id
    }

    /// The public half in base64.
    pub fn public_base64(&self) -> &str {
        &self.public
    }

    /// The pair, for what else signs (requests to servers).
    pub fn pair(&self) -> &Ed25519KeyPair {
        &self.pair
    }

    /// Signs any JSON object (`signatures` and `unsigned` are not covered).
    pub fn sign_json(&self, server: &ServerName, object: &mut CanonicalJsonObject) -> Result<(), JsonError> {
        ruma::signatures::sign_json(server.as_str(), &self.pair, object)
    }

    /// Adds the content hash and this server's signature to an event.
    pub fn hash_and_sign(
        &self,
        server: &ServerName,
        event: &mut CanonicalJsonObject,
        rules: &RoomVersionRules,
    ) -> Result<(), JsonError> {
        ruma::signatures::hash_and_sign_event(server.as_str(), &self.pair, event, &rules.redaction)
    }

    /// Adds this server's signature to an event that another server made (a restricted join, an invite).
    pub fn sign_event(
        &self,
        server: &ServerName,
        event: &mut CanonicalJsonObject,
        rules: &RoomVersionRules,
    ) -> Result<(), JsonError> {
        ruma::signatures::sign_event(server.as_str(), &self.pair, event, &rules.redaction)
    }
}

impl std::fmt::Debug for ServerKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerKey")
            .field("id", &self.id)
            .field("public", &self.public)
            .finish_non_exhaustive()
    }
}

/// What the signatures and the content hash of a received event say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Signed, and as its sender wrote it.
    Genuine,
    /// Signed, but the content is not what was signed: use its redacted form.
    Redact,
}

/// Adds a signature to those that are there.
pub fn add(object: &mut CanonicalJsonObject, signer: &str, key_id: &str, signature: String) {
    if let Some(all) = object_at(object, "signatures")
        && let Some(of_signer) = object_at(all, signer)
    {
        of_signer.insert(key_id.to_owned(), canonical::string(signature));
    }
}

/// The object at a key, made if there is none.
fn object_at<'a>(object: &'a mut CanonicalJsonObject, key: &str) -> Option<&'a mut CanonicalJsonObject> {
    let empty = || CanonicalJsonValue::Object(CanonicalJsonObject::new());
    object.entry(key.to_owned()).or_insert_with(empty).as_object_mut()
}

/// Checks the signatures and the content hash of an event. On error, drop the event.
pub fn verify(
    event: &CanonicalJsonObject,
    keys: &PublicKeyMap,
    rules: &RoomVersionRules,
) -> Result<Verdict, VerificationError> {
    Ok(match ruma::signatures::verify_event(keys, event, rules)? {
        Verified::All => Verdict::Genuine,
        Verified::Signatures => Verdict::Redact,
    })
}

/// Whether a key of a server signed an event, whatever that server publishes. The key is in base64.
pub fn signed_by(
    event: &CanonicalJsonObject,
    server: &ServerName,
    key_id: &str,
    public_key: &str,
    rules: &RoomVersionRules,
) -> bool {
    let signature = event
        .get("signatures")
        .and_then(|all| all.as_object()?.get(server.as_str())?.as_object()?.get(key_id)?.as_str());
    let decode = |text: &str| BASE64.decode(text).ok();
    let (Some(key), Some(signature)) = (decode(public_key), signature.and_then(decode)) else { return false };
    let mut signed = event.clone();
    if redaction::redact_object(&mut signed, rules).is_err() {
        return false;
    }
    signed.remove("signatures");
    signed.remove("unsigned");
    let Ok(text) = canonical::to_string(&signed) else { return false };
    let algorithm = SigningKeyAlgorithm::Ed25519;
    ruma::signatures::verify_canonical_json_bytes(&algorithm, &key, &signature, text.as_bytes()).is_ok()
}

/// The servers whose signatures an event must carry: their keys are needed for [`verify`].
pub fn signers(
    event: &CanonicalJsonObject,
    rules: &RoomVersionRules,
) -> Result<BTreeSet<OwnedServerName>, VerificationError> {
    ruma::signatures::required_server_signatures_to_verify_event(event, &rules.signatures)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_goes_round() {
        let seed = [7; 32];
        let text = ServerKey::to_text("a_1", &seed);
        let key = ServerKey::parse(&text).unwrap();
        assert_eq!(key.id().as_str(), "ed25519:a_1");
        assert_eq!(key.public_base64(), ServerKey::from_seed("a_1", &seed).unwrap().public_base64());
        assert!(!format!("{key:?}").contains(text.split(' ').nth(2).unwrap().trim()));
    }

    #[test]
    fn reads_the_key_of_the_specification() {
        // Appendix "Cryptographic test vectors".
        let key = ServerKey::parse("ed25519 1 YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1").unwrap();
        let mut object = super::super::canonical::parse("{}").unwrap();
        key.sign_json(ServerName::parse("domain").unwrap().as_ref(), &mut object).unwrap();
        let json = super::super::canonical::to_string(&object).unwrap();
        assert!(json.contains(
            "K8280/U9SSy9IVtjBuVeLr+HpOB4BQFWbg+UZaADMtTdGYI7Geitb76LTrr5QV/7Xg4ahLwYGYZzuHGZKM5ZAQ"
        ));
    }

    #[test]
    fn refuses_other_texts() {
        for text in ["", "ed25519 1", "rsa 1 AAAA", "ed25519 a:b AAAA", "ed25519 1 AAAA", "ed25519 1 ÄÄ x"]
        {
            assert!(ServerKey::parse(text).is_err(), "{text}");
        }
    }
}
