//! Aliases of this server, and the directory of its rooms.

use crate::error::{Error, Result};
use crate::rooms::append::{Draft, Request};
use crate::rooms::authorize::Powers;
use crate::rooms::cache::Room;
use crate::rooms::lookup;
use crate::server::Server;
use myelin_storage::log::Kind;
use myelin_storage::rooms::aliases;
use ruma::{OwnedRoomAliasId, RoomAliasId, UserId};
use serde_json::{Map, Value};
use std::sync::Arc;

impl Server {
    /// The room behind an alias.
    pub async fn resolve_alias(&self, alias: &RoomAliasId) -> Result<Arc<Room>> {
        let found = aliases::find(&mut self.database.read().await?, alias.as_str()).await?;
        let (room_pk, _) = found.ok_or_else(|| Error::not_found("there is no room with that alias"))?;
        self.rooms.by_pk(room_pk).await
    }

    pub(crate) async fn alias_must_be_free(&self, alias: &RoomAliasId) -> Result<()> {
        match aliases::find(&mut self.database.read().await?, alias.as_str()).await? {
            Some(_) => Err(Error::RoomInUse("the alias is taken".to_owned())),
            None => Ok(()),
        }
    }

    /// Gives a room an alias. M_ROOM_IN_USE where it is taken: 409.
    pub async fn set_alias(&self, room: &Room, alias: &RoomAliasId, user: &UserId) -> Result<()> {
        if alias.server_name() != self.name() {
            return Err(Error::invalid_param("the alias belongs to another server"));
        }
        if alias.as_str().contains(char::is_whitespace) {
            return Err(Error::invalid_param("an alias must not contain white space"));
        }
        let user_pk = self.ids.user(user.as_str()).await?;
        let (room_pk, alias) = (room.pk, alias.to_string());
        self.commit
            .run(move |tx| {
                Box::pin(async move {
                    if !aliases::insert(tx, &alias, room_pk, user_pk).await? {
                        return Err(Error::RoomInUse("the alias is taken".to_owned()));
                    }
                    tx.entry(Kind::Alias, room_pk, 0);
                    Ok(())
                })
            })
            .await
    }

    /// Takes an alias away: for whoever made it, administrators of the server, and those who may set the room's canonical
    /// alias. The room's canonical alias no longer names it afterwards.
    pub async fn delete_alias(
        self: &Arc<Self>,
        alias: &RoomAliasId,
        user: &UserId,
        admin: bool,
    ) -> Result<()> {
        let found = aliases::find(&mut self.database.read().await?, alias.as_str()).await?;
        let (room_pk, creator) = found.ok_or_else(|| Error::not_found("there is no such alias"))?;
        let room = self.rooms.by_pk(room_pk).await?;
        let user_pk = self.ids.user(user.as_str()).await?;
        let powerful = self.may_set_canonical_alias(&room, user).await?;
        if creator != user_pk && !admin && !powerful {
            return Err(Error::forbidden("you did not make this alias and have no power over the room"));
        }
        let text = alias.to_string();
        self.commit
            .run(move |tx| {
                Box::pin(async move {
                    aliases::delete(tx, &text).await?;
                    tx.entry(Kind::Alias, room_pk, 0);
                    Ok(())
                })
            })
            .await?;
        if powerful { self.drop_canonical(&room, alias, user).await } else { Ok(()) }
    }

    async fn may_set_canonical_alias(&self, room: &Room, user: &UserId) -> Result<bool> {
        let root = self.current_root(room).await?;
        let events = self.state_events(room, root, &lookup::POWERS).await?;
        let powers = lookup::powers_of(&room.rules, &events);
        let may = |powers: Powers<'_>| powers.may_send(user, "m.room.canonical_alias", Some(""));
        Ok(powers.and_then(|powers| powers.map_or(Ok(false), may)).unwrap_or(false))
    }

    async fn drop_canonical(
        self: &Arc<Self>,
        room: &Arc<Room>,
        alias: &RoomAliasId,
        user: &UserId,
    ) -> Result<()> {
        let root = self.current_root(room).await?;
        let content: Option<Map<String, Value>> =
            self.state_content(room, root, "m.room.canonical_alias", "").await?;
        let Some(mut content) = content else { return Ok(()) };
        let names = |value: &Value| value.as_str() == Some(alias.as_str());
        let before = content.clone();
        if content.get("alias").is_some_and(names) {
            content.remove("alias");
        }
        if let Some(Value::Array(others)) = content.get_mut("alt_aliases") {
            others.retain(|other| !names(other));
        }
        if content == before {
            return Ok(());
        }
        let draft = Draft::state(user.to_owned(), "m.room.canonical_alias", "", &content)?;
        let request = Request { drafts: vec![draft], ..Request::default() };
        match self.append(room, request).await {
            // The alias is gone in any case; whether the room still names it is for its members to say.
            Ok(_) | Err(Error::Forbidden(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The aliases of a room.
    pub async fn aliases_of(&self, room: &Room) -> Result<Vec<OwnedRoomAliasId>> {
        let texts = aliases::of_room(&mut self.database.read().await?, room.pk).await?;
        Ok(texts.into_iter().filter_map(|text| OwnedRoomAliasId::try_from(text).ok()).collect())
    }

    /// Checks what a canonical alias event names: each new alias must be one of the room's. M_BAD_ALIAS.
    pub async fn check_canonical_alias(&self, room: &Room, content: &Map<String, Value>) -> Result<()> {
        let root = self.current_root(room).await?;
        let before: Option<Map<String, Value>> =
            self.state_content(room, root, "m.room.canonical_alias", "").await?;
        let named = |content: &Map<String, Value>| -> Vec<Value> {
            let others = content.get("alt_aliases").and_then(Value::as_array).cloned().unwrap_or_default();
            content.get("alias").filter(|alias| !alias.is_null()).cloned().into_iter().chain(others).collect()
        };
        let known = before.as_ref().map(named).unwrap_or_default();
        for alias in named(content).into_iter().filter(|alias| !known.contains(alias)) {
            let id = alias.as_str().and_then(|text| RoomAliasId::parse(text).ok());
            let id = id.ok_or_else(|| Error::invalid_param("an alias is not valid"))?;
            let found = aliases::find(&mut self.database.read().await?, id.as_str()).await?;
            if found.is_none_or(|(room_pk, _)| room_pk != room.pk) {
                return Err(Error::BadAlias(format!("{id} does not belong to this room")));
            }
        }
        Ok(())
    }

    /// Whether the directory shows a room.
    pub async fn is_published(&self, room: &Room) -> Result<bool> {
        Ok(aliases::is_published(&mut self.database.read().await?, room.pk).await?)
    }

    /// M_FORBIDDEN for whoever may not set the room's canonical alias: the directory is for those who may.
    pub async fn must_rule_aliases(&self, room: &Room, user: &UserId) -> Result<()> {
        match self.may_set_canonical_alias(room, user).await? {
            true => Ok(()),
            false => Err(Error::forbidden("you have no power over the room's entry in the directory")),
        }
    }

    /// Shows a room in the directory, or no longer.
    pub async fn publish_room(&self, room: &Room, published: bool) -> Result<()> {
        let room_pk = room.pk;
        self.commit
            .run(move |tx| {
                Box::pin(async move {
                    aliases::publish(tx, room_pk, published).await?;
                    tx.entry(Kind::Alias, room_pk, 0);
                    Ok(())
                })
            })
            .await
    }
}
