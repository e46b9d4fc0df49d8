//! Accounts on this server.

use crate::args;
use crate::database::{Connection, Tx};
use crate::error::Result;
use crate::statement::Sql;

/// An account of somebody.
pub const USER: i64 = 0;
/// A guest's.
pub const GUEST: i64 = 1;

/// An account.
#[derive(Clone, Debug)]
pub struct Account {
    /// The user.
    pub user_pk: i64,
    /// The password's hash; nobody logs in by password where there is none.
    pub password_hash: Option<String>,
    /// [`USER`] or [`GUEST`].
    pub kind: i64,
    /// The account may administer the server.
    pub admin: bool,
    /// The account is closed for ever.
    pub deactivated: bool,
}

/// An account in the list of all.
#[derive(Clone, Debug)]
pub struct Listed {
    /// The user's id.
    pub user_id: String,
    /// [`USER`] or [`GUEST`].
    pub kind: i64,
    /// The account may administer the server.
    pub admin: bool,
    /// The account is closed for ever.
    pub deactivated: bool,
    /// When it was made, in milliseconds since the Unix epoch.
    pub created_ts: i64,
}

/// Makes an account; false when the user has one, be it closed.
pub async fn insert(
    tx: &mut Tx,
    user_pk: i64,
    password_hash: Option<&str>,
    kind: i64,
    admin: bool,
    ts: i64,
) -> Result<bool> {
    const INSERT: Sql = Sql::both(
        "INSERT INTO accounts(user_pk, password_hash, kind, admin, deactivated, created_ts) \
         VALUES ($1, $2, $3, $4, 0, $5) ON CONFLICT (user_pk) DO NOTHING",
    );
    Ok(tx.run(INSERT, args![user_pk, password_hash, kind, admin, ts]).await? > 0)
}

/// A user's account.
pub async fn get(connection: &mut Connection, user_pk: i64) -> Result<Option<Account>> {
    const GET: Sql =
        Sql::both("SELECT password_hash, kind, admin, deactivated FROM accounts WHERE user_pk = $1");
    let row = connection.one(GET, args![user_pk]).await?;
    row.map(|row| {
        Ok(Account {
            user_pk,
            password_hash: row.opt_text(0)?,
            kind: row.int(1)?,
            admin: row.bool(2)?,
            deactivated: row.bool(3)?,
        })
    })
    .transpose()
}

/// Sets the password's hash.
pub async fn set_password(tx: &mut Tx, user_pk: i64, password_hash: &str) -> Result<()> {
    const SET: Sql = Sql::both("UPDATE accounts SET password_hash = $2 WHERE user_pk = $1");
    tx.run(SET, args![user_pk, password_hash]).await.map(drop)
}

/// Makes a guest's account a user's; false when the account is no guest's, or closed.
pub async fn upgrade(tx: &mut Tx, user_pk: i64, password_hash: Option<&str>) -> Result<bool> {
    const UPGRADE: Sql = Sql::both(
        "UPDATE accounts SET kind = 0, password_hash = $2 WHERE user_pk = $1 AND kind = 1 AND deactivated = 0",
    );
    Ok(tx.run(UPGRADE, args![user_pk, password_hash]).await? > 0)
}

/// Closes an account for ever.
pub async fn deactivate(tx: &mut Tx, user_pk: i64) -> Result<()> {
    const DEACTIVATE: Sql =
        Sql::both("UPDATE accounts SET deactivated = 1, password_hash = NULL WHERE user_pk = $1");
    tx.run(DEACTIVATE, args![user_pk]).await.map(drop)
}

/// Whether anybody but guests has an account.
pub async fn any(connection: &mut Connection) -> Result<bool> {
    Ok(connection.one(Sql::both("SELECT 1 FROM accounts WHERE kind = 0 LIMIT 1"), &[]).await?.is_some())
}

/// All accounts, by their users' ids.
pub async fn list(connection: &mut Connection) -> Result<Vec<Listed>> {
    const LIST: Sql = Sql::both(
        "SELECT users.user_id, kind, admin, deactivated, created_ts FROM accounts \
         JOIN users ON users.user_pk = accounts.user_pk ORDER BY users.user_id",
    );
    let rows = connection.all(LIST, &[]).await?;
    rows.iter()
        .map(|row| {
            Ok(Listed {
                user_id: row.text(0)?,
                kind: row.int(1)?,
                admin: row.bool(2)?,
                deactivated: row.bool(3)?,
                created_ts: row.int(4)?,
            })
        })
        .collect()
}
