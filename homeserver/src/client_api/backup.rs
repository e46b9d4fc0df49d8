//! Key backups.

use axum::response::Response;
use myelin_core::keys::backups::{self, Info, Session, State, Which};
use ruma::{
    UInt,
    api::client::backup::{
        BackupAlgorithm, add_backup_keys, add_backup_keys_for_room, add_backup_keys_for_session,
        create_backup_version, delete_backup_keys, delete_backup_keys_for_room,
        delete_backup_keys_for_session, delete_backup_version, get_backup_info, get_backup_keys,
        get_backup_keys_for_room, get_backup_keys_for_session, get_latest_backup_info, update_backup_version,
    },
    serde::Raw,
};
use serde_json::{Map, Value, json, value::RawValue};

use crate::{
    app::App,
    extract::Ruma,
    response::{self, ApiError},
};

/// `POST /_matrix/client/v3/room_keys/version`
pub async fn create_version(
    app: App,
    request: Ruma<create_backup_version::v3::Request>,
) -> Result<create_backup_version::v3::Response, ApiError> {
    let algorithm = algorithm(&request.body.algorithm)?;
    let version = backups::create(&app.server, request.identity.user_pk, algorithm).await?;
    Ok(create_backup_version::v3::Response::new(version))
}

/// `GET /_matrix/client/v3/room_keys/version`
pub async fn latest_version(
    app: App,
    request: Ruma<get_latest_backup_info::v3::Request>,
) -> Result<Response, ApiError> {
    info(backups::latest(&app.server, request.identity.user_pk).await?)
}

/// `GET /_matrix/client/v3/room_keys/version/{version}`
pub async fn version(app: App, request: Ruma<get_backup_info::v3::Request>) -> Result<Response, ApiError> {
    info(backups::get(&app.server, request.identity.user_pk, &request.body.version).await?)
}

/// `PUT /_matrix/client/v3/room_keys/version/{version}`
pub async fn update_version(
    app: App,
    request: Ruma<update_backup_version::v3::Request>,
) -> Result<update_backup_version::v3::Response, ApiError> {
    let Ruma { body, identity, .. } = request;
    let inside: Option<String> = body.algorithm.get_field("version")?;
    if inside.is_some_and(|version| version != body.version) {
        return Err(ApiError::invalid_param("the version in the body is not the one in the path"));
    }
    backups::update(&app.server, identity.user_pk, body.version, algorithm(&body.algorithm)?).await?;
    Ok(update_backup_version::v3::Response::new())
}

/// `DELETE /_matrix/client/v3/room_keys/version/{version}`
pub async fn delete_version(
    app: App,
    request: Ruma<delete_backup_version::v3::Request>,
) -> Result<delete_backup_version::v3::Response, ApiError> {
    backups::delete(&app.server, request.identity.user_pk, &request.body.version).await?;
    Ok(delete_backup_version::v3::Response::new())
}

/// `PUT /_matrix/client/v3/room_keys/keys`
pub async fn put(
    app: App,
    request: Ruma<add_backup_keys::v3::Request>,
) -> Result<add_backup_keys::v3::Response, ApiError> {
    let Ruma { body, identity, .. } = request;
    let mut sessions = Vec::new();
    for (room_id, room) in &body.rooms {
        for (id, data) in &room.sessions {
            sessions.push(backups::parse_session(room_id.as_str(), id, data.json().get())?);
        }
    }
    let state = backups::put(&app.server, identity.user_pk, body.version, sessions).await?;
    let count = count(&state);
    Ok(add_backup_keys::v3::Response::new(state.etag, count))
}

/// `PUT /_matrix/client/v3/room_keys/keys/{roomId}`
pub async fn put_room(
    app: App,
    request: Ruma<add_backup_keys_for_room::v3::Request>,
) -> Result<add_backup_keys_for_room::v3::Response, ApiError> {
    let Ruma { body, identity, .. } = request;
    let room_id = body.room_id.as_str();
    let sessions = body
        .sessions
        .iter()
        .map(|(id, data)| backups::parse_session(room_id, id, data.json().get()))
        .collect::<Result<_, _>>()?;
    let state = backups::put(&app.server, identity.user_pk, body.version, sessions).await?;
    let count = count(&state);
    Ok(add_backup_keys_for_room::v3::Response::new(state.etag, count))
}

/// `PUT /_matrix/client/v3/room_keys/keys/{roomId}/{sessionId}`
pub async fn put_session(
    app: App,
    request: Ruma<add_backup_keys_for_session::v3::Request>,
) -> Result<add_backup_keys_for_session::v3::Response, ApiError> {
    let Ruma { body, identity, .. } = request;
    let json = body.session_data.json().get();
    let session = backups::parse_session(body.room_id.as_str(), &body.session_id, json)?;
    let state = backups::put(&app.server, identity.user_pk, body.version, vec![session]).await?;
    let count = count(&state);
    Ok(add_backup_keys_for_session::v3::Response::new(state.etag, count))
}

/// `GET /_matrix/client/v3/room_keys/keys`
pub async fn get(app: App, request: Ruma<get_backup_keys::v3::Request>) -> Result<Response, ApiError> {
    let user_pk = request.identity.user_pk;
    let sessions = backups::sessions(&app.server, user_pk, &request.body.version, &Which::All).await?;
    let mut rooms: std::collections::BTreeMap<String, Map<String, Value>> = Default::default();
    for session in sessions {
        let shown = show(&session)?;
        rooms.entry(session.room_id).or_default().insert(session.session_id, shown);
    }
    let rooms: Map<_, _> =
        rooms.into_iter().map(|(room, sessions)| (room, json!({ "sessions": sessions }))).collect();
    response::json(&json!({ "rooms": rooms }))
}

/// `GET /_matrix/client/v3/room_keys/keys/{roomId}`
pub async fn get_room(
    app: App,
    request: Ruma<get_backup_keys_for_room::v3::Request>,
) -> Result<Response, ApiError> {
    let Ruma { body, identity, .. } = request;
    let which = Which::Room(body.room_id.to_string());
    let mut shown = Map::new();
    for session in backups::sessions(&app.server, identity.user_pk, &body.version, &which).await? {
        let value = show(&session)?;
        shown.insert(session.session_id, value);
    }
    response::json(&json!({ "sessions": shown }))
}

/// `GET /_matrix/client/v3/room_keys/keys/{roomId}/{sessionId}`
pub async fn get_session(
    app: App,
    request: Ruma<get_backup_keys_for_session::v3::Request>,
) -> Result<Response, ApiError> {
    let Ruma { body, identity, .. } = request;
    let which = Which::Session(body.room_id.to_string(), body.session_id);
    let sessions = backups::sessions(&app.server, identity.user_pk, &body.version, &which).await?;
    let session = sessions.first().ok_or_else(|| ApiError::not_found("the backup has no such session"))?;
    response::json(&show(session)?)
}

/// `DELETE /_matrix/client/v3/room_keys/keys`
pub async fn delete(
    app: App,
    request: Ruma<delete_backup_keys::v3::Request>,
) -> Result<delete_backup_keys::v3::Response, ApiError> {
    let Ruma { body, identity, .. } = request;
    let state = backups::delete_sessions(&app.server, identity.user_pk, body.version, Which::All).await?;
    let count = count(&state);
    Ok(delete_backup_keys::v3::Response::new(state.etag, count))
}

/// `DELETE /_matrix/client/v3/room_keys/keys/{roomId}`
pub async fn delete_room(
    app: App,
    request: Ruma<delete_backup_keys_for_room::v3::Request>,
) -> Result<delete_backup_keys_for_room::v3::Response, ApiError> {
    let Ruma { body, identity, .. } = request;
    let which = Which::Room(body.room_id.to_string());
    let state = backups::delete_sessions(&app.server, identity.user_pk, body.version, which).await?;
    let count = count(&state);
    Ok(delete_backup_keys_for_room::v3::Response::new(state.etag, count))
}

/// `DELETE /_matrix/client/v3/room_keys/keys/{roomId}/{sessionId}`
pub async fn delete_session(
    app: App,
    request: Ruma<delete_backup_keys_for_session::v3::Request>,
) -> Result<delete_backup_keys_for_session::v3::Response, ApiError> {
    let Ruma { body, identity, .. } = request;
    let which = Which::Session(body.room_id.to_string(), body.session_id);
    let state = backups::delete_sessions(&app.server, identity.user_pk, body.version, which).await?;
    let count = count(&state);
    Ok(delete_backup_keys_for_session::v3::Response::new(state.etag, count))
}

fn algorithm(raw: &Raw<BackupAlgorithm>) -> Result<backups::Algorithm, ApiError> {
    Ok(serde_json::from_str(raw.json().get())?)
}

fn count(state: &State) -> UInt {
    UInt::try_from(state.count).unwrap_or_default()
}

fn info(info: Info) -> Result<Response, ApiError> {
    response::json(&json!({
        "version": info.version,
        "algorithm": info.algorithm,
        "auth_data": info.auth_data,
        "etag": info.state.etag,
        "count": info.state.count,
    }))
}

fn show(session: &Session) -> Result<Value, ApiError> {
    let data: &RawValue = serde_json::from_str(&session.session_data).map_err(ApiError::internal)?;
    Ok(json!({
        "first_message_index": session.first_message_index,
        "forwarded_count": session.forwarded_count,
        "is_verified": session.is_verified,
        "session_data": data,
    }))
}
