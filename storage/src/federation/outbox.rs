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

/// Puts an EDU in for each of these servers.
pub async fn put(tx: &mut Tx, edus: &[(String, String)]) -> Result<()> {
    let edus: Vec<(&str, &str)> = edus.iter().map(|(server, edu)| (server.as_str(), edu.as_str())).collect();
    write_rows(tx, &edus).await
}

/// Puts in what units have for other servers; `sent` says of each unit whether its messages are new.
pub(crate) async fn write(tx: &mut Tx, units: &[&Changes], sent: &[bool]) -> Result<()> {
    let new = units.iter().zip(sent).filter(|(_, sent)| **sent).flat_map(|(unit, _)| &unit.outbox);
    let edus: Vec<(&str, &str)> = new.map(|(server, edu)| (server.as_str(), edu.as_str())).collect();
    write_rows(tx, &edus).await
}

async fn write_rows(tx: &mut Tx, edus: &[(&str, &str)]) -> Result<()> {
    let positions: Vec<i64> = edus.iter().map(|_| tx.entry(Kind::Outbox, 0, 0)).collect();
    tx.bulk(
        Bulk { into: "outbox(server, pos, edu)", suffix: "" },
        &[
            Col::Texts(edus.iter().map(|(server, _)| *server).collect()),
            Col::Ints(positions),
            Col::Texts(edus.iter().map(|(_, edu)| *edu).collect()),
        ],
    )
    .await
}
