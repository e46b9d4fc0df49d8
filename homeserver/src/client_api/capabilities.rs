//! What users may do on this server.

use axum::response::Response;
use ruma::api::client::discovery::get_capabilities;
use serde_json::{Map, Value, json};

use crate::{
    app::App,
    extract::Ruma,
    response::{ApiError, json},
};

/// Room versions that are served, all of them stable.
const ROOM_VERSIONS: [&str; 7] = ["6", "7", "8", "9", "10", "11", "12"];

/// `GET /_matrix/client/v3/capabilities`. By hand, since ruma leaves out what has its default value.
pub async fn get(app: App, request: Ruma<get_capabilities::v3::Request>) -> Result<Response, ApiError> {
    let member = !request.identity.guest;
    let available: Map<String, Value> =
        ROOM_VERSIONS.iter().map(|version| ((*version).to_owned(), "stable".into())).collect();
    json(&json!({
        "capabilities": {
            "m.change_password": { "enabled": member },
            "m.room_versions": { "default": app.settings.rooms.default_version, "available": available },
            "m.set_displayname": { "enabled": true },
            "m.set_avatar_url": { "enabled": true },
            "m.profile_fields": { "enabled": true },
            "m.3pid_changes": { "enabled": false },
            "m.get_login_token": { "enabled": member },
        }
    }))
}
