//! Whose device lists changed since when, for everybody or for one user alone.

use crate::args;
use crate::database::{Connection, Tx};
use crate::error::Result;
use crate::log::Kind;
use crate::statement::Sql;

/// What of a user's keys changed, for everybody who shares a room.
#[derive(Clone, Copy, Debug)]
pub enum Change<'a> {
    /// These devices: came, went, or have other keys or names.
    Devices(&'a [&'a str]),
    /// The keys by which the user vouches for devices.
    CrossSigning,
    /// Perhaps everything.
    Whole,
}

/// The object of an entry [`Kind::DeviceList`]: what other servers are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Told {
    /// To fetch the list anew.
    Whole = 0,
    /// A device, as the link at the entry's position says.
    Device = 1,
    /// The cross-signing keys.
    CrossSigning = 2,
}

impl Told {
    /// What the object of an entry says.
    pub fn of(object: i64) -> Told {
        match object {
            1 => Told::Device,
            2 => Told::CrossSigning,
            _ => Told::Whole,
        }
    }
}

/// A link of the chain in which other servers follow a user's devices.
#[derive(Clone, Debug)]
pub struct Link {
    /// The device that changed.
    pub device_id: String,
    /// The link before; 0 where there is none.
    pub prev_pos: i64,
}

/// Notes that a user's device list changed, for everybody who shares a room.
pub async fn changed(tx: &mut Tx, user_pk: i64, change: Change<'_>) -> Result<()> {
    const CHANGED: Sql = Sql::both(
        "INSERT INTO device_list_changes(user_pk, pos) VALUES ($1, $2) \
         ON CONFLICT (user_pk) DO UPDATE SET pos = excluded.pos",
    );
    const LINKED: Sql = Sql::both(
        "INSERT INTO device_list_changes(user_pk, pos, link) VALUES ($1, $2, $2) \
         ON CONFLICT (user_pk) DO UPDATE SET pos = excluded.pos, link = excluded.link",
    );
    const LINK: Sql = Sql::both(
        "INSERT INTO device_list_links(pos, user_pk, device_id, prev_pos) \
         SELECT $1, $2, $3, COALESCE((SELECT link FROM device_list_changes WHERE user_pk = $2), 0)",
    );
    let told = match change {
        Change::Devices(devices) => {
            for device in devices {
                let pos = tx.entry(Kind::DeviceList, user_pk, Told::Device as i64);
                tx.write(LINK, args![pos, user_pk, *device]).await?;
                tx.write(LINKED, args![user_pk, pos]).await?;
            }
            return Ok(());
        }
        Change::CrossSigning => Told::CrossSigning,
        Change::Whole => Told::Whole,
    };
    let pos = tx.entry(Kind::DeviceList, user_pk, told as i64);
    tx.write(CHANGED, args![user_pk, pos]).await
}

/// The link at a position, if it is still known.
pub async fn link(connection: &mut Connection, pos: i64) -> Result<Option<Link>> {
    const LINK: Sql = Sql::both("SELECT device_id, prev_pos FROM device_list_links WHERE pos = $1");
    let row = connection.one(LINK, args![pos]).await?;
    row.map(|row| Ok(Link { device_id: row.text(0)?, prev_pos: row.int(1)? })).transpose()
}

/// The newest link of a user's chain; 0 where there is none.
pub async fn newest_link(connection: &mut Connection, user_pk: i64) -> Result<i64> {
    const NEWEST: Sql = Sql::both("SELECT link FROM device_list_changes WHERE user_pk = $1");
    connection.one(NEWEST, args![user_pk]).await?.map_or(Ok(0), |row| row.int(0))
}

/// Deletes at most `most` links up to a position; gives how many.
pub async fn trim_links(tx: &mut Tx, upto: i64, most: i64) -> Result<u64> {
    const TRIM: Sql = Sql::both(
        "DELETE FROM device_list_links WHERE pos IN \
         (SELECT pos FROM device_list_links WHERE pos <= $1 ORDER BY pos LIMIT $2)",
    );
    tx.run(TRIM, args![upto, most]).await
}

/// The users whose device list changed behind a position. There is no upper end: a row bears its last change only, and
/// a user told of once too often does no harm.
pub async fn since(connection: &mut Connection, after: i64) -> Result<Vec<i64>> {
    const SINCE: Sql = Sql::both("SELECT user_pk FROM device_list_changes WHERE pos > $1");
    connection.all(SINCE, args![after]).await?.iter().map(|row| row.int(0)).collect()
}

/// The positions at which users' device lists changed last: (user, position). Who had no change has none.
pub async fn positions(connection: &mut Connection, user_pks: &[i64]) -> Result<Vec<(i64, i64)>> {
    const POSITIONS: Sql = Sql::per(
        "SELECT user_pk, pos FROM device_list_changes WHERE user_pk IN (SELECT value FROM json_each($1))",
        "SELECT user_pk, pos FROM device_list_changes WHERE user_pk = ANY($1)",
    );
    let rows = connection.all(POSITIONS, args![user_pks]).await?;
    rows.iter().map(|row| Ok((row.int(0)?, row.int(1)?))).collect()
}

/// Notes that what a user sees of a target's keys changed, and what nobody else sees: their signature on another user's
/// key, or their own user-signing key.
pub async fn signed(tx: &mut Tx, user_pk: i64, target_pk: i64) -> Result<()> {
    const SIGNED: Sql = Sql::both(
        "INSERT INTO signature_changes(user_pk, target_pk, pos) VALUES ($1, $2, $3) \
         ON CONFLICT (user_pk, target_pk) DO UPDATE SET pos = excluded.pos",
    );
    let pos = tx.entry(Kind::Signature, user_pk, target_pk);
    tx.write(SIGNED, args![user_pk, target_pk, pos]).await
}

/// The users whose keys changed behind a position in what one user alone sees of them.
pub async fn signed_since(connection: &mut Connection, user_pk: i64, after: i64) -> Result<Vec<i64>> {
    const SINCE: Sql = Sql::both("SELECT target_pk FROM signature_changes WHERE user_pk = $1 AND pos > $2");
    connection.all(SINCE, args![user_pk, after]).await?.iter().map(|row| row.int(0)).collect()
}
