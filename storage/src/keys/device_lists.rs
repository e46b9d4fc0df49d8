//! Whose device lists changed since when.

use crate::args;
use crate::database::Connection;
use crate::error::Result;
use crate::statement::Sql;

pub use crate::users::devices::list_changed as changed;

/// The users whose device list changed behind a position. There is no upper end: a row bears its last change only, and
/// a user told of once too often does no harm.
pub async fn since(connection: &mut Connection, after: i64) -> Result<Vec<i64>> {
    const SINCE: Sql = Sql::both("SELECT user_pk FROM device_list_changes WHERE pos > $1");
    connection.all(SINCE, args![after]).await?.iter().map(|row| row.int(0)).collect()
}
