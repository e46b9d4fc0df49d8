//! Who may do what: the authorization rules, on our events and raw types.
//!
//! ruma holds the rules themselves; here types go in and come out as the strings they are.
//! The caller loads what [`auth_types`] names (and the create event, which version 12 leaves out of
//! that list, since the room id names it) before it asks.

use std::collections::HashSet;
use std::sync::Arc;

use ruma::events::StateEventType;
use ruma::events::room::power_levels::UserPowerLevel;
use ruma::power_levels::NotificationPowerLevels;
use ruma::push::PushConditionPowerLevelsCtx;
use ruma::room_version_rules::{RoomPowerLevelsRules, RoomVersionRules};
use ruma::state_res::events::{RoomCreateEvent, RoomPowerLevelsEvent, RoomPowerLevelsIntField};
use ruma::{EventId, Int, OwnedUserId, UserId, state_res};
use serde_json::value::RawValue;

use crate::events::pdu::{Pdu, raw_state_type, ruma_type};
use crate::rooms::version;

/// Why something is not allowed, for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Reason(pub String);

impl From<String> for Reason {
    fn from(text: String) -> Self {
        // Types that ruma must not know are marked; people need not see that.
        Self(text.replace("`raw:", "`"))
    }
}

/// The state that decides about an event, as pairs of type and state key.
///
/// Without the create event in version 12 and later.
pub fn auth_types(
    rules: &RoomVersionRules,
    kind: &str,
    sender: &UserId,
    state_key: Option<&str>,
    content: &RawValue,
) -> Result<Vec<(String, String)>, Reason> {
    let types =
        state_res::auth_types_for_event(&ruma_type(kind), sender, state_key, content, &rules.authorization)?;
    Ok(types.into_iter().map(|(kind, key)| (raw_state_type(&kind), key)).collect())
}

/// Checks an event against a state: that of its auth events, that before it, or the current one.
/// The state must have the create event in every version.
pub fn authorize(
    rules: &RoomVersionRules,
    pdu: &Pdu,
    state: impl Fn(&str, &str) -> Option<Arc<Pdu>>,
) -> Result<(), Reason> {
    let state = |kind: &StateEventType, key: &str| match state(&raw_state_type(kind), key) {
        None if *kind == StateEventType::RoomJoinRules && key.is_empty() => pdu.default_join_rules(),
        found => found,
    };
    Ok(state_res::check_state_dependent_auth_rules(&rules.authorization, pdu, state)?)
}

/// Checks what no state is needed for: the form of a create event, and that an event's auth events
/// are the ones it should name, each once, none of them rejected.
pub fn check_auth_events(
    rules: &RoomVersionRules,
    pdu: &Pdu,
    event: impl Fn(&EventId) -> Option<Arc<Pdu>>,
) -> Result<(), Reason> {
    Ok(state_res::check_state_independent_auth_rules(&rules.authorization, pdu, event)?)
}

/// An action whose level the power levels name by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Banning and lifting bans.
    Ban,
    /// Inviting.
    Invite,
    /// Removing members.
    Kick,
    /// Redacting other people's events.
    Redact,
}

/// The power of users in a room.
pub struct Powers<'a> {
    rules: &'a RoomVersionRules,
    creators: HashSet<OwnedUserId>,
    levels: Option<RoomPowerLevelsEvent<&'a Pdu>>,
}

impl<'a> Powers<'a> {
    /// From the create event and, if there is one, the power levels event.
    pub fn new(rules: &'a RoomVersionRules, create: &Pdu, levels: Option<&'a Pdu>) -> Result<Self, Reason> {
        let creators = RoomCreateEvent::new(create).creators(&rules.authorization)?;
        Ok(Self { rules, creators, levels: levels.map(RoomPowerLevelsEvent::new) })
    }

    /// Who made the room.
    pub fn creators(&self) -> &HashSet<OwnedUserId> {
        &self.creators
    }

    /// The level of a user.
    pub fn of(&self, user: &UserId) -> Result<UserPowerLevel, Reason> {
        let created = self.creators.contains(user);
        if created && version::creators_are_privileged(self.rules) {
            return Ok(UserPowerLevel::Infinite);
        }
        match &self.levels {
            Some(levels) => Ok(levels.user_power_level(user, &self.rules.authorization)?.into()),
            None => Ok(Int::from(if created { 100_u8 } else { 0 }).into()),
        }
    }

    /// The level that an event of this type needs.
    pub fn to_send(&self, kind: &str, state_key: Option<&str>) -> Result<Int, Reason> {
        let without = match state_key {
            Some(_) => RoomPowerLevelsIntField::StateDefault,
            None => RoomPowerLevelsIntField::EventsDefault,
        };
        match &self.levels {
            Some(levels) => {
                Ok(levels.event_power_level(&ruma_type(kind), state_key, &self.rules.authorization)?)
            }
            None => Ok(without.default_value()),
        }
    }

    /// The level that an action needs.
    pub fn to_do(&self, action: Action) -> Result<Int, Reason> {
        let field = match action {
            Action::Ban => RoomPowerLevelsIntField::Ban,
            Action::Invite => RoomPowerLevelsIntField::Invite,
            Action::Kick => RoomPowerLevelsIntField::Kick,
            Action::Redact => RoomPowerLevelsIntField::Redact,
        };
        match &self.levels {
            Some(levels) => Ok(levels.get_as_int_or_default(field, &self.rules.authorization)?),
            None => Ok(field.default_value()),
        }
    }

    /// Who may notify the whole room, in the form that push rules look at.
    pub fn to_notify(&self) -> Result<PushConditionPowerLevelsCtx, Reason> {
        let rules = &self.rules.authorization;
        let mut notifications = NotificationPowerLevels::new();
        let (mut users, mut users_default) = Default::default();
        if let Some(levels) = &self.levels {
            let room = levels.notifications(rules)?.and_then(|levels| levels.get("room").copied());
            notifications.room = room.unwrap_or(notifications.room);
            users = levels.users(rules)?.cloned().unwrap_or_default();
            users_default = levels.get_as_int_or_default(RoomPowerLevelsIntField::UsersDefault, rules)?;
        }
        let creators = RoomPowerLevelsRules::new(rules, self.creators.iter().cloned());
        Ok(PushConditionPowerLevelsCtx::new(users, users_default, notifications, creators))
    }

    /// Has a user the level that an action needs?
    pub fn may_do(&self, user: &UserId, action: Action) -> Result<bool, Reason> {
        Ok(self.of(user)? >= UserPowerLevel::from(self.to_do(action)?))
    }

    /// Has a user the level that an event of this type needs?
    pub fn may_send(&self, user: &UserId, kind: &str, state_key: Option<&str>) -> Result<bool, Reason> {
        Ok(self.of(user)? >= UserPowerLevel::from(self.to_send(kind, state_key)?))
    }
}

#[cfg(test)]
mod tests;
