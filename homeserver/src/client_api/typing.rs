//! Who is typing.

use ruma::api::client::typing::create_typing_event::v3::{Request, Response, Typing};

use crate::{app::App, extract::Ruma, response::ApiError};

/// `PUT /rooms/{roomId}/typing/{userId}`
pub async fn set(app: App, request: Ruma<Request>) -> Result<Response, ApiError> {
    let Ruma { body, identity, .. } = request;
    identity.check_is(&body.user_id)?;
    let room = app.server.joined_room(&body.room_id, &identity.user).await?;
    let timeout = match body.state {
        Typing::Yes(info) => Some(i64::try_from(info.timeout.as_millis()).unwrap_or(i64::MAX)),
        Typing::No => None,
    };
    app.server.set_typing(&room, identity.user_pk, timeout);
    Ok(Response::new())
}
