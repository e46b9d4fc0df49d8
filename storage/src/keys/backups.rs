//! Key backups: their versions and the sessions in them.

use crate::args;
use crate::database::{Connection, Tx};
use crate::error::Result;
use crate::statement::{Bulk, Col, Row, Sql};

/// A version of a user's backup.
#[derive(Clone, Debug)]
pub struct Backup {
    /// Its number.
    pub version: i64,
    /// The algorithm.
    pub algorithm: String,
    /// What the algorithm needs, as JSON.
    pub auth_data: String,
    /// Raised by each change of the sessions.
    pub etag: i64,
}

/// A backed-up session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// The room.
    pub room_id: String,
    /// The session.
    pub session_id: String,
    /// The first message that it decrypts.
    pub first_message_index: i64,
    /// How often it was forwarded.
    pub forwarded_count: i64,
    /// It came from a verified device.
    pub is_verified: bool,
    /// The encrypted session, as JSON.
    pub session_data: String,
}

/// A part of a backup.
#[derive(Clone, Copy, Debug)]
pub enum Part<'a> {
    /// All of it.
    All,
    /// A room's sessions.
    Room(&'a str),
    /// One session of a room.
    Session(&'a str, &'a str),
}

impl Backup {
    fn read(row: &Row) -> Result<Backup> {
        Ok(Backup {
            version: row.int(0)?,
            algorithm: row.text(1)?,
            auth_data: row.text(2)?,
            etag: row.int(3)?,
        })
    }
}

impl Session {
    fn read(row: &Row) -> Result<Session> {
        Ok(Session {
            room_id: row.text(0)?,
            session_id: row.text(1)?,
            first_message_index: row.int(2)?,
            forwarded_count: row.int(3)?,
            is_verified: row.bool(4)?,
            session_data: row.text(5)?,
        })
    }
}

/// Makes a new version and gives its number. The numbers of deleted versions are not given again, nor those of versions
/// that were lost with an earlier epoch: a client that knows one of them must not take another one for it.
pub async fn create(tx: &mut Tx, user_pk: i64, algorithm: &str, auth_data: &str) -> Result<i64> {
    const CREATE: Sql = Sql::both(
        "INSERT INTO backups(user_pk, version, algorithm, auth_data, etag, deleted) \
         SELECT $1, CASE WHEN last > began THEN last ELSE began END + 1, $2, $3, 0, 0 FROM \
         (SELECT (SELECT COALESCE(MAX(version), 0) FROM backups WHERE user_pk = $1) AS last, \
         (SELECT COALESCE(MAX(pos), 0) FROM epochs) AS began) AS numbers RETURNING version",
    );
    tx.one(CREATE, args![user_pk, algorithm, auth_data]).await?.map_or(Ok(0), |row| row.int(0))
}

/// The newest version.
pub async fn latest(connection: &mut Connection, user_pk: i64) -> Result<Option<Backup>> {
    const LATEST: Sql = Sql::both(
        "SELECT version, algorithm, auth_data, etag FROM backups WHERE user_pk = $1 AND deleted = 0 \
         ORDER BY version DESC LIMIT 1",
    );
    connection.one(LATEST, args![user_pk]).await?.as_ref().map(Backup::read).transpose()
}

/// A version.
pub async fn get(connection: &mut Connection, user_pk: i64, version: i64) -> Result<Option<Backup>> {
    const GET: Sql = Sql::both(
        "SELECT version, algorithm, auth_data, etag FROM backups \
         WHERE user_pk = $1 AND version = $2 AND deleted = 0",
    );
    connection.one(GET, args![user_pk, version]).await?.as_ref().map(Backup::read).transpose()
}

/// Replaces the auth_data of a version.
pub async fn update(tx: &mut Tx, user_pk: i64, version: i64, auth_data: &str) -> Result<()> {
    const UPDATE: Sql = Sql::both("UPDATE backups SET auth_data = $3 WHERE user_pk = $1 AND version = $2");
    tx.run(UPDATE, args![user_pk, version, auth_data]).await.map(drop)
}

/// Marks a version as deleted; false when there is none.
pub async fn delete(tx: &mut Tx, user_pk: i64, version: i64) -> Result<bool> {
    const DELETE: Sql = Sql::both(
        "UPDATE backups SET deleted = 1, auth_data = '{}' WHERE user_pk = $1 AND version = $2 AND deleted = 0",
    );
    Ok(tx.run(DELETE, args![user_pk, version]).await? > 0)
}

/// Deletes all versions of a user with their sessions.
pub async fn clear(tx: &mut Tx, user_pk: i64) -> Result<()> {
    tx.run(Sql::both("DELETE FROM backup_sessions WHERE user_pk = $1"), args![user_pk]).await?;
    tx.run(Sql::both("DELETE FROM backups WHERE user_pk = $1"), args![user_pk]).await.map(drop)
}

/// Raises the etag of a version.
pub async fn touch(tx: &mut Tx, user_pk: i64, version: i64) -> Result<()> {
    const TOUCH: Sql = Sql::both("UPDATE backups SET etag = etag + 1 WHERE user_pk = $1 AND version = $2");
    tx.run(TOUCH, args![user_pk, version]).await.map(drop)
}

/// How many sessions a version holds.
pub async fn count(connection: &mut Connection, user_pk: i64, version: i64) -> Result<i64> {
    const COUNT: Sql = Sql::both("SELECT COUNT(*) FROM backup_sessions WHERE user_pk = $1 AND version = $2");
    connection.one(COUNT, args![user_pk, version]).await?.map_or(Ok(0), |row| row.int(0))
}

/// The sessions of a part of a version.
pub async fn sessions(
    connection: &mut Connection,
    user_pk: i64,
    version: i64,
    part: Part<'_>,
) -> Result<Vec<Session>> {
    macro_rules! select {
        ($more:literal) => {
            Sql::both(concat!(
                "SELECT room_id, session_id, first_message_index, forwarded_count, is_verified, session_data \
                 FROM backup_sessions WHERE user_pk = $1 AND version = $2",
                $more
            ))
        };
    }
    let rows = match part {
        Part::All => connection.all(select!(""), args![user_pk, version]).await?,
        Part::Room(room) => {
            connection.all(select!(" AND room_id = $3"), args![user_pk, version, room]).await?
        }
        Part::Session(room, session) => {
            let sql = select!(" AND room_id = $3 AND session_id = $4");
            connection.all(sql, args![user_pk, version, room, session]).await?
        }
    };
    rows.iter().map(Session::read).collect()
}

/// Those of these sessions of a room that a version holds.
pub async fn find(
    connection: &mut Connection,
    user_pk: i64,
    version: i64,
    room_id: &str,
    session_ids: &[&str],
) -> Result<Vec<Session>> {
    const FIND: Sql = Sql::per(
        "SELECT room_id, session_id, first_message_index, forwarded_count, is_verified, session_data \
         FROM backup_sessions WHERE user_pk = $1 AND version = $2 AND room_id = $3 \
         AND session_id IN (SELECT value FROM json_each($4))",
        "SELECT room_id, session_id, first_message_index, forwarded_count, is_verified, session_data \
         FROM backup_sessions WHERE user_pk = $1 AND version = $2 AND room_id = $3 AND session_id = ANY($4)",
    );
    let rows = connection.all(FIND, args![user_pk, version, room_id, session_ids]).await?;
    rows.iter().map(Session::read).collect()
}

/// Stores sessions in place of those that were there.
pub async fn put(tx: &mut Tx, user_pk: i64, version: i64, sessions: &[Session]) -> Result<()> {
    const PUT: Bulk = Bulk {
        into: "backup_sessions(user_pk, version, room_id, session_id, first_message_index, forwarded_count, \
               is_verified, session_data)",
        suffix: "ON CONFLICT (user_pk, version, room_id, session_id) DO UPDATE SET \
                 first_message_index = excluded.first_message_index, forwarded_count = excluded.forwarded_count, \
                 is_verified = excluded.is_verified, session_data = excluded.session_data",
    };
    tx.bulk(
        PUT,
        &[
            Col::Ints(vec![user_pk; sessions.len()]),
            Col::Ints(vec![version; sessions.len()]),
            Col::Texts(sessions.iter().map(|s| s.room_id.as_str()).collect()),
            Col::Texts(sessions.iter().map(|s| s.session_id.as_str()).collect()),
            Col::Ints(sessions.iter().map(|s| s.first_message_index).collect()),
            Col::Ints(sessions.iter().map(|s| s.forwarded_count).collect()),
            Col::Ints(sessions.iter().map(|s| s.is_verified.into()).collect()),
            Col::Texts(sessions.iter().map(|s| s.session_data.as_str()).collect()),
        ],
    )
    .await
}

/// Deletes the sessions of a part of a version; gives how many there were.
pub async fn delete_sessions(tx: &mut Tx, user_pk: i64, version: i64, part: Part<'_>) -> Result<u64> {
    macro_rules! delete {
        ($more:literal) => {
            Sql::both(concat!("DELETE FROM backup_sessions WHERE user_pk = $1 AND version = $2", $more))
        };
    }
    match part {
        Part::All => tx.run(delete!(""), args![user_pk, version]).await,
        Part::Room(room) => tx.run(delete!(" AND room_id = $3"), args![user_pk, version, room]).await,
        Part::Session(room, session) => {
            let sql = delete!(" AND room_id = $3 AND session_id = $4");
            tx.run(sql, args![user_pk, version, room, session]).await
        }
    }
}
