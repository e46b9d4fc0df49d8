//! Profiles: fields with JSON values.

use crate::args;
use crate::database::{Connection, Tx};
use crate::error::Result;
use crate::statement::Sql;

/// All fields: (name, JSON).
pub async fn all(connection: &mut Connection, user_pk: i64) -> Result<Vec<(String, String)>> {
    const ALL: Sql = Sql::both("SELECT field, value FROM profiles WHERE user_pk = $1 ORDER BY field");
    let rows = connection.all(ALL, args![user_pk]).await?;
    rows.iter().map(|row| Ok((row.text(0)?, row.text(1)?))).collect()
}

/// One field of many users: (user, JSON).
pub async fn field_of(
    connection: &mut Connection,
    user_pks: &[i64],
    field: &str,
) -> Result<Vec<(i64, String)>> {
    const FIELD: Sql = Sql::per(
        "SELECT user_pk, value FROM profiles WHERE field = $2 AND user_pk IN (SELECT value FROM json_each($1))",
        "SELECT user_pk, value FROM profiles WHERE field = $2 AND user_pk = ANY($1)",
    );
    let rows = connection.all(FIELD, args![user_pks, field]).await?;
    rows.iter().map(|row| Ok((row.int(0)?, row.text(1)?))).collect()
}

/// Sets a field.
pub async fn put(tx: &mut Tx, user_pk: i64, field: &str, value: &str) -> Result<()> {
    const PUT: Sql = Sql::both(
        "INSERT INTO profiles(user_pk, field, value) VALUES ($1, $2, $3) \
         ON CONFLICT (user_pk, field) DO UPDATE SET value = excluded.value",
    );
    tx.run(PUT, args![user_pk, field, value]).await.map(drop)
}

/// Removes a field; false when it was not there.
pub async fn delete(tx: &mut Tx, user_pk: i64, field: &str) -> Result<bool> {
    const DELETE: Sql = Sql::both("DELETE FROM profiles WHERE user_pk = $1 AND field = $2");
    Ok(tx.run(DELETE, args![user_pk, field]).await? > 0)
}

/// Removes a profile.
pub async fn clear(tx: &mut Tx, user_pk: i64) -> Result<()> {
    tx.run(Sql::both("DELETE FROM profiles WHERE user_pk = $1"), args![user_pk]).await.map(drop)
}
