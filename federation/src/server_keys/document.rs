//! The document in which a server publishes its keys.

use myelin_core::events::can_be_id;
use myelin_storage::federation::server_keys::KeyRow;
use ruma::ServerName;
use ruma::api::federation::discovery::ServerSigningKeys;
use ruma::canonical_json::{CanonicalJsonObject, CanonicalJsonValue};
use ruma::serde::Base64;
use ruma::signatures::{PublicKeyMap, PublicKeySet, verify_json};

/// How long after it was fetched a key counts at most, in milliseconds.
const LONGEST: i64 = 7 * 24 * 3_600_000;
/// Keys of one server that are read.
const MOST_KEYS: usize = 200;

/// A document whose signatures are right.
pub struct Checked {
    keys: PublicKeySet,
    old: Vec<KeyRow>,
    /// Until when it says to be valid.
    pub valid_until_ts: i64,
    /// The document as it came.
    pub json: String,
}

impl Checked {
    /// The keys as they are stored.
    pub fn rows(&self, now: i64) -> Vec<KeyRow> {
        let until = self.valid_until_ts.min(now.saturating_add(LONGEST));
        let row = |(id, key): (&String, &Base64)| KeyRow {
            key_id: id.clone(),
            public_key: key.encode(),
            valid_until_ts: until,
        };
        let current = self.keys.iter().map(row);
        let old = self.old.iter().filter(|row| !self.keys.contains_key(&row.key_id)).cloned();
        current.chain(old).collect()
    }

    /// The keys as signatures are checked by them.
    pub fn key_map(&self, server: &ServerName) -> PublicKeyMap {
        PublicKeyMap::from([(server.to_string(), self.keys.clone())])
    }
}

/// Reads a document and checks it by its own keys. The error says what is wrong with it.
pub fn check(server: &ServerName, json: &str) -> Result<Checked, String> {
    let object: CanonicalJsonObject = serde_json::from_str(json).map_err(|error| error.to_string())?;
    let keys: ServerSigningKeys = serde_json::from_str(json).map_err(|error| error.to_string())?;
    if keys.server_name != server {
        return Err(format!("it is the document of {}", keys.server_name));
    }
    if keys.verify_keys.len() + keys.old_verify_keys.len() > MOST_KEYS {
        return Err(format!("it has more than {MOST_KEYS} keys"));
    }
    let current = keys.verify_keys.into_iter().filter(|(id, _)| can_be_id(id.as_str()));
    let set: PublicKeySet = current.map(|(id, key)| (id.to_string(), key.key)).collect();
    if set.is_empty() {
        return Err("it has no keys".to_owned());
    }
    signed_by(server.as_str(), &set, &object)?;
    let old = keys.old_verify_keys.into_iter().filter(|(id, _)| can_be_id(id.as_str()));
    let old = old.map(|(id, old)| KeyRow {
        key_id: id.to_string(),
        public_key: old.key.encode(),
        valid_until_ts: i64::from(old.expired_ts.0),
    });
    Ok(Checked {
        keys: set,
        old: old.collect(),
        valid_until_ts: i64::from(keys.valid_until_ts.0),
        json: json.to_owned(),
    })
}

/// The same for a document that a notary passes on, which it must have signed too.
pub fn check_notarized(server: &ServerName, json: &str, notary: &PublicKeyMap) -> Result<Checked, String> {
    let object: CanonicalJsonObject = serde_json::from_str(json).map_err(|error| error.to_string())?;
    for (name, keys) in notary {
        signed_by(name, keys, &object).map_err(|error| format!("the notary's signature: {error}"))?;
    }
    check(server, json)
}

/// Whether a server signed an object. `verify_json` looks at every signature that is there, and so refuses those of
/// others, whose keys it does not have, and does not miss the one that is not there.
fn signed_by(name: &str, keys: &PublicKeySet, object: &CanonicalJsonObject) -> Result<(), String> {
    let all = object.get("signatures").and_then(CanonicalJsonValue::as_object);
    let own = all.and_then(|all| all.get(name)).ok_or_else(|| format!("{name} has not signed it"))?;
    let mut object = object.clone();
    let own = CanonicalJsonObject::from([(name.to_owned(), own.clone())]);
    object.insert("signatures".to_owned(), CanonicalJsonValue::Object(own));
    verify_json(&PublicKeyMap::from([(name.to_owned(), keys.clone())]), &object)
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use myelin_core::events::signatures::ServerKey;
    use serde_json::{Value, json};

    fn signed(key: &ServerKey, name: &str, mut document: Value) -> String {
        let mut object: CanonicalJsonObject = serde_json::from_value(document.take()).unwrap();
        key.sign_json(<&ServerName>::try_from(name).unwrap(), &mut object).unwrap();
        serde_json::to_string(&object).unwrap()
    }

    #[test]
    fn only_a_servers_own_document_counts() {
        let key = ServerKey::from_seed("a", &[1; 32]).unwrap();
        let other = ServerKey::from_seed("a", &[2; 32]).unwrap();
        let name = <&ServerName>::try_from("example.org").unwrap();
        let document = |of: &str| {
            json!({
                "server_name": of, "valid_until_ts": 1_000_000_000_000_i64,
                "verify_keys": { "ed25519:a": { "key": key.public_base64() } },
                "old_verify_keys": { "ed25519:0": { "key": other.public_base64(), "expired_ts": 5 } },
            })
        };
        let good = check(name, &signed(&key, "example.org", document("example.org"))).unwrap();
        let rows = good.rows(0);
        assert_eq!(rows.len(), 2);
        assert_eq!(rows[0].valid_until_ts, LONGEST, "no document holds for longer than a week");
        assert_eq!(rows[1].valid_until_ts, 5);
        let mut unsigned = document("example.org");
        unsigned["signatures"] = json!({});
        for bad in [
            signed(&other, "example.org", document("example.org")),
            signed(&key, "other.example", document("other.example")),
            document("example.org").to_string(),
            unsigned.to_string(),
            "{}".to_owned(),
            "[]".to_owned(),
        ] {
            assert!(check(name, &bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_notary_signs_besides() {
        let [key, notary] = [1, 2].map(|seed| ServerKey::from_seed("a", &[seed; 32]).unwrap());
        let name = <&ServerName>::try_from("example.org").unwrap();
        let document = json!({
            "server_name": name, "valid_until_ts": 1_000_000_000_000_i64, "old_verify_keys": {},
            "verify_keys": { "ed25519:a": { "key": key.public_base64() } },
        });
        let own = signed(&key, "example.org", document.clone());
        let both = signed(&notary, "notary.example", serde_json::from_str(&own).unwrap());
        let public = Base64::parse(notary.public_base64()).unwrap();
        let keys = PublicKeySet::from([("ed25519:a".to_owned(), public)]);
        let notaries = PublicKeyMap::from([("notary.example".to_owned(), keys)]);
        assert_eq!(check_notarized(name, &both, &notaries).unwrap().rows(0).len(), 1);
        assert!(check(name, &both).is_ok(), "a signature of somebody else is none of its business");
        assert!(check_notarized(name, &own, &notaries).is_err(), "the notary has not signed");
        let alone = signed(&notary, "notary.example", document);
        assert!(check_notarized(name, &alone, &notaries).is_err(), "the server has not signed");
    }
}
