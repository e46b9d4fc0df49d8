//! One-time keys: the heap from which they are claimed, and the ledger of those that were handed out.
//!
//! A claim deletes what it gives, inside the transaction that is answered after it is durable. Every writer holds the
//! head of the log, so two claimers never look at the same key, and none gets a fallback key while keys are left.

use crate::args;
use crate::database::{Connection, Tx};
use crate::error::Result;
use crate::log::Kind;
use crate::statement::{Bulk, Col, Sql};

/// A key to be stored.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// Our number; keys are claimed in the order of these.
    pub key_pk: i64,
    /// The algorithm.
    pub algorithm: String,
    /// The id, without the algorithm.
    pub key_id: String,
    /// The key as uploaded.
    pub json: String,
}

/// A key that was claimed.
#[derive(Clone, Debug)]
pub struct Claimed {
    /// Whose.
    pub device_pk: i64,
    /// The id, without the algorithm.
    pub key_id: String,
    /// The key.
    pub json: String,
}

/// A row of the ledger.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The device.
    pub device_pk: i64,
    /// Hash of the id with its algorithm.
    pub id_hash: String,
    /// Hash of the key.
    pub key_hash: String,
}

/// The unclaimed keys of a device that have these ids: (algorithm, id, key).
pub async fn find(
    connection: &mut Connection,
    device_pk: i64,
    key_ids: &[&str],
) -> Result<Vec<(String, String, String)>> {
    const FIND: Sql = Sql::per(
        "SELECT algorithm, key_id, json FROM one_time_keys \
         WHERE device_pk = $1 AND key_id IN (SELECT value FROM json_each($2))",
        "SELECT algorithm, key_id, json FROM one_time_keys WHERE device_pk = $1 AND key_id = ANY($2)",
    );
    let rows = connection.all(FIND, args![device_pk, key_ids]).await?;
    rows.iter().map(|row| Ok((row.text(0)?, row.text(1)?, row.text(2)?))).collect()
}

/// What the ledger knows of these ids: (hash of the id, hash of the key).
pub async fn find_issued(
    connection: &mut Connection,
    device_pk: i64,
    id_hashes: &[&str],
) -> Result<Vec<(String, String)>> {
    const FIND: Sql = Sql::per(
        "SELECT id_hash, key_hash FROM issued_one_time_keys \
         WHERE device_pk = $1 AND id_hash IN (SELECT value FROM json_each($2))",
        "SELECT id_hash, key_hash FROM issued_one_time_keys WHERE device_pk = $1 AND id_hash = ANY($2)",
    );
    let rows = connection.all(FIND, args![device_pk, id_hashes]).await?;
    rows.iter().map(|row| Ok((row.text(0)?, row.text(1)?))).collect()
}

/// Stores keys of a device.
pub async fn insert(tx: &mut Tx, device_pk: i64, keys: &[NewKey]) -> Result<()> {
    const INTO: Bulk = Bulk { into: "one_time_keys(key_pk, device_pk, algorithm, key_id, json)", suffix: "" };
    tx.bulk(
        INTO,
        &[
            Col::Ints(keys.iter().map(|k| k.key_pk).collect()),
            Col::Ints(vec![device_pk; keys.len()]),
            Col::Texts(keys.iter().map(|k| k.algorithm.as_str()).collect()),
            Col::Texts(keys.iter().map(|k| k.key_id.as_str()).collect()),
            Col::Texts(keys.iter().map(|k| k.json.as_str()).collect()),
        ],
    )
    .await
}

/// Takes the oldest key of each of these devices.
pub async fn claim(tx: &mut Tx, algorithm: &str, device_pks: &[i64]) -> Result<Vec<Claimed>> {
    const CLAIM: Sql = Sql::per(
        "DELETE FROM one_time_keys WHERE key_pk IN (SELECT \
         (SELECT k.key_pk FROM one_time_keys AS k WHERE k.device_pk = w.value AND k.algorithm = $1 \
         ORDER BY k.key_pk LIMIT 1) FROM json_each($2) AS w) RETURNING device_pk, key_id, json",
        "DELETE FROM one_time_keys AS gone USING (SELECT oldest.key_pk FROM UNNEST($2::bigint[]) AS w(device_pk) \
         CROSS JOIN LATERAL (SELECT k.key_pk FROM one_time_keys AS k \
         WHERE k.device_pk = w.device_pk AND k.algorithm = $1 ORDER BY k.key_pk LIMIT 1) AS oldest) AS taken \
         WHERE gone.key_pk = taken.key_pk RETURNING gone.device_pk, gone.key_id, gone.json",
    );
    let rows = tx.all(CLAIM, args![algorithm, device_pks]).await?;
    rows.iter()
        .map(|row| Ok(Claimed { device_pk: row.int(0)?, key_id: row.text(1)?, json: row.text(2)? }))
        .collect()
}

/// Writes into the ledger.
pub async fn insert_issued(tx: &mut Tx, issued: &[Issued]) -> Result<()> {
    const INTO: Bulk =
        Bulk { into: "issued_one_time_keys(device_pk, id_hash, key_hash)", suffix: "ON CONFLICT DO NOTHING" };
    tx.bulk(
        INTO,
        &[
            Col::Ints(issued.iter().map(|i| i.device_pk).collect()),
            Col::Texts(issued.iter().map(|i| i.id_hash.as_str()).collect()),
            Col::Texts(issued.iter().map(|i| i.key_hash.as_str()).collect()),
        ],
    )
    .await
}

/// How many unclaimed keys a device has, for each algorithm that it has any of.
pub async fn counts(connection: &mut Connection, device_pk: i64) -> Result<Vec<(String, i64)>> {
    const COUNTS: Sql = Sql::both(
        "SELECT algorithm, COUNT(*) FROM one_time_keys WHERE device_pk = $1 GROUP BY algorithm ORDER BY algorithm",
    );
    let rows = connection.all(COUNTS, args![device_pk]).await?;
    rows.iter().map(|row| Ok((row.text(0)?, row.int(1)?))).collect()
}

/// Notes that the keys of devices changed in number: (user, device).
pub fn counts_changed(tx: &mut Tx, devices: &[(i64, i64)]) {
    for (user_pk, device_pk) in devices {
        tx.entry(Kind::KeyCounts, *user_pk, *device_pk);
    }
}
