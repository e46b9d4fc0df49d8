//! Profiles. Fields are raw names and values, so that no type of ruma's changes them.

use axum::response::Response;
use myelin_core::users::profiles;
use ruma::{
    OwnedUserId, UserId,
    api::{auth_scheme::AccessToken, client::profile::get_profile},
};
use serde_json::{Map, Value, json};

use crate::{
    app::App,
    extract::{Incoming, Ruma},
    response::{ApiError, json},
};

/// `GET /_matrix/client/v3/profile/{userId}`
pub async fn get(
    app: App,
    request: Ruma<get_profile::v3::Request>,
) -> Result<get_profile::v3::Response, ApiError> {
    let fields = profiles::of_anybody(&app.server, &request.body.user_id).await?;
    Ok(fields.into_iter().collect())
}

fn arguments(request: &Incoming) -> Result<(OwnedUserId, String), ApiError> {
    let [user, field] = request.arguments.as_slice() else {
        return Err(ApiError::unrecognized());
    };
    let user = UserId::parse(user).map_err(|error| ApiError::invalid_param(error.to_string()))?;
    Ok((user, field.clone()))
}

/// `GET /_matrix/client/v3/profile/{userId}/{keyName}`
pub async fn get_field(app: App, request: Incoming) -> Result<Response, ApiError> {
    let (user, field) = arguments(&request)?;
    let value = profiles::get_field(&app.server, &user, &field).await?;
    json(&json!({ field: value }))
}

/// `PUT /_matrix/client/v3/profile/{userId}/{keyName}`
pub async fn set_field(app: App, request: Incoming) -> Result<Response, ApiError> {
    let session = request.authenticate::<AccessToken>(&app).await?;
    let (user, field) = arguments(&request)?;
    session.check_is(&user)?;
    let mut body: Map<String, Value> = request.read_json(&app).await?;
    let value = body.remove(&field).ok_or_else(|| ApiError::missing_param(field.clone()))?;
    let in_rooms = profiles::is_in_member_events(&field);
    if profiles::put(&app.server, session.user_pk, field, value).await? && in_rooms {
        app.server.update_member_events(&user, session.user_pk).await?;
    }
    json(&json!({}))
}

/// `DELETE /_matrix/client/v3/profile/{userId}/{keyName}`
pub async fn delete_field(app: App, request: Incoming) -> Result<Response, ApiError> {
    let session = request.authenticate::<AccessToken>(&app).await?;
    let (user, field) = arguments(&request)?;
    session.check_is(&user)?;
    let in_rooms = profiles::is_in_member_events(&field);
    if profiles::delete(&app.server, session.user_pk, field).await? && in_rooms {
        app.server.update_member_events(&user, session.user_pk).await?;
    }
    json(&json!({}))
}
