//! `GET /_matrix/client/v3/sync`

use std::time::Duration;

use axum::response::Response;
use hyper::Method;
use myelin_core::{
    presence::State,
    sync::{
        filter,
        look::{Ask, StateAfter},
        token::Token,
    },
    users::filters,
};
use ruma::api::{auth_scheme::AccessToken, client::filter::FilterDefinition};
use serde::Deserialize;

use super::wait::wait;
use crate::{
    app::App,
    extract::{Incoming, Session},
    response::{ApiError, json},
    router::{Route, route_raw},
};

/// Longest time for which a request waits.
const LONGEST: Duration = Duration::from_secs(300);

/// The query. Unknown parameters do no harm.
#[derive(Default, Deserialize)]
struct Query {
    filter: Option<String>,
    since: Option<String>,
    full_state: Option<bool>,
    timeout: Option<u64>,
    set_presence: Option<State>,
    use_state_after: Option<bool>,
    #[serde(rename = "org.matrix.msc4222.use_state_after")]
    unstable_state_after: Option<bool>,
}

/// The route.
pub fn endpoint() -> Route {
    route_raw(Method::GET, "/_matrix/client/v3/sync", "access token", "sync", sync)
        .also_at(&["/_matrix/client/r0/sync"])
        .for_guests()
}

async fn sync(app: App, request: Incoming) -> Result<Response, ApiError> {
    let session = request.authenticate::<AccessToken>(&app).await?;
    let query = axum::extract::Query::<Query>::try_from_uri(request.head.uri());
    let query = query.map_err(|error| ApiError::invalid_param(error.body_text()))?.0;
    let filter = filter_of(&app, &session, query.filter.as_deref()).await?;
    let since = query.since.as_deref().filter(|since| !since.is_empty()).map(Token::parse).transpose()?;
    let server = &app.server;
    if let (Some(token), Some(text)) = (&since, &query.since) {
        // Another replica may have given the token out. What no replica ever reached is answered in full.
        server.reach(token, text).await?;
    }
    let state_after = match (query.use_state_after, query.unstable_state_after) {
        (Some(true), _) => StateAfter::Stable,
        (_, Some(true)) => StateAfter::Unstable,
        _ => StateAfter::Off,
    };
    let ask = Ask {
        reader: session.reader(),
        since,
        filter: &filter,
        members: filter::members(&filter.room.state),
        full_state: query.full_state.unwrap_or(false),
        state_after,
    };
    let timeout = Duration::from_millis(query.timeout.unwrap_or(0)).min(LONGEST);
    let waits = i64::try_from(timeout.as_millis()).unwrap_or_default();
    let state = query.set_presence.unwrap_or(State::Online);
    server.presence_syncs(session.user_pk, session.device_pk, state, waits).await?;
    let online = server.online.enter(session.user_pk, server.now_ms());
    json(&wait(&app, &online, &ask, timeout).await?)
}

/// The filter: a stored one's id, or the definition itself.
async fn filter_of(app: &App, session: &Session, text: Option<&str>) -> Result<FilterDefinition, ApiError> {
    match text {
        None | Some("") => Ok(FilterDefinition::default()),
        Some(text) if text.trim_start().starts_with('{') => {
            serde_json::from_str(text).map_err(|error| ApiError::invalid_param(error.to_string()))
        }
        Some(id) => Ok(filters::get(&app.server, session.user_pk, id).await?),
    }
}
