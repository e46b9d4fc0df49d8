//! The endpoints, API by API.
//!
//! Adding one: the handler in the file of its ruma module, a line here, a test, the regenerated `docs/endpoints.md`.
//! Method, paths and authentication come from the ruma request type that the handler takes.

mod dispatch;
mod route;

use std::{collections::BTreeMap, sync::Arc};

use axum::{extract::Request, routing::any};
use myelin_core::config::Api;

pub use self::route::{Route, route, route_raw, route_response};
use self::{
    dispatch::{dispatch, unknown_path},
    route::Endpoint,
};
use crate::{app::App, client_api::discovery};

/// The endpoints of an API.
pub fn routes(api: Api) -> Vec<Route> {
    match api {
        Api::Client => client_api(),
        Api::Federation | Api::Metrics => Vec::new(),
    }
}

fn client_api() -> Vec<Route> {
    vec![
        // Discovery
        route(discovery::versions).for_guests(),
        route(discovery::well_known),
    ]
}

/// A router of these endpoints. Routes of one path come together; what is not there answers M_UNRECOGNIZED.
pub fn build(app: &App, routes: Vec<Route>) -> axum::Router {
    let mut endpoints: BTreeMap<&'static str, Endpoint> = BTreeMap::new();
    for route in routes {
        let route = Arc::new(route);
        for path in &route.paths {
            endpoints.entry(path).or_default().routes.push(Arc::clone(&route));
        }
    }
    let mut router = axum::Router::new();
    for (path, endpoint) in endpoints {
        let app = Arc::clone(app);
        let endpoint = Arc::new(endpoint);
        router = router.route(
            path,
            any(move |request: Request| dispatch(Arc::clone(&app), Arc::clone(&endpoint), request)),
        );
    }
    router.fallback(unknown_path)
}

/// The table of endpoints as Markdown: the content of `docs/endpoints.md`.
pub fn as_markdown() -> String {
    let mut text = String::from(
        "# Endpoints\n\n\
         Generated from the route table; a test fails when it is stale (`UPDATE_DOCS=1 cargo test -p myelin docs`).\n",
    );
    for api in [Api::Client, Api::Federation, Api::Metrics] {
        let mut lines: Vec<String> = routes(api).iter().flat_map(Route::as_markdown).collect();
        if lines.is_empty() {
            continue;
        }
        lines.sort();
        text.push_str(&format!("\n## {}\n\n", api.as_str()));
        text.push_str("| path | method | authentication | request |\n| --- | --- | --- | --- |\n");
        text.push_str(&lines.concat());
    }
    text
}
