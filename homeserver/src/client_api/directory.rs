//! The directory of rooms.

use axum::response::Response;
use myelin_core::rooms::directory::{Listing, Search};
use ruma::api::client::directory::{get_public_rooms, get_public_rooms_filtered};
use ruma::directory::RoomNetwork;

use crate::{
    app::App,
    extract::Ruma,
    response::{ApiError, json},
};

/// `GET /publicRooms`
pub async fn list(app: App, request: Ruma<get_public_rooms::v3::Request>) -> Result<Response, ApiError> {
    let body = request.body;
    let search = Search { limit: body.limit.map(Into::into), since: body.since, ..Search::default() };
    json(&app.server.public_rooms(body.server.as_deref(), &search).await?)
}

/// `POST /publicRooms`
pub async fn search(
    app: App,
    request: Ruma<get_public_rooms_filtered::v3::Request>,
) -> Result<Response, ApiError> {
    let body = request.body;
    if let RoomNetwork::ThirdParty(_) = body.room_network {
        // Networks are those of application services.
        return json(&Listing::default());
    }
    let search = Search {
        limit: body.limit.map(Into::into),
        since: body.since,
        term: body.filter.generic_search_term,
        types: body.filter.room_types.iter().map(|kind| kind.as_str().map(str::to_owned)).collect(),
    };
    json(&app.server.public_rooms(body.server.as_deref(), &search).await?)
}
