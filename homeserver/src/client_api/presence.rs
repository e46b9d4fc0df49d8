//! Presence.

use axum::response::Response;
use myelin_core::presence::State;
use ruma::{
    api::client::presence::{get_presence, set_presence},
    presence::PresenceState,
};

use crate::{
    app::App,
    extract::Ruma,
    response::{ApiError, json},
};

/// `GET /presence/{userId}/status`
pub async fn get(app: App, request: Ruma<get_presence::v3::Request>) -> Result<Response, ApiError> {
    let shown = app.server.presence_for(&request.body.user_id, request.identity.user_pk).await?;
    json(&shown.content(app.server.now_ms()))
}

/// `PUT /presence/{userId}/status`
pub async fn set(
    app: App,
    request: Ruma<set_presence::v3::Request>,
) -> Result<set_presence::v3::Response, ApiError> {
    let Ruma { body, identity, .. } = request;
    if body.user_id != identity.user {
        return Err(ApiError::forbidden("presence is set for oneself only"));
    }
    let state = match body.presence {
        PresenceState::Online => State::Online,
        PresenceState::Unavailable => State::Unavailable,
        PresenceState::Offline => State::Offline,
        _ => return Err(ApiError::invalid_param("presence is one of online, unavailable, offline")),
    };
    app.server.set_presence(identity.user_pk, identity.device_pk, state, body.status_msg).await?;
    Ok(set_presence::v3::Response::new())
}
