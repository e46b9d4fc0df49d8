//! Which servers are in a room, and which may be.

use crate::error::{Error, Result};
use crate::rooms::cache::Room;
use crate::rooms::lookup::membership_of;
use crate::rooms::state::NodeId;
use crate::rooms::visibility::Membership;
use crate::server::Server;
use myelin_storage::rooms::memberships;
use ruma::events::room::server_acl::RoomServerAclEventContent;
use ruma::{OwnedServerName, ServerName, UserId};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The servers of a room's joined members, for one state of the room.
#[derive(Debug)]
pub(crate) struct Present {
    root: NodeId,
    servers: Arc<BTreeSet<OwnedServerName>>,
}

/// The server of the user whose member event stands at a key of the state.
fn server_of_member(kind: &str, key: &str) -> Option<OwnedServerName> {
    let server = key.split_once(':').filter(|_| kind == "m.room.member")?.1;
    OwnedServerName::try_from(server).ok()
}

impl Server {
    /// The servers that have joined members in a room, this one among them.
    pub async fn servers_in(&self, room: &Room) -> Result<Arc<BTreeSet<OwnedServerName>>> {
        let root = self.current_root(room).await?;
        if let Some(present) = room.servers.lock().as_ref().filter(|present| present.root == root) {
            return Ok(present.servers.clone());
        }
        let servers = self.servers_of_members(room, memberships::JOIN).await?;
        let servers = Arc::new(servers);
        // The table may have been ahead of the state that was looked at.
        if self.current_root(room).await? == root {
            *room.servers.lock() = Some(Present { root, servers: servers.clone() });
        }
        Ok(servers)
    }

    /// The servers that had joined members in a state of the room, which may be an older one: what was said then is for
    /// them, and not for those that came since.
    pub async fn servers_at(&self, room: &Room, root: NodeId) -> Result<Arc<BTreeSet<OwnedServerName>>> {
        let now = self.servers_in(room).await?;
        let current = self.current_root(room).await?;
        let mut doubtful = BTreeSet::new();
        for (from, to) in [(root, current), (current, root)] {
            let changes = self.state_since(room, from, to).await?;
            doubtful.extend(changes.iter().filter_map(|(kind, key, _)| server_of_member(kind, key)));
        }
        doubtful.remove(self.name());
        if doubtful.is_empty() {
            return Ok(now);
        }
        let state = self.full_state(room, root).await?;
        let of_doubtful = |(kind, key, pk): &(Arc<str>, Arc<str>, i64)| {
            server_of_member(kind, key).is_some_and(|server| doubtful.contains(&server)).then_some(*pk)
        };
        let members: Vec<i64> = state.iter().filter_map(of_doubtful).collect();
        let members = self.rooms.events(&members).await?;
        let joined = members.iter().filter(|event| membership_of(Some(event)) == Membership::Join);
        let mut servers: BTreeSet<OwnedServerName> = now.difference(&doubtful).cloned().collect();
        servers.extend(joined.filter_map(|event| server_of_member(&event.kind, event.state_key.as_deref()?)));
        Ok(Arc::new(servers))
    }

    async fn servers_of_members(&self, room: &Room, membership: i64) -> Result<BTreeSet<OwnedServerName>> {
        let members = memberships::of_room(&mut self.database.read().await?, room.pk, membership).await?;
        let pks: Vec<i64> = members.into_iter().map(|(user, _)| user).collect();
        let mut servers = BTreeSet::new();
        for (_, id) in self.ids.user_ids(&pks).await? {
            let Some((_, server)) = id.split_once(':') else { continue };
            if !servers.contains(server)
                && let Ok(server) = OwnedServerName::try_from(server)
            {
                servers.insert(server);
            }
        }
        Ok(servers)
    }

    /// Whether a user of a server is joined to a room, or invited.
    pub(crate) async fn is_expected(&self, room: &Room, server: &ServerName) -> Result<bool> {
        Ok(self.servers_in(room).await?.contains(server)
            || self.servers_of_members(room, memberships::INVITE).await?.contains(server))
    }

    /// Whether a user of this server is joined to a room: only then it is known what happens there.
    pub async fn is_in(&self, room: &Room) -> Result<bool> {
        Ok(self.servers_in(room).await?.contains(self.name()))
    }

    /// Whether the room's access list lets a server in; what cannot be read lets everybody in.
    pub async fn acl_allows(&self, room: &Room, server: &ServerName) -> Result<bool> {
        let root = self.current_root(room).await?;
        let acl = self.state_event(room, root, "m.room.server_acl", "").await?;
        let acl = acl.and_then(|event| event.content_as::<RoomServerAclEventContent>());
        Ok(acl.is_none_or(|acl| acl.is_allowed(server)))
    }

    /// A room that this server is in, for another server.
    ///
    /// # Errors
    /// M_NOT_FOUND for a room that this server is not in, M_FORBIDDEN where the room's access list keeps the other out.
    pub async fn room_for_server(&self, room_id: &ruma::RoomId, origin: &ServerName) -> Result<Arc<Room>> {
        let not_here = || Error::not_found("this server is not in that room");
        let room = self.rooms.find(room_id).await?.ok_or_else(not_here)?;
        if !self.is_in(&room).await? {
            return Err(not_here());
        }
        if !self.acl_allows(&room, origin).await? {
            return Err(Error::forbidden("the room's access list keeps your server out"));
        }
        Ok(room)
    }

    /// The same for a server that must be in the room itself.
    pub async fn shared_room(&self, room_id: &ruma::RoomId, origin: &ServerName) -> Result<Arc<Room>> {
        let room = self.room_for_server(room_id, origin).await?;
        match self.servers_in(&room).await?.contains(origin) {
            true => Ok(room),
            false => Err(Error::forbidden("your server is not in the room")),
        }
    }

    /// Whether a user belongs to this server.
    pub fn is_local(&self, user: &UserId) -> bool {
        user.server_name() == self.name()
    }
}
