//! Handshakes: joins, leaves and knocks of other servers' users through this server, and their invitations for ours.

mod invite;

pub(crate) use invite::shown;
pub use invite::{invite, invite_v1};

use super::{raw, raw_event, stored_pdus};
use crate::Federation;
use crate::receive::{event_id, room_of, text};
use myelin_core::events::canonical;
use myelin_core::rooms::append::Draft;
use myelin_core::rooms::append::receive::{Received, ToldBy};
use myelin_core::rooms::cache::{Room, Stored};
use myelin_core::rooms::version;
use myelin_core::rooms::visibility::Membership;
use myelin_core::{Error, Result};
use ruma::api::federation::membership::RawStrippedState;
use ruma::api::federation::membership::{
    create_join_event, create_knock_event, create_leave_event, prepare_join_event, prepare_knock_event,
    prepare_leave_event,
};
use ruma::canonical_json::{CanonicalJsonObject, CanonicalJsonValue};
use ruma::{EventId, OwnedServerName, OwnedUserId, RoomId, RoomVersionId, ServerName, UserId};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::sync::Arc;

/// `GET /make_join/{roomId}/{userId}`
pub async fn make_join(
    federation: Arc<Federation>,
    origin: OwnedServerName,
    request: prepare_join_event::v1::Request,
) -> Result<prepare_join_event::v1::Response> {
    let room = begin(&federation, &origin, &request.room_id, &request.user_id).await?;
    must_support(&room, &request.ver)?;
    let mut content = member("join");
    if let Some(by) = federation.vouches(&room, &request.user_id).await? {
        content.insert("join_authorised_via_users_server".to_owned(), by.as_str().into());
    }
    let event = federation.template(&room, &request.user_id, content).await?;
    let mut response = prepare_join_event::v1::Response::new(event);
    response.room_version = Some(room.version.clone());
    Ok(response)
}

/// `GET /make_leave/{roomId}/{userId}`
pub async fn make_leave(
    federation: Arc<Federation>,
    origin: OwnedServerName,
    request: prepare_leave_event::v1::Request,
) -> Result<prepare_leave_event::v1::Response> {
    let room = begin(&federation, &origin, &request.room_id, &request.user_id).await?;
    let event = federation.template(&room, &request.user_id, member("leave")).await?;
    Ok(prepare_leave_event::v1::Response::new(Some(room.version.clone()), event))
}

/// `GET /make_knock/{roomId}/{userId}`
pub async fn make_knock(
    federation: Arc<Federation>,
    origin: OwnedServerName,
    request: prepare_knock_event::v1::Request,
) -> Result<prepare_knock_event::v1::Response> {
    let room = begin(&federation, &origin, &request.room_id, &request.user_id).await?;
    must_support(&room, &request.ver)?;
    if !version::allows_knocking(&room.rules) {
        return Err(Error::forbidden("nobody can knock on rooms of this version"));
    }
    let event = federation.template(&room, &request.user_id, member("knock")).await?;
    Ok(prepare_knock_event::v1::Response::new(room.version.clone(), event))
}

/// `PUT /v2/send_join/{roomId}/{eventId}`
pub async fn send_join(
    federation: Arc<Federation>,
    origin: OwnedServerName,
    request: create_join_event::v2::Request,
) -> Result<create_join_event::v2::Response> {
    let server = &federation.server;
    let handshake = federation.handshake(&origin, &request.room_id, &request.event_id, &request.pdu, "join");
    let (room, event) = handshake.await?;
    let state = server.events_of_state(&room, event.state_root).await?;
    let chain = server.auth_chain(&room, &state).await?;
    let mut answer = create_join_event::v2::RoomState::new();
    answer.state = stored_pdus(&state)?;
    answer.auth_chain = stored_pdus(&chain)?;
    answer.event = Some(raw(event.pdu.json())?);
    if request.omit_members {
        let servers = server.servers_in(&room).await?;
        answer.servers_in_room = Some(servers.iter().map(ToString::to_string).collect());
    }
    Ok(create_join_event::v2::Response::new(answer))
}

/// `PUT /v2/send_leave/{roomId}/{eventId}`
pub async fn send_leave(
    federation: Arc<Federation>,
    origin: OwnedServerName,
    request: create_leave_event::v2::Request,
) -> Result<create_leave_event::v2::Response> {
    let handshake = federation.handshake(&origin, &request.room_id, &request.event_id, &request.pdu, "leave");
    handshake.await?;
    Ok(create_leave_event::v2::Response::new())
}

/// `PUT /send_knock/{roomId}/{eventId}`
pub async fn send_knock(
    federation: Arc<Federation>,
    origin: OwnedServerName,
    request: create_knock_event::v1::Request,
) -> Result<create_knock_event::v1::Response> {
    let handshake = federation.handshake(&origin, &request.room_id, &request.event_id, &request.pdu, "knock");
    let (room, _) = handshake.await?;
    let shown = federation.server.shown_events(&room, None).await?;
    let shown = stored_pdus(&shown)?;
    Ok(create_knock_event::v1::Response::new(shown.into_iter().map(RawStrippedState::Pdu).collect()))
}

fn member(membership: &str) -> Map<String, Value> {
    Map::from_iter([("membership".to_owned(), membership.into())])
}

fn must_support(room: &Room, versions: &[RoomVersionId]) -> Result<()> {
    match versions.contains(&room.version) {
        true => Ok(()),
        false => Err(Error::IncompatibleRoomVersion(room.version.to_string())),
    }
}

async fn begin(
    federation: &Federation,
    origin: &ServerName,
    room_id: &RoomId,
    user: &UserId,
) -> Result<Arc<Room>> {
    if user.server_name() != origin {
        return Err(Error::forbidden("the user is not of your server"));
    }
    federation.server.room_for_server(room_id, origin).await
}

impl Federation {
    async fn template(
        &self,
        room: &Arc<Room>,
        user: &UserId,
        content: Map<String, Value>,
    ) -> Result<Box<RawValue>> {
        let draft = Draft::state(user.to_owned(), "m.room.member", user.as_str(), &content)?;
        let event = self.server.propose(room, &draft).await?;
        raw_event(&event)
    }

    /// The user of ours who lets somebody into a restricted room; `None` where nobody needs to.
    async fn vouches(&self, room: &Room, user: &UserId) -> Result<Option<OwnedUserId>> {
        let root = self.server.current_root(room).await?;
        match self.server.membership_in(room, root, user).await? {
            Membership::Join | Membership::Invite => Ok(None),
            _ => self.server.authorising_user(room, root, user).await,
        }
    }

    /// The second half of a handshake: the event comes back, complete and signed.
    async fn handshake(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        named: &EventId,
        pdu: &RawValue,
        membership: &str,
    ) -> Result<(Arc<Room>, Stored)> {
        let room = self.server.room_for_server(room_id, origin).await?;
        let mut event = canonical::parse(pdu.get()).map_err(|error| Error::bad_json(error.to_string()))?;
        let id = event_id(&event, &room)?;
        if id != named {
            return Err(Error::invalid_param("the event has another id than the path says"));
        }
        must_be_own(&event, origin, room_id, membership)?;
        self.sign_for_restricted(&room, &mut event).await?;
        match self.take_in(origin, &room, event, ToldBy::Us).await? {
            Received::Accepted(_) | Received::Known(_) => {}
            Received::SoftFailed(_, reason) | Received::Rejected(_, reason) => {
                return Err(Error::Forbidden(reason.0));
            }
            Received::Refused(reason) => return Err(Error::bad_json(reason)),
            Received::Missing { .. } => {
                return Err(Error::bad_json("the event follows events that are not known here"));
            }
        }
        let event = self.server.event_in(&room, &id).await?;
        Ok((room, event))
    }

    /// Signs a join that a user of ours vouches for, if that still holds.
    async fn sign_for_restricted(&self, room: &Room, event: &mut CanonicalJsonObject) -> Result<()> {
        let content = event.get("content").and_then(CanonicalJsonValue::as_object);
        let by = content.and_then(|content| content.get("join_authorised_via_users_server")?.as_str());
        let Some(by) = by.and_then(|by| <&UserId>::try_from(by).ok()) else { return Ok(()) };
        if !self.server.is_local(by) || text(event, "type") != Some("m.room.member") {
            return Ok(());
        }
        let Some(user) = text(event, "state_key").and_then(|key| <&UserId>::try_from(key).ok()) else {
            return Ok(());
        };
        self.vouches(room, user).await?;
        self.server
            .key
            .sign_event(self.server.name(), event, &room.rules)
            .map_err(|error| Error::bad_json(error.to_string()))
    }
}

/// The event must be the sender's own membership.
fn must_be_own(
    event: &CanonicalJsonObject,
    origin: &ServerName,
    room_id: &RoomId,
    membership: &str,
) -> Result<()> {
    let content = event.get("content").and_then(CanonicalJsonValue::as_object);
    let sets = content.and_then(|content| content.get("membership")?.as_str());
    let sender = text(event, "sender").and_then(|sender| <&UserId>::try_from(sender).ok());
    let right = text(event, "type") == Some("m.room.member")
        && sets == Some(membership)
        && text(event, "state_key") == sender.map(UserId::as_str)
        && room_of(event).is_some_and(|id| id == *room_id);
    match sender {
        Some(sender) if right && sender.server_name() == origin => Ok(()),
        Some(_) if right => Err(Error::forbidden("the user is not of your server")),
        _ => {
            Err(Error::bad_json(format!("this must be a user's own m.room.member event with {membership:?}")))
        }
    }
}
