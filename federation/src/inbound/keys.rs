//! Keys of this server's users.

use crate::Federation;
use myelin_core::keys::{claim, query};
use myelin_core::{Error, Result};
use ruma::OwnedServerName;
use ruma::api::federation::keys::{claim_keys, get_keys};
use ruma::serde::Raw;
use std::sync::Arc;

/// `POST /user/keys/query`
pub async fn query(
    federation: Arc<Federation>,
    _origin: OwnedServerName,
    request: get_keys::v1::Request,
) -> Result<get_keys::v1::Response> {
    let server = &federation.server;
    let mut wanted = request.device_keys;
    wanted.retain(|user, _| server.is_local(user));
    let answer = query::for_server(server, wanted).await?;
    let mut response = get_keys::v1::Response::default();
    for (user, devices) in answer.device_keys {
        let devices = devices.into_iter().map(|(id, keys)| (id, Raw::from_json(keys))).collect();
        response.device_keys.insert(user, devices);
    }
    let raw = |(user, key)| (user, Raw::from_json(key));
    response.master_keys = answer.master_keys.into_iter().map(raw).collect();
    response.self_signing_keys = answer.self_signing_keys.into_iter().map(raw).collect();
    Ok(response)
}

/// `POST /user/keys/claim`
pub async fn claim(
    federation: Arc<Federation>,
    _origin: OwnedServerName,
    request: claim_keys::v1::Request,
) -> Result<claim_keys::v1::Response> {
    let server = &federation.server;
    let mut wanted = claim::Wanted::new();
    for (user, devices) in request.one_time_keys {
        if server.is_local(&user) {
            wanted.insert(user, devices.into_iter().map(|(id, kind)| (id, kind.to_string())).collect());
        }
    }
    let answer = claim::claim(server, wanted).await?;
    let mut keys = claim_keys::v1::OneTimeKeys::new();
    for (user, devices) in answer.keys {
        let of_user = keys.entry(user).or_default();
        for (device, found) in devices {
            let mut of_device = std::collections::BTreeMap::new();
            for (id, key) in found {
                let id = id.as_str().try_into().map_err(Error::internal_display)?;
                of_device.insert(id, Raw::from_json(key));
            }
            of_user.insert(device, of_device);
        }
    }
    Ok(claim_keys::v1::Response::new(keys))
}
