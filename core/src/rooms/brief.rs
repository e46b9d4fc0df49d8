//! A room's members in brief: how many there are, and after whom a room without a name is called.

use crate::error::{Error, Result};
use crate::rooms::cache::Room;
use crate::rooms::state::NodeId;
use crate::server::Server;
use myelin_storage::rooms::memberships::{self, BAN, INVITE, JOIN, LEAVE};
use std::collections::HashMap;
use std::sync::Arc;

/// What gives a room a name.
const NAMES: [(&str, &str); 2] = [("m.room.name", ""), ("m.room.canonical_alias", "")];
/// Members after whom a room is called.
const HEROES: usize = 5;
/// Members that are read: one more, since nobody is told of themselves.
const READ: i64 = HEROES as i64 + 1;

/// Members of a room in brief, the same for everybody who reads.
#[derive(Debug)]
pub(crate) struct Brief {
    /// The state for which it is true.
    root: NodeId,
    /// How many are joined.
    pub(crate) joined: i64,
    /// How many are invited.
    pub(crate) invited: i64,
    /// The room has a name or an alias.
    named: bool,
    /// The first members.
    first: Vec<(i64, String)>,
}

/// The room has a name or an alias by this key of its state.
pub(super) fn names(kind: &str, state_key: &str) -> bool {
    NAMES.contains(&(kind, state_key))
}

impl Server {
    /// A room's members in brief, now.
    pub(crate) async fn brief(&self, room: &Room) -> Result<Arc<Brief>> {
        let root = self.current_root(room).await?;
        if let Some(brief) = room.brief.lock().as_ref().filter(|brief| brief.root == root) {
            return Ok(brief.clone());
        }
        let named = !self.state_events(room, root, &NAMES).await?.is_empty();
        let brief = self.read_briefs(&[(room.pk, root, named)]).await?.remove(&room.pk);
        let brief = brief.ok_or_else(|| Error::internal("a room without members in brief"))?;
        // The table may have been ahead of the state that was looked at.
        if self.current_root(room).await? == root {
            *room.brief.lock() = Some(brief.clone());
        }
        Ok(brief)
    }

    /// Members of rooms in brief: of each room (number, current state, whether it has a name).
    pub(super) async fn read_briefs(
        &self,
        rooms: &[(i64, NodeId, bool)],
    ) -> Result<HashMap<i64, Arc<Brief>>> {
        let all: Vec<i64> = rooms.iter().map(|(pk, ..)| *pk).collect();
        let nameless: Vec<i64> = rooms.iter().filter(|(.., named)| !named).map(|(pk, ..)| *pk).collect();
        let mut connection = self.database.read().await?;
        let mut counts = HashMap::new();
        for (room_pk, joined, invited) in memberships::counts(&mut connection, &all).await? {
            counts.insert(room_pk, (joined, invited));
        }
        let mut first: HashMap<i64, Vec<(i64, String)>> = HashMap::new();
        if !nameless.is_empty() {
            let found = memberships::heroes(&mut connection, &nameless, &[JOIN, INVITE], READ).await?;
            for (room_pk, user_pk, id) in found {
                first.entry(room_pk).or_default().push((user_pk, id));
            }
        }
        let brief = |(pk, root, named): &(i64, NodeId, bool)| {
            let (joined, invited) = counts.get(pk).copied().unwrap_or_default();
            let first = first.remove(pk).unwrap_or_default();
            (*pk, Arc::new(Brief { root: *root, joined, invited, named: *named, first }))
        };
        Ok(rooms.iter().map(brief).collect())
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
        let others = |members: &mut dyn Iterator<Item = (i64, String)>| -> Vec<String> {
            members.filter(|(member, _)| *member != user_pk).take(HEROES).map(|(_, id)| id).collect()
        };
        let present = others(&mut brief.first.iter().cloned());
        if !present.is_empty() {
            return Ok(Some(present));
        }
        let mut connection = self.database.read().await?;
        let gone = memberships::heroes(&mut connection, &[room.pk], &[LEAVE, BAN], READ).await?;
        Ok(Some(others(&mut gone.into_iter().map(|(_, user_pk, id)| (user_pk, id)))))
    }
}
