//! Tags of rooms.

use axum::response::Response;
use myelin_core::users::account_data;
use ruma::api::client::tag::{create_tag, delete_tag, get_tags};
use serde_json::{Map, Value, json};

use crate::{
    app::App,
    extract::Ruma,
    response::{ApiError, json},
};

/// `GET /_matrix/client/v3/user/{userId}/rooms/{roomId}/tags`
pub async fn list(app: App, request: Ruma<get_tags::v3::Request>) -> Result<Response, ApiError> {
    request.identity.check_is(&request.body.user_id)?;
    let room_id = request.body.room_id.as_str();
    let tags = match account_data::find_room_scope(&app.server, room_id).await? {
        Some(room) => account_data::tags(&app.server, request.identity.user_pk, room).await?,
        None => Map::new(),
    };
    json(&json!({ "tags": tags }))
}

/// `PUT /_matrix/client/v3/user/{userId}/rooms/{roomId}/tags/{tag}`
pub async fn set(
    app: App,
    request: Ruma<create_tag::v3::Request>,
) -> Result<create_tag::v3::Response, ApiError> {
    let (session, body) = (request.identity, request.body);
    session.check_is(&body.user_id)?;
    let room = account_data::room_scope(&app.server, body.room_id.as_str()).await?;
    let info: Value = serde_json::to_value(&body.tag_info).map_err(ApiError::internal)?;
    account_data::set_tag(&app.server, session.user_pk, room, body.tag, Some(info)).await?;
    Ok(create_tag::v3::Response::new())
}

/// `DELETE /_matrix/client/v3/user/{userId}/rooms/{roomId}/tags/{tag}`
pub async fn delete(
    app: App,
    request: Ruma<delete_tag::v3::Request>,
) -> Result<delete_tag::v3::Response, ApiError> {
    let (session, body) = (request.identity, request.body);
    session.check_is(&body.user_id)?;
    // Where nothing is known there is no tag, and taking away what is not there is done.
    if let Some(room) = account_data::find_room_scope(&app.server, body.room_id.as_str()).await? {
        account_data::set_tag(&app.server, session.user_pk, room, body.tag, None).await?;
    }
    Ok(delete_tag::v3::Response::new())
}
