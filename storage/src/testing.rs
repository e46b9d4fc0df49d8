//! Databases for tests: a SQLite file in a folder that vanishes, or a PostgreSQL database of its own.

use crate::args;
use crate::database::{Database, Options};
use crate::error::Result;
use crate::statement::Sql;

/// The environment variable with the URL of a PostgreSQL server on which tests may create databases.
pub const POSTGRES: &str = "MYELIN_TEST_POSTGRES";

/// Options for a SQLite database in a folder.
pub fn sqlite(folder: &std::path::Path) -> Options {
    Options { url: format!("sqlite:{}", folder.join("myelin.db").display()), connections: 4 }
}

/// Creates an empty database with this name on a PostgreSQL server and gives the options for it. `server` is the URL
/// of any database of the server, such as `postgres://postgres@localhost/postgres`.
pub async fn postgres(server: &str, name: &str) -> Result<Options> {
    let name = unquoted(name);
    create_postgres(server, &name, "TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'").await?;
    let base = server.rsplit_once('/').map_or(server, |(base, _)| base);
    Ok(Options { url: format!("{base}/{name}"), connections: 6 })
}

/// Makes a PostgreSQL database that is a copy of another one, in the place of one that has its name. Nobody may be
/// connected to either. With what is there put under another name first, this is a backup and its restoration.
pub async fn copy_postgres(server: &str, from: &str, to: &str) -> Result<()> {
    create_postgres(server, &unquoted(to), &format!("TEMPLATE \"{}\"", unquoted(from))).await
}

/// Makes a database in the place of one that has its name.
async fn create_postgres(server: &str, name: &str, of: &str) -> Result<()> {
    use sqlx::Connection as _;
    let mut connection = sqlx::PgConnection::connect(server).await?;
    for text in [
        format!("DROP DATABASE IF EXISTS \"{name}\" WITH (FORCE)"),
        format!("CREATE DATABASE \"{name}\" {of}"),
    ] {
        sqlx::raw_sql(sqlx::AssertSqlSafe(text)).execute(&mut connection).await?;
    }
    Ok(connection.close().await?)
}

/// A name that can stand in quotes.
fn unquoted(name: &str) -> String {
    name.replace('"', "")
}

/// Takes the log back to a position under a running server, as a database does that is put back from a backup.
pub async fn take_back(database: &Database, pos: i64) -> Result<()> {
    let mut connection = database.begin().await?;
    connection.run(Sql::both("DELETE FROM log WHERE pos > $1"), args![pos]).await?;
    connection.run(Sql::both("UPDATE head SET pos = $1"), args![pos]).await?;
    connection.end().await
}

/// Tables that stay small.
const SMALL: [&str; 7] =
    ["schema_version", "head", "writers", "counters", "registration_tokens", "meta", "epochs"];

/// What a statement begins with that goes over a whole table on purpose, as a new epoch does.
const WHOLE: &str = "/* whole */";

/// The statements so far that read a growing table from end to end instead of by an index, without saying so.
pub fn scans_of_growing_tables(database: &Database) -> Vec<String> {
    let may = |text: &String| {
        text.starts_with(WHOLE)
            || SMALL.iter().any(|table| text.split_whitespace().any(|word| word == *table))
    };
    database.whole_table_reads().into_iter().filter(|text| !may(text)).collect()
}

/// Opens a database for a test, as one replica named by the test.
pub async fn open(options: &Options, replica: &str) -> Result<Database> {
    Database::open(options, replica).await
}

/// Ends all of a replica's sessions on PostgreSQL, as a failing network would; gives how many there were.
pub async fn cut(database: &Database, replica: &str) -> Result<i64> {
    const CUT: Sql = Sql::per(
        "SELECT 0 WHERE $1 = ''",
        "SELECT COUNT(pg_terminate_backend(pid)) FROM pg_stat_activity \
         WHERE datname = current_database() AND application_name = $1",
    );
    let mut connection = database.read().await?;
    let row = connection.one(CUT, args![crate::replicas::application(replica).as_str()]).await?;
    row.map_or(Ok(0), |row| row.int(0))
}

/// Lets PostgreSQL take new sessions on this database, or refuse them.
pub async fn take_connections(database: &Database, take: bool) -> Result<()> {
    use sqlx::{ConnectOptions as _, Connection as _};
    let Some(pool) = database.postgres() else { return Ok(()) };
    let options = (*pool.connect_options()).clone();
    let name = unquoted(options.get_database().unwrap_or_default());
    let text = format!("ALTER DATABASE \"{name}\" ALLOW_CONNECTIONS {take}");
    let mut connection = options.database("postgres").connect().await?;
    sqlx::raw_sql(sqlx::AssertSqlSafe(text)).execute(&mut connection).await?;
    Ok(connection.close().await?)
}
