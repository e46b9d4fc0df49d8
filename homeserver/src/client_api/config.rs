//! Account data. Types are raw texts: what a client puts under a name is found under this name and no other.

use axum::response::Response;
use hyper::StatusCode;
use myelin_core::users::{
    account_data::{self, GLOBAL, Scope},
    push_rules,
};
use ruma::{RoomId, UserId, api::auth_scheme::AccessToken};
use serde_json::{json, value::RawValue};

use crate::{
    app::App,
    extract::{Incoming, Session},
    response::{ApiError, json, json_response},
};

/// The room or none, and the type, of the account data of who asks.
fn target(session: &Session, arguments: &[String]) -> Result<(Option<String>, String), ApiError> {
    let (user, room, kind) = match arguments {
        [user, kind] => (user, None, kind),
        [user, room, kind] => (user, Some(room), kind),
        _ => return Err(ApiError::unrecognized()),
    };
    let invalid = |error: ruma::IdParseError| ApiError::invalid_param(error.to_string());
    session.check_is(&UserId::parse(user).map_err(invalid)?)?;
    if let Some(room) = room {
        RoomId::parse(room).map_err(invalid)?;
    }
    Ok((room.cloned(), kind.clone()))
}

async fn scope(app: &App, room: Option<&str>) -> Result<Scope, ApiError> {
    match room {
        Some(room) => Ok(account_data::room_scope(&app.server, room).await?),
        None => Ok(GLOBAL),
    }
}

/// `GET /_matrix/client/v3/user/{userId}[/rooms/{roomId}]/account_data/{type}`
pub async fn get(app: App, request: Incoming) -> Result<Response, ApiError> {
    let session = request.authenticate::<AccessToken>(&app).await?;
    let (room, kind) = target(&session, &request.arguments)?;
    if room.is_none() && kind == push_rules::TYPE {
        let global = push_rules::get(&app.server, session.user_pk, &session.user).await?;
        return json(&json!({ "global": global }));
    }
    let scope = scope(&app, room.as_deref()).await?;
    let content = account_data::get(&app.server, session.user_pk, scope, &kind).await?;
    Ok(json_response(StatusCode::OK, content))
}

/// `PUT /_matrix/client/v3/user/{userId}[/rooms/{roomId}]/account_data/{type}`
pub async fn set(app: App, request: Incoming) -> Result<Response, ApiError> {
    let session = request.authenticate::<AccessToken>(&app).await?;
    let (room, kind) = target(&session, &request.arguments)?;
    let scope = scope(&app, room.as_deref()).await?;
    account_data::check_writable(scope, &kind)?;
    let content: Box<RawValue> = request.read_json(&app).await?;
    account_data::put(&app.server, session.user_pk, scope, kind, content.get().to_owned()).await?;
    json(&json!({}))
}
