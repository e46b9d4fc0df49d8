//! The account of who asks.

use std::sync::Arc;

use myelin_core::users::{accounts, uia};
use ruma::api::client::account::{ThirdPartyIdRemovalStatus, change_password, deactivate, get_3pids, whoami};

use crate::{
    app::App,
    extract::{Ruma, Session},
    response::ApiError,
};

/// `GET /_matrix/client/v3/account/whoami`
pub async fn who_am_i(
    _app: App,
    request: Ruma<whoami::v3::Request>,
) -> Result<whoami::v3::Response, ApiError> {
    let session = &*request.identity;
    let mut response = whoami::v3::Response::new(session.user.clone(), session.guest);
    response.device_id = session.device.clone();
    Ok(response)
}

/// Without a token it would take an e-mail to show who asks.
fn session(identity: Option<Arc<Session>>) -> Result<Arc<Session>, ApiError> {
    let session = identity.ok_or_else(ApiError::missing_token)?;
    if session.guest { Err(ApiError::guest_access_forbidden()) } else { Ok(session) }
}

/// `POST /_matrix/client/v3/account/password`
pub async fn password(
    app: App,
    request: Ruma<change_password::v3::Request>,
) -> Result<change_password::v3::Response, ApiError> {
    let session = session(request.identity)?;
    let body = request.body;
    let user = &session.user;
    uia::confirm(&app.server, user, &format!("change password {user}"), body.auth.as_ref()).await?;
    let kept = Some(session.device_pk);
    let Session { user_pk, .. } = *session;
    accounts::set_password(&app.server, user_pk, body.new_password, body.logout_devices, kept).await?;
    Ok(change_password::v3::Response::new())
}

/// `POST /_matrix/client/v3/account/deactivate`
pub async fn close(
    app: App,
    request: Ruma<deactivate::v3::Request>,
) -> Result<deactivate::v3::Response, ApiError> {
    let session = session(request.identity)?;
    let user = &session.user;
    let operation = format!("deactivate {user} {}", request.body.erase);
    uia::confirm(&app.server, user, &operation, request.body.auth.as_ref()).await?;
    app.server.deactivate(user, session.user_pk, request.body.erase).await?;
    Ok(deactivate::v3::Response::new(ThirdPartyIdRemovalStatus::Success))
}

/// `GET /_matrix/client/v3/account/3pid`
pub async fn third_party_ids(
    _app: App,
    _request: Ruma<get_3pids::v3::Request>,
) -> Result<get_3pids::v3::Response, ApiError> {
    Ok(get_3pids::v3::Response::new(Vec::new()))
}
