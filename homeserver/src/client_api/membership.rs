//! Joining, inviting, leaving and the rest of membership; who is in a room.

use std::collections::BTreeMap;

use axum::response::Response;
use myelin_core::rooms::remote::Found;
use ruma::api::client::membership::{
    ban_user, forget_room, get_member_events, invite_user, join_room_by_id, join_room_by_id_or_alias,
    joined_members, joined_rooms, kick_user, leave_room, unban_user,
};
use ruma::serde::Raw;
use serde_json::{Map, json};

use crate::{
    app::App,
    extract::Ruma,
    response::{self, ApiError},
};

/// `POST /rooms/{roomId}/join`
pub async fn join_by_id(
    app: App,
    request: Ruma<join_room_by_id::v3::Request>,
) -> Result<join_room_by_id::v3::Response, ApiError> {
    let Ruma { body, identity, .. } = request;
    let found = app.server.find_room((&*body.room_id).into(), Vec::new()).await?;
    join(&app, &found, &identity.user, body.reason).await?;
    Ok(join_room_by_id::v3::Response::new(body.room_id))
}

/// `POST /join/{roomIdOrAlias}`
pub async fn join_by_id_or_alias(
    app: App,
    request: Ruma<join_room_by_id_or_alias::v3::Request>,
) -> Result<join_room_by_id_or_alias::v3::Response, ApiError> {
    let Ruma { body, identity, .. } = request;
    let found = app.server.find_room(&body.room_id_or_alias, body.via).await?;
    join(&app, &found, &identity.user, body.reason).await?;
    Ok(join_room_by_id_or_alias::v3::Response::new(found.room_id))
}

async fn join(app: &App, found: &Found, user: &ruma::UserId, reason: Option<String>) -> Result<(), ApiError> {
    let mut extra = Map::new();
    if let Some(reason) = reason {
        extra.insert("reason".to_owned(), reason.into());
    }
    Ok(app.server.enter(user, found, extra).await?)
}

/// `POST /rooms/{roomId}/invite`
pub async fn invite(
    app: App,
    request: Ruma<invite_user::v3::Request>,
) -> Result<invite_user::v3::Response, ApiError> {
    let Ruma { body, identity, .. } = request;
    let invite_user::v3::InvitationRecipient::UserId(invited) = body.recipient else {
        return Err(only_users());
    };
    let room = app.server.rooms.find(&body.room_id).await?.ok_or_else(not_in)?;
    app.server.invite(&room, &identity.user, &invited.user_id, invited.reason).await?;
    Ok(invite_user::v3::Response::new())
}

/// `POST /rooms/{roomId}/leave`
pub async fn leave(
    app: App,
    request: Ruma<leave_room::v3::Request>,
) -> Result<leave_room::v3::Response, ApiError> {
    let Ruma { body, identity, .. } = request;
    let room = app.server.rooms.get(&body.room_id).await?;
    app.server.leave(&room, &identity.user, body.reason).await?;
    Ok(leave_room::v3::Response::new())
}

/// `POST /rooms/{roomId}/forget`
pub async fn forget(
    app: App,
    request: Ruma<forget_room::v3::Request>,
) -> Result<forget_room::v3::Response, ApiError> {
    let room = app.server.rooms.get(&request.body.room_id).await?;
    app.server.forget(&room, &request.identity.user).await?;
    Ok(forget_room::v3::Response::new())
}

/// `POST /rooms/{roomId}/kick`
pub async fn kick(
    app: App,
    request: Ruma<kick_user::v3::Request>,
) -> Result<kick_user::v3::Response, ApiError> {
    let Ruma { body, identity, .. } = request;
    let room = app.server.rooms.find(&body.room_id).await?.ok_or_else(not_in)?;
    app.server.kick(&room, &identity.user, &body.user_id, body.reason).await?;
    Ok(kick_user::v3::Response::new())
}

/// `POST /rooms/{roomId}/ban`
pub async fn ban(app: App, request: Ruma<ban_user::v3::Request>) -> Result<ban_user::v3::Response, ApiError> {
    let Ruma { body, identity, .. } = request;
    let room = app.server.rooms.find(&body.room_id).await?.ok_or_else(not_in)?;
    app.server.ban(&room, &identity.user, &body.user_id, body.reason).await?;
    Ok(ban_user::v3::Response::new())
}

/// `POST /rooms/{roomId}/unban`
pub async fn unban(
    app: App,
    request: Ruma<unban_user::v3::Request>,
) -> Result<unban_user::v3::Response, ApiError> {
    let Ruma { body, identity, .. } = request;
    let room = app.server.rooms.find(&body.room_id).await?.ok_or_else(not_in)?;
    app.server.unban(&room, &identity.user, &body.user_id, body.reason).await?;
    Ok(unban_user::v3::Response::new())
}

fn not_in() -> ApiError {
    ApiError::forbidden("you are not joined to this room")
}

/// `GET /joined_rooms`
pub async fn joined_rooms(
    app: App,
    request: Ruma<joined_rooms::v3::Request>,
) -> Result<joined_rooms::v3::Response, ApiError> {
    Ok(joined_rooms::v3::Response::new(app.server.joined_rooms(request.identity.user_pk).await?))
}

/// `GET /rooms/{roomId}/joined_members`
pub async fn joined_members(
    app: App,
    request: Ruma<joined_members::v3::Request>,
) -> Result<Response, ApiError> {
    let room = app.server.joined_room(&request.body.room_id, &request.identity.user).await?;
    // Clients are used to fields that are null, which ruma's type leaves out.
    let member = |(user, name, avatar)| (user, json!({ "display_name": name, "avatar_url": avatar }));
    let joined: BTreeMap<_, _> = app.server.joined_members(&room).await?.into_iter().map(member).collect();
    response::json(&json!({ "joined": joined }))
}

/// `GET /rooms/{roomId}/members`
pub async fn members(
    app: App,
    request: Ruma<get_member_events::v3::Request>,
) -> Result<get_member_events::v3::Response, ApiError> {
    let Ruma { body, identity, .. } = request;
    let at = body.at.as_deref();
    let events = app.server.members_for(&body.room_id, &identity.reader(), at).await?;
    let wanted = |membership: &str| {
        body.membership.as_ref().is_none_or(|only| only.as_str() == membership)
            && body.not_membership.as_ref().is_none_or(|not| not.as_str() != membership)
    };
    let chosen = events.into_iter().filter(|(membership, _)| wanted(membership));
    Ok(get_member_events::v3::Response::new(chosen.map(|(_, event)| Raw::from_json(event)).collect()))
}

/// What is told to those who invite by an e-mail address or a phone number.
pub(super) fn only_users() -> ApiError {
    ApiError::invalid_param("only users can be invited: this server has no identity server")
}
