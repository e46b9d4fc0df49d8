//! Device keys, and the devices of users as keys and messages find them.

use crate::args;
use crate::database::{Connection, Tx};
use crate::error::Result;
use crate::statement::{Row, Sql};

/// A device's keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceKeysRow {
    /// The user.
    pub user_pk: i64,
    /// The device's id.
    pub device_id: String,
    /// The device's name.
    pub display_name: Option<String>,
    /// The keys as uploaded.
    pub json: String,
}

impl DeviceKeysRow {
    /// Of `user_pk`, `device_id`, `display_name` and `json`, in this order.
    pub(super) fn read(row: &Row) -> Result<DeviceKeysRow> {
        Ok(DeviceKeysRow {
            user_pk: row.int(0)?,
            device_id: row.text(1)?,
            display_name: row.opt_text(2)?,
            json: row.text(3)?,
        })
    }
}

/// A device, by its number and its id.
#[derive(Clone, Debug)]
pub struct DeviceRow {
    /// The user.
    pub user_pk: i64,
    /// The device's id.
    pub device_id: String,
    /// The device's number.
    pub device_pk: i64,
}

/// The keys of all devices of users.
pub async fn of_users(connection: &mut Connection, user_pks: &[i64]) -> Result<Vec<DeviceKeysRow>> {
    const OF_USERS: Sql = Sql::per(
        "SELECT k.user_pk, d.device_id, d.display_name, k.json FROM device_keys AS k \
         JOIN devices AS d ON d.device_pk = k.device_pk WHERE k.user_pk IN (SELECT value FROM json_each($1))",
        "SELECT k.user_pk, d.device_id, d.display_name, k.json FROM device_keys AS k \
         JOIN devices AS d ON d.device_pk = k.device_pk WHERE k.user_pk = ANY($1)",
    );
    connection.all(OF_USERS, args![user_pks]).await?.iter().map(DeviceKeysRow::read).collect()
}

/// The keys of one device.
pub async fn get(connection: &mut Connection, device_pk: i64) -> Result<Option<String>> {
    const GET: Sql = Sql::both("SELECT json FROM device_keys WHERE device_pk = $1");
    connection.one(GET, args![device_pk]).await?.map(|row| row.text(0)).transpose()
}

/// Sets the keys of a device.
pub async fn put(tx: &mut Tx, device_pk: i64, user_pk: i64, json: &str) -> Result<()> {
    const PUT: Sql = Sql::both(
        "INSERT INTO device_keys(device_pk, user_pk, json) VALUES ($1, $2, $3) \
         ON CONFLICT (device_pk) DO UPDATE SET json = excluded.json",
    );
    tx.write(PUT, args![device_pk, user_pk, json]).await
}

/// Whether a device is there (it may have been deleted since its token was looked at).
pub async fn device_exists(connection: &mut Connection, device_pk: i64) -> Result<bool> {
    const EXISTS: Sql = Sql::both("SELECT 1 FROM devices WHERE device_pk = $1");
    Ok(connection.one(EXISTS, args![device_pk]).await?.is_some())
}

/// All devices of users, with keys or without.
pub async fn devices(connection: &mut Connection, user_pks: &[i64]) -> Result<Vec<DeviceRow>> {
    const DEVICES: Sql = Sql::per(
        "SELECT user_pk, device_id, device_pk FROM devices WHERE user_pk IN (SELECT value FROM json_each($1))",
        "SELECT user_pk, device_id, device_pk FROM devices WHERE user_pk = ANY($1)",
    );
    let rows = connection.all(DEVICES, args![user_pks]).await?;
    rows.iter()
        .map(|row| Ok(DeviceRow { user_pk: row.int(0)?, device_id: row.text(1)?, device_pk: row.int(2)? }))
        .collect()
}
