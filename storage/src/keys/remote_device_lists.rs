//! Device lists of other servers' users, as they are kept here.

use crate::args;
use crate::database::{Connection, Tx};
use crate::error::Result;
use crate::keys::device_keys::DeviceKeysRow;
use crate::statement::{Bulk, Col, Sql};

/// A list that is kept, without its devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListRow {
    /// Whose it is.
    pub user_pk: i64,
    /// The newest change in it, by the count of the user's server; `None` where that is not known.
    pub stream_id: Option<i64>,
    /// A change was missed.
    pub stale: bool,
    /// It was fetched when the log was here.
    pub since_pos: i64,
    /// The master key.
    pub master_key: Option<String>,
    /// The self-signing key.
    pub self_signing_key: Option<String>,
}

/// The list of a user.
pub async fn get(connection: &mut Connection, user_pk: i64) -> Result<Option<ListRow>> {
    Ok(of_users(connection, &[user_pk]).await?.pop())
}

/// The lists of users.
pub async fn of_users(connection: &mut Connection, user_pks: &[i64]) -> Result<Vec<ListRow>> {
    const OF_USERS: Sql = Sql::per(
        "SELECT user_pk, stream_id, stale, since_pos, master_key, self_signing_key \
         FROM remote_device_lists WHERE user_pk IN (SELECT value FROM json_each($1))",
        "SELECT user_pk, stream_id, stale, since_pos, master_key, self_signing_key \
         FROM remote_device_lists WHERE user_pk = ANY($1)",
    );
    let rows = connection.all(OF_USERS, args![user_pks]).await?;
    rows.iter()
        .map(|row| {
            Ok(ListRow {
                user_pk: row.int(0)?,
                stream_id: row.opt_int(1)?,
                stale: row.int(2)? != 0,
                since_pos: row.int(3)?,
                master_key: row.opt_text(4)?,
                self_signing_key: row.opt_text(5)?,
            })
        })
        .collect()
}

/// The devices in the lists of users.
pub async fn devices(connection: &mut Connection, user_pks: &[i64]) -> Result<Vec<DeviceKeysRow>> {
    const DEVICES: Sql = Sql::per(
        "SELECT user_pk, device_id, display_name, json FROM remote_devices \
         WHERE user_pk IN (SELECT value FROM json_each($1))",
        "SELECT user_pk, device_id, display_name, json FROM remote_devices WHERE user_pk = ANY($1)",
    );
    connection.all(DEVICES, args![user_pks]).await?.iter().map(DeviceKeysRow::read).collect()
}

/// Of these users with lists, those who have shared a room with one of this server's users ever since their list was
/// fetched, so that their server has told of each change since.
pub async fn followed(connection: &mut Connection, user_pk: i64, others: &[i64]) -> Result<Vec<i64>> {
    const FOLLOWED: Sql = Sql::per(
        "SELECT DISTINCT l.user_pk FROM json_each($2) AS w \
         CROSS JOIN remote_device_lists AS l ON l.user_pk = w.value \
         CROSS JOIN memberships AS t ON t.user_pk = l.user_pk AND t.membership = 2 AND t.pos <= l.since_pos \
         CROSS JOIN memberships AS m ON m.user_pk = $1 AND m.room_pk = t.room_pk AND m.membership = 2 \
         AND m.pos <= l.since_pos",
        "SELECT DISTINCT l.user_pk FROM remote_device_lists AS l \
         JOIN memberships AS t ON t.user_pk = l.user_pk AND t.membership = 2 AND t.pos <= l.since_pos \
         JOIN memberships AS m ON m.user_pk = $1 AND m.room_pk = t.room_pk AND m.membership = 2 \
         AND m.pos <= l.since_pos WHERE l.user_pk = ANY($2)",
    );
    connection.all(FOLLOWED, args![user_pk, others]).await?.iter().map(|row| row.int(0)).collect()
}

/// Keeps lists, in the place of those of the same users that were kept before.
pub async fn put(tx: &mut Tx, lists: &[ListRow], devices: &[DeviceKeysRow]) -> Result<()> {
    const LISTS: Bulk = Bulk {
        into: "remote_device_lists(user_pk, stream_id, stale, since_pos, master_key, self_signing_key)",
        suffix: "ON CONFLICT (user_pk) DO UPDATE SET stream_id = excluded.stream_id, stale = excluded.stale, \
                 since_pos = excluded.since_pos, master_key = excluded.master_key, \
                 self_signing_key = excluded.self_signing_key",
    };
    let users: Vec<i64> = lists.iter().map(|list| list.user_pk).collect();
    delete_devices(tx, &users).await?;
    tx.bulk(
        LISTS,
        &[
            Col::Ints(users),
            Col::OptInts(lists.iter().map(|list| list.stream_id).collect()),
            Col::Ints(lists.iter().map(|list| i64::from(list.stale)).collect()),
            Col::Ints(lists.iter().map(|list| list.since_pos).collect()),
            Col::OptTexts(lists.iter().map(|list| list.master_key.as_deref()).collect()),
            Col::OptTexts(lists.iter().map(|list| list.self_signing_key.as_deref()).collect()),
        ],
    )
    .await?;
    put_devices(tx, devices).await
}

/// Keeps devices, in the place of those of the same ids.
pub async fn put_devices(tx: &mut Tx, devices: &[DeviceKeysRow]) -> Result<()> {
    const DEVICES: Bulk = Bulk {
        into: "remote_devices(user_pk, device_id, display_name, json)",
        suffix: "ON CONFLICT (user_pk, device_id) DO UPDATE SET display_name = excluded.display_name, \
                 json = excluded.json",
    };
    tx.bulk(
        DEVICES,
        &[
            Col::Ints(devices.iter().map(|device| device.user_pk).collect()),
            Col::Texts(devices.iter().map(|device| device.device_id.as_str()).collect()),
            Col::OptTexts(devices.iter().map(|device| device.display_name.as_deref()).collect()),
            Col::Texts(devices.iter().map(|device| device.json.as_str()).collect()),
        ],
    )
    .await
}

/// Forgets a device of a list.
pub async fn delete_device(tx: &mut Tx, user_pk: i64, device_id: &str) -> Result<()> {
    const DELETE: Sql = Sql::both("DELETE FROM remote_devices WHERE user_pk = $1 AND device_id = $2");
    tx.run(DELETE, args![user_pk, device_id]).await.map(drop)
}

async fn delete_devices(tx: &mut Tx, user_pks: &[i64]) -> Result<()> {
    const DELETE: Sql = Sql::per(
        "DELETE FROM remote_devices WHERE user_pk IN (SELECT value FROM json_each($1))",
        "DELETE FROM remote_devices WHERE user_pk = ANY($1)",
    );
    tx.run(DELETE, args![user_pks]).await.map(drop)
}

/// Notes which change of a list is the newest in it, or that one was missed.
pub async fn set_stream(tx: &mut Tx, user_pk: i64, stream_id: Option<i64>, stale: bool) -> Result<()> {
    const SET: Sql =
        Sql::both("UPDATE remote_device_lists SET stream_id = $2, stale = $3 WHERE user_pk = $1");
    tx.run(SET, args![user_pk, stream_id, i64::from(stale)]).await.map(drop)
}

/// Keeps the keys by which a user with a list vouches for devices; those that are not given stay.
pub async fn set_cross_signing(
    tx: &mut Tx,
    user_pk: i64,
    master_key: Option<&str>,
    self_signing_key: Option<&str>,
) -> Result<()> {
    const SET: Sql = Sql::both(
        "UPDATE remote_device_lists SET master_key = COALESCE($2, master_key), \
         self_signing_key = COALESCE($3, self_signing_key) WHERE user_pk = $1",
    );
    tx.run(SET, args![user_pk, master_key, self_signing_key]).await.map(drop)
}

/// Forgets at most `most` lists of users who share no room with this server any more; gives how many.
pub async fn delete_unshared(tx: &mut Tx, most: i64) -> Result<u64> {
    const UNSHARED: Sql = Sql::both(
        "/* whole */ WITH ours(room_pk) AS MATERIALIZED (SELECT DISTINCT m.room_pk FROM accounts AS a \
         JOIN memberships AS m ON m.user_pk = a.user_pk AND m.membership = 2) \
         SELECT l.user_pk FROM remote_device_lists AS l WHERE NOT EXISTS (SELECT 1 FROM memberships AS t \
         WHERE t.user_pk = l.user_pk AND t.membership = 2 AND t.room_pk IN (SELECT room_pk FROM ours)) \
         LIMIT $1",
    );
    let rows = tx.all(UNSHARED, args![most]).await?;
    let users = rows.iter().map(|row| row.int(0)).collect::<Result<Vec<i64>>>()?;
    const LISTS: Sql = Sql::per(
        "DELETE FROM remote_device_lists WHERE user_pk IN (SELECT value FROM json_each($1))",
        "DELETE FROM remote_device_lists WHERE user_pk = ANY($1)",
    );
    delete_devices(tx, &users).await?;
    tx.run(LISTS, args![users.as_slice()]).await
}
