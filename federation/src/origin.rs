//! Who a request comes from: the X-Matrix signature of the server-server API; and what follows from it: that server is
//! there.

use crate::Federation;
use myelin_core::{Error, Result};
use ruma::api::federation::authentication::XMatrix;
use ruma::signatures::{PublicKeyMap, PublicKeySet};
use ruma::{OwnedServerName, ServerName};
use std::time::Duration;

/// The time until the database is asked again which servers are back.
const AGAIN: Duration = Duration::from_secs(1);

/// Checks a request's signature and gives the server that made it. A server that speaks to us is asked again, if it was
/// given up.
///
/// # Errors
/// M_UNAUTHORIZED for no signature or a wrong one, and for a request to somebody else.
pub async fn verify<B: AsRef<[u8]>>(
    federation: &Federation,
    request: &http::Request<B>,
) -> Result<OwnedServerName> {
    let refused = |text: String| Error::Unauthorized(text);
    let server = &federation.server;
    if !server.settings.federation.enabled {
        return Err(Error::forbidden("this server does not federate with others"));
    }
    let claim =
        XMatrix::extract_from_http_headers(request.headers()).map_err(|error| refused(error.to_string()))?;
    if claim.destination.as_deref().is_some_and(|destination| destination != server.name()) {
        return Err(refused(format!("the request is for another server than {}", server.name())));
    }
    if claim.origin == server.name() {
        return Err(refused("this server does not speak to itself".to_owned()));
    }
    let key = federation.keys.now(&claim.origin, claim.key.as_str()).await?;
    let Some(key) = key else {
        return Err(refused(format!("no valid key {} of {} can be found", claim.key, claim.origin)));
    };
    let keys = PublicKeySet::from([(claim.key.to_string(), key)]);
    let keys = PublicKeyMap::from([(claim.origin.to_string(), keys)]);
    claim
        .verify_http_request(request, server.name(), &keys)
        .map_err(|error| refused(format!("the signature is wrong: {error}")))?;
    spoke(federation, &claim.origin).await;
    Ok(claim.origin)
}

/// A server spoke to us, so that it can be reached again, as far as anybody knows.
pub async fn spoke(federation: &Federation, origin: &ServerName) {
    federation.client.backoff.answered(&federation.server, origin).await;
    federation.sender.wake(origin);
}

impl Federation {
    /// Replicas may have told which servers are back while nobody heard it here. Never waits.
    pub(crate) fn look_who_is_back(&self) {
        let own = self.own.clone();
        tokio::spawn(async move {
            while let Some(federation) = own.upgrade() {
                match federation.client.backoff.recall(&federation.server).await {
                    Ok(back) => return back.iter().for_each(|server| federation.sender.wake(server)),
                    Err(error) => tracing::debug!(%error, "who is back can't be read yet"),
                }
                drop(federation);
                tokio::time::sleep(AGAIN).await;
            }
        });
    }
}
