//! Who sent a request.

use std::{future::Future, sync::Arc};

use futures_util::future::BoxFuture;
use hyper::Request;
use myelin_core::rooms::serialize::Reader;
use ruma::{
    DeviceId, OwnedDeviceId, OwnedUserId, UserId,
    api::auth_scheme::{
        AccessToken, AccessTokenOptional, AppserviceTokenOptional, AuthScheme, NoAccessToken,
        NoAuthentication,
    },
};

use super::access_token;
use crate::{app::AppState, response::ApiError};

/// A user on a device, as an access token names them.
#[derive(Clone, Debug)]
pub struct Session {
    /// The user.
    pub user: OwnedUserId,
    /// The user's number.
    pub user_pk: i64,
    /// The device; application services act without one.
    pub device: Option<OwnedDeviceId>,
    /// The device's number, 0 without a device.
    pub device_pk: i64,
    /// Whether the user is a guest, for whom most endpoints are closed.
    pub guest: bool,
    /// Whether the user may administer the server.
    pub admin: bool,
}

impl Session {
    /// The device, for endpoints that make no sense without one.
    pub fn device(&self) -> Result<&DeviceId, ApiError> {
        self.device.as_deref().ok_or_else(|| ApiError::missing_param("the access token has no device"))
    }

    /// The user and device, for what reads events.
    pub fn reader(&self) -> Reader<'_> {
        Reader { user: &self.user, user_pk: self.user_pk, device_pk: self.device_pk }
    }

    /// Refuses a path that names another user than who asks.
    pub fn check_is(&self, user: &UserId) -> Result<(), ApiError> {
        if self.user == *user { Ok(()) } else { Err(ApiError::forbidden("this is another user's")) }
    }
}

/// Knows the access tokens. The one place where accounts are plugged into the HTTP side.
pub trait Sessions: Send + Sync {
    /// The session of a token, or M_UNKNOWN_TOKEN, softly if the device is still there.
    fn authenticate<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Arc<Session>, ApiError>>;
}

/// An authentication scheme that the server can check.
pub trait Authenticate: AuthScheme {
    /// What is known of the sender afterwards.
    type Identity: Send;

    /// The scheme's name in the list of endpoints.
    const NAME: &'static str;

    /// Checks the request, from its head alone.
    fn authenticate(
        app: &AppState,
        head: &Request<()>,
    ) -> impl Future<Output = Result<Self::Identity, ApiError>> + Send;

    /// The session, if the identity is one.
    fn session(_identity: &Self::Identity) -> Option<&Session> {
        None
    }
}

impl Authenticate for AccessToken {
    type Identity = Arc<Session>;

    const NAME: &'static str = "access token";

    async fn authenticate(app: &AppState, head: &Request<()>) -> Result<Arc<Session>, ApiError> {
        let token = access_token(head).ok_or_else(ApiError::missing_token)?;
        app.sessions.authenticate(&token).await
    }

    fn session(identity: &Arc<Session>) -> Option<&Session> {
        Some(identity)
    }
}

impl Authenticate for AccessTokenOptional {
    type Identity = Option<Arc<Session>>;

    const NAME: &'static str = "access token, optional";

    async fn authenticate(app: &AppState, head: &Request<()>) -> Result<Option<Arc<Session>>, ApiError> {
        match access_token(head) {
            Some(token) => app.sessions.authenticate(&token).await.map(Some),
            None => Ok(None),
        }
    }

    fn session(identity: &Option<Arc<Session>>) -> Option<&Session> {
        identity.as_deref()
    }
}

impl Authenticate for AppserviceTokenOptional {
    /// The token as it was sent: clients may send theirs too, so only a login or registration of an application
    /// service asks whose it is.
    type Identity = Option<String>;

    const NAME: &'static str = "application service token, optional";

    async fn authenticate(_app: &AppState, head: &Request<()>) -> Result<Option<String>, ApiError> {
        Ok(access_token(head))
    }
}

impl Authenticate for NoAccessToken {
    type Identity = ();

    const NAME: &'static str = "none";

    async fn authenticate(_app: &AppState, _head: &Request<()>) -> Result<(), ApiError> {
        Ok(())
    }
}

impl Authenticate for NoAuthentication {
    type Identity = ();

    const NAME: &'static str = "none";

    async fn authenticate(_app: &AppState, _head: &Request<()>) -> Result<(), ApiError> {
        Ok(())
    }
}
