//! The directory of rooms.

use super::same_json;
use crate::Federation;
use myelin_core::rooms::directory::{Listing, Search};
use myelin_core::{Error, Result};
use ruma::OwnedServerName;
use ruma::api::federation::directory::{get_public_rooms, get_public_rooms_filtered};
use ruma::directory::RoomNetwork;
use std::sync::Arc;

/// `GET /publicRooms`
pub async fn public_rooms(
    federation: Arc<Federation>,
    _origin: OwnedServerName,
    request: get_public_rooms::v1::Request,
) -> Result<get_public_rooms::v1::Response> {
    let search = Search { limit: request.limit.map(Into::into), since: request.since, ..Search::default() };
    let listing = listing(&federation, &request.room_network, &search).await?;
    let mut answer = get_public_rooms::v1::Response::new();
    answer.chunk = same_json(&listing.chunk)?;
    answer.next_batch = listing.next_batch;
    answer.prev_batch = listing.prev_batch;
    answer.total_room_count_estimate = listing.total_room_count_estimate.try_into().ok();
    Ok(answer)
}

/// `POST /publicRooms`
pub async fn search(
    federation: Arc<Federation>,
    _origin: OwnedServerName,
    request: get_public_rooms_filtered::v1::Request,
) -> Result<get_public_rooms_filtered::v1::Response> {
    let types = request.filter.room_types.iter().map(|kind| kind.as_str().map(str::to_owned)).collect();
    let search = Search {
        limit: request.limit.map(Into::into),
        since: request.since,
        term: request.filter.generic_search_term,
        types,
    };
    let listing = listing(&federation, &request.room_network, &search).await?;
    let mut answer = get_public_rooms_filtered::v1::Response::new();
    answer.chunk = same_json(&listing.chunk)?;
    answer.next_batch = listing.next_batch;
    answer.prev_batch = listing.prev_batch;
    answer.total_room_count_estimate = listing.total_room_count_estimate.try_into().ok();
    Ok(answer)
}

async fn listing(federation: &Federation, network: &RoomNetwork, search: &Search) -> Result<Listing> {
    let server = &federation.server;
    if !server.settings.federation.public_rooms {
        return Err(Error::forbidden("this server shows its directory of rooms to its own users alone"));
    }
    match network {
        // Networks are those of application services.
        RoomNetwork::ThirdParty(_) => Ok(Listing::default()),
        _ => server.public_rooms_here(search).await,
    }
}
