//! Spaces: the rooms in them.

use axum::response::Response;
use myelin_core::rooms::hierarchy::Walk;
use ruma::api::client::space::get_hierarchy;

use crate::{
    app::App,
    extract::Ruma,
    response::{ApiError, json},
};

/// `GET /rooms/{roomId}/hierarchy`
pub async fn hierarchy(app: App, request: Ruma<get_hierarchy::v1::Request>) -> Result<Response, ApiError> {
    let Ruma { body, identity, .. } = request;
    let walk = Walk {
        limit: body.limit.map(Into::into),
        max_depth: body.max_depth.map(Into::into),
        suggested_only: body.suggested_only,
        from: body.from,
    };
    json(&app.server.hierarchy(&body.room_id, &identity.user, &walk).await?)
}
