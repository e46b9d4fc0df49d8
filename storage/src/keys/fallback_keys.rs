//! Fallback keys: what a claim gives when no one-time key is left.

use super::one_time_keys::{Claimed, NewKey};
use crate::args;
use crate::database::{Connection, Tx};
use crate::error::Result;
use crate::statement::{Bulk, Col, Sql};

/// Sets fallback keys of a device, at most one for each algorithm. The same key again stays used if it was.
pub async fn put(tx: &mut Tx, device_pk: i64, keys: &[NewKey]) -> Result<()> {
    const PUT: Bulk = Bulk {
        into: "fallback_keys(device_pk, algorithm, key_id, json, used)",
        suffix: "ON CONFLICT (device_pk, algorithm) DO UPDATE SET key_id = excluded.key_id, json = excluded.json, \
                 used = CASE WHEN fallback_keys.key_id = excluded.key_id AND fallback_keys.json = excluded.json \
                 THEN fallback_keys.used ELSE 0 END",
    };
    tx.bulk(
        PUT,
        &[
            Col::Ints(vec![device_pk; keys.len()]),
            Col::Texts(keys.iter().map(|k| k.algorithm.as_str()).collect()),
            Col::Texts(keys.iter().map(|k| k.key_id.as_str()).collect()),
            Col::Texts(keys.iter().map(|k| k.json.as_str()).collect()),
            Col::Ints(vec![0; keys.len()]),
        ],
    )
    .await
}

/// Gives the fallback keys of devices and marks them as used.
pub async fn claim(tx: &mut Tx, algorithm: &str, device_pks: &[i64]) -> Result<Vec<Claimed>> {
    const CLAIM: Sql = Sql::per(
        "UPDATE fallback_keys SET used = 1 WHERE algorithm = $1 \
         AND device_pk IN (SELECT value FROM json_each($2)) RETURNING device_pk, key_id, json",
        "UPDATE fallback_keys SET used = 1 WHERE algorithm = $1 AND device_pk = ANY($2) \
         RETURNING device_pk, key_id, json",
    );
    let rows = tx.all(CLAIM, args![algorithm, device_pks]).await?;
    rows.iter()
        .map(|row| Ok(Claimed { device_pk: row.int(0)?, key_id: row.text(1)?, json: row.text(2)? }))
        .collect()
}

/// The algorithms for which a device has a fallback key that nobody got yet.
pub async fn unused(connection: &mut Connection, device_pk: i64) -> Result<Vec<String>> {
    const UNUSED: Sql =
        Sql::both("SELECT algorithm FROM fallback_keys WHERE device_pk = $1 AND used = 0 ORDER BY algorithm");
    connection.all(UNUSED, args![device_pk]).await?.iter().map(|row| row.text(0)).collect()
}
