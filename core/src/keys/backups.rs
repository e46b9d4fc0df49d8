//! Key backups: versions, and the encrypted sessions in the newest of them.

use super::check_id;
use crate::error::{Error, Result};
use crate::server::Server;
use myelin_storage::keys::backups::{self, Part};
use myelin_storage::{Connection, Tx};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::{BTreeMap, HashMap};

pub use myelin_storage::keys::backups::Session;

/// A version of a backup, and how much is in it.
#[derive(Clone, Debug)]
pub struct Info {
    /// The version.
    pub version: String,
    /// Its algorithm.
    pub algorithm: String,
    /// What the algorithm needs.
    pub auth_data: Box<RawValue>,
    /// How much is in it.
    pub state: State,
}

/// By what clients know whether a backup changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Differs after each change.
    pub etag: String,
    /// Sessions.
    pub count: i64,
}

/// Algorithm and auth_data, as a client sends them.
#[derive(Debug, Deserialize)]
pub struct Algorithm {
    /// The algorithm.
    pub algorithm: String,
    /// What it needs.
    pub auth_data: Box<RawValue>,
}

/// Which sessions of a backup an operation is about.
#[derive(Clone, Debug)]
pub enum Which {
    /// All.
    All,
    /// Those of a room.
    Room(String),
    /// One session of a room.
    Session(String, String),
}

impl Which {
    fn part(&self) -> Part<'_> {
        match self {
            Which::All => Part::All,
            Which::Room(room) => Part::Room(room),
            Which::Session(room, session) => Part::Session(room, session),
        }
    }
}

/// A session as a client sends it.
#[derive(Deserialize)]
struct Uploaded {
    first_message_index: u32,
    forwarded_count: u32,
    is_verified: bool,
    session_data: Box<RawValue>,
}

/// Reads a session that a client sends.
pub fn parse_session(room_id: &str, session_id: &str, json: &str) -> Result<Session> {
    check_id(session_id)?;
    let uploaded: Uploaded = serde_json::from_str(json)
        .map_err(|error| Error::bad_json(format!("session {session_id} is malformed: {error}")))?;
    if !uploaded.session_data.get().starts_with('{') {
        return Err(Error::bad_json(format!("session {session_id}: session_data must be an object")));
    }
    Ok(Session {
        room_id: room_id.to_owned(),
        session_id: session_id.to_owned(),
        first_message_index: uploaded.first_message_index.into(),
        forwarded_count: uploaded.forwarded_count.into(),
        is_verified: uploaded.is_verified,
        session_data: uploaded.session_data.get().to_owned(),
    })
}

/// Makes a new version, which is the current one from now on.
pub async fn create(server: &Server, user_pk: i64, algorithm: Algorithm) -> Result<String> {
    check_auth_data(&algorithm)?;
    let version: i64 = server
        .commit
        .run(move |tx| {
            Box::pin(async move {
                let auth_data = algorithm.auth_data.get();
                Ok(backups::create(tx, user_pk, &algorithm.algorithm, auth_data).await?)
            })
        })
        .await?;
    Ok(version.to_string())
}

/// The current version.
pub async fn latest(server: &Server, user_pk: i64) -> Result<Info> {
    let mut connection = server.database.read().await?;
    let backup = backups::latest(&mut connection, user_pk).await?.ok_or_else(no_version)?;
    info(&mut connection, user_pk, backup).await
}

/// A version.
pub async fn get(server: &Server, user_pk: i64, version: &str) -> Result<Info> {
    let mut connection = server.database.read().await?;
    let backup = existing(&mut connection, user_pk, version).await?;
    info(&mut connection, user_pk, backup).await
}

/// Replaces the auth_data of a version, whose algorithm stays.
pub async fn update(server: &Server, user_pk: i64, version: String, algorithm: Algorithm) -> Result<()> {
    check_auth_data(&algorithm)?;
    server
        .commit
        .run(move |tx| {
            Box::pin(async move {
                let backup = existing(tx, user_pk, &version).await?;
                if backup.algorithm != algorithm.algorithm {
                    return Err(Error::invalid_param("the algorithm of a backup cannot change"));
                }
                Ok(backups::update(tx, user_pk, backup.version, algorithm.auth_data.get()).await?)
            })
        })
        .await
}

/// Deletes a version with its sessions.
pub async fn delete(server: &Server, user_pk: i64, version: &str) -> Result<()> {
    let version = number(version)?;
    server
        .commit
        .run(move |tx| {
            Box::pin(async move {
                if !backups::delete(tx, user_pk, version).await? {
                    return Err(no_version());
                }
                backups::delete_sessions(tx, user_pk, version, Part::All).await?;
                Ok(())
            })
        })
        .await
}

/// Puts sessions into the current version; a session that is there stays unless the new one is better.
///
/// # Errors
/// M_WRONG_ROOM_KEYS_VERSION when `version` is not the current one, M_NOT_FOUND when there is no such version.
pub async fn put(server: &Server, user_pk: i64, version: String, sessions: Vec<Session>) -> Result<State> {
    server
        .commit
        .run(move |tx| {
            Box::pin(async move {
                let backup = current(tx, user_pk, &version).await?;
                let better = better(tx, user_pk, backup.version, sessions).await?;
                if !better.is_empty() {
                    backups::put(tx, user_pk, backup.version, &better).await?;
                    backups::touch(tx, user_pk, backup.version).await?;
                }
                state(tx, user_pk, backup.version).await
            })
        })
        .await
}

/// The sessions of a version.
///
/// # Errors
/// M_NOT_FOUND when there is no such version, or not the one session that was asked for.
pub async fn sessions(server: &Server, user_pk: i64, version: &str, which: &Which) -> Result<Vec<Session>> {
    let mut connection = server.database.read().await?;
    let backup = existing(&mut connection, user_pk, version).await?;
    let sessions = backups::sessions(&mut connection, user_pk, backup.version, which.part()).await?;
    if sessions.is_empty() && matches!(which, Which::Session(..)) {
        return Err(Error::not_found("the backup has no such session"));
    }
    Ok(sessions)
}

/// Deletes sessions of a version.
pub async fn delete_sessions(server: &Server, user_pk: i64, version: String, which: Which) -> Result<State> {
    server
        .commit
        .run(move |tx| {
            Box::pin(async move {
                let backup = existing(tx, user_pk, &version).await?;
                if backups::delete_sessions(tx, user_pk, backup.version, which.part()).await? > 0 {
                    backups::touch(tx, user_pk, backup.version).await?;
                }
                state(tx, user_pk, backup.version).await
            })
        })
        .await
}

fn no_version() -> Error {
    Error::not_found("there is no such version of the key backup")
}

fn number(version: &str) -> Result<i64> {
    version.parse().map_err(|_| no_version())
}

fn check_auth_data(algorithm: &Algorithm) -> Result<()> {
    check_id(&algorithm.algorithm)?;
    if algorithm.auth_data.get().starts_with('{') {
        Ok(())
    } else {
        Err(Error::bad_json("auth_data must be an object"))
    }
}

async fn existing(connection: &mut Connection, user_pk: i64, version: &str) -> Result<backups::Backup> {
    backups::get(connection, user_pk, number(version)?).await?.ok_or_else(no_version)
}

/// The version, if it is the current one.
async fn current(tx: &mut Tx, user_pk: i64, version: &str) -> Result<backups::Backup> {
    let asked = existing(tx, user_pk, version).await?;
    let latest = backups::latest(tx, user_pk).await?.ok_or_else(no_version)?;
    if latest.version == asked.version {
        Ok(latest)
    } else {
        Err(Error::WrongRoomKeysVersion { current: latest.version.to_string() })
    }
}

async fn state(connection: &mut Connection, user_pk: i64, version: i64) -> Result<State> {
    let backup = backups::get(connection, user_pk, version).await?.ok_or_else(no_version)?;
    let count = backups::count(connection, user_pk, version).await?;
    Ok(State { etag: backup.etag.to_string(), count })
}

async fn info(connection: &mut Connection, user_pk: i64, backup: backups::Backup) -> Result<Info> {
    let auth_data = RawValue::from_string(backup.auth_data)
        .map_err(|error| Error::internal(format!("a stored backup is damaged: {error}")))?;
    Ok(Info {
        version: backup.version.to_string(),
        algorithm: backup.algorithm,
        auth_data,
        state: State {
            etag: backup.etag.to_string(),
            count: backups::count(connection, user_pk, backup.version).await?,
        },
    })
}

/// Of these sessions, those that the version does not have, or has in a worse form.
async fn better(
    connection: &mut Connection,
    user_pk: i64,
    version: i64,
    sessions: Vec<Session>,
) -> Result<Vec<Session>> {
    let mut by_room: BTreeMap<String, Vec<Session>> = BTreeMap::new();
    for session in sessions {
        by_room.entry(session.room_id.clone()).or_default().push(session);
    }
    let mut better = Vec::new();
    for (room, sessions) in by_room {
        let ids: Vec<&str> = sessions.iter().map(|s| s.session_id.as_str()).collect();
        let stored = backups::find(connection, user_pk, version, &room, &ids).await?;
        let stored: HashMap<String, Session> =
            stored.into_iter().map(|session| (session.session_id.clone(), session)).collect();
        let wins = |new: &Session| stored.get(&new.session_id).is_none_or(|old| replaces(old, new));
        better.extend(sessions.into_iter().filter(wins));
    }
    Ok(better)
}

/// Whether a session takes the place of one with its id: verified beats unverified, then the lower first index wins,
/// then the lower count of forwards; of equals the old one stays.
fn replaces(old: &Session, new: &Session) -> bool {
    let rank = |s: &Session| (!s.is_verified, s.first_message_index, s.forwarded_count);
    rank(new) < rank(old)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn better_sessions_replace_worse_ones() {
        let session = |is_verified, first_message_index, forwarded_count| Session {
            room_id: "!r".to_owned(),
            session_id: "s".to_owned(),
            first_message_index,
            forwarded_count,
            is_verified,
            session_data: "{}".to_owned(),
        };
        let old = session(false, 5, 5);
        for (new, wins) in [
            (session(true, 9, 9), true),
            (session(false, 4, 9), true),
            (session(false, 5, 4), true),
            (session(false, 5, 5), false),
            (session(false, 6, 0), false),
        ] {
            assert_eq!(replaces(&old, &new), wins, "{new:?}");
        }
        assert!(!replaces(&session(true, 5, 5), &session(false, 0, 0)));
    }
}
