//! The access tokens of accounts, plugged into the HTTP side.

use std::sync::Arc;

use futures_util::future::{BoxFuture, FutureExt as _};
use myelin_core::{Server, users::sessions};

use crate::{
    extract::{Session, Sessions},
    response::ApiError,
};

/// The sessions of the server's accounts.
pub struct Accounts(pub Arc<Server>);

impl Sessions for Accounts {
    fn authenticate<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Arc<Session>, ApiError>> {
        async move {
            let session = sessions::authenticate(&self.0, token).await?;
            Ok(Arc::new(Session {
                user: session.user.clone(),
                user_pk: session.user_pk,
                device: Some(session.device.clone()),
                device_pk: session.device_pk,
                guest: session.guest,
                admin: session.admin,
            }))
        }
        .boxed()
    }
}
