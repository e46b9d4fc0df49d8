//! Inviting users of other servers: both servers sign the event before it comes into the room.

use crate::Federation;
use crate::inbound::{raw_event, stored_pdus};
use crate::outbound::request::Patience;
use crate::receive::event_id;
use myelin_core::events::canonical;
use myelin_core::rooms::append::Draft;
use myelin_core::rooms::append::receive::{Arrival, Received};
use myelin_core::rooms::cache::Room;
use myelin_core::{Error, Result};
use ruma::UserId;
use ruma::api::federation::membership::{RawStrippedState, create_invite};
use ruma::canonical_json::CanonicalJsonObject;
use std::sync::Arc;

impl Federation {
    /// The event of a draft, signed by this server and by the room's policy server; it is not in the room yet.
    pub(crate) async fn signed_proposal(
        &self,
        room: &Arc<Room>,
        draft: &Draft,
    ) -> Result<CanonicalJsonObject> {
        let server = &self.server;
        let mut event = server.propose(room, draft).await?;
        server
            .key
            .hash_and_sign(server.name(), &mut event, &room.rules)
            .map_err(|error| Error::bad_json(error.to_string()))?;
        server.recommend(room, &mut event).await?;
        Ok(event)
    }

    /// Invites a user of another server into a room of ours.
    pub(crate) async fn invite_user(&self, room: &Arc<Room>, draft: Draft) -> Result<()> {
        let server = &self.server;
        let invited = draft.state_key.as_deref().and_then(|key| <&UserId>::try_from(key).ok());
        let invited = invited.ok_or_else(|| Error::bad_json("the invited has no user id"))?;
        let mut event = self.signed_proposal(room, &draft).await?;
        let id = event_id(&event, room)?;
        let shown = server.shown_events(room, Some(&draft.sender)).await?;
        let request = create_invite::v2::Request::new(
            room.id.clone(),
            id.clone(),
            room.version.clone(),
            raw_event(&event)?,
            stored_pdus(&shown)?.into_iter().map(RawStrippedState::Pdu).collect(),
        );
        let answer = self.client.send(invited.server_name(), request, Patience::INSIST).await?;
        let signed = canonical::parse(answer.event.get())
            .map_err(|error| Error::Elsewhere(format!("the signed invitation: {error}")))?;
        if event_id(&signed, room)? != id {
            return Err(Error::Elsewhere("the other server signed another invitation".to_owned()));
        }
        // Their signature is checked by the door; only it may be new.
        let theirs = signed
            .get("signatures")
            .and_then(|all| all.as_object()?.get(invited.server_name().as_str()).cloned());
        let ours = event.get_mut("signatures").and_then(|all| all.as_object_mut());
        if let (Some(theirs), Some(ours)) = (theirs, ours) {
            ours.insert(invited.server_name().to_string(), theirs);
        }
        let keys = self.keys.for_event(&event, &room.rules).await?;
        match server.receive(room, event, &keys, &Arrival::default()).await? {
            Received::Accepted(_) | Received::Known(_) => Ok(()),
            Received::Rejected(_, reason) | Received::SoftFailed(_, reason) => {
                Err(Error::Forbidden(reason.0))
            }
            Received::Refused(reason) => Err(Error::Elsewhere(reason)),
            Received::Missing { .. } => Err(Error::internal("our own invitation lacks events")),
        }
    }
}
