//! The endpoints, API by API.
//!
//! Adding one: the handler in the file of its ruma module, a line here, a test, the regenerated `docs/endpoints.md`.
//! Method, paths and authentication come from the ruma request type that the handler takes.

mod dispatch;
mod federation;
mod route;

use std::{collections::BTreeMap, future::Future, sync::Arc};

use axum::{extract::Request, response::Response, routing::any};
use hyper::Method;
use myelin_core::config::Api;

pub use self::route::{Route, route, route_open, route_raw, route_response, route_signed};
use self::{
    dispatch::{dispatch, unknown_path},
    route::Endpoint,
};
use crate::{
    app::App,
    client_api::{
        account, alias, backup, capabilities, config, device, directory, discovery, filter, keys, knock,
        membership, message, openid, presence, profile, push, receipt, register, room, send, session, space,
        state, tag, to_device, typing, voip,
    },
    extract::Incoming,
    health,
    response::ApiError,
    sync,
};

/// The endpoints of an API.
pub fn routes(api: Api) -> Vec<Route> {
    match api {
        Api::Client => client_api(),
        Api::Federation => federation::endpoints(),
        Api::Metrics => Vec::new(),
    }
}

/// The endpoints of a listener that serves some APIs. Whoever watches over it can ask any of them how it is.
pub fn routes_of(apis: &[Api]) -> Vec<Route> {
    let mut all: Vec<Route> = apis.iter().flat_map(|api| routes(*api)).collect();
    if !apis.contains(&Api::Client) {
        all.extend(health::endpoints());
    }
    all
}

fn client_api() -> Vec<Route> {
    [accounts(), rooms(), encryption(), health::endpoints()].into_iter().flatten().collect()
}

fn accounts() -> Vec<Route> {
    vec![
        // Discovery
        route(discovery::versions).for_guests().at_any_time(),
        route(discovery::well_known).at_any_time(),
        route_response(capabilities::get).for_guests(),
        // Registration
        route_response(register::register),
        route(register::available),
        route(register::token_validity),
        route_raw(Method::GET, ADMIN_REGISTER, "none", "shared secret: nonce", register::nonce),
        route_raw(Method::POST, ADMIN_REGISTER, "shared secret", "shared secret", register::by_shared_secret),
        // Sessions
        route(session::login_types),
        route_raw(Method::POST, "/_matrix/client/v3/login", "none", "login", session::login)
            .also_at(&["/_matrix/client/r0/login"]),
        route(session::login_token),
        route(session::refresh),
        route(session::log_out).for_guests(),
        route(session::log_out_all).for_guests(),
        // Accounts
        route(account::who_am_i).for_guests(),
        route(account::password),
        route(account::close),
        route(account::third_party_ids),
        route(openid::request_token),
        // Devices
        route_response(device::list).for_guests(),
        route_response(device::get).for_guests(),
        route(device::update).for_guests(),
        route(device::delete),
        route(device::delete_several),
        // Profiles
        route(profile::get),
        field(Method::GET, "none", profile::get_field),
        field(Method::PUT, TOKEN, profile::set_field).for_guests(),
        field(Method::DELETE, TOKEN, profile::delete_field).for_guests(),
        // Presence
        route_response(presence::get),
        route(presence::set),
        // Voice over IP
        route_response(voip::turn_server).for_guests(),
        // Account data, tags, filters
        account_data(Method::GET, config::get).for_guests(),
        account_data(Method::PUT, config::set).for_guests(),
        room_account_data(Method::GET, config::get).for_guests(),
        room_account_data(Method::PUT, config::set).for_guests(),
        route_response(tag::list),
        route(tag::set),
        route(tag::delete),
        route(filter::create).for_guests(),
        route(filter::get).for_guests(),
        // Push
        route(push::all).also_at(&["/_matrix/client/v3/pushrules"]),
        route(push::global).also_at(&["/_matrix/client/v3/pushrules/global"]),
        route(push::get),
        route(push::set),
        route(push::delete),
        route(push::enabled),
        route(push::enable),
        route(push::actions),
        route(push::act),
    ]
}

fn rooms() -> Vec<Route> {
    vec![
        // Rooms
        route(room::create),
        route(room::event),
        route(room::timestamp_to_event).for_guests(),
        route(room::aliases),
        route(room::upgrade),
        route_response(room::summary).for_guests(),
        route_response(space::hierarchy).for_guests(),
        route(alias::get),
        route(alias::create),
        route(alias::delete),
        route(alias::visibility),
        route(alias::set_visibility),
        route_response(directory::list),
        route_response(directory::search).for_guests(),
        // Membership
        route(membership::join_by_id),
        route(membership::join_by_id_or_alias),
        route(knock::knock),
        route(membership::invite),
        route(membership::leave).for_guests(),
        route(membership::forget),
        route(membership::kick),
        route(membership::ban),
        route(membership::unban),
        route(membership::joined_rooms).for_guests(),
        route_response(membership::joined_members).for_guests(),
        route(membership::members).for_guests(),
        // Events
        route_raw(Method::PUT, SEND, TOKEN, "send message event", send::message)
            .also_at(&["/_matrix/client/r0/rooms/{room_id}/send/{event_type}/{txn_id}"])
            .for_guests(),
        state_event(Method::PUT, send::state).for_guests(),
        state_event(Method::GET, state::one).for_guests(),
        route(state::all).for_guests(),
        route(send::redact),
        route(message::list).for_guests(),
        route(message::context).for_guests(),
        route(receipt::create),
        route(receipt::markers),
        route(typing::set),
        sync::v3::endpoint(),
    ]
}

fn encryption() -> Vec<Route> {
    vec![
        // Encryption
        route(keys::upload).for_guests(),
        route(keys::query).for_guests(),
        route(keys::claim).for_guests(),
        route(keys::changes),
        route(keys::upload_signing_keys),
        route_response(keys::upload_signatures),
        route(to_device::send).for_guests(),
        route(backup::create_version),
        route_response(backup::latest_version),
        route_response(backup::version),
        route(backup::update_version),
        route(backup::delete_version),
        route(backup::put),
        route(backup::put_room),
        route(backup::put_session),
        route_response(backup::get),
        route_response(backup::get_room),
        route_response(backup::get_session),
        route(backup::delete),
        route(backup::delete_room),
        route(backup::delete_session),
        route_response(push::pushers),
    ]
}

const SEND: &str = "/_matrix/client/v3/rooms/{room_id}/send/{event_type}/{txn_id}";
const TOKEN: &str = "access token";
const ADMIN_REGISTER: &str = "/_synapse/admin/v1/register";

/// A route to one piece of a room's state. An empty state key may be left out, with or without its slash.
fn state_event<F, Fut>(method: Method, handler: F) -> Route
where
    F: Fn(App, Incoming) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Response, ApiError>> + Send + 'static,
{
    let path = "/_matrix/client/v3/rooms/{room_id}/state/{event_type}/{state_key}";
    route_raw(method, path, TOKEN, "state event", handler).also_at(&[
        "/_matrix/client/v3/rooms/{room_id}/state/{event_type}",
        "/_matrix/client/v3/rooms/{room_id}/state/{event_type}/",
        "/_matrix/client/r0/rooms/{room_id}/state/{event_type}/{state_key}",
        "/_matrix/client/r0/rooms/{room_id}/state/{event_type}",
    ])
}

/// A route to a field of a profile.
fn field<F, Fut>(method: Method, authentication: &'static str, handler: F) -> Route
where
    F: Fn(App, Incoming) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Response, ApiError>> + Send + 'static,
{
    let path = "/_matrix/client/v3/profile/{user_id}/{field}";
    route_raw(method, path, authentication, "profile field", handler).also_at(&[
        "/_matrix/client/r0/profile/{user_id}/{field}",
        "/_matrix/client/unstable/uk.tcpip.msc4133/profile/{user_id}/{field}",
    ])
}

/// A route to global account data.
fn account_data<F, Fut>(method: Method, handler: F) -> Route
where
    F: Fn(App, Incoming) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Response, ApiError>> + Send + 'static,
{
    let path = "/_matrix/client/v3/user/{user_id}/account_data/{event_type}";
    route_raw(method, path, TOKEN, "global account data", handler)
        .also_at(&["/_matrix/client/r0/user/{user_id}/account_data/{event_type}"])
}

/// A route to account data of a room.
fn room_account_data<F, Fut>(method: Method, handler: F) -> Route
where
    F: Fn(App, Incoming) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Response, ApiError>> + Send + 'static,
{
    let path = "/_matrix/client/v3/user/{user_id}/rooms/{room_id}/account_data/{event_type}";
    route_raw(method, path, TOKEN, "account data of a room", handler)
        .also_at(&["/_matrix/client/r0/user/{user_id}/rooms/{room_id}/account_data/{event_type}"])
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
