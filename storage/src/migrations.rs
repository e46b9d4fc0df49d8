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
    include_str!("migrations/0004_packed_events.sql"),
    include_str!("migrations/0005_federation.sql"),
    include_str!("migrations/0006_directory.sql"),
    include_str!("migrations/0007_timestamps.sql"),
    include_str!("migrations/0008_device_lists.sql"),
];

/// The newest version of the schema.
pub const NEWEST: i64 = SCRIPTS.len() as i64;

/// Runs what is missing, in order; refuses a database that a newer Myelin wrote.
pub async fn run(database: &Database) -> Result<()> {
    run_scripts(database, SCRIPTS).await
}

async fn run_scripts(database: &Database, scripts: &[&str]) -> Result<()> {
    loop {
        let mut connection = database.begin().await?;
        lock(&mut connection).await?;
        let version = version(&mut connection).await?;
        if version > NEWEST {
            return Err(Error::TooNew { found: version, known: NEWEST });
        }
        let Some(script) = usize::try_from(version).ok().and_then(|v| scripts.get(v)) else {
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
        // That the table is there already is no news, and would be told at each start.
        connection.run(Sql::both("SET LOCAL client_min_messages = warning"), &[]).await?;
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
        .replace("strpos(", "instr(")
        .replace("convert_to(json, 'UTF8')", "CAST(json AS BLOB)")
        .replace("); -- clustered", ") STRICT, WITHOUT ROWID;")
        .replace("); -- heap", ") STRICT;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rooms::packed;
    use crate::testing;

    /// An event from before events were packed, with what JSON and SQL may take for an escape.
    const EVENT: &str = r#"{"content":{"body":"\\x41 \n 'é' \\000"},"hashes":{"sha256":"HX544Vt/GIOFvW0Bz9vERGWw/aw2iGQ2ewUmeieA/sA"}}"#;

    #[tokio::test]
    async fn events_from_before_they_were_packed_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let mut all = vec![testing::sqlite(folder.path())];
        if let Ok(server) = std::env::var(testing::POSTGRES) {
            all.push(testing::postgres(&server, "myelin_migrations").await.unwrap());
        }
        for options in all {
            let database = Database::connect(&options, "test").await.unwrap();
            run_scripts(&database, &SCRIPTS[..2]).await.unwrap();
            let mut connection = database.begin().await.unwrap();
            let insert = Sql::both("INSERT INTO event_json(event_pk, json) VALUES ($1, $2)");
            connection.run(insert, args![7_i64, EVENT]).await.unwrap();
            connection.end().await.unwrap();
            run(&database).await.unwrap();
            let read = Sql::both("SELECT body FROM event_bodies WHERE event_pk = $1");
            let row = database.read().await.unwrap().one(read, args![7_i64]).await.unwrap().unwrap();
            assert_eq!(packed::unpack(&row.bytes(0).unwrap()).as_deref(), Some(EVENT));
            database.close().await;
        }
    }
}
