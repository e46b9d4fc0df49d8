//! From the HTTP server to a route: methods, cross-origin headers, panics.

use std::{future::Future, panic::AssertUnwindSafe, sync::Arc};

use axum::{
    extract::Request,
    response::{IntoResponse as _, Response},
};
use futures_util::FutureExt as _;
use hyper::{Method, StatusCode, header, header::HeaderValue};

use super::route::{Endpoint, Route};
use crate::{
    app::App,
    extract::{Incoming, Unread},
    response::{ApiError, add_cors, json_response},
};

/// Answers a request to a known path.
pub(super) async fn dispatch(app: App, endpoint: Arc<Endpoint>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = Unread::new(body);
    let route = match &parts.method {
        &Method::OPTIONS => return preflight(),
        &Method::HEAD => endpoint.find(&Method::GET),
        method => endpoint.find(method),
    };
    let Some(route) = route.cloned() else {
        return wrong_method(&endpoint);
    };
    tracing::debug!(method = %parts.method, request = route.name, "request");
    finish(async move {
        if !route.at_any_time {
            // What another replica acknowledged before this request came is seen by all that follows.
            app.server.fresh().await?;
        }
        let incoming = Incoming::new(parts, body, route.guests).await?;
        (route.handler)(app, incoming).await
    })
    .await
}

/// Answers a request to a path that is not in the table.
pub(super) async fn unknown_path(request: Request) -> Response {
    let (parts, body) = request.into_parts();
    drop(Unread::new(body));
    if parts.method == Method::OPTIONS {
        return preflight();
    }
    finish(async { Err(ApiError::unrecognized()) }).await
}

/// Preflight requests run no logic, whatever their path.
fn preflight() -> Response {
    let mut response = json_response(StatusCode::OK, "{}");
    add_cors(response.headers_mut());
    response
}

fn wrong_method(endpoint: &Endpoint) -> Response {
    let mut response = ApiError::wrong_method().into_response();
    let mut methods: Vec<&str> = endpoint.routes.iter().map(|route| route.method.as_str()).collect();
    methods.push("OPTIONS");
    if let Ok(allowed) = HeaderValue::from_str(&methods.join(", ")) {
        response.headers_mut().insert(header::ALLOW, allowed);
    }
    add_cors(response.headers_mut());
    response
}

/// Runs a handler. A panic costs its own request only, in builds that unwind.
async fn finish<F>(handler: F) -> Response
where
    F: Future<Output = Result<Response, ApiError>>,
{
    let result = AssertUnwindSafe(handler).catch_unwind().await;
    let mut response = match result {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => error.into_response(),
        Err(_) => ApiError::internal("a handler panicked").into_response(),
    };
    add_cors(response.headers_mut());
    response
}

impl Endpoint {
    fn find(&self, method: &Method) -> Option<&Arc<Route>> {
        self.routes.iter().find(|route| route.method == *method)
    }
}
