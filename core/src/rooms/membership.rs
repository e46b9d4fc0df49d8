//! Joining, inviting, leaving, kicking, banning: what a member event says, and who may do what beforehand.
//!
//! The room's own rules are checked when the event is appended; here stands what comes before them.

use crate::error::{Error, Result};
use crate::rooms::append::{Draft, Request};
use crate::rooms::authorize::Action;
use crate::rooms::cache::Room;
use crate::rooms::lookup;
use crate::rooms::state::NodeId;
use crate::rooms::visibility::Membership;
use crate::server::Server;
use crate::users;
use myelin_storage::rooms::memberships;
use myelin_storage::users::profiles;
use ruma::{OwnedRoomId, OwnedUserId, UserId};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::sync::Arc;

#[derive(Deserialize)]
struct JoinRules {
    join_rule: String,
    #[serde(default)]
    allow: Vec<Allow>,
}

#[derive(Deserialize)]
struct Allow {
    #[serde(rename = "type")]
    kind: String,
    room_id: Option<OwnedRoomId>,
}

impl Server {
    /// Joins a user of ours to a room that this server is in.
    pub async fn join(
        self: &Arc<Self>,
        room: &Arc<Room>,
        user: &UserId,
        extra: Map<String, Value>,
    ) -> Result<()> {
        let root = self.current_root(room).await?;
        let now = self.membership_in(room, root, user).await?;
        if now == Membership::Join && extra.is_empty() {
            return Ok(());
        }
        let mut content = extra;
        content.extend(self.join_content(user).await?);
        self.vouch(room, root, user, now, &mut content).await?;
        self.set_membership(room, user, user, content).await
    }

    /// Notes in the content of a join who lets the user in. Only this server says so.
    async fn vouch(
        &self,
        room: &Room,
        root: NodeId,
        user: &UserId,
        now: Membership,
        content: &mut Map<String, Value>,
    ) -> Result<()> {
        content.remove("join_authorised_via_users_server");
        if now != Membership::Join
            && now != Membership::Invite
            && let Some(by) = self.authorising_user(room, root, user).await?
        {
            content.insert("join_authorised_via_users_server".to_owned(), by.as_str().into());
        }
        Ok(())
    }

    /// The content of a member event that a user sends of themselves as a piece of state.
    pub(crate) async fn own_member_content(
        &self,
        room: &Room,
        user: &UserId,
        content: Box<RawValue>,
    ) -> Result<Box<RawValue>> {
        let mut parsed: Map<String, Value> = serde_json::from_str(content.get())
            .map_err(|_| Error::bad_json("the content is not an object"))?;
        if parsed.get("membership").and_then(Value::as_str) != Some("join") {
            return Ok(content);
        }
        let root = self.current_root(room).await?;
        let now = self.membership_in(room, root, user).await?;
        self.vouch(room, root, user, now, &mut parsed).await?;
        serde_json::value::to_raw_value(&parsed).map_err(Error::internal_display)
    }

    /// Invites somebody.
    pub async fn invite(
        self: &Arc<Self>,
        room: &Arc<Room>,
        sender: &UserId,
        invited: &UserId,
        reason: Option<String>,
    ) -> Result<()> {
        let mut content = self.member_content(invited, "invite").await?;
        add_reason(&mut content, reason);
        self.send_invite(room, sender, invited, content).await
    }

    /// Sends an invitation; that of another server's user goes to that server first.
    pub(crate) async fn send_invite(
        self: &Arc<Self>,
        room: &Arc<Room>,
        sender: &UserId,
        invited: &UserId,
        content: Map<String, Value>,
    ) -> Result<()> {
        if self.is_local(invited) {
            return self.set_membership(room, sender, invited, content).await;
        }
        let draft = Draft::state(sender.to_owned(), "m.room.member", invited.as_str(), &content)?;
        self.remote()?.invite(room, draft).await
    }

    /// Leaves a room, declines an invitation, or takes back a knock.
    pub async fn leave(
        self: &Arc<Self>,
        room: &Arc<Room>,
        user: &UserId,
        reason: Option<String>,
    ) -> Result<()> {
        if !self.speaks_for(room).await? {
            let mut content = Map::new();
            content.insert("membership".to_owned(), "leave".into());
            add_reason(&mut content, reason);
            return self.leave_outside(room, user, content).await;
        }
        let root = self.current_root(room).await?;
        match self.membership_in(room, root, user).await? {
            Membership::Leave => {
                let known = self.state_event(room, root, "m.room.member", user.as_str()).await?;
                // Leaving twice does nothing; leaving a room that one never was in is a mistake.
                return known.map(drop).ok_or_else(|| Error::forbidden("you are not in this room"));
            }
            Membership::Ban => return Err(Error::forbidden("you are banned from this room")),
            Membership::Join | Membership::Invite | Membership::Knock => {}
        }
        let mut content = Map::new();
        content.insert("membership".to_owned(), "leave".into());
        add_reason(&mut content, reason);
        self.set_membership(room, user, user, content).await
    }

    /// Removes somebody who is in the room, invited or knocking.
    pub async fn kick(
        self: &Arc<Self>,
        room: &Arc<Room>,
        sender: &UserId,
        target: &UserId,
        reason: Option<String>,
    ) -> Result<()> {
        match self.current_membership(room, target).await? {
            Membership::Leave | Membership::Ban => Err(Error::forbidden("the user is not in the room")),
            Membership::Join | Membership::Invite | Membership::Knock => {
                self.set_absent(room, sender, target, "leave", reason).await
            }
        }
    }

    /// Bans somebody.
    pub async fn ban(
        self: &Arc<Self>,
        room: &Arc<Room>,
        sender: &UserId,
        target: &UserId,
        reason: Option<String>,
    ) -> Result<()> {
        self.set_absent(room, sender, target, "ban", reason).await
    }

    /// Lifts a ban.
    pub async fn unban(
        self: &Arc<Self>,
        room: &Arc<Room>,
        sender: &UserId,
        target: &UserId,
        reason: Option<String>,
    ) -> Result<()> {
        match self.current_membership(room, target).await? {
            Membership::Ban => self.set_absent(room, sender, target, "leave", reason).await,
            _ => Err(Error::BadState("the user is not banned".to_owned())),
        }
    }

    /// A user's membership in a room's current state.
    pub async fn current_membership(&self, room: &Room, user: &UserId) -> Result<Membership> {
        let root = self.current_root(room).await?;
        self.membership_in(room, root, user).await
    }

    /// Knocks: asks to be let in.
    pub async fn knock(
        self: &Arc<Self>,
        room: &Arc<Room>,
        user: &UserId,
        reason: Option<String>,
    ) -> Result<()> {
        let mut content = self.member_content(user, "knock").await?;
        add_reason(&mut content, reason);
        self.set_membership(room, user, user, content).await
    }

    /// Lets a user see no more of a room that they have left.
    pub async fn forget(&self, room: &Room, user: &UserId) -> Result<()> {
        let user_pk = self.ids.user(user.as_str()).await?;
        let row = memberships::get(&mut self.database.read().await?, user_pk, room.pk).await?;
        match row.map(|row| row.membership) {
            Some(memberships::LEAVE | memberships::BAN) => {}
            Some(_) => {
                return Err(Error::Other {
                    errcode: "M_UNKNOWN",
                    message: "leave the room before you forget it".to_owned(),
                });
            }
            None => return Err(Error::not_found("you were never in this room")),
        }
        let room_pk = room.pk;
        self.commit
            .run(move |tx| Box::pin(async move { Ok(memberships::forget(tx, user_pk, room_pk).await?) }))
            .await
    }

    /// Closes the account of a user of ours: they leave all rooms, and their sessions, devices and data go; with
    /// `erase` their profile too.
    ///
    /// The rooms come first: when that breaks off, the user can still ask again. Those that a device entered in the
    /// meantime come afterwards, when no device is left.
    pub async fn deactivate(self: &Arc<Self>, user: &UserId, user_pk: i64, erase: bool) -> Result<()> {
        self.leave_all(user, user_pk).await?;
        users::accounts::close(self, user_pk, erase).await?;
        self.leave_all(user, user_pk).await
    }

    /// Leaves all rooms, declines all invitations, takes back all knocks.
    async fn leave_all(self: &Arc<Self>, user: &UserId, user_pk: i64) -> Result<()> {
        for row in memberships::of_user(&mut self.database.read().await?, user_pk).await? {
            if !matches!(row.membership, memberships::JOIN | memberships::INVITE | memberships::KNOCK) {
                continue;
            }
            let room = self.rooms.by_pk(row.room_pk).await?;
            // A room that cannot be left must not keep the account open.
            if let Err(error) = self.leave(&room, user, None).await {
                tracing::warn!(%error, room = %room.id, "a room could not be left by a user who goes");
            }
        }
        Ok(())
    }

    async fn set_absent(
        self: &Arc<Self>,
        room: &Arc<Room>,
        sender: &UserId,
        target: &UserId,
        membership: &str,
        reason: Option<String>,
    ) -> Result<()> {
        let mut content = Map::new();
        content.insert("membership".to_owned(), membership.into());
        add_reason(&mut content, reason);
        self.set_membership(room, sender, target, content).await
    }

    async fn set_membership(
        self: &Arc<Self>,
        room: &Arc<Room>,
        sender: &UserId,
        target: &UserId,
        content: Map<String, Value>,
    ) -> Result<()> {
        let draft = Draft::state(sender.to_owned(), "m.room.member", target.as_str(), &content)?;
        self.append(room, Request { drafts: vec![draft], ..Request::default() }).await.map(drop)
    }

    /// The content of a member event that joins a user of ours.
    pub(crate) async fn join_content(&self, user: &UserId) -> Result<Map<String, Value>> {
        self.member_content(user, "join").await
    }

    /// The content of a member event, with the profile of a user of ours.
    pub(crate) async fn member_content(&self, user: &UserId, membership: &str) -> Result<Map<String, Value>> {
        let mut content = Map::new();
        content.insert("membership".to_owned(), membership.into());
        if user.server_name() == self.name() {
            content.extend(self.member_profile(user).await?);
        }
        Ok(content)
    }

    /// Repeats a user's profile in the member events of the rooms that they are joined to. What a room's rules refuse
    /// stays as it is there.
    pub async fn update_member_events(self: &Arc<Self>, user: &UserId, user_pk: i64) -> Result<()> {
        let profile = self.member_profile(user).await?;
        for room_pk in users::profiles::joined_rooms(self, user_pk).await? {
            let room = self.rooms.by_pk(room_pk).await?;
            let root = self.current_root(&room).await?;
            let before: Option<Map<String, Value>> =
                self.state_content(&room, root, "m.room.member", user.as_str()).await?;
            let mut content = before.unwrap_or_default();
            content.retain(|field, _| !users::profiles::is_in_member_events(field));
            content.extend(profile.clone());
            match self.set_membership(&room, user, user, content).await {
                Ok(()) | Err(Error::Forbidden(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The fields of a user's profile that member events carry.
    async fn member_profile(&self, user: &UserId) -> Result<Map<String, Value>> {
        let user_pk = self.ids.user(user.as_str()).await?;
        let fields = profiles::all(&mut self.database.read().await?, user_pk).await?;
        let shown = fields.into_iter().filter(|(field, _)| users::profiles::is_in_member_events(field));
        Ok(shown.filter_map(|(field, value)| Some((field, serde_json::from_str(&value).ok()?))).collect())
    }

    /// Where the join rule is `restricted`, a member of ours who may invite vouches for somebody who is in one of the
    /// rooms that the rule names.
    pub async fn authorising_user(
        &self,
        room: &Room,
        root: NodeId,
        user: &UserId,
    ) -> Result<Option<OwnedUserId>> {
        let rules: Option<JoinRules> = self.state_content(room, root, "m.room.join_rules", "").await?;
        let Some(rules) = rules.filter(|rules| rules.join_rule.ends_with("restricted")) else {
            return Ok(None);
        };
        let (mut allowed, mut blind) = (false, false);
        for allow in rules.allow.iter().filter(|allow| allow.kind == "m.room_membership") {
            let Some(other) = &allow.room_id else { continue };
            let Some(other) = self.room_here(other).await? else {
                blind = true;
                continue;
            };
            let other_root = self.current_root(&other).await?;
            allowed |= self.membership_in(&other, other_root, user).await? == Membership::Join;
        }
        if !allowed && blind {
            return Err(Error::Other {
                errcode: "M_UNABLE_TO_AUTHORISE_JOIN",
                message: "this server is not in the rooms whose members may join".to_owned(),
            });
        }
        if !allowed {
            return Err(Error::forbidden("you are in none of the rooms whose members may join"));
        }
        self.inviting_member(room, root).await
    }

    /// A joined user of this server who may invite.
    async fn inviting_member(&self, room: &Room, root: NodeId) -> Result<Option<OwnedUserId>> {
        let events = self.state_events(room, root, &lookup::POWERS).await?;
        let powers = lookup::powers_of(&room.rules, &events).map_err(|reason| Error::Forbidden(reason.0))?;
        let Some(powers) = powers else { return Ok(None) };
        let members =
            memberships::of_room(&mut self.database.read().await?, room.pk, memberships::JOIN).await?;
        let pks: Vec<i64> = members.into_iter().map(|(user, _)| user).collect();
        for (_, id) in self.ids.user_ids(&pks).await? {
            let Ok(member) = UserId::parse(&*id) else { continue };
            let able = || powers.may_do(&member, Action::Invite).unwrap_or(false);
            if member.server_name() == self.name() && able() {
                return Ok(Some(member));
            }
        }
        Err(Error::Other {
            errcode: "M_UNABLE_TO_GRANT_JOIN",
            message: "nobody on this server may let you in".to_owned(),
        })
    }
}

fn add_reason(content: &mut Map<String, Value>, reason: Option<String>) {
    if let Some(reason) = reason {
        content.insert("reason".to_owned(), reason.into());
    }
}
