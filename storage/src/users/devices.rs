//! Devices of this server's users, and what goes with them.

use crate::args;
use crate::database::{Connection, Tx};
use crate::error::Result;
use crate::statement::{Row, Sql};

/// A device.
#[derive(Clone, Debug)]
pub struct Device {
    /// Its number.
    pub device_pk: i64,
    /// Its id.
    pub device_id: String,
    /// What its owner calls it.
    pub display_name: Option<String>,
    /// When it was last seen, in milliseconds since the Unix epoch.
    pub last_seen_ts: Option<i64>,
}

impl Device {
    fn read(row: &Row) -> Result<Device> {
        Ok(Device {
            device_pk: row.int(0)?,
            device_id: row.text(1)?,
            display_name: row.opt_text(2)?,
            last_seen_ts: row.opt_int(3)?,
        })
    }
}

/// Makes a device unless the user has one of this id; gives its number.
pub async fn insert(
    tx: &mut Tx,
    candidate: i64,
    user_pk: i64,
    device_id: &str,
    display_name: Option<&str>,
    ts: i64,
) -> Result<i64> {
    const INSERT: Sql = Sql::both(
        "INSERT INTO devices(device_pk, user_pk, device_id, display_name, created_ts, last_seen_ts) \
         VALUES ($1, $2, $3, $4, $5, $5) \
         ON CONFLICT (user_pk, device_id) DO UPDATE SET last_seen_ts = excluded.last_seen_ts \
         RETURNING device_pk",
    );
    let row = tx.one(INSERT, args![candidate, user_pk, device_id, display_name, ts]).await?;
    row.map_or(Ok(candidate), |row| row.int(0))
}

/// A user's devices.
pub async fn of_user(connection: &mut Connection, user_pk: i64) -> Result<Vec<Device>> {
    const OF_USER: Sql = Sql::both(
        "SELECT device_pk, device_id, display_name, last_seen_ts FROM devices WHERE user_pk = $1 \
         ORDER BY device_id",
    );
    connection.all(OF_USER, args![user_pk]).await?.iter().map(Device::read).collect()
}

/// A user's device by its id.
pub async fn get(connection: &mut Connection, user_pk: i64, device_id: &str) -> Result<Option<Device>> {
    const GET: Sql = Sql::both(
        "SELECT device_pk, device_id, display_name, last_seen_ts FROM devices \
         WHERE user_pk = $1 AND device_id = $2",
    );
    connection.one(GET, args![user_pk, device_id]).await?.as_ref().map(Device::read).transpose()
}

/// Names a device; false when there is none of this id.
pub async fn rename(tx: &mut Tx, user_pk: i64, device_id: &str, display_name: &str) -> Result<bool> {
    const RENAME: Sql =
        Sql::both("UPDATE devices SET display_name = $3 WHERE user_pk = $1 AND device_id = $2");
    Ok(tx.run(RENAME, args![user_pk, device_id, display_name]).await? > 0)
}

/// Notes that a device is there.
pub async fn seen(tx: &mut Tx, device_pk: i64, ts: i64) -> Result<()> {
    tx.run(Sql::both("UPDATE devices SET last_seen_ts = $2 WHERE device_pk = $1"), args![device_pk, ts])
        .await
        .map(drop)
}

/// Deletes devices of a user with everything that belongs to them: tokens, keys, waiting messages, transaction ids. Whether
/// that makes it into the log is the caller's.
pub async fn delete(tx: &mut Tx, user_pk: i64, device_pks: &[i64]) -> Result<()> {
    macro_rules! of_devices {
        ($($table:literal),*) => { [$(Sql::per(
            concat!("DELETE FROM ", $table, " WHERE device_pk IN (SELECT value FROM json_each($1))"),
            concat!("DELETE FROM ", $table, " WHERE device_pk = ANY($1)"),
        )),*] };
    }
    const SIGNATURES: Sql = Sql::per(
        "DELETE FROM key_signatures WHERE target_user_pk = $1 AND target IN \
         (SELECT device_id FROM devices WHERE device_pk IN (SELECT value FROM json_each($2)))",
        "DELETE FROM key_signatures WHERE target_user_pk = $1 AND target IN \
         (SELECT device_id FROM devices WHERE device_pk = ANY($2))",
    );
    tx.run(SIGNATURES, args![user_pk, device_pks]).await?;
    // The ledger of issued keys goes too: numbers of devices are never given twice.
    let of_devices = of_devices![
        "access_tokens",
        "refresh_tokens",
        "device_keys",
        "one_time_keys",
        "issued_one_time_keys",
        "fallback_keys",
        "to_device",
        "transaction_ids",
        "devices"
    ];
    for sql in of_devices {
        tx.run(sql, args![device_pks]).await?;
    }
    Ok(())
}
