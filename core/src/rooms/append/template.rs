//! Events that this server proposes and others complete: joins, leaves and knocks of their users, and invitations, which
//! both sides sign.

use super::Draft;
use super::plan::{MOST_PREV_EVENTS, forbidden, refused};
use super::trees::Trees;
use crate::error::{Error, Result};
use crate::events::build::PduBuilder;
use crate::events::pdu::Pdu;
use crate::events::{canonical, hashes};
use crate::rooms::authorize;
use crate::rooms::cache::{Room, Snapshot};
use crate::rooms::version;
use crate::server::Server;
use ruma::canonical_json::CanonicalJsonObject;
use std::sync::Arc;

impl Server {
    /// An event as it would come next in a room, without hash and signatures. Nothing is written.
    ///
    /// # Errors
    /// M_FORBIDDEN where the room's rules refuse it.
    pub async fn propose(&self, room: &Arc<Room>, draft: &Draft) -> Result<CanonicalJsonObject> {
        let snapshot = self.rooms.snapshot(room).await?;
        let mut trees = Trees::new(self, room);
        let root = self.root_of_next(&mut trees, &snapshot).await?;
        let key = draft.state_key.as_deref();
        let auth = trees.deciding(root, &draft.kind, &draft.sender, key, &draft.content).await?;
        let auth = auth.map_err(|reason| Error::bad_json(reason.0))?;
        let rules = &room.rules;
        let named = |event: &&Arc<Pdu>| !(version::room_id_is_hash(rules) && &*event.kind == "m.room.create");
        let builder = PduBuilder {
            room_id: Some(room.id.clone()),
            sender: draft.sender.clone(),
            kind: draft.kind.clone(),
            state_key: draft.state_key.clone(),
            content: draft.content.clone(),
            redacts: draft.redacts.clone(),
            origin_server_ts: self.now_ms().cast_unsigned(),
            depth: snapshot.depth.saturating_add(1).min(i64::from(ruma::Int::MAX)),
            prev_events: snapshot
                .extremities
                .iter()
                .take(MOST_PREV_EVENTS)
                .map(|(_, id)| id.clone())
                .collect(),
            auth_events: auth.iter().filter(named).map(|event| event.event_id.clone()).collect(),
        };
        let event = builder.unsigned(rules).map_err(refused)?;
        // Judged as if it were complete: an id is needed, a signature is not.
        let mut whole = event.clone();
        self.key.hash_and_sign(self.name(), &mut whole, rules).map_err(Error::internal_display)?;
        let event_id = hashes::event_id(&whole, rules).map_err(Error::internal_display)?;
        let json = canonical::to_string(&whole).map_err(Error::internal_display)?;
        let pdu = Pdu::parse(event_id, rules, &json).map_err(|error| Error::bad_json(error.to_string()))?;
        let find = |kind: &str, key: &str| auth.iter().find(|event| event.is(kind, key)).cloned();
        authorize::authorize(rules, &pdu, find).map_err(forbidden)?;
        Ok(event)
    }

    /// The state before the next event, which follows the deepest extremities only where there are many.
    async fn root_of_next(&self, trees: &mut Trees<'_>, snapshot: &Snapshot) -> Result<i64> {
        if snapshot.extremities.len() <= MOST_PREV_EVENTS {
            return Ok(snapshot.root);
        }
        let mut roots = Vec::with_capacity(MOST_PREV_EVENTS);
        let pks: Vec<i64> = snapshot.extremities.iter().take(MOST_PREV_EVENTS).map(|(pk, _)| *pk).collect();
        for end in self.rooms.events(&pks).await? {
            roots.push(trees.after(&end).await?);
        }
        trees.resolve(&roots).await
    }
}
