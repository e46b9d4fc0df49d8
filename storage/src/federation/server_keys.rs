//! Public keys of other servers, and the old ones of this server.

use crate::args;
use crate::database::{Connection, Tx};
use crate::error::Result;
use crate::statement::{Bulk, Col, Sql};

/// A public key of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRow {
    /// The key's id, such as `ed25519:a_1`.
    pub key_id: String,
    /// The key in base64.
    pub public_key: String,
    /// Until when something may be signed with it, in milliseconds since the Unix epoch.
    pub valid_until_ts: i64,
}

/// The document in which a server published its keys.
#[derive(Clone, Debug)]
pub struct Document {
    /// The document with its signatures.
    pub json: String,
    /// Until when it says to be valid.
    pub valid_until_ts: i64,
    /// When it was fetched.
    pub fetched_ts: i64,
}

/// All keys that are known of a server.
pub async fn of_server(connection: &mut Connection, server: &str) -> Result<Vec<KeyRow>> {
    const OF_SERVER: Sql =
        Sql::both("SELECT key_id, public_key, valid_until_ts FROM server_keys WHERE server = $1");
    let rows = connection.all(OF_SERVER, args![server]).await?;
    rows.iter()
        .map(|row| Ok(KeyRow { key_id: row.text(0)?, public_key: row.text(1)?, valid_until_ts: row.int(2)? }))
        .collect()
}

/// The newest document of a server.
pub async fn document(connection: &mut Connection, server: &str) -> Result<Option<Document>> {
    const DOCUMENT: Sql =
        Sql::both("SELECT json, valid_until_ts, fetched_ts FROM server_key_documents WHERE server = $1");
    let row = connection.one(DOCUMENT, args![server]).await?;
    row.map(|row| Ok(Document { json: row.text(0)?, valid_until_ts: row.int(1)?, fetched_ts: row.int(2)? }))
        .transpose()
}

/// Keeps the keys of a server; those that are here already get their new time.
pub async fn put(tx: &mut Tx, server: &str, keys: &[KeyRow]) -> Result<()> {
    const PUT: Bulk = Bulk {
        into: "server_keys(server, key_id, public_key, valid_until_ts)",
        suffix: "ON CONFLICT (server, key_id) DO UPDATE SET public_key = excluded.public_key, \
                 valid_until_ts = excluded.valid_until_ts",
    };
    tx.bulk(
        PUT,
        &[
            Col::Texts(keys.iter().map(|_| server).collect()),
            Col::Texts(keys.iter().map(|key| key.key_id.as_str()).collect()),
            Col::Texts(keys.iter().map(|key| key.public_key.as_str()).collect()),
            Col::Ints(keys.iter().map(|key| key.valid_until_ts).collect()),
        ],
    )
    .await
}

/// Keeps the newest document of a server.
pub async fn put_document(tx: &mut Tx, server: &str, document: &Document) -> Result<()> {
    const PUT: Sql = Sql::both(
        "INSERT INTO server_key_documents(server, json, valid_until_ts, fetched_ts) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (server) DO UPDATE SET json = excluded.json, valid_until_ts = excluded.valid_until_ts, \
         fetched_ts = excluded.fetched_ts",
    );
    let Document { json, valid_until_ts, fetched_ts } = document;
    tx.run(PUT, args![server, json.as_str(), *valid_until_ts, *fetched_ts]).await.map(drop)
}

/// The keys with which this server signed once; `valid_until_ts` is when each went out of use.
pub async fn old_ones(connection: &mut Connection) -> Result<Vec<KeyRow>> {
    const OLD: Sql = Sql::both("SELECT key_id, public_key, expired_ts FROM old_signing_keys ORDER BY key_id");
    let rows = connection.all(OLD, &[]).await?;
    rows.iter()
        .map(|row| Ok(KeyRow { key_id: row.text(0)?, public_key: row.text(1)?, valid_until_ts: row.int(2)? }))
        .collect()
}

/// Notes that a key of this server is out of use.
pub async fn retire(tx: &mut Tx, key: &KeyRow) -> Result<()> {
    const RETIRE: Sql = Sql::both(
        "INSERT INTO old_signing_keys(key_id, public_key, expired_ts) VALUES ($1, $2, $3) \
         ON CONFLICT (key_id) DO NOTHING",
    );
    tx.run(RETIRE, args![key.key_id.as_str(), key.public_key.as_str(), key.valid_until_ts]).await.map(drop)
}
