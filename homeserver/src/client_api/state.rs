//! A room's state.

use axum::response::Response;
use myelin_core::events::client_format::Shape;
use ruma::api::auth_scheme::AccessToken;
use ruma::api::client::state::get_state_events;
use ruma::serde::Raw;

use super::send;
use crate::{
    app::App,
    extract::{Incoming, Ruma},
    response::{ApiError, json},
};

/// `GET /rooms/{roomId}/state`
pub async fn all(
    app: App,
    request: Ruma<get_state_events::v3::Request>,
) -> Result<get_state_events::v3::Response, ApiError> {
    let Ruma { body, identity, .. } = request;
    let state = app.server.state_for(&body.room_id, &identity.reader()).await?;
    Ok(get_state_events::v3::Response::new(state.into_iter().map(Raw::from_json).collect()))
}

/// `GET /rooms/{roomId}/state/{eventType}/{stateKey}`: the content, or with `format=event` the event.
pub async fn one(app: App, incoming: Incoming) -> Result<Response, ApiError> {
    let session = incoming.authenticate::<AccessToken>(&app).await?;
    let mut arguments = incoming.arguments.iter();
    let mut next = || arguments.next().map(String::as_str).unwrap_or_default();
    let (room_id, kind, state_key) = (send::room(next())?, next(), next());
    let event = app.server.state_event_for(&room_id, &session.reader(), kind, state_key).await?;
    let query = incoming.head.uri().query().unwrap_or_default();
    let format = query.split('&').find_map(|pair| pair.strip_prefix("format="));
    match format {
        None | Some("content") => json(&event.content),
        Some("event") => {
            let shown = app.server.serialize_state(&[event], Shape::Full)?;
            json(&shown.first())
        }
        Some(_) => Err(ApiError::invalid_param("format is neither `content` nor `event`")),
    }
}
