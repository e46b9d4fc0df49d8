//! What a client asks before it has an account.

use ruma::api::client::discovery::{discover_homeserver, get_supported_versions};

use crate::{app::App, extract::Ruma, response::ApiError};

/// Versions of the specification that are served.
const VERSIONS: [&str; 16] = [
    "v1.1", "v1.2", "v1.3", "v1.4", "v1.5", "v1.6", "v1.7", "v1.8", "v1.9", "v1.10", "v1.11", "v1.12",
    "v1.13", "v1.14", "v1.15", "v1.16",
];

/// `GET /_matrix/client/versions`
pub async fn versions(
    _app: App,
    _request: Ruma<get_supported_versions::Request>,
) -> Result<get_supported_versions::Response, ApiError> {
    let mut response = get_supported_versions::Response::new(VERSIONS.map(str::to_owned).to_vec());
    response.server =
        Some(get_supported_versions::Server::new("Myelin".to_owned(), env!("CARGO_PKG_VERSION").to_owned()));
    Ok(response)
}

/// `GET /.well-known/matrix/client`
pub async fn well_known(
    app: App,
    _request: Ruma<discover_homeserver::Request>,
) -> Result<discover_homeserver::Response, ApiError> {
    let homeserver = discover_homeserver::HomeserverInfo::new(app.settings.public_baseurl());
    Ok(discover_homeserver::Response::new(homeserver))
}
