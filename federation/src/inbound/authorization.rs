//! Auth chains of events.

use super::stored_pdus;
use crate::Federation;
use myelin_core::Result;
use ruma::OwnedServerName;
use ruma::api::federation::authorization::get_event_authorization::v1::{Request, Response};
use std::sync::Arc;

/// `GET /event_auth/{roomId}/{eventId}`
pub async fn event_auth(
    federation: Arc<Federation>,
    origin: OwnedServerName,
    request: Request,
) -> Result<Response> {
    let server = &federation.server;
    let room = server.shared_room(&request.room_id, &origin).await?;
    let event = server.event_in(&room, &request.event_id).await?;
    let chain = server.auth_chain(&room, std::slice::from_ref(&event)).await?;
    Ok(Response::new(stored_pdus(&chain)?))
}
