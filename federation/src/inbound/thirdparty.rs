//! Invitations of people of whom only a third-party identifier was known, such as an address of e-mail.
//!
//! The room holds an `m.room.third_party_invite` with a token and the keys of an identity server. When somebody has proved
//! to that server that the identifier is theirs, it signs the token with their user id, and tells their homeserver
//! ([`bound`]); that one asks the inviting homeserver to make an invitation of it ([`exchange`]), or makes it itself where
//! it is in the room. The rules of authorization check the signature by the keys in the room, so nobody's word is taken.

use crate::Federation;
use crate::outbound::request::Patience;
use futures_util::stream::{self, StreamExt as _};
use myelin_core::rooms::append::Draft;
use myelin_core::rooms::append::receive::{Arrival, Received, ToldBy};
use myelin_core::rooms::cache::Room;
use myelin_core::users::accounts;
use myelin_core::{Error, Result};
use ruma::api::federation::thirdparty::{bind_callback, exchange_invite};
use ruma::events::room::member::SignedContent;
use ruma::serde::Raw;
use ruma::{OwnedServerName, OwnedUserId, UserId};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::{RawValue, to_raw_value};
use std::sync::Arc;

/// Invitations that one binding may bring.
const MOST_INVITES: usize = 10;
/// How many of them are exchanged at once.
const AT_ONCE: usize = 8;

/// `PUT /exchange_third_party_invite/{roomId}`
pub async fn exchange(
    federation: Arc<Federation>,
    _origin: OwnedServerName,
    request: exchange_invite::v1::Request,
) -> Result<exchange_invite::v1::Response> {
    #[derive(Deserialize)]
    struct Content {
        membership: String,
        third_party_invite: Option<Invite>,
    }
    #[derive(Deserialize)]
    struct Invite {
        signed: Box<RawValue>,
    }
    let exchange_invite::v1::Request { room_id, kind, sender, state_key: invited, content, .. } = request;
    let content: Content = serde_json::from_str(content.json().get())
        .map_err(|error| Error::bad_json(format!("content: {error}")))?;
    if kind.to_string() != "m.room.member" || content.membership != "invite" {
        return Err(Error::bad_json("this must be an m.room.member event that invites"));
    }
    let invite =
        content.third_party_invite.ok_or_else(|| Error::bad_json("there is no third_party_invite"))?;
    if !federation.server.is_local(&sender) {
        return Err(Error::forbidden("the sender is not of this server"));
    }
    let room = federation.server.rooms.find(&room_id).await?;
    let room = room.ok_or_else(|| Error::not_found("this server is not in the room"))?;
    federation.invite_bound(&room, sender, &invited, &invite.signed).await?;
    Ok(exchange_invite::v1::Response::new())
}

/// `PUT /3pid/onbind`: anybody may call it, and what they claim is proved by the signatures.
pub async fn bound(
    federation: Arc<Federation>,
    request: bind_callback::v1::Request,
) -> Result<bind_callback::v1::Response> {
    let bind_callback::v1::Request { mxid, invites, .. } = request;
    let server = &federation.server;
    if !server.is_local(&mxid)
        || accounts::find(server, &mxid).await?.is_none_or(|account| account.deactivated)
    {
        return Err(Error::not_found("there is no such user here"));
    }
    let own = invites.into_iter().filter(|invite| invite.mxid == mxid).take(MOST_INVITES);
    let exchanges = own.map(|invite| federation.take_up(invite));
    let done: Vec<Result<()>> = stream::iter(exchanges).buffer_unordered(AT_ONCE).collect().await;
    for error in done.into_iter().filter_map(Result::err) {
        tracing::debug!(%error, "an invitation by a third-party identifier came to nothing");
    }
    Ok(bind_callback::v1::Response::new())
}

impl Federation {
    /// Makes an invitation of one that waited for its user.
    async fn take_up(&self, invite: bind_callback::v1::ThirdPartyInvite) -> Result<()> {
        let bind_callback::v1::ThirdPartyInvite { mxid, room_id, sender, signed, .. } = invite;
        if let Some(room) = self.server.rooms.find(&room_id).await?
            && self.server.is_in(&room).await?
        {
            return self.invite_bound(&room, sender, &mxid, signed.json()).await;
        }
        let content = json!({
            "membership": "invite",
            "third_party_invite": { "display_name": mxid.localpart(), "signed": signed },
        });
        let content = Raw::from_json(to_raw_value(&content).map_err(Error::internal_display)?);
        let to = sender.server_name().to_owned();
        let request = exchange_invite::v1::Request::new(room_id, sender, mxid, content);
        self.client.send(&to, request, Patience::QUICK).await?;
        Ok(())
    }

    /// Invites somebody into a room that this server is in, by a signature on a token that the room knows.
    async fn invite_bound(
        &self,
        room: &Arc<Room>,
        sender: OwnedUserId,
        invited: &UserId,
        signed: &RawValue,
    ) -> Result<()> {
        #[derive(Deserialize)]
        struct Known {
            display_name: String,
        }
        let server = &self.server;
        let token = token(signed, invited)?;
        let root = server.current_root(room).await?;
        let known: Option<Known> =
            server.state_content(room, root, "m.room.third_party_invite", &token).await?;
        let known = known.ok_or_else(|| Error::not_found("the room knows no such token"))?;
        let content = json!({
            "membership": "invite",
            "third_party_invite": { "display_name": known.display_name, "signed": signed },
        });
        let draft = Draft::state(sender, "m.room.member", invited.as_str(), &content)?;
        if !server.is_local(invited) {
            return self.invite_user(room, draft).await;
        }
        let event = self.signed_proposal(room, &draft).await?;
        let keys = self.keys.for_event(&event, &room.rules).await?;
        let arrival = Arrival { told_by: ToldBy::Us, ..Arrival::default() };
        match server.receive(room, event, &keys, &arrival).await? {
            Received::Accepted(_) => Ok(()),
            other => Err(Error::forbidden(format!("the invitation is not allowed: {other:?}"))),
        }
    }
}

/// The token that an identity server signed for a user.
fn token(signed: &RawValue, invited: &UserId) -> Result<String> {
    let signed: SignedContent =
        serde_json::from_str(signed.get()).map_err(|error| Error::bad_json(format!("signed: {error}")))?;
    match signed.mxid == *invited {
        true => Ok(signed.token),
        false => Err(Error::forbidden("it was signed for another user")),
    }
}
