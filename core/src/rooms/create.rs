//! Creating a room: its first events, in the order that the specification gives.

use crate::error::{Error, Result};
use crate::events::build::PduBuilder;
use crate::ports::random_text;
use crate::rooms::append::{Draft, Request};
use crate::rooms::cache::Room;
use crate::rooms::version;
use crate::server::Server;
use ruma::room_version_rules::RoomVersionRules;
use ruma::{OwnedRoomAliasId, OwnedRoomId, OwnedUserId, RoomId, RoomVersionId, UserId};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// Rooms that one user may create alike in one millisecond.
const MOST_ALIKE: u64 = 1_000;
/// What the next one gets.
pub(super) const TOO_MANY_ALIKE: Error = Error::LimitExceeded { retry_after_ms: 1_000 };

/// A choice of join rule, history visibility and guest access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// By invitation.
    PrivateChat,
    /// By invitation, and whoever is invited at the start is as powerful as the creator.
    TrustedPrivateChat,
    /// For everybody.
    PublicChat,
}

/// A state event that the client wants in the room from the start.
#[derive(Clone, Debug)]
pub struct InitialState {
    /// The type.
    pub kind: String,
    /// The state key.
    pub state_key: String,
    /// The content.
    pub content: Box<RawValue>,
}

/// What a client asks for.
#[derive(Clone, Debug)]
pub struct CreateRoom {
    /// The creator.
    pub creator: OwnedUserId,
    /// The version; the server's default if none.
    pub version: Option<RoomVersionId>,
    /// See there.
    pub preset: Preset,
    /// Further content of the create event.
    pub creation_content: Map<String, Value>,
    /// Power levels that replace the usual ones, key by key.
    pub power_levels: Map<String, Value>,
    /// State beyond the preset's.
    pub initial_state: Vec<InitialState>,
    /// m.room.name.
    pub name: Option<String>,
    /// m.room.topic.
    pub topic: Option<String>,
    /// The local part of an alias.
    pub alias: Option<String>,
    /// Who is invited.
    pub invite: Vec<OwnedUserId>,
    /// The invitations say that this is a direct chat.
    pub is_direct: bool,
    /// The room is shown in the directory.
    pub published: bool,
}

impl CreateRoom {
    /// A room with nothing but what the preset gives it.
    pub fn new(creator: &UserId, preset: Preset) -> CreateRoom {
        CreateRoom {
            creator: creator.to_owned(),
            version: None,
            preset,
            creation_content: Map::new(),
            power_levels: Map::new(),
            initial_state: Vec::new(),
            name: None,
            topic: None,
            alias: None,
            invite: Vec::new(),
            is_direct: false,
            published: false,
        }
    }
}

impl Server {
    /// Creates a room and gives its id.
    ///
    /// # Errors
    /// M_UNSUPPORTED_ROOM_VERSION, M_ROOM_IN_USE, M_BAD_JSON; M_INVALID_ROOM_STATE where the wishes contradict each other.
    pub async fn create_room(self: &Arc<Self>, wish: CreateRoom) -> Result<OwnedRoomId> {
        let version = wish.version.clone().unwrap_or_else(|| self.settings.rooms.default_version.clone());
        let rules = version::rules(&version).ok_or_else(|| {
            Error::UnsupportedRoomVersion(format!("room version {version} is not supported"))
        })?;
        let alias = wish.alias.as_deref().map(|local| self.local_alias(local)).transpose()?;
        if let Some(alias) = &alias {
            self.alias_must_be_free(alias).await?;
        }
        let others = self.first_events(&wish, &rules, alias.as_ref()).await?;
        let room = self.found_wanted(&wish, &version, &rules, &others).await?;
        if let Some(alias) = alias {
            self.set_alias(&room, &alias, &wish.creator).await?;
        }
        if wish.published {
            self.publish_room(&room, true).await?;
        }
        self.invite_at_creation(&wish, &room).await?;
        Ok(room.id.clone())
    }

    /// The room with its create event and the `others`.
    async fn found_wanted(
        self: &Arc<Self>,
        wish: &CreateRoom,
        version: &RoomVersionId,
        rules: &RoomVersionRules,
        others: &[Draft],
    ) -> Result<Arc<Room>> {
        for timestamp in self.creation_times() {
            let create = create_event(wish, version, rules, timestamp)?;
            let room_id = self.room_id(&create, rules)?;
            if let Some(room) = self.found_room(&room_id, version, create, others).await? {
                return Ok(room);
            }
        }
        Err(TOO_MANY_ALIKE)
    }

    /// Times for a create event, to be tried in turn: now and those after it. Where a room's id is the hash of its create
    /// event, rooms that somebody creates alike and in the same millisecond would be one.
    pub(super) fn creation_times(&self) -> std::ops::Range<u64> {
        let now = self.now_ms().cast_unsigned();
        now..now.saturating_add(MOST_ALIKE)
    }

    /// Writes a new room with its create event and the `others`, all of them or none. Nothing where a room has the id
    /// already.
    pub(super) async fn found_room(
        self: &Arc<Self>,
        room_id: &RoomId,
        version: &RoomVersionId,
        create: Draft,
        others: &[Draft],
    ) -> Result<Option<Arc<Room>>> {
        let room_pk = self.ids.rooms.next().await?;
        let Some(room) = self.rooms.found(room_pk, room_id, version.clone())? else { return Ok(None) };
        let drafts = [create].into_iter().chain(others.iter().cloned()).collect();
        let request = Request { drafts, transaction: None, creates: true };
        let done = self.append(&room, request).await;
        if done.is_err() {
            self.rooms.leave(&room);
        }
        match done {
            Ok(_) => Ok(Some(room)),
            // Another replica was faster.
            Err(Error::Storage(myelin_storage::Error::GuardLost)) => Ok(None),
            Err(error) => Err(invalid_state(error)),
        }
    }

    /// The hash of the create event, or a random id, as the version wants it.
    pub(super) fn room_id(&self, create: &Draft, rules: &RoomVersionRules) -> Result<OwnedRoomId> {
        if !version::room_id_is_hash(rules) {
            let text = format!("!{}:{}", random_text(&*self.random, 18), self.name());
            return OwnedRoomId::try_from(text).map_err(|error| Error::internal(error.to_string()));
        }
        let builder = PduBuilder {
            room_id: None,
            sender: create.sender.clone(),
            kind: create.kind.clone(),
            state_key: create.state_key.clone(),
            content: create.content.clone(),
            redacts: None,
            origin_server_ts: create.timestamp.unwrap_or_default(),
            depth: 1,
            prev_events: Vec::new(),
            auth_events: Vec::new(),
        };
        let (event_id, _) = builder
            .build(self.name(), &self.key, rules)
            .map_err(|error| Error::bad_json(error.to_string()))?;
        version::room_id_of_create(&event_id).map_err(|error| Error::internal(error.to_string()))
    }

    /// Everything behind the create event but the invitations.
    async fn first_events(
        &self,
        wish: &CreateRoom,
        rules: &RoomVersionRules,
        alias: Option<&OwnedRoomAliasId>,
    ) -> Result<Vec<Draft>> {
        let creator = || wish.creator.clone();
        let state = |kind: &str, content: Value| Draft::state(creator(), kind, "", &content);
        let given = |kind: &str| wish.initial_state.iter().any(|s| s.kind == kind && s.state_key.is_empty());
        let member = self.join_content(&wish.creator).await?;
        let mut drafts = vec![
            Draft::state(creator(), "m.room.member", wish.creator.as_str(), &member)?,
            state("m.room.power_levels", Value::Object(power_levels(wish, rules)?))?,
        ];
        if let Some(alias) = alias {
            drafts.push(state("m.room.canonical_alias", json!({ "alias": alias }))?);
        }
        let (join_rule, guests) = match wish.preset {
            // Nothing said means that guests may not join.
            Preset::PublicChat => ("public", None),
            Preset::PrivateChat | Preset::TrustedPrivateChat => ("invite", Some("can_join")),
        };
        for (kind, content) in [
            ("m.room.join_rules", Some(json!({ "join_rule": join_rule }))),
            ("m.room.history_visibility", Some(json!({ "history_visibility": "shared" }))),
            ("m.room.guest_access", guests.map(|guests| json!({ "guest_access": guests }))),
        ] {
            if let Some(content) = content.filter(|_| !given(kind)) {
                drafts.push(state(kind, content)?);
            }
        }
        for initial in &wish.initial_state {
            let state_key = Some(initial.state_key.clone());
            let kind = initial.kind.clone();
            drafts.push(Draft { state_key, ..Draft::message(creator(), kind, initial.content.clone()) });
        }
        if let Some(name) = &wish.name {
            drafts.push(state("m.room.name", json!({ "name": name }))?);
        }
        if let Some(topic) = &wish.topic {
            let content = json!({ "topic": topic, "m.topic": { "m.text": [{ "body": topic }] } });
            drafts.push(state("m.room.topic", content)?);
        }
        Ok(drafts)
    }

    async fn invite_at_creation(self: &Arc<Self>, wish: &CreateRoom, room: &Arc<Room>) -> Result<()> {
        let mut drafts = Vec::with_capacity(wish.invite.len());
        let mut elsewhere = Vec::new();
        for invited in &wish.invite {
            let mut content = self.member_content(invited, "invite").await?;
            if wish.is_direct {
                content.insert("is_direct".to_owned(), true.into());
            }
            if self.is_local(invited) {
                drafts.push(Draft::state(wish.creator.clone(), "m.room.member", invited.as_str(), &content)?);
            } else {
                elsewhere.push((invited, content));
            }
        }
        if !drafts.is_empty() {
            self.append(room, Request { drafts, ..Request::default() }).await?;
        }
        for (invited, content) in elsewhere {
            // The room is there; whoever could not be reached can be invited again.
            if let Err(error) = self.send_invite(room, &wish.creator, invited, content).await {
                tracing::info!(%error, room = %room.id, "somebody could not be invited into a new room");
            }
        }
        Ok(())
    }

    /// An alias of this server with a local part.
    fn local_alias(&self, local: &str) -> Result<OwnedRoomAliasId> {
        OwnedRoomAliasId::try_from(format!("#{local}:{}", self.name()))
            .ok()
            .filter(|_| !local.contains(char::is_whitespace))
            .ok_or_else(|| Error::invalid_param("room_alias_name is not the local part of an alias"))
    }

    /// The room by its id, for somebody who must be joined to it.
    pub async fn joined_room(&self, room_id: &RoomId, user: &ruma::UserId) -> Result<Arc<Room>> {
        let not_in = || Error::forbidden("you are not joined to this room");
        let room = self.rooms.find(room_id).await?.ok_or_else(not_in)?;
        let root = self.current_root(&room).await?;
        match self.membership_in(&room, root, user).await? {
            crate::rooms::visibility::Membership::Join => Ok(room),
            _ => Err(not_in()),
        }
    }
}

fn create_event(
    wish: &CreateRoom,
    version: &RoomVersionId,
    rules: &RoomVersionRules,
    timestamp: u64,
) -> Result<Draft> {
    let mut content = wish.creation_content.clone();
    content.insert("room_version".to_owned(), version.as_str().into());
    content.remove("creator");
    if version::create_content_has_creator(rules) {
        content.insert("creator".to_owned(), wish.creator.as_str().into());
    }
    if version::has_additional_creators(rules) && wish.preset == Preset::TrustedPrivateChat {
        let list = content.entry("additional_creators").or_insert_with(|| json!([]));
        let list = list.as_array_mut().ok_or_else(|| Error::bad_json("additional_creators is no list"))?;
        for invited in &wish.invite {
            if !list.iter().any(|known| known == invited.as_str()) {
                list.push(invited.as_str().into());
            }
        }
    }
    let content = to_raw_value(&content).map_err(|error| Error::internal(error.to_string()))?;
    let draft = Draft::message(wish.creator.clone(), "m.room.create", content);
    Ok(Draft { state_key: Some(String::new()), timestamp: Some(timestamp), ..draft })
}

/// The power levels of a new room.
pub(super) fn power_levels(wish: &CreateRoom, rules: &RoomVersionRules) -> Result<Map<String, Value>> {
    let privileged = version::creators_are_privileged(rules);
    let mut users = Map::new();
    if !privileged {
        users.insert(wish.creator.to_string(), 100.into());
        if wish.preset == Preset::TrustedPrivateChat {
            users.extend(wish.invite.iter().map(|user| (user.to_string(), 100.into())));
        }
    }
    let invite = if wish.preset == Preset::PublicChat { 50 } else { 0 };
    let tombstone = if privileged { 150 } else { 100 };
    let levels = json!({
        "users": users, "users_default": 0, "events_default": 0, "state_default": 50,
        "ban": 50, "kick": 50, "redact": 50, "invite": invite, "historical": 100,
        "events": {
            "m.room.name": 50, "m.room.power_levels": 100, "m.room.history_visibility": 100,
            "m.room.canonical_alias": 50, "m.room.avatar": 50, "m.room.tombstone": tombstone,
            "m.room.server_acl": 100, "m.room.encryption": 100,
        },
    });
    let Value::Object(mut levels) = levels else { return Ok(Map::new()) };
    levels.extend(wish.power_levels.clone());
    if privileged {
        let named = levels.get("users").and_then(Value::as_object);
        if named.is_some_and(|users| users.contains_key(wish.creator.as_str())) {
            return Err(Error::bad_json("in this room version the creator can't be in the power levels"));
        }
    }
    Ok(levels)
}

/// Wishes that the room's own rules refuse are the client's mistake.
fn invalid_state(error: Error) -> Error {
    match error {
        Error::Forbidden(message) => Error::Other { errcode: "M_INVALID_ROOM_STATE", message },
        other => other,
    }
}
