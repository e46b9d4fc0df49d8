//! Rooms that this server is not in: entering them, and what may be done from outside.
//!
//! Where the room is here the rules of [`crate::rooms::membership`] hold; else another server is asked
//! ([`crate::ports::Remote`]).

use crate::error::{Error, Result};
use crate::ports::Wish;
use crate::rooms::append;
use crate::rooms::cache::{Room, Stored};
use crate::server::Server;
use myelin_storage::rooms::memberships;
use ruma::{OwnedRoomId, OwnedServerName, OwnedUserId, RoomAliasId, RoomId, RoomOrAliasId, UserId};
use serde_json::{Map, Value};
use std::sync::Arc;

/// Where a room may be found.
#[derive(Clone, Debug)]
pub struct Found {
    /// The room's id.
    pub room_id: OwnedRoomId,
    /// Servers that may be in it.
    pub via: Vec<OwnedServerName>,
}

impl Server {
    /// What an id or an alias names. `via` are servers that the client knows of.
    pub async fn find_room(&self, id: &RoomOrAliasId, via: Vec<OwnedServerName>) -> Result<Found> {
        if let Ok(alias) = <&RoomAliasId>::try_from(id) {
            let (room_id, mut servers) = self.room_of_alias(alias).await?;
            servers.extend(via);
            return Ok(Found { room_id, via: servers });
        }
        let room_id =
            <&RoomId>::try_from(id).map_err(|error| Error::invalid_param(error.to_string()))?.to_owned();
        Ok(Found { room_id, via })
    }

    /// The room behind an alias of any server, with servers that are in it.
    pub async fn room_of_alias(&self, alias: &RoomAliasId) -> Result<(OwnedRoomId, Vec<OwnedServerName>)> {
        if alias.server_name() != self.name() {
            let unknown = |_| Error::not_found("there is no room with that alias");
            return self.remote().map_err(unknown)?.alias(alias).await;
        }
        let room = self.resolve_alias(alias).await?;
        let mut servers: Vec<OwnedServerName> = vec![self.owned_name()];
        servers.extend(self.servers_in(&room).await?.iter().filter(|name| *name != self.name()).cloned());
        Ok((room.id.clone(), servers))
    }

    /// The room, where this server may decide about it.
    pub async fn room_here(&self, room_id: &RoomId) -> Result<Option<Arc<Room>>> {
        match self.rooms.find(room_id).await? {
            Some(room) if self.speaks_for(&room).await? => Ok(Some(room)),
            _ => Ok(None),
        }
    }

    /// Whether what happens next in a room is decided here: this server is in it, or was the last to leave.
    pub(crate) async fn speaks_for(&self, room: &Room) -> Result<bool> {
        let servers = self.servers_in(room).await?;
        Ok(servers.contains(self.name()) || (servers.is_empty() && self.current_root(room).await? != 0))
    }

    /// Joins a user of ours to a room, wherever it is.
    pub async fn enter(
        self: &Arc<Self>,
        user: &UserId,
        found: &Found,
        extra: Map<String, Value>,
    ) -> Result<()> {
        let Some(room) = self.room_here(&found.room_id).await? else {
            return self.join_outside(user, found, extra).await;
        };
        match self.join(&room, user, extra.clone()).await {
            // Nobody here may let the user in: somebody elsewhere may.
            Err(Error::Other { errcode, message }) if errcode.starts_with("M_UNABLE_TO_") => {
                let others = self.others_in(&room).await?;
                if others.is_empty() {
                    return Err(Error::Other { errcode, message });
                }
                let found = Found { via: others, ..found.clone() };
                self.join_outside(user, &found, extra).await
            }
            other => other,
        }
    }

    async fn others_in(&self, room: &Room) -> Result<Vec<OwnedServerName>> {
        Ok(self.servers_in(room).await?.iter().filter(|name| *name != self.name()).cloned().collect())
    }

    async fn join_outside(
        self: &Arc<Self>,
        user: &UserId,
        found: &Found,
        extra: Map<String, Value>,
    ) -> Result<()> {
        let mut content = extra;
        content.extend(self.join_content(user).await?);
        let via = self.candidates(user, found).await?;
        if via.is_empty() {
            return Err(Error::not_found("no server is known that is in this room"));
        }
        // A join of a large room takes longer than some clients wait: it goes on without them.
        let (remote, user, room_id) = (self.remote()?, user.to_owned(), found.room_id.clone());
        let joining = tokio::spawn(async move {
            remote.join(Wish { user: &user, room_id: &room_id, via: &via, content: &content }).await
        });
        joining.await.map_err(Error::internal_display)?
    }

    /// Knocks on a room, wherever it is.
    pub async fn knock_on(
        self: &Arc<Self>,
        user: &UserId,
        found: &Found,
        reason: Option<String>,
    ) -> Result<()> {
        if let Some(room) = self.room_here(&found.room_id).await? {
            return self.knock(&room, user, reason).await;
        }
        let mut content = self.member_content(user, "knock").await?;
        content.extend(reason.map(|reason| ("reason".to_owned(), reason.into())));
        let via = self.candidates(user, found).await?;
        if via.is_empty() {
            return Err(Error::not_found("no server is known that is in this room"));
        }
        self.remote()?.knock(Wish { user, room_id: &found.room_id, via: &via, content: &content }).await
    }

    /// Ends a user's invitation to, or knock on, a room that this server is not in.
    pub(crate) async fn leave_outside(
        self: &Arc<Self>,
        room: &Arc<Room>,
        user: &UserId,
        content: Map<String, Value>,
    ) -> Result<()> {
        let user_pk = self.ids.user(user.as_str()).await?;
        let row = memberships::get(&mut self.database.read().await?, user_pk, room.pk).await?;
        let via = match row {
            Some(row) if row.membership == memberships::INVITE => Vec::new(),
            // Nobody invited, and the room's id may name no server.
            Some(row) if row.membership == memberships::KNOCK => servers_of(row.stripped.as_deref()),
            Some(row) if row.membership == memberships::LEAVE => return Ok(()),
            _ => return Err(Error::forbidden("you are not in this room")),
        };
        let found = Found { room_id: room.id.clone(), via };
        let via = self.candidates(user, &found).await?;
        self.remote()?.leave(Wish { user, room_id: &room.id, via: &via, content: &content }).await
    }

    /// Servers to ask about a room: those that the client names and that of who invited. Where that is nobody, those that
    /// were in it when this server left; else the server of the room's id.
    async fn candidates(&self, user: &UserId, found: &Found) -> Result<Vec<OwnedServerName>> {
        let mut servers = found.via.clone();
        let room = self.rooms.find(&found.room_id).await?;
        if let Some(room) = &room
            && let Some(inviter) = self.invited_by(room, user).await?
        {
            servers.insert(0, inviter.server_name().to_owned());
        }
        let mut seen = std::collections::HashSet::new();
        servers.retain(|server| server != self.name() && seen.insert(server.clone()));
        if servers.is_empty()
            && let Some(room) = &room
        {
            let known = self.servers_in(room).await?;
            servers.extend(known.iter().filter(|server| *server != self.name()).cloned());
        }
        if servers.is_empty() {
            let named = found.room_id.server_name().filter(|server| *server != self.name());
            servers.extend(named.map(ToOwned::to_owned));
        }
        Ok(servers)
    }

    /// Who invited a user of ours that has not answered yet.
    pub async fn invited_by(&self, room: &Room, user: &UserId) -> Result<Option<OwnedUserId>> {
        let user_pk = self.ids.user(user.as_str()).await?;
        let row = memberships::get(&mut self.database.read().await?, user_pk, room.pk).await?;
        let Some(row) = row.filter(|row| row.membership == memberships::INVITE) else { return Ok(None) };
        let invite = self.rooms.event(row.event_pk).await?;
        Ok(invite.map(|invite| invite.sender.clone()))
    }

    /// The events that somebody outside is shown of a room, with the member event of who invites them.
    pub async fn shown_events(&self, room: &Room, sender: Option<&UserId>) -> Result<Vec<Stored>> {
        let keys = append::shown_keys(sender.map_or("", UserId::as_str));
        let keys =
            if sender.is_some() { keys.as_slice() } else { keys.split_last().map_or(&[][..], |(_, k)| k) };
        let root = self.current_root(room).await?;
        self.state_events(room, root, keys).await
    }
}

/// The servers of those who made the stripped state that was shown of a room.
fn servers_of(stripped: Option<&str>) -> Vec<OwnedServerName> {
    let events: Vec<Value> =
        stripped.and_then(|events| serde_json::from_str(events).ok()).unwrap_or_default();
    let server = |event: &Value| {
        let sender = <&UserId>::try_from(event.get("sender")?.as_str()?).ok()?;
        Some(sender.server_name().to_owned())
    };
    events.iter().filter_map(server).collect()
}
