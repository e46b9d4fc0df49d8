//! From an HTTP request to what a handler takes.
//!
//! [`Incoming`] is a request whose route is known. [`Ruma`] is what handlers take: the parsed ruma request and who
//! sent it, the type of the latter decided by the request type's authentication scheme, so that no handler can
//! forget it. The order is: path and query without U+0000, identity, then the body (so that nobody without a token
//! makes the server buffer bodies of endpoints that need one), depth, shape.

mod body;
mod identity;

use std::{future::Future, net::IpAddr};

use axum::{
    extract::{FromRequestParts as _, RawPathParams},
    http::request::Parts,
};
use bytes::Bytes;
use hyper::{Method, Request, header};
use myelin_federation::origin;
use ruma::OwnedServerName;
use ruma::api::{IncomingRequest, IncomingRequestExt as _};
use serde::de::DeserializeOwned;

pub(crate) use self::body::Unread;
pub use self::identity::{Authenticate, Session, Sessions};
use crate::{app::AppState, response::ApiError};

/// A parsed request and who sent it.
pub struct Ruma<T>
where
    T: IncomingRequest,
    T::Authentication: Authenticate,
{
    /// The request.
    pub body: T,
    /// Who sent it, as far as the endpoint asks: a [`Session`], perhaps one, or nobody.
    pub identity: <T::Authentication as Authenticate>::Identity,
    /// The client's address, for limits only: it is not stored, and logged only if the operator says so.
    pub address: Option<IpAddr>,
}

/// The address a connection comes from, put into the request's extensions by the listener.
#[derive(Clone, Copy, Debug)]
pub struct ClientAddress(pub IpAddr);

/// A request whose route is known.
#[derive(Debug)]
pub struct Incoming {
    /// Method, URI, headers.
    pub head: Request<()>,
    /// Percent-decoded values of the path's variables, in order.
    pub arguments: Vec<String>,
    /// The client's address.
    pub address: Option<IpAddr>,
    guests: bool,
    body: Unread,
}

impl Incoming {
    /// Takes a request apart, refusing path arguments that are no text or hold U+0000, which no database takes.
    pub(crate) async fn new(mut parts: Parts, body: Unread, guests: bool) -> Result<Self, ApiError> {
        let params = RawPathParams::from_request_parts(&mut parts, &())
            .await
            .map_err(|error| ApiError::invalid_param(error.body_text()))?;
        let arguments: Vec<String> = params.iter().map(|(_, value)| value.to_owned()).collect();
        let in_query = parts.uri.query().is_some_and(|query| query.contains("%00"));
        if in_query || arguments.iter().any(|argument| argument.contains('\0')) {
            return Err(ApiError::invalid_param("U+0000 is not allowed in an address"));
        }
        let address = parts.extensions.get::<ClientAddress>().map(|client| client.0);
        Ok(Self { head: Request::from_parts(parts, ()), arguments, address, guests, body })
    }

    /// Who sent the request, by one of ruma's schemes. Guests are refused where the route does not let them in.
    pub fn authenticate<'a, A: Authenticate>(
        &'a self,
        app: &'a AppState,
    ) -> impl Future<Output = Result<A::Identity, ApiError>> + Send + use<'a, A> {
        // No `async fn`: bodies are not Sync, so a future that holds `self` could not change threads.
        identify::<A>(app, &self.head, self.guests)
    }

    /// The body, which may be anything: for media and the like.
    pub async fn read_body(self, app: &AppState, limit: usize) -> Result<Bytes, ApiError> {
        body::read(self.head.headers(), self.body, limit, app.settings.limits.request_time).await
    }

    /// The body as JSON of a type of one's own. An empty body counts as an empty object.
    pub async fn read_json<T: DeserializeOwned>(self, app: &AppState) -> Result<T, ApiError> {
        let body = self.read_body(app, app.settings.limits.request_size).await?;
        body::check_json(&body)?;
        Ok(serde_json::from_slice(body::or_empty_object(&body))?)
    }

    /// The whole of it, for a handler of the server-server API. There the body is signed, so it is read first.
    pub(crate) async fn read_signed<T: IncomingRequest>(
        self,
        app: &AppState,
    ) -> Result<(OwnedServerName, T), ApiError> {
        let federation = app.federation.as_deref().ok_or_else(ApiError::unrecognized)?;
        let (request, arguments) = self.read_whole(app, T::METHOD == Method::GET).await?;
        let origin = origin::verify(federation, &request).await?;
        Ok((origin, parse(&request, &arguments)?))
    }

    /// The same for a request that needs no signature.
    pub(crate) async fn read_open<T: IncomingRequest>(self, app: &AppState) -> Result<T, ApiError> {
        let (request, arguments) = self.read_whole(app, T::METHOD == Method::GET).await?;
        parse(&request, &arguments)
    }

    async fn read_whole(
        self,
        app: &AppState,
        empty: bool,
    ) -> Result<(Request<Bytes>, Vec<String>), ApiError> {
        let Self { head, arguments, body, .. } = self;
        let bytes = if empty {
            Bytes::new()
        } else {
            let limits = &app.settings.limits;
            body::read(head.headers(), body, limits.request_size, limits.request_time).await?
        };
        body::check_json(&bytes)?;
        Ok((head.map(|()| bytes), arguments))
    }

    /// The whole of it, for a handler that takes a ruma type.
    pub(crate) async fn read<T>(self, app: &AppState) -> Result<Ruma<T>, ApiError>
    where
        T: IncomingRequest,
        T::Authentication: Authenticate,
    {
        let Self { head, arguments, address, guests, body } = self;
        let identity = identify::<T::Authentication>(app, &head, guests).await?;
        let bytes = if T::METHOD == Method::GET {
            Bytes::new()
        } else {
            let limits = &app.settings.limits;
            body::read(head.headers(), body, limits.request_size, limits.request_time).await?
        };
        body::check_json(&bytes)?;
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let body = T::try_from_http_request(head.map(|()| body::or_empty_object(&bytes)), &arguments)?;
        Ok(Ruma { body, identity, address })
    }
}

fn parse<T: IncomingRequest>(request: &Request<Bytes>, arguments: &[String]) -> Result<T, ApiError> {
    let mut head = Request::new(body::or_empty_object(request.body()));
    *head.method_mut() = request.method().clone();
    *head.uri_mut() = request.uri().clone();
    *head.headers_mut() = request.headers().clone();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    Ok(T::try_from_http_request(head, &arguments)?)
}

async fn identify<A: Authenticate>(
    app: &AppState,
    head: &Request<()>,
    guests: bool,
) -> Result<A::Identity, ApiError> {
    let identity = A::authenticate(app, head).await?;
    if !guests && A::session(&identity).is_some_and(|session| session.guest) {
        return Err(ApiError::guest_access_forbidden());
    }
    Ok(identity)
}

/// The address that a reverse proxy tells: the last one of X-Forwarded-For, which is the one that it added itself.
pub(crate) fn forwarded_for<B>(request: &Request<B>) -> Option<IpAddr> {
    let header = request.headers().get_all("x-forwarded-for").iter().next_back()?;
    header.to_str().ok()?.rsplit(',').next()?.trim().parse().ok()
}

/// The access token of a request: the Authorization header, or the deprecated query parameter.
fn access_token(head: &Request<()>) -> Option<String> {
    if let Some(value) = head.headers().get(header::AUTHORIZATION) {
        let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
        return scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned());
    }
    ruma::api::auth_scheme::extract_bearer_or_query_token(head).ok().flatten()
}
