//! What load balancers and supervisors ask. No authentication, and nothing is told that is not meant for everybody.

use axum::response::Response;
use hyper::{Method, StatusCode, header, header::HeaderValue};
use serde_json::json;

use crate::{
    app::App,
    extract::Incoming,
    response::{ApiError, json_response},
    router::{Route, route_raw},
};

/// The routes. They answer also when nothing else does.
pub fn endpoints() -> Vec<Route> {
    vec![
        route_raw(Method::GET, "/health", "none", "health", health).at_any_time(),
        route_raw(Method::GET, "/_myelin/ready", "none", "ready", ready).at_any_time(),
    ]
}

/// `GET /health`: `OK`, as from Synapse, or 503 with the reason.
async fn health(app: App, _request: Incoming) -> Result<Response, ApiError> {
    let (status, text) = match app.server.replicas.trouble().await {
        None => (StatusCode::OK, "OK".to_owned()),
        Some(trouble) => (StatusCode::SERVICE_UNAVAILABLE, trouble),
    };
    let mut response = json_response(status, text);
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    Ok(response)
}

/// `GET /_myelin/ready`: whether requests are served, and if not, why.
async fn ready(app: App, _request: Incoming) -> Result<Response, ApiError> {
    let server = &app.server;
    match server.replicas.trouble().await {
        None => {
            let body = json!({
                "ready": true,
                "position": server.log.visible(),
                "replicas": if server.replicas.are_there() { "shared" } else { "alone" },
            });
            Ok(json_response(StatusCode::OK, body.to_string()))
        }
        Some(trouble) => {
            Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "M_UNKNOWN", trouble).with("ready", false))
        }
    }
}
