//! Aliases, and whether the directory shows a room.

use ruma::api::client::alias::{create_alias, delete_alias, get_alias};
use ruma::api::client::directory::{get_room_visibility, set_room_visibility};
use ruma::api::client::room::Visibility;

use crate::{app::App, extract::Ruma, response::ApiError};

/// `GET /directory/room/{roomAlias}`
pub async fn get(
    app: App,
    request: Ruma<get_alias::v3::Request>,
) -> Result<get_alias::v3::Response, ApiError> {
    let (room_id, servers) = app.server.room_of_alias(&request.body.room_alias).await?;
    Ok(get_alias::v3::Response::new(room_id, servers))
}

/// `PUT /directory/room/{roomAlias}`
pub async fn create(
    app: App,
    request: Ruma<create_alias::v3::Request>,
) -> Result<create_alias::v3::Response, ApiError> {
    let Ruma { body, identity, .. } = request;
    let room = app.server.joined_room(&body.room_id, &identity.user).await?;
    app.server.set_alias(&room, &body.room_alias, &identity.user).await.map_err(taken)?;
    Ok(create_alias::v3::Response::new())
}

/// Here the specification wants 409 with M_UNKNOWN, where creating a room with a taken alias is 400.
fn taken(error: myelin_core::Error) -> ApiError {
    match error {
        myelin_core::Error::RoomInUse(message) => {
            ApiError::new(hyper::StatusCode::CONFLICT, "M_UNKNOWN", message)
        }
        other => other.into(),
    }
}

/// `DELETE /directory/room/{roomAlias}`
pub async fn delete(
    app: App,
    request: Ruma<delete_alias::v3::Request>,
) -> Result<delete_alias::v3::Response, ApiError> {
    let session = &request.identity;
    app.server.delete_alias(&request.body.room_alias, &session.user, session.admin).await?;
    Ok(delete_alias::v3::Response::new())
}

/// `GET /directory/list/room/{roomId}`
pub async fn visibility(
    app: App,
    request: Ruma<get_room_visibility::v3::Request>,
) -> Result<get_room_visibility::v3::Response, ApiError> {
    let room = app.server.rooms.get(&request.body.room_id).await?;
    let published = app.server.is_published(&room).await?;
    let visibility = if published { Visibility::Public } else { Visibility::Private };
    Ok(get_room_visibility::v3::Response::new(visibility))
}

/// `PUT /directory/list/room/{roomId}`
pub async fn set_visibility(
    app: App,
    request: Ruma<set_room_visibility::v3::Request>,
) -> Result<set_room_visibility::v3::Response, ApiError> {
    let Ruma { body, identity, .. } = request;
    let published = is_public(&body.visibility)?;
    let room = app.server.joined_room(&body.room_id, &identity.user).await?;
    if !identity.admin {
        app.server.must_rule_aliases(&room, &identity.user).await?;
    }
    app.server.publish_room(&room, published).await?;
    Ok(set_room_visibility::v3::Response::new())
}

/// Whether a room shall stand in the directory.
pub(super) fn is_public(visibility: &Visibility) -> Result<bool, ApiError> {
    match visibility {
        Visibility::Public => Ok(true),
        Visibility::Private => Ok(false),
        _ => Err(ApiError::invalid_param("visibility must be public or private")),
    }
}
