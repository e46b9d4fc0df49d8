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
