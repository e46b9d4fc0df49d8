//! Bringing a database to the newest schema.
//!
//! Each migration runs in one transaction with the note that it ran, so an interrupted start leaves the database at
//! the version before or after it, never between. The scripts are written in PostgreSQL's words; for SQLite the
//! types are translated and tables marked `-- clustered` become tables without a rowid.

use crate::args;
use crate::database::{Connection, Database};
use crate::error::{Error, Result};
use crate::statement::Sql;

/// The migrations in their order; the first is version 1.
const SCRIPTS: &[&str] = &[
    include_str!("migrations/0001_foundation.sql"),
    include_str!("migrations/0002_epochs.sql"),
    include_str!("migrations/0003_signatures.sql"),
];

/// The newest version of the schema.
pub const NEWEST: i64 = SCRIPTS.len() as i64;

/// Runs what is missing, in order; refuses a database that a newer Myelin wrote.
pub async fn run(database: &Database) -> Result<()> {
    loop {
        let mut connection = database.begin().await?;
        lock(&mut connection).await?;
        let version = version(&mut connection).await?;
        if version > NEWEST {
            return Err(Error::TooNew { found: version, known: NEWEST });
        }
        let Some(script) = usize::try_from(version).ok().and_then(|v| SCRIPTS.get(v)) else {
            return Ok(());
        };
        let text = if connection.is_sqlite() { for_sqlite(script) } else { (*script).to_owned() };
        connection.script(text).await?;
        connection.run(Sql::both("UPDATE schema_version SET version = $1"), args![version + 1]).await?;
        connection.end().await?;
        tracing::info!(version = version + 1, "the database was migrated");
    }
}

/// Lets one replica migrate at a time: the table is made and its row locked.
async fn lock(connection: &mut Connection) -> Result<()> {
    if !connection.is_sqlite() {
        connection.all(Sql::both("SELECT 1 FROM pg_advisory_xact_lock(7164259381)"), &[]).await?;
    }
    const MAKE: Sql = Sql::both("CREATE TABLE IF NOT EXISTS schema_version(version BIGINT NOT NULL)");
    connection.run(MAKE, &[]).await?;
    const FIRST: Sql = Sql::both(
        "INSERT INTO schema_version(version) SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM schema_version)",
    );
    connection.run(FIRST, &[]).await.map(drop)
}

async fn version(connection: &mut Connection) -> Result<i64> {
    connection
        .one(Sql::both("SELECT version FROM schema_version"), &[])
        .await?
        .map_or(Ok(0), |row| row.int(0))
}

fn for_sqlite(script: &str) -> String {
    script
        .replace("BIGINT", "INTEGER")
        .replace("BYTEA", "BLOB")
        .replace("); -- clustered", ") STRICT, WITHOUT ROWID;")
        .replace("); -- heap", ") STRICT;")
}
