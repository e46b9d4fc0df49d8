//! Knocking: asking to be let into a room.

use ruma::api::client::knock::knock_room;

use crate::{app::App, extract::Ruma, response::ApiError};

/// `POST /knock/{roomIdOrAlias}`
pub async fn knock(
    app: App,
    request: Ruma<knock_room::v3::Request>,
) -> Result<knock_room::v3::Response, ApiError> {
    let Ruma { body, identity, .. } = request;
    let found = app.server.find_room(&body.room_id_or_alias, body.via).await?;
    app.server.knock_on(&identity.user, &found, body.reason).await?;
    Ok(knock_room::v3::Response::new(found.room_id))
}
