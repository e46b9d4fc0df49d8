//! History for servers that page back.

use super::pdus;
use crate::Federation;
use myelin_core::Result;
use ruma::api::federation::backfill::get_backfill::v1::{Request, Response};
use ruma::{MilliSecondsSinceUnixEpoch, OwnedServerName, UInt};
use std::sync::Arc;

/// Events of one answer.
const MOST: u64 = 100;

/// `GET /backfill/{roomId}`
pub async fn backfill(
    federation: Arc<Federation>,
    origin: OwnedServerName,
    request: Request,
) -> Result<Response> {
    let server = &federation.server;
    let room = server.shared_room(&request.room_id, &origin).await?;
    let limit = usize::try_from(u64::from(request.limit).min(MOST)).unwrap_or_default();
    let from: Vec<_> = request.v.into_iter().take(100).collect();
    let events = server.events_before(&room, &from, limit, &origin).await?;
    let now = UInt::try_from(server.now_ms()).unwrap_or_default();
    Ok(Response::new(server.owned_name(), MilliSecondsSinceUnixEpoch(now), pdus(&events)?))
}
