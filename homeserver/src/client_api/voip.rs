//! Calls.

use axum::response::Response;
use myelin_core::voip;
use ruma::api::client::voip::get_turn_server_info;
use serde_json::json;

use crate::{
    app::App,
    extract::Ruma,
    response::{ApiError, json},
};

/// `GET /voip/turnServer`. Where there is none the answer is empty, as clients know it from Synapse.
pub async fn turn_server(
    app: App,
    _request: Ruma<get_turn_server_info::v3::Request>,
) -> Result<Response, ApiError> {
    match voip::turn_server(&app.server)? {
        Some(turn) => json(&json!({
            "username": turn.username, "password": turn.password.expose(), "uris": turn.uris,
            "ttl": turn.ttl.as_secs(),
        })),
        None => json(&json!({})),
    }
}
