//! What a client asks before it has an account.

use ruma::api::client::discovery::{discover_homeserver, get_supported_versions};

use crate::{app::App, extract::Ruma, response::ApiError};

/// Versions of the specification that are served.
///
/// A client concludes from a version which paths and meanings it may rely on, not that every module is there: what is
/// not says M_UNRECOGNIZED. matrix-js-sdk and matrix-rust-sdk want v1.1 at least, and the newest meanings that clients
/// switch on by a version are those of v1.11 (media with authentication, relations, private receipts, knocking). The
/// list ends where Synapse's does, since the clients in use were tried with that. What is served of later versions is
/// told as a feature.
const VERSIONS: [&str; 12] =
    ["v1.1", "v1.2", "v1.3", "v1.4", "v1.5", "v1.6", "v1.7", "v1.8", "v1.9", "v1.10", "v1.11", "v1.12"];

/// What is served of later versions, by the names under which clients look for it: profile fields, and the state
/// after the timeline in /sync.
const FEATURES: [&str; 3] = ["uk.tcpip.msc4133", "uk.tcpip.msc4133.stable", "org.matrix.msc4222"];

/// `GET /_matrix/client/versions`
pub async fn versions(
    _app: App,
    _request: Ruma<get_supported_versions::Request>,
) -> Result<get_supported_versions::Response, ApiError> {
    let mut response = get_supported_versions::Response::new(VERSIONS.map(str::to_owned).to_vec());
    response.unstable_features = FEATURES.map(|feature| (feature.to_owned(), true)).into();
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
