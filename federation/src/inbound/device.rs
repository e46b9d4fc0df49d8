//! Device lists of this server's users.

use crate::Federation;
use myelin_core::keys::{device_lists, query};
use myelin_core::{Error, Result};
use ruma::api::federation::device::get_devices::v1::{Request, Response, UserDevice};
use ruma::serde::Raw;
use ruma::{OwnedServerName, UInt};
use std::sync::Arc;

/// `GET /user/devices/{userId}`
pub async fn devices(
    federation: Arc<Federation>,
    _origin: OwnedServerName,
    request: Request,
) -> Result<Response> {
    let server = &federation.server;
    let user = request.user_id;
    if !server.is_local(&user) {
        return Err(Error::invalid_param("the user is not of this server"));
    }
    // The position comes first: what changes after it is told by the next one.
    let position = device_lists::newest_link(server, &user).await?;
    let wanted = query::Wanted::from([(user.clone(), Vec::new())]);
    let mut answer = query::for_server(server, wanted).await?;
    let mut response = Response::new(user.clone(), UInt::try_from(position).unwrap_or_default());
    for (id, keys) in answer.device_keys.remove(&user).unwrap_or_default() {
        let name = query::name_in(&keys);
        let mut device = UserDevice::new(id, Raw::from_json(keys));
        device.device_display_name = name;
        response.devices.push(device);
    }
    response.master_key = answer.master_keys.remove(&user).map(Raw::from_json);
    response.self_signing_key = answer.self_signing_keys.remove(&user).map(Raw::from_json);
    Ok(response)
}
