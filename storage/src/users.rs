//! Users: their interned numbers, accounts, devices, tokens and data.

pub mod access_tokens;
pub mod account_data;
pub mod accounts;
pub mod devices;
pub mod filters;
pub mod login_tokens;
pub mod openid_tokens;
pub mod refresh_tokens;
pub mod registration_tokens;
pub mod uia_sessions;

use crate::args;
use crate::database::{Connection, Database};
use crate::error::Result;
use crate::statement::Sql;

pub mod profiles;

/// The number of a user, if the user is known here.
pub async fn find(connection: &mut Connection, user_id: &str) -> Result<Option<i64>> {
    const FIND: Sql = Sql::both("SELECT user_pk FROM users WHERE user_id = $1");
    connection.one(FIND, args![user_id]).await?.map(|row| row.int(0)).transpose()
}

/// The ids behind numbers; unknown numbers are left out.
pub async fn ids(connection: &mut Connection, user_pks: &[i64]) -> Result<Vec<(i64, String)>> {
    const IDS: Sql = Sql::per(
        "SELECT user_pk, user_id FROM users WHERE user_pk IN (SELECT value FROM json_each($1))",
        "SELECT user_pk, user_id FROM users WHERE user_pk = ANY($1)",
    );
    connection.all(IDS, args![user_pks]).await?.iter().map(|row| Ok((row.int(0)?, row.text(1)?))).collect()
}

/// The numbers behind ids; unknown ids are left out.
pub async fn find_all(connection: &mut Connection, user_ids: &[&str]) -> Result<Vec<(String, i64)>> {
    const FIND: Sql = Sql::per(
        "SELECT user_id, user_pk FROM users WHERE user_id IN (SELECT value FROM json_each($1))",
        "SELECT user_id, user_pk FROM users WHERE user_id = ANY($1)",
    );
    connection.all(FIND, args![user_ids]).await?.iter().map(|row| Ok((row.text(0)?, row.int(1)?))).collect()
}

/// The number of a user, given now if there was none. It is durable at once and stands for ever, so it needs no log entry
/// and no place in the caller's transaction.
pub async fn intern(database: &Database, user_id: &str, candidate: i64) -> Result<i64> {
    const INTERN: Sql = Sql::both(
        "INSERT INTO users(user_pk, user_id) VALUES ($1, $2) ON CONFLICT (user_id) DO UPDATE SET user_id = excluded.user_id \
         RETURNING user_pk",
    );
    let mut connection = database.begin().await?;
    let row = connection.one(INTERN, args![candidate, user_id]).await?;
    connection.end().await?;
    row.map_or(Ok(candidate), |row| row.int(0))
}

/// The same for many users at once: (id, number) of each. There is a candidate for each id.
pub async fn intern_all(
    database: &Database,
    user_ids: &[&str],
    candidates: &[i64],
) -> Result<Vec<(String, i64)>> {
    const INTERN: Sql = Sql::per(
        "INSERT INTO users(user_pk, user_id) SELECT p.value, u.value FROM json_each($1) AS p \
         JOIN json_each($2) AS u ON u.key = p.key WHERE true ON CONFLICT (user_id) DO NOTHING",
        "INSERT INTO users(user_pk, user_id) SELECT * FROM UNNEST($1::bigint[], $2::text[]) \
         ON CONFLICT (user_id) DO NOTHING",
    );
    let mut connection = database.begin().await?;
    connection.run(INTERN, args![candidates, user_ids]).await?;
    let interned = find_all(&mut connection, user_ids).await?;
    connection.end().await?;
    Ok(interned)
}
