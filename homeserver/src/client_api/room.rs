//! Rooms: creating and replacing them, and looking at single events and aliases of them.

use axum::response::Response;
use myelin_core::rooms::create::{CreateRoom, InitialState, Preset};
use myelin_core::rooms::timestamp_to_event::Moment;
use ruma::api::Direction;
use ruma::api::client::room::{
    aliases, create_room, get_event_by_timestamp, get_room_event, get_summary, upgrade_room,
};
use ruma::serde::Raw;
use ruma::{MilliSecondsSinceUnixEpoch, UInt};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::{alias::is_public, membership::only_users};
use crate::{
    app::App,
    extract::Ruma,
    response::{ApiError, json},
};

#[derive(Deserialize)]
struct Initial {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    state_key: String,
    content: Box<RawValue>,
}

/// `POST /createRoom`
pub async fn create(
    app: App,
    request: Ruma<create_room::v3::Request>,
) -> Result<create_room::v3::Response, ApiError> {
    let body = request.body;
    if !body.invite_3pid.is_empty() {
        return Err(only_users());
    }
    let mut initial_state = Vec::with_capacity(body.initial_state.len());
    for event in &body.initial_state {
        let Initial { kind, state_key, content } = serde_json::from_str(event.json().get())?;
        initial_state.push(InitialState { kind, state_key, content });
    }
    let published = is_public(&body.visibility)?;
    let preset = match body.preset {
        Some(create_room::v3::RoomPreset::PublicChat) => Preset::PublicChat,
        Some(create_room::v3::RoomPreset::TrustedPrivateChat) => Preset::TrustedPrivateChat,
        Some(create_room::v3::RoomPreset::PrivateChat) => Preset::PrivateChat,
        Some(_) => return Err(ApiError::invalid_param("preset is none of those that there are")),
        None if published => Preset::PublicChat,
        None => Preset::PrivateChat,
    };
    let wish = CreateRoom {
        creator: request.identity.user.clone(),
        version: body.room_version,
        preset,
        creation_content: object(body.creation_content.as_ref())?,
        power_levels: object(body.power_level_content_override.as_ref())?,
        initial_state,
        name: body.name.filter(|name| !name.is_empty()),
        topic: body.topic,
        alias: body.room_alias_name,
        invite: body.invite,
        is_direct: body.is_direct,
        published,
    };
    Ok(create_room::v3::Response::new(app.server.create_room(wish).await?))
}

fn object<T>(raw: Option<&Raw<T>>) -> Result<Map<String, Value>, ApiError> {
    Ok(raw.map(|raw| serde_json::from_str(raw.json().get())).transpose()?.unwrap_or_default())
}

/// `GET /rooms/{roomId}/event/{eventId}`
pub async fn event(
    app: App,
    request: Ruma<get_room_event::v3::Request>,
) -> Result<get_room_event::v3::Response, ApiError> {
    let Ruma { body, identity, .. } = request;
    let event = app.server.event_for(&body.room_id, &body.event_id, &identity.reader()).await?;
    Ok(get_room_event::v3::Response::new(Raw::from_json(event)))
}

/// `GET /rooms/{roomId}/timestamp_to_event`
pub async fn timestamp_to_event(
    app: App,
    request: Ruma<get_event_by_timestamp::v1::Request>,
) -> Result<get_event_by_timestamp::v1::Response, ApiError> {
    let Ruma { body, identity, .. } = request;
    let moment = Moment { ts: body.ts.0.into(), backwards: body.dir == Direction::Backward };
    let found = app.server.timestamp_to_event(&body.room_id, &identity.reader(), moment).await?;
    let ts = MilliSecondsSinceUnixEpoch(UInt::try_from(found.ts).unwrap_or_default());
    Ok(get_event_by_timestamp::v1::Response::new(found.event_id, ts))
}

/// `GET /rooms/{roomId}/aliases`
pub async fn aliases(
    app: App,
    request: Ruma<aliases::v3::Request>,
) -> Result<aliases::v3::Response, ApiError> {
    let reading = app.server.reading(&request.body.room_id, request.identity.user_pk).await?;
    Ok(aliases::v3::Response::new(app.server.aliases_of(&reading.room).await?))
}

/// `POST /rooms/{roomId}/upgrade`
pub async fn upgrade(
    app: App,
    request: Ruma<upgrade_room::v3::Request>,
) -> Result<upgrade_room::v3::Response, ApiError> {
    let Ruma { body, identity, .. } = request;
    let upgrade_room::v3::Request { room_id, new_version, additional_creators, .. } = body;
    let upgraded = app.server.upgrade_room(&identity.user, &room_id, new_version, &additional_creators);
    Ok(upgrade_room::v3::Response::new(upgraded.await?))
}

/// `GET /room_summary/{roomIdOrAlias}`
pub async fn summary(app: App, request: Ruma<get_summary::v1::Request>) -> Result<Response, ApiError> {
    let Ruma { body, identity, .. } = request;
    let found = app.server.find_room(&body.room_id_or_alias, body.via).await?;
    let user = identity.as_ref().map(|session| &*session.user);
    json(&app.server.preview(&found.room_id, &found.via, user).await?)
}
