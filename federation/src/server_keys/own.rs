//! The keys of this server.

use myelin_core::server::Server;
use myelin_core::{Error, Result};
use myelin_storage::federation::server_keys as table;
use ruma::canonical_json::CanonicalJsonObject;
use ruma::serde::Base64;
use serde_json::{Map, Value, json};

/// How long the document holds after it is asked for, in milliseconds.
const VALID: i64 = 24 * 3_600_000;

/// The document in which this server publishes its keys, signed.
pub async fn document(server: &Server) -> Result<String> {
    let mut old = Map::new();
    for row in table::old_ones(&mut server.database.read().await?).await? {
        old.insert(row.key_id, json!({ "key": row.public_key, "expired_ts": row.valid_until_ts }));
    }
    let mut keys = Map::new();
    keys.insert(server.key.id().to_string(), json!({ "key": server.key.public_base64() }));
    let document = json!({
        "server_name": server.name(),
        "valid_until_ts": server.now_ms() + VALID,
        "verify_keys": keys,
        "old_verify_keys": Value::Object(old),
    });
    let mut object: CanonicalJsonObject =
        serde_json::from_value(document).map_err(Error::internal_display)?;
    server.key.sign_json(server.name(), &mut object).map_err(Error::internal_display)?;
    serde_json::to_string(&object).map_err(Error::internal_display)
}

/// One of this server's keys, if it may have signed something at that time.
pub async fn key(server: &Server, key_id: &str, at: i64) -> Result<Option<Base64>> {
    if key_id == server.key.id().as_str() {
        return Ok(Base64::parse(server.key.public_base64()).ok());
    }
    let old = table::old_ones(&mut server.database.read().await?).await?;
    let old = old.into_iter().find(|row| row.key_id == key_id && row.valid_until_ts >= at);
    Ok(old.and_then(|row| Base64::parse(&row.public_key).ok()))
}
