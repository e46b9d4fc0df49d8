//! Replacing a room by one of another version.
//!
//! The new room comes first, whole, with what it takes over of the old one's state; then the old room's tombstone, so
//! that nobody is sent to a room that is not there. Each names the other: the tombstone is made and signed before either
//! is written.

mod levels;

use self::levels::Levels;
use crate::error::{Error, Result};
use crate::events::hashes;
use crate::rooms::append::receive::{Arrival, Received};
use crate::rooms::append::{Draft, Request};
use crate::rooms::cache::{Room, Stored};
use crate::rooms::create::{self, CreateRoom, Preset, TOO_MANY_ALIKE};
use crate::rooms::lookup;
use crate::rooms::state::NodeId;
use crate::rooms::version;
use crate::server::Server;
use myelin_storage::log::Kind;
use myelin_storage::rooms::{directory, memberships};
use ruma::canonical_json::CanonicalJsonObject;
use ruma::room_version_rules::RoomVersionRules;
use ruma::serde::Base64;
use ruma::signatures::PublicKeyMap;
use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, RoomVersionId, UserId};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

type Content = Map<String, Value>;

/// State that the new room takes over as it is.
const TAKEN: [(&str, &str); 8] = [
    ("m.room.join_rules", ""),
    ("m.room.history_visibility", ""),
    ("m.room.guest_access", ""),
    ("m.room.name", ""),
    ("m.room.topic", ""),
    ("m.room.avatar", ""),
    ("m.room.encryption", ""),
    ("m.room.server_acl", ""),
];
const POWER_LEVELS: &str = "m.room.power_levels";
const CANONICAL_ALIAS: &str = "m.room.canonical_alias";

/// A wish to replace a room.
struct Upgrade<'a> {
    user: &'a UserId,
    old: Arc<Room>,
    /// The old room's current state.
    root: NodeId,
    version: RoomVersionId,
    rules: RoomVersionRules,
    /// Creators beside the user; none where the version has none.
    beside: &'a [OwnedUserId],
}

impl Upgrade<'_> {
    /// The new room's create event. `tombstone` is what it calls the old room's last event.
    fn create_event(&self, before: &Content, tombstone: Option<&OwnedEventId>, time: u64) -> Result<Draft> {
        let mut predecessor = json!({ "room_id": self.old.id });
        if let Some(tombstone) = tombstone {
            predecessor["event_id"] = tombstone.as_str().into();
        }
        let mut content = Content::new();
        content.insert("room_version".to_owned(), self.version.as_str().into());
        content.insert("predecessor".to_owned(), predecessor);
        if version::create_content_has_creator(&self.rules) {
            content.insert("creator".to_owned(), self.user.as_str().into());
        }
        if !self.beside.is_empty() {
            content.insert("additional_creators".to_owned(), json!(self.beside));
        }
        if before.get("m.federate") == Some(&Value::Bool(false)) {
            content.insert("m.federate".to_owned(), false.into());
        }
        content.extend(before.get("type").map(|kind| ("type".to_owned(), kind.clone())));
        let draft = Draft::state(self.user.to_owned(), "m.room.create", "", &content)?;
        Ok(Draft { timestamp: Some(time), ..draft })
    }

    fn state(&self, kind: &str, content: &Content) -> Result<Draft> {
        Draft::state(self.user.to_owned(), kind, "", content)
    }

    /// The same content, said by who upgrades.
    fn copy(&self, event: &Stored) -> Draft {
        let draft = Draft::message(self.user.to_owned(), &*event.kind, event.content.clone());
        Draft { state_key: event.state_key.as_deref().map(str::to_owned), ..draft }
    }
}

impl Server {
    /// Replaces a room by one of another version and gives the new room's id. `additional_creators` count in versions
    /// that have them.
    ///
    /// # Errors
    /// M_UNSUPPORTED_ROOM_VERSION; M_NOT_FOUND for a room that is not known here; M_FORBIDDEN for whoever may not send
    /// the room's tombstone.
    pub async fn upgrade_room(
        self: &Arc<Self>,
        user: &UserId,
        room_id: &RoomId,
        version: RoomVersionId,
        additional_creators: &[OwnedUserId],
    ) -> Result<OwnedRoomId> {
        let rules = version::rules(&version).ok_or_else(|| {
            Error::UnsupportedRoomVersion(format!("room version {version} is not supported"))
        })?;
        self.rooms.get(room_id).await?;
        let old = self.joined_room(room_id, user).await?;
        let root = self.current_root(&old).await?;
        let beside = if version::has_additional_creators(&rules) { additional_creators } else { &[] };
        let upgrade = Upgrade { user, old, root, version, rules, beside };
        let (new_aliases, old_aliases) = self.divided_aliases(&upgrade).await?;
        let (new, tombstone) = self.found_replacement(&upgrade, new_aliases.as_ref()).await?;
        self.bury(&upgrade.old, tombstone).await?;
        self.hand_over(&upgrade.old, &new).await?;
        self.close_old(&upgrade, old_aliases).await?;
        Ok(new.id.clone())
    }

    /// Makes the new room; gives it with the old one's tombstone, which is not written yet.
    async fn found_replacement(
        self: &Arc<Self>,
        upgrade: &Upgrade<'_>,
        aliases: Option<&Content>,
    ) -> Result<(Arc<Room>, CanonicalJsonObject)> {
        let Upgrade { user, old, root, version, rules, .. } = upgrade;
        let before: Content = self.state_content(old, *root, "m.room.create", "").await?.unwrap_or_default();
        let others = self.taken_over(upgrade, &before, aliases).await?;
        for time in self.creation_times() {
            let mut create = upgrade.create_event(&before, None, time)?;
            let room_id = self.room_id(&create, rules)?;
            let content = json!({ "body": "This room has been replaced", "replacement_room": room_id });
            let draft = Draft::state((*user).to_owned(), "m.room.tombstone", "", &content)?;
            let mut tombstone = self.propose(old, &draft).await?;
            self.key
                .hash_and_sign(self.name(), &mut tombstone, &old.rules)
                .map_err(Error::internal_display)?;
            if !version::room_id_is_hash(rules) {
                let id = hashes::event_id(&tombstone, &old.rules).map_err(Error::internal_display)?;
                create = upgrade.create_event(&before, Some(&id), time)?;
            }
            if let Some(new) = self.found_room(&room_id, version, create, &others).await? {
                return Ok((new, tombstone));
            }
        }
        Err(TOO_MANY_ALIKE)
    }

    /// What follows the create event of the new room: the user, and what it takes over.
    async fn taken_over(
        &self,
        upgrade: &Upgrade<'_>,
        before: &Content,
        aliases: Option<&Content>,
    ) -> Result<Vec<Draft>> {
        let Upgrade { user, old, root, .. } = upgrade;
        let levels = self.new_levels(upgrade).await?;
        let member = self.join_content(user).await?;
        let mut drafts = vec![
            Draft::state((*user).to_owned(), "m.room.member", user.as_str(), &member)?,
            upgrade.state(POWER_LEVELS, levels.at_first())?,
        ];
        let taken = self.state_events(old, *root, &TAKEN).await?;
        drafts.extend(taken.iter().map(|event| upgrade.copy(event)));
        if before.get("type").and_then(Value::as_str) == Some("m.space") {
            let mut children = self.child_events(old, *root).await?;
            // What was taken out of the space stays out.
            children.retain(|child| child.content_as::<Content>().is_some_and(|content| !content.is_empty()));
            drafts.extend(children.iter().map(|event| upgrade.copy(event)));
        }
        if let Some(content) = aliases {
            drafts.push(upgrade.state(CANONICAL_ALIAS, content)?);
        }
        for ban in self.bans(old).await? {
            let banned = ban.state_key.as_deref().and_then(|key| <&UserId>::try_from(key).ok());
            if banned.is_some_and(|banned| levels.may_ban(banned)) {
                drafts.push(upgrade.copy(&ban));
            }
        }
        if let Some(content) = levels.in_the_end() {
            drafts.push(upgrade.state(POWER_LEVELS, content)?);
        }
        Ok(drafts)
    }

    async fn new_levels(&self, upgrade: &Upgrade<'_>) -> Result<Levels> {
        let Upgrade { user, old, root, rules, beside, .. } = upgrade;
        let content: Option<Content> = self.state_content(old, *root, POWER_LEVELS, "").await?;
        let content = match content {
            Some(content) => content,
            // Nobody said anything: as in any new room.
            None => create::power_levels(&CreateRoom::new(user, Preset::PrivateChat), rules)?,
        };
        let creators: Vec<OwnedUserId> = [(*user).to_owned()].into_iter().chain(beside.to_vec()).collect();
        if version::creators_are_privileged(rules) {
            return Ok(Levels::under_creators(&content, user, &creators));
        }
        let mut before = Vec::new();
        if version::creators_are_privileged(&old.rules) {
            let events = self.state_events(old, *root, &lookup::POWERS).await?;
            let powers =
                lookup::powers_of(&old.rules, &events).map_err(|reason| Error::Forbidden(reason.0))?;
            before.extend(powers.into_iter().flat_map(|powers| powers.creators().clone()));
        }
        Ok(Levels::without_creators(&content, user, &before))
    }

    async fn bans(&self, room: &Room) -> Result<Vec<Stored>> {
        let bans = memberships::of_room(&mut self.database.read().await?, room.pk, memberships::BAN).await?;
        let pks: Vec<i64> = bans.into_iter().map(|(_, event_pk)| event_pk).collect();
        self.rooms.events(&pks).await
    }

    /// The canonical aliases of the new room, and of the old one afterwards: those of this server go with the room.
    /// `None` where there is nothing to say.
    async fn divided_aliases(&self, upgrade: &Upgrade<'_>) -> Result<(Option<Content>, Option<Content>)> {
        let content = self.state_content(&upgrade.old, upgrade.root, CANONICAL_ALIAS, "").await?;
        let Some(content) = content else { return Ok((None, None)) };
        let ours: Vec<String> =
            self.aliases_of(&upgrade.old).await?.into_iter().map(|alias| alias.to_string()).collect();
        Ok(divide_aliases(content, &ours))
    }

    /// Writes the tombstone, which this server has signed.
    async fn bury(&self, old: &Arc<Room>, tombstone: CanonicalJsonObject) -> Result<()> {
        let key = Base64::parse(self.key.public_base64()).map_err(Error::internal_display)?;
        let keys: PublicKeyMap =
            BTreeMap::from([(self.name().to_string(), BTreeMap::from([(self.key.id().to_string(), key)]))]);
        match self.receive(old, tombstone, &keys, &Arrival::default()).await? {
            Received::Accepted(_) | Received::Known(_) => Ok(()),
            Received::Rejected(_, reason) | Received::SoftFailed(_, reason) => {
                Err(Error::Forbidden(reason.0))
            }
            Received::Refused(reason) => Err(Error::Internal(reason)),
            Received::Missing { .. } => Err(Error::internal("our own tombstone lacks events")),
        }
    }

    /// Aliases and the entry in the directory go to the new room.
    async fn hand_over(&self, old: &Room, new: &Room) -> Result<()> {
        let (old, new) = (old.pk, new.pk);
        self.commit
            .run(move |tx| {
                Box::pin(async move {
                    directory::hand_over(tx, old, new).await?;
                    tx.entry(Kind::Alias, old, 0);
                    tx.entry(Kind::Alias, new, 0);
                    Ok(())
                })
            })
            .await
    }

    /// Takes the old room's aliases out of its state, and lets only moderators speak there. Who may not do that has
    /// upgraded the room all the same.
    async fn close_old(self: &Arc<Self>, upgrade: &Upgrade<'_>, aliases: Option<Content>) -> Result<()> {
        let Upgrade { old, root, .. } = upgrade;
        let levels: Option<Content> = self.state_content(old, *root, POWER_LEVELS, "").await?;
        let levels = levels.and_then(|levels| levels::restricted(&levels));
        for (kind, content) in [(CANONICAL_ALIAS, aliases), (POWER_LEVELS, levels)] {
            let Some(content) = content else { continue };
            let drafts = vec![upgrade.state(kind, &content)?];
            if let Err(error) = self.append(old, Request { drafts, ..Request::default() }).await {
                tracing::info!(%error, kind, room = %old.id, "a room that was upgraded could not be closed");
            }
        }
        Ok(())
    }
}

/// Divides a canonical alias event's content into that of the new room and that of the old one.
fn divide_aliases(mut content: Content, ours: &[String]) -> (Option<Content>, Option<Content>) {
    let moves = |alias: &Value| alias.as_str().is_some_and(|alias| ours.iter().any(|our| our == alias));
    let mut new = Content::new();
    if content.get("alias").is_some_and(moves) {
        new.extend(content.remove("alias").map(|alias| ("alias".to_owned(), alias)));
    }
    if let Some(Value::Array(others)) = content.get_mut("alt_aliases") {
        let (moved, stay): (Vec<Value>, Vec<Value>) = std::mem::take(others).into_iter().partition(moves);
        *others = stay;
        let nothing_stays = others.is_empty();
        if !moved.is_empty() {
            new.insert("alt_aliases".to_owned(), moved.into());
            if nothing_stays {
                content.remove("alt_aliases");
            }
        }
    }
    if new.is_empty() { (None, None) } else { (Some(new), Some(content)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_of_this_server_go_with_the_room() {
        let content = json!({ "alias": "#a:here", "alt_aliases": ["#b:there", "#c:here", 7], "x": 1 });
        let ours = ["#a:here".to_owned(), "#c:here".to_owned()];
        let (new, old) = divide_aliases(content.as_object().unwrap().clone(), &ours);
        assert_eq!(json!(new), json!({ "alias": "#a:here", "alt_aliases": ["#c:here"] }));
        assert_eq!(json!(old), json!({ "alt_aliases": ["#b:there", 7], "x": 1 }));
        let content = json!({ "alias": "#b:there", "alt_aliases": [] });
        assert_eq!(divide_aliases(content.as_object().unwrap().clone(), &ours), (None, None));
    }
}
