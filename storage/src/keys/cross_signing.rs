//! Cross-signing keys, and signatures that were made after a key was uploaded.

use crate::args;
use crate::database::{Connection, Tx};
use crate::error::Result;
use crate::statement::{Bulk, Col, Row, Sql};

/// A cross-signing key.
#[derive(Clone, Debug)]
pub struct CrossSigningRow {
    /// Whose.
    pub user_pk: i64,
    /// `master`, `self_signing` or `user_signing`.
    pub usage: String,
    /// The public key.
    pub public_key: String,
    /// The key as uploaded.
    pub json: String,
}

/// A signature on a device's keys or a cross-signing key.
#[derive(Clone, Debug)]
pub struct SignatureRow {
    /// Whose key is signed.
    pub target_user_pk: i64,
    /// The device's id, or the public key.
    pub target: String,
    /// Who signed.
    pub signer_user_pk: i64,
    /// The key that signed.
    pub signer_key_id: String,
    /// The signature.
    pub signature: String,
}

impl SignatureRow {
    fn read(row: &Row) -> Result<SignatureRow> {
        Ok(SignatureRow {
            target_user_pk: row.int(0)?,
            target: row.text(1)?,
            signer_user_pk: row.int(2)?,
            signer_key_id: row.text(3)?,
            signature: row.text(4)?,
        })
    }
}

/// The cross-signing keys of users.
pub async fn of_users(connection: &mut Connection, user_pks: &[i64]) -> Result<Vec<CrossSigningRow>> {
    const OF_USERS: Sql = Sql::per(
        "SELECT user_pk, usage, public_key, json FROM cross_signing_keys \
         WHERE user_pk IN (SELECT value FROM json_each($1))",
        "SELECT user_pk, usage, public_key, json FROM cross_signing_keys WHERE user_pk = ANY($1)",
    );
    let rows = connection.all(OF_USERS, args![user_pks]).await?;
    rows.iter()
        .map(|row| {
            Ok(CrossSigningRow {
                user_pk: row.int(0)?,
                usage: row.text(1)?,
                public_key: row.text(2)?,
                json: row.text(3)?,
            })
        })
        .collect()
}

/// Sets cross-signing keys.
pub async fn put(tx: &mut Tx, keys: &[CrossSigningRow]) -> Result<()> {
    const PUT: Bulk = Bulk {
        into: "cross_signing_keys(user_pk, usage, public_key, json)",
        suffix: "ON CONFLICT (user_pk, usage) DO UPDATE SET public_key = excluded.public_key, json = excluded.json",
    };
    tx.bulk(
        PUT,
        &[
            Col::Ints(keys.iter().map(|k| k.user_pk).collect()),
            Col::Texts(keys.iter().map(|k| k.usage.as_str()).collect()),
            Col::Texts(keys.iter().map(|k| k.public_key.as_str()).collect()),
            Col::Texts(keys.iter().map(|k| k.json.as_str()).collect()),
        ],
    )
    .await
}

/// The signatures on keys of users that were made by their owners.
pub async fn own_signatures(connection: &mut Connection, user_pks: &[i64]) -> Result<Vec<SignatureRow>> {
    const OWN: Sql = Sql::per(
        "SELECT target_user_pk, target, signer_user_pk, signer_key_id, signature FROM key_signatures \
         WHERE target_user_pk IN (SELECT value FROM json_each($1)) AND signer_user_pk = target_user_pk",
        "SELECT target_user_pk, target, signer_user_pk, signer_key_id, signature FROM key_signatures \
         WHERE target_user_pk = ANY($1) AND signer_user_pk = target_user_pk",
    );
    connection.all(OWN, args![user_pks]).await?.iter().map(SignatureRow::read).collect()
}

/// The signatures on keys of users that somebody else made.
pub async fn signatures_by(
    connection: &mut Connection,
    signer_pk: i64,
    user_pks: &[i64],
) -> Result<Vec<SignatureRow>> {
    const BY: Sql = Sql::per(
        "SELECT target_user_pk, target, signer_user_pk, signer_key_id, signature FROM key_signatures \
         WHERE target_user_pk IN (SELECT value FROM json_each($1)) AND signer_user_pk = $2 \
         AND target_user_pk <> $2",
        "SELECT target_user_pk, target, signer_user_pk, signer_key_id, signature FROM key_signatures \
         WHERE target_user_pk = ANY($1) AND signer_user_pk = $2 AND target_user_pk <> $2",
    );
    connection.all(BY, args![user_pks, signer_pk]).await?.iter().map(SignatureRow::read).collect()
}

/// Stores signatures; of the same key on the same target the newer one stays.
pub async fn put_signatures(tx: &mut Tx, signatures: &[SignatureRow]) -> Result<()> {
    const PUT: Bulk = Bulk {
        into: "key_signatures(target_user_pk, target, signer_user_pk, signer_key_id, signature)",
        suffix: "ON CONFLICT (target_user_pk, target, signer_user_pk, signer_key_id) \
                 DO UPDATE SET signature = excluded.signature",
    };
    tx.bulk(
        PUT,
        &[
            Col::Ints(signatures.iter().map(|s| s.target_user_pk).collect()),
            Col::Texts(signatures.iter().map(|s| s.target.as_str()).collect()),
            Col::Ints(signatures.iter().map(|s| s.signer_user_pk).collect()),
            Col::Texts(signatures.iter().map(|s| s.signer_key_id.as_str()).collect()),
            Col::Texts(signatures.iter().map(|s| s.signature.as_str()).collect()),
        ],
    )
    .await
}

/// Forgets the signatures on a device: its keys changed, and they no longer hold.
pub async fn delete_signatures(tx: &mut Tx, user_pk: i64, target: &str) -> Result<()> {
    const DELETE: Sql = Sql::both("DELETE FROM key_signatures WHERE target_user_pk = $1 AND target = $2");
    tx.run(DELETE, args![user_pk, target]).await.map(drop)
}
