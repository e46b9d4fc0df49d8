//! Who this server is: its version and its keys; and others' keys, for those who take it for a notary.

use super::raw;
use crate::Federation;
use crate::server_keys::own;
use myelin_core::Result;
use ruma::api::federation::discovery::{
    get_remote_server_keys, get_remote_server_keys_batch, get_server_keys, get_server_version,
};
use ruma::serde::Raw;
use std::sync::Arc;

/// Servers of one question to a notary.
const MOST: usize = 100;

/// `GET /_matrix/federation/v1/version`
pub async fn version(
    _federation: Arc<Federation>,
    _request: get_server_version::v1::Request,
) -> Result<get_server_version::v1::Response> {
    let mut server = get_server_version::v1::Server::new();
    server.name = Some("Myelin".to_owned());
    server.version = Some(env!("CARGO_PKG_VERSION").to_owned());
    let mut response = get_server_version::v1::Response::new();
    response.server = Some(server);
    Ok(response)
}

/// `GET /_matrix/key/v2/server`
pub async fn server_keys(
    federation: Arc<Federation>,
    _request: get_server_keys::v2::Request,
) -> Result<get_server_keys::v2::Response> {
    let document = own::document(&federation.server).await?;
    Ok(get_server_keys::v2::Response::new(Raw::from_json(raw(document)?)))
}

/// `GET /_matrix/key/v2/query/{serverName}`
pub async fn notary(
    federation: Arc<Federation>,
    request: get_remote_server_keys::v2::Request,
) -> Result<get_remote_server_keys::v2::Response> {
    let until = i64::from(request.minimum_valid_until_ts.0);
    let document = federation.keys.notarize(&request.server_name, until).await?;
    let documents = document.map(|document| Ok(Raw::from_json(raw(document)?))).into_iter();
    Ok(get_remote_server_keys::v2::Response::new(documents.collect::<Result<_>>()?))
}

/// `POST /_matrix/key/v2/query`
pub async fn notary_batch(
    federation: Arc<Federation>,
    request: get_remote_server_keys_batch::v2::Request,
) -> Result<get_remote_server_keys_batch::v2::Response> {
    let mut documents = Vec::new();
    for (name, criteria) in request.server_keys.into_iter().take(MOST) {
        let until = criteria.values().filter_map(|one| one.minimum_valid_until_ts).max();
        let until = until.map_or_else(|| federation.server.now_ms(), |until| i64::from(until.0));
        if let Some(document) = federation.keys.notarize(&name, until).await? {
            documents.push(Raw::from_json(raw(document)?));
        }
    }
    Ok(get_remote_server_keys_batch::v2::Response::new(documents))
}
