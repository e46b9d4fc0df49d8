//! A row of the route table.
//!
//! Everything generic ends here: [`route`] turns a handler into a boxed function from [`Incoming`] to a response, so
//! that the code of router and HTTP server exists once and not once for each endpoint.

use std::{future::Future, sync::Arc};

use axum::response::Response;
use futures_util::future::BoxFuture;
use hyper::Method;
use myelin_federation::Federation;
use ruma::OwnedServerName;
use ruma::api::auth_scheme::NoAuthentication;
use ruma::api::federation::authentication::ServerSignatures;
use ruma::api::{IncomingRequest, path_builder::PathBuilder as _};

use crate::{
    app::App,
    extract::{Authenticate, Incoming, Ruma},
    response::{ApiError, response_in_list, ruma_response},
};

type Handler = Box<dyn Fn(App, Incoming) -> BoxFuture<'static, Result<Response, ApiError>> + Send + Sync>;

/// A method on one or several paths, and what answers it.
pub struct Route {
    /// The method; GET answers HEAD too.
    pub method: Method,
    /// The paths, with variables as `{name}`.
    pub paths: Vec<&'static str>,
    /// The authentication, as the list of endpoints names it.
    pub authentication: &'static str,
    /// The ruma request or the handler, as the list of endpoints names it.
    pub name: String,
    /// Whether guests are let in.
    pub guests: bool,
    pub(super) at_any_time: bool,
    pub(super) handler: Handler,
}

/// All routes of one path.
#[derive(Default)]
pub(super) struct Endpoint {
    pub(super) routes: Vec<Arc<Route>>,
}

impl Route {
    fn new<T>(handler: Handler) -> Self
    where
        T: IncomingRequest,
        T::Authentication: Authenticate,
    {
        Self::named::<T>(T::Authentication::NAME, handler)
    }

    fn named<T: IncomingRequest>(authentication: &'static str, handler: Handler) -> Self {
        Self {
            method: T::METHOD,
            paths: T::PATH_BUILDER.all_paths().collect(),
            authentication,
            name: type_name::<T>(),
            guests: false,
            at_any_time: false,
            handler,
        }
    }

    /// Lets guests in, as the specification lists for some endpoints.
    #[must_use]
    pub fn for_guests(mut self) -> Self {
        self.guests = true;
        self
    }

    /// Answers also when this replica does not know how things stand, since the answer does not depend on it.
    #[must_use]
    pub fn at_any_time(mut self) -> Self {
        self.at_any_time = true;
        self
    }

    /// Answers on more paths. Their variables must be those of the first paths, or a beginning of them that the
    /// request type accepts.
    #[must_use]
    pub fn also_at(mut self, paths: &[&'static str]) -> Self {
        self.paths.extend_from_slice(paths);
        self
    }

    pub(super) fn as_markdown(&self) -> Vec<String> {
        let Self { method, authentication, name, .. } = self;
        self.paths
            .iter()
            .map(|path| format!("| `{path}` | {method} | {authentication} | {name} |\n"))
            .collect()
    }
}

/// `ruma_client_api::keys::upload_keys::v3::Request` is listed as `client_api::keys::upload_keys::v3`.
fn type_name<T>() -> String {
    let name = std::any::type_name::<T>();
    name.trim_start_matches("ruma_").trim_end_matches("::Request").to_owned()
}

/// A route to a handler that takes a ruma request and answers the ruma response that belongs to it.
pub fn route<T, F, Fut>(handler: F) -> Route
where
    T: IncomingRequest + Send + 'static,
    T::Authentication: Authenticate,
    F: Fn(App, Ruma<T>) -> Fut + Copy + Send + Sync + 'static,
    Fut: Future<Output = Result<T::OutgoingResponse, ApiError>> + Send + 'static,
{
    Route::new::<T>(Box::new(move |app, incoming| {
        Box::pin(async move {
            let request = incoming.read(&app).await?;
            ruma_response(handler(app, request).await?)
        })
    }))
}

/// A route to a handler that takes a ruma request and writes its answer by hand.
pub fn route_response<T, F, Fut>(handler: F) -> Route
where
    T: IncomingRequest + Send + 'static,
    T::Authentication: Authenticate,
    F: Fn(App, Ruma<T>) -> Fut + Copy + Send + Sync + 'static,
    Fut: Future<Output = Result<Response, ApiError>> + Send + 'static,
{
    Route::new::<T>(Box::new(move |app, incoming| {
        Box::pin(async move {
            let request = incoming.read(&app).await?;
            handler(app, request).await
        })
    }))
}

/// A route of the server-server API, for servers that show who they are.
pub fn route_signed<T, F, Fut>(handler: F) -> Route
where
    T: IncomingRequest<Authentication = ServerSignatures> + Send + 'static,
    F: Fn(Arc<Federation>, OwnedServerName, T) -> Fut + Copy + Send + Sync + 'static,
    Fut: Future<Output = myelin_core::Result<T::OutgoingResponse>> + Send + 'static,
{
    Route::named::<T>(
        "server signature",
        Box::new(move |app, incoming| {
            Box::pin(async move {
                let (origin, request) = incoming.read_signed(&app).await?;
                let federation = app.federation.clone().ok_or_else(ApiError::unrecognized)?;
                ruma_response(handler(federation, origin, request).await?)
            })
        }),
    )
}

/// The older form of a signed route, at another path: its answer stands second in a list, behind the status.
pub fn route_signed_v1<T, F, Fut>(path: &'static str, handler: F) -> Route
where
    T: IncomingRequest<Authentication = ServerSignatures> + Send + 'static,
    F: Fn(Arc<Federation>, OwnedServerName, T) -> Fut + Copy + Send + Sync + 'static,
    Fut: Future<Output = myelin_core::Result<T::OutgoingResponse>> + Send + 'static,
{
    let handler: Handler = Box::new(move |app, incoming| {
        Box::pin(async move {
            let (origin, request) = incoming.read_signed(&app).await?;
            let federation = app.federation.clone().ok_or_else(ApiError::unrecognized)?;
            response_in_list(handler(federation, origin, request).await?)
        })
    });
    Route { paths: vec![path], ..Route::named::<T>("server signature", handler) }
}

/// A route of the server-server API, for everybody.
pub fn route_open<T, F, Fut>(handler: F) -> Route
where
    T: IncomingRequest<Authentication = NoAuthentication> + Send + 'static,
    F: Fn(Arc<Federation>, T) -> Fut + Copy + Send + Sync + 'static,
    Fut: Future<Output = myelin_core::Result<T::OutgoingResponse>> + Send + 'static,
{
    Route::named::<T>(
        "none",
        Box::new(move |app, incoming| {
            Box::pin(async move {
                let federation = app.federation.clone().ok_or_else(ApiError::unrecognized)?;
                let request = incoming.read_open(&app).await?;
                ruma_response(handler(federation, request).await?)
            })
        }),
    )
}

/// A route to a handler without a ruma type, which reads and authenticates by the methods of [`Incoming`].
pub fn route_raw<F, Fut>(
    method: Method,
    path: &'static str,
    authentication: &'static str,
    name: &str,
    handler: F,
) -> Route
where
    F: Fn(App, Incoming) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Response, ApiError>> + Send + 'static,
{
    Route {
        method,
        paths: vec![path],
        authentication,
        name: name.to_owned(),
        guests: false,
        at_any_time: false,
        handler: Box::new(move |app, incoming| Box::pin(handler(app, incoming))),
    }
}
