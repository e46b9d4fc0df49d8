//! Invitations of users of ours by users of other servers.

use crate::Federation;
use crate::inbound::raw_event;
use crate::receive::{event_id, room_of, text};
use myelin_core::events::canonical;
use myelin_core::rooms::append::receive::Received;
use myelin_core::rooms::version;
use myelin_core::users::accounts;
use myelin_core::{Error, Result};
use ruma::api::federation::membership::RawStrippedState;
use ruma::api::federation::membership::create_invite::v1;
use ruma::api::federation::membership::create_invite::v2::{Request, Response};
use ruma::canonical_json::{CanonicalJsonObject, CanonicalJsonValue};
use ruma::{OwnedServerName, ServerName, UserId};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::sync::Arc;

/// Events that are shown of a room.
const MOST_SHOWN: usize = 100;

/// `PUT /v2/invite/{roomId}/{eventId}`
pub async fn invite(
    federation: Arc<Federation>,
    origin: OwnedServerName,
    request: Request,
) -> Result<Response> {
    let server = &federation.server;
    let rules = version::rules(&request.room_version)
        .ok_or_else(|| Error::IncompatibleRoomVersion(request.room_version.to_string()))?;
    let mut event =
        canonical::parse(request.event.get()).map_err(|error| Error::bad_json(error.to_string()))?;
    if room_of(&event).is_none_or(|id| id != request.room_id) {
        return Err(Error::bad_json("the event is of another room"));
    }
    let invited = must_be_invite(&event, &origin)?;
    if !server.is_local(&invited)
        || accounts::find(server, &invited).await?.is_none_or(|account| account.deactivated)
    {
        return Err(Error::forbidden("there is no such user here"));
    }
    let room = server.enter_room(&request.room_id, &request.room_version).await?;
    if room.version != request.room_version {
        return Err(Error::bad_json("the room is known here with another version"));
    }
    if event_id(&event, &room)? != request.event_id {
        return Err(Error::invalid_param("the event has another id than the path says"));
    }
    let keys = federation.keys.for_event(&event, &rules).await?;
    server
        .key
        .sign_event(server.name(), &mut event, &rules)
        .map_err(|error| Error::bad_json(error.to_string()))?;
    let signed = raw_event(&event)?;
    if server.is_in(&room).await? {
        if !server.acl_allows(&room, &origin).await? {
            return Err(Error::forbidden("the room's access list keeps your server out"));
        }
        // The event comes as all others do, once its sender has both signatures.
        return Ok(Response::new(signed));
    }
    let shown = shown(&request.invite_room_state, &request.event)?;
    match server.receive_outside(&room, event, &keys, Some(&shown)).await? {
        Received::Accepted(_) | Received::Known(_) => Ok(Response::new(signed)),
        Received::Refused(reason) => Err(Error::forbidden(reason)),
        _ => Err(Error::bad_json("the event is no invitation")),
    }
}

/// `PUT /v1/invite/{roomId}/{eventId}`: the form for rooms of versions 1 and 2, which does not say which. This server
/// cannot be in such rooms, and a server that invites to others uses the second form.
pub async fn invite_v1(
    _federation: Arc<Federation>,
    _origin: OwnedServerName,
    _request: v1::Request,
) -> Result<v1::Response> {
    Err(Error::IncompatibleRoomVersion("1".to_owned()))
}

fn must_be_invite(event: &CanonicalJsonObject, origin: &ServerName) -> Result<ruma::OwnedUserId> {
    let content = event.get("content").and_then(CanonicalJsonValue::as_object);
    let sets = content.and_then(|content| content.get("membership")?.as_str());
    if text(event, "type") != Some("m.room.member") || sets != Some("invite") {
        return Err(Error::bad_json("this must be an m.room.member event that invites"));
    }
    let sender = text(event, "sender").and_then(|sender| <&UserId>::try_from(sender).ok());
    if sender.is_none_or(|sender| sender.server_name() != origin) {
        return Err(Error::forbidden("the sender is not of your server"));
    }
    let invited = text(event, "state_key").and_then(|key| <&UserId>::try_from(key).ok());
    invited.map(ToOwned::to_owned).ok_or_else(|| Error::bad_json("the state key is no user id"))
}

/// What the user is shown of the room, in its stripped form, the invitation itself last.
pub(crate) fn shown(state: &[RawStrippedState], own: &RawValue) -> Result<String> {
    #[derive(Deserialize, Serialize)]
    struct Stripped<'a> {
        #[serde(borrow)]
        content: &'a RawValue,
        sender: std::borrow::Cow<'a, str>,
        state_key: std::borrow::Cow<'a, str>,
        #[serde(rename = "type")]
        kind: std::borrow::Cow<'a, str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        origin_server_ts: Option<u64>,
    }
    let mut events = Vec::new();
    #[allow(deprecated)]
    let texts = state.iter().take(MOST_SHOWN).filter_map(|event| match event {
        RawStrippedState::Stripped(event) => Some(event.json().get()),
        RawStrippedState::Pdu(event) => Some(event.get()),
        _ => None,
    });
    for text in texts.chain([own.get()]) {
        // What is no state event is not shown.
        if let Ok(stripped) = serde_json::from_str::<Stripped<'_>>(text) {
            events.push(stripped);
        }
    }
    serde_json::to_string(&events).map_err(Error::internal_display)
}
