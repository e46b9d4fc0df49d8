//! The devices of who asks.

use axum::response::Response;
use myelin_core::users::{devices, uia};
use ruma::{
    OwnedDeviceId,
    api::client::{
        device::{delete_device, delete_devices, get_device, get_devices, update_device},
        uiaa::AuthData,
    },
};
use serde_json::{Map, Value, json};

use crate::{
    app::App,
    extract::{Ruma, Session},
    response::{ApiError, json},
};

/// By hand, since ruma writes a null for the address, which is not stored.
fn show(device: devices::Device) -> Value {
    let mut shown = Map::new();
    shown.insert("device_id".to_owned(), device.device_id.into());
    let name = device.display_name.map(|name| ("display_name".to_owned(), name.into()));
    let seen = device.last_seen_ts.map(|ts| ("last_seen_ts".to_owned(), ts.into()));
    shown.extend(name.into_iter().chain(seen));
    shown.into()
}

/// `GET /_matrix/client/v3/devices`
pub async fn list(app: App, request: Ruma<get_devices::v3::Request>) -> Result<Response, ApiError> {
    let devices = devices::list(&app.server, request.identity.user_pk).await?;
    let devices: Vec<Value> = devices.into_iter().map(show).collect();
    json(&json!({ "devices": devices }))
}

/// `GET /_matrix/client/v3/devices/{deviceId}`
pub async fn get(app: App, request: Ruma<get_device::v3::Request>) -> Result<Response, ApiError> {
    let device_id = request.body.device_id.as_str();
    let device = devices::get(&app.server, request.identity.user_pk, device_id).await?;
    json(&show(device))
}

/// `PUT /_matrix/client/v3/devices/{deviceId}`
pub async fn update(
    app: App,
    request: Ruma<update_device::v3::Request>,
) -> Result<update_device::v3::Response, ApiError> {
    let (user_pk, body) = (request.identity.user_pk, request.body);
    match body.display_name {
        Some(name) => devices::rename(&app.server, user_pk, body.device_id.to_string(), name).await?,
        // Nothing to change, and still an error for a device that is not there.
        None => drop(devices::get(&app.server, user_pk, body.device_id.as_str()).await?),
    }
    Ok(update_device::v3::Response::new())
}

/// `DELETE /_matrix/client/v3/devices/{deviceId}`
pub async fn delete(
    app: App,
    request: Ruma<delete_device::v3::Request>,
) -> Result<delete_device::v3::Response, ApiError> {
    delete_all(&app, &request.identity, vec![request.body.device_id], request.body.auth.as_ref()).await?;
    Ok(delete_device::v3::Response::new())
}

/// `POST /_matrix/client/v3/delete_devices`
pub async fn delete_several(
    app: App,
    request: Ruma<delete_devices::v3::Request>,
) -> Result<delete_devices::v3::Response, ApiError> {
    delete_all(&app, &request.identity, request.body.devices, request.body.auth.as_ref()).await?;
    Ok(delete_devices::v3::Response::new())
}

async fn delete_all(
    app: &App,
    session: &Session,
    device_ids: Vec<OwnedDeviceId>,
    auth: Option<&AuthData>,
) -> Result<(), ApiError> {
    let mut ids: Vec<String> = device_ids.iter().map(ToString::to_string).collect();
    ids.sort_unstable();
    let operation = format!("delete devices {} {ids:?}", session.user);
    uia::confirm(&app.server, &session.user, &operation, auth).await?;
    Ok(devices::delete(&app.server, session.user_pk, ids).await?)
}
