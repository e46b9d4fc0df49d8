//! EDUs that must not be lost, until the server that they are for has them.

use crate::args;
use crate::changes::Changes;
use crate::database::{Connection, Tx};
use crate::error::Result;
use crate::log::Kind;
use crate::statement::{Bulk, Col, Sql};

/// The oldest EDUs for a server behind a position: (position, JSON).
pub async fn waiting(
    connection: &mut Connection,
    server: &str,
    after: i64,
    limit: i64,
) -> Result<Vec<(i64, String)>> {
    const WAITING: Sql =
        Sql::both("SELECT pos, edu FROM outbox WHERE server = $1 AND pos > $2 ORDER BY pos LIMIT $3");
    let rows = connection.all(WAITING, args![server, after, limit]).await?;
    rows.iter().map(|row| Ok((row.int(0)?, row.text(1)?))).collect()
}

/// The servers for which EDUs wait.
pub async fn servers(connection: &mut Connection) -> Result<Vec<String>> {
    let rows = connection.all(Sql::both("SELECT DISTINCT server FROM outbox"), &[]).await?;
    rows.iter().map(|row| row.text(0)).collect()
}

/// The servers for which EDUs were put in between two positions.
pub async fn servers_between(connection: &mut Connection, after: i64, upto: i64) -> Result<Vec<String>> {
    const BETWEEN: Sql = Sql::both("SELECT DISTINCT server FROM outbox WHERE pos > $1 AND pos <= $2");
    let rows = connection.all(BETWEEN, args![after, upto]).await?;
    rows.iter().map(|row| row.text(0)).collect()
}

/// Deletes what a server has: the EDUs up to a position.
pub async fn delivered(tx: &mut Tx, server: &str, upto: i64) -> Result<()> {
    const DELETE: Sql = Sql::both("DELETE FROM outbox WHERE server = $1 AND pos <= $2");
    tx.run(DELETE, args![server, upto]).await.map(drop)
}

/// The servers for which something about this waits.
pub async fn servers_about(connection: &mut Connection, about: i64) -> Result<Vec<String>> {
    const ABOUT: Sql = Sql::both("SELECT server FROM outbox WHERE about = $1 AND about <> 0");
    connection.all(ABOUT, args![about]).await?.iter().map(|row| row.text(0)).collect()
}

/// Puts EDUs in, each with its server, that take the place of those about the same that wait.
pub async fn replace(tx: &mut Tx, about: i64, edus: &[(String, String)]) -> Result<()> {
    tx.run(Sql::both("DELETE FROM outbox WHERE about = $1 AND about <> 0"), args![about]).await?;
    let edus: Vec<(&str, &str)> = edus.iter().map(|(server, edu)| (server.as_str(), edu.as_str())).collect();
    write_rows(tx, about, &edus).await
}

/// Deletes at most `most` messages for servers that have not answered since a time; what replaces itself stays. Gives how
/// many.
pub async fn delete_of_failing(tx: &mut Tx, since_ts: i64, most: i64) -> Result<u64> {
    const DELETE: Sql = Sql::both(
        "/* whole */ DELETE FROM outbox WHERE (server, pos) IN (SELECT o.server, o.pos FROM destinations AS d \
         JOIN outbox AS o ON o.server = d.server AND o.about = 0 WHERE d.failing_since_ts < $1 LIMIT $2)",
    );
    tx.run(DELETE, args![since_ts, most]).await
}

/// Puts in what units have for other servers; `sent` says of each unit whether its messages are new.
pub(crate) async fn write(tx: &mut Tx, units: &[&Changes], sent: &[bool]) -> Result<()> {
    let new = units.iter().zip(sent).filter(|(_, sent)| **sent).flat_map(|(unit, _)| &unit.outbox);
    let edus: Vec<(&str, &str)> = new.map(|(server, edu)| (server.as_str(), edu.as_str())).collect();
    write_rows(tx, 0, &edus).await
}

async fn write_rows(tx: &mut Tx, about: i64, edus: &[(&str, &str)]) -> Result<()> {
    let positions: Vec<i64> = edus.iter().map(|_| tx.entry(Kind::Outbox, 0, 0)).collect();
    tx.bulk(
        Bulk { into: "outbox(server, pos, edu, about)", suffix: "" },
        &[
            Col::Texts(edus.iter().map(|(server, _)| *server).collect()),
            Col::Ints(positions),
            Col::Texts(edus.iter().map(|(_, edu)| *edu).collect()),
            Col::Ints(edus.iter().map(|_| about).collect()),
        ],
    )
    .await
}
