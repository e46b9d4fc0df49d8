//! A room's members in brief: how many there are, and after whom a room without a name is called.

use crate::error::Result;
use crate::rooms::cache::Room;
use crate::rooms::state::NodeId;
use crate::server::Server;
use myelin_storage::rooms::memberships::{self, BAN, INVITE, JOIN, LEAVE};
use std::sync::Arc;

/// Members after whom a room is called.
pub(super) const HEROES: usize = 5;

/// Members of a room in brief, the same for everybody who reads.
#[derive(Debug)]
pub(crate) struct Brief {
    /// The state for which it is true.
    pub(super) root: NodeId,
    /// How many are joined.
    pub(crate) joined: i64,
    /// How many are invited.
    pub(crate) invited: i64,
    /// The room has a name or an alias.
    pub(super) named: bool,
    /// The first members: one more than is told, since nobody is told of themselves.
    pub(super) first: Vec<(i64, String)>,
}

impl Server {
    /// A room's members in brief, now.
    pub(crate) async fn brief(&self, room: &Room) -> Result<Arc<Brief>> {
        let root = self.current_root(room).await?;
        if let Some(brief) = room.brief.lock().as_ref().filter(|brief| brief.root == root) {
            return Ok(brief.clone());
        }
        let names = [("m.room.name", ""), ("m.room.canonical_alias", "")];
        let named = !self.state_events(room, root, &names).await?.is_empty();
        let mut connection = self.database.read().await?;
        let counts = memberships::counts(&mut connection, &[room.pk]).await?;
        let (_, joined, invited) = counts.first().copied().unwrap_or_default();
        let mut first = Vec::new();
        if !named {
            first = memberships::heroes(&mut connection, room.pk, &[JOIN, INVITE], HEROES as i64 + 1).await?;
        }
        drop(connection);
        let brief = Arc::new(Brief { root, joined, invited, named, first });
        // The table may have been ahead of the state that was looked at.
        if self.current_root(room).await? == root {
            *room.brief.lock() = Some(brief.clone());
        }
        Ok(brief)
    }

    /// After whom a room is called for a user; nobody where it has a name.
    pub(crate) async fn heroes(
        &self,
        room: &Room,
        brief: &Brief,
        user_pk: i64,
    ) -> Result<Option<Vec<String>>> {
        if brief.named {
            return Ok(None);
        }
        let others = |members: &[(i64, String)]| -> Vec<String> {
            let others = members.iter().filter(|(member, _)| *member != user_pk);
            others.take(HEROES).map(|(_, id)| id.clone()).collect()
        };
        let present = others(&brief.first);
        if !present.is_empty() {
            return Ok(Some(present));
        }
        let mut connection = self.database.read().await?;
        let gone = memberships::heroes(&mut connection, room.pk, &[LEAVE, BAN], HEROES as i64 + 1).await?;
        Ok(Some(others(&gone)))
    }
}
