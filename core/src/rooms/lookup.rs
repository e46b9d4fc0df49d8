//! Looking things up in a room's state, now or at any event.

use crate::error::Result;
use crate::rooms::cache::{Room, Stored, View};
use crate::rooms::state::{self, EventPk, NodeId};
use crate::rooms::visibility::{Membership, Visibility};
use crate::server::Server;
use ruma::UserId;
use serde::Deserialize;
use std::sync::Arc;

/// A state key with its event.
pub type StateEntry = (Arc<str>, Arc<str>, EventPk);

impl Server {
    /// The tree of a room's current state.
    pub async fn current_root(&self, room: &Room) -> Result<NodeId> {
        Ok(self.rooms.snapshot(room).await?.root)
    }

    /// The event at a state key of a state.
    pub async fn state_event(
        &self,
        room: &Room,
        root: NodeId,
        kind: &str,
        state_key: &str,
    ) -> Result<Option<Stored>> {
        Ok(self.state_events(room, root, &[(kind, state_key)]).await?.into_iter().next())
    }

    /// The events at several keys of a state; keys without one are left out.
    pub async fn state_events(
        &self,
        room: &Room,
        root: NodeId,
        keys: &[(&str, &str)],
    ) -> Result<Vec<Stored>> {
        self.know_keys(room).await?;
        let indexes: Vec<_> = {
            let known = room.keys.read();
            keys.iter().filter_map(|(kind, key)| known.find(kind, key)).collect()
        };
        if indexes.is_empty() {
            return Ok(Vec::new());
        }
        let mut view = View::new();
        let found = self.rooms.on_tree(&mut view, |nodes| state::get_many(nodes, root, &indexes)).await?;
        let pks: Vec<i64> = found.into_iter().flatten().collect();
        self.rooms.events(&pks).await
    }

    /// A whole state.
    pub async fn full_state(&self, room: &Room, root: NodeId) -> Result<Vec<StateEntry>> {
        self.know_keys(room).await?;
        let mut view = View::new();
        let entries = self.rooms.on_tree(&mut view, |nodes| state::iterate(nodes, root)).await?;
        let keys = room.keys.read();
        let named = |(index, pk)| keys.get(index).map(|(kind, key)| (kind.clone(), key.clone(), pk));
        Ok(entries.into_iter().filter_map(named).collect())
    }

    /// What the second state has that the first has not; removed keys are left out.
    pub async fn state_since(&self, room: &Room, from: NodeId, to: NodeId) -> Result<Vec<StateEntry>> {
        if from == to {
            return Ok(Vec::new());
        }
        self.know_keys(room).await?;
        let mut view = View::new();
        let changes = self.rooms.on_tree(&mut view, |nodes| state::diff(nodes, from, to)).await?;
        let keys = room.keys.read();
        let named = |change: state::Change| {
            let (kind, key) = keys.get(change.index)?;
            Some((kind.clone(), key.clone(), change.new?))
        };
        Ok(changes.into_iter().filter_map(named).collect())
    }

    /// The parsed content of a state event; `None` where there is no event or its content has another form.
    pub async fn state_content<T: for<'a> Deserialize<'a>>(
        &self,
        room: &Room,
        root: NodeId,
        kind: &str,
        state_key: &str,
    ) -> Result<Option<T>> {
        Ok(self.state_event(room, root, kind, state_key).await?.and_then(|event| event.content_as()))
    }

    /// A user's membership in a state.
    pub async fn membership_in(&self, room: &Room, root: NodeId, user: &UserId) -> Result<Membership> {
        let event = self.state_event(room, root, "m.room.member", user.as_str()).await?;
        Ok(membership_of(event.as_ref()))
    }

    /// The history visibility in a state.
    pub async fn visibility_in(&self, room: &Room, root: NodeId) -> Result<Visibility> {
        #[derive(Deserialize)]
        struct Content {
            history_visibility: String,
        }
        let content: Option<Content> =
            self.state_content(room, root, "m.room.history_visibility", "").await?;
        Ok(content.map_or(Visibility::Shared, |content| Visibility::parse(&content.history_visibility)))
    }

    /// Makes sure that the room's state keys are loaded: they come with its snapshot.
    async fn know_keys(&self, room: &Room) -> Result<()> {
        self.rooms.snapshot(room).await.map(drop)
    }
}

/// The membership that a member event sets; without one, that of somebody who was never there.
pub fn membership_of(event: Option<&Stored>) -> Membership {
    event.and_then(|event| event.membership()).map_or(Membership::Leave, |text| Membership::parse(&text))
}
