//! Presence: whether users are there. Off unless the operator turns it on, since it tells everybody who shares a room
//! with a user when they are at their devices, and costs work for each of them.
//!
//! It lives in memory only: after a restart everybody is offline until their clients sync again. A user of ours is as
//! present as the most present of their devices; a device that has not synced for a while is offline. What other servers
//! say of their users holds for half an hour.
//!
//! Changes go through the replicas' notes as typing does ([`crate::rooms::typing`]), and stand in the tokens of /sync by
//! the same numbers ([`crate::serial`]).

use crate::error::{Error, Result};
use crate::serial::Serials;
use crate::server::Server;
use myelin_storage::rooms::memberships;
use parking_lot::Mutex;
use ruma::UserId;
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::{RawValue, to_raw_value};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// How long a device that does not sync counts as there, in milliseconds.
const SILENT: i64 = 30_000;
/// How long what another server said holds, in milliseconds.
const REMOTE: i64 = 30 * 60_000;
/// Who did something within this time is active at the moment, in milliseconds.
const ACTIVE: i64 = 60_000;
/// Users of whom something is known at most.
const MOST: usize = 100_000;
/// Longest status message, in bytes.
pub const LONGEST_STATUS: usize = 1_000;

/// How present somebody is; what counts more is greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Not there.
    #[default]
    Offline,
    /// There, and idle.
    Unavailable,
    /// There.
    Online,
}

/// A change that replicas tell each other.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
struct Change {
    user_pk: i64,
    /// The device that makes the change; 0 for what another server says of its user.
    device_pk: i64,
    state: State,
    /// Another status message; `None` leaves it as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    status: Option<String>,
    /// Until when it holds, in milliseconds since the Unix epoch.
    until: i64,
    /// When the user last did something, if this says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    active: Option<i64>,
}

/// What is known of a user.
#[derive(Clone, Debug, Default)]
struct Known {
    devices: HashMap<i64, (State, i64)>,
    status: String,
    active: i64,
    shown: State,
    serial: i64,
}

impl Known {
    fn state(&self, now: i64) -> State {
        let there = self.devices.values().filter(|(_, until)| *until > now);
        there.map(|(state, _)| *state).max().unwrap_or_default()
    }
}

/// What is shown of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// How present.
    pub state: State,
    /// The status message; empty where there is none.
    pub status: String,
    /// When the user last did something; 0 where that is not known.
    pub active: i64,
}

impl Shown {
    /// As the specification writes it.
    pub fn content(&self, now: i64) -> serde_json::Value {
        let mut content = json!({ "presence": self.state });
        if self.active > 0 {
            let ago = now.saturating_sub(self.active).max(0);
            content["last_active_ago"] = ago.into();
            content["currently_active"] = (self.state == State::Online && ago < ACTIVE).into();
        }
        if !self.status.is_empty() {
            content["status_msg"] = self.status.as_str().into();
        }
        content
    }
}

/// Who is there.
pub struct Presence {
    serials: Arc<Serials>,
    users: Mutex<HashMap<i64, Known>>,
}

impl Presence {
    /// Nobody is.
    pub fn new(serials: Arc<Serials>) -> Presence {
        Presence { serials, users: Mutex::default() }
    }

    /// Makes a change. True when others should hear of it.
    fn apply(&self, change: &Change, at_us: i64) -> bool {
        let now = at_us / 1_000;
        let mut users = self.users.lock();
        if users.len() >= MOST && !users.contains_key(&change.user_pk) {
            users.retain(|_, known| known.state(now) != State::Offline);
            if users.len() >= MOST {
                return false;
            }
        }
        let known = users.entry(change.user_pk).or_default();
        known.devices.insert(change.device_pk, (change.state, change.until));
        known.devices.retain(|_, (_, until)| *until > now);
        let (state, was_active) = (known.state(now), now - known.active < ACTIVE);
        let status = change.status.clone().unwrap_or_else(|| known.status.clone());
        let active = change.active.unwrap_or(known.active);
        let is_active = now - active < ACTIVE;
        let is_news = state != known.shown || status != known.status || (is_active && !was_active);
        (known.shown, known.status, known.active) = (state, status, active);
        if is_news {
            known.serial = self.serials.next(at_us);
        }
        is_news
    }

    /// Users whose time is over, each told once.
    fn expire(&self, now: i64) -> Vec<i64> {
        let mut users = self.users.lock();
        let mut gone: Vec<i64> = Vec::new();
        for (user_pk, known) in &mut *users {
            if known.shown != known.state(now) {
                known.shown = known.state(now);
                known.serial = self.serials.next(now.saturating_mul(1_000));
                gone.push(*user_pk);
            }
        }
        gone
    }

    /// Users of whom there is news behind a number.
    fn since(&self, serial: i64) -> Vec<i64> {
        let users = self.users.lock();
        users.iter().filter(|(_, known)| known.serial > serial).map(|(pk, _)| *pk).collect()
    }

    /// What is known of a user; offline where nothing is.
    pub fn of(&self, user_pk: i64, now: i64) -> Shown {
        let users = self.users.lock();
        match users.get(&user_pk) {
            Some(known) => {
                Shown { state: known.state(now), status: known.status.clone(), active: known.active }
            }
            None => Shown { state: State::Offline, status: String::new(), active: 0 },
        }
    }
}

impl Server {
    /// A user says how present they are.
    ///
    /// # Errors
    /// M_INVALID_PARAM for a status message that is longer than [`LONGEST_STATUS`].
    pub async fn set_presence(
        &self,
        user_pk: i64,
        device_pk: i64,
        state: State,
        status: Option<String>,
    ) -> Result<()> {
        if !self.settings.presence.enabled {
            return Ok(());
        }
        let status = Some(status.unwrap_or_default());
        if status.as_ref().is_some_and(|status| status.len() > LONGEST_STATUS) {
            return Err(Error::invalid_param(format!("status_msg is longer than {LONGEST_STATUS} bytes")));
        }
        let now = self.now_ms();
        let active = (state == State::Online).then_some(now);
        self.presence_change(Change { user_pk, device_pk, state, status, until: now + SILENT, active }).await
    }

    /// A device syncs, and may wait for so many milliseconds. `Offline` means that it does not count.
    pub async fn presence_syncs(
        &self,
        user_pk: i64,
        device_pk: i64,
        state: State,
        waits_ms: i64,
    ) -> Result<()> {
        if !self.settings.presence.enabled || state == State::Offline {
            return Ok(());
        }
        let now = self.now_ms();
        let was = self.presence.of(user_pk, now);
        let active = (was.state == State::Offline).then_some(now);
        let until = now + waits_ms + SILENT;
        self.presence_change(Change { user_pk, device_pk, state, status: None, until, active }).await
    }

    /// Another server tells of a user of its own.
    pub async fn presence_told(
        &self,
        user: &UserId,
        state: State,
        status: Option<String>,
        active_ago: Option<i64>,
    ) -> Result<()> {
        if !self.settings.presence.enabled {
            return Ok(());
        }
        let Some(user_pk) = self.ids.find_user(user.as_str()).await? else { return Ok(()) };
        let now = self.now_ms();
        let active = active_ago.map(|ago| now.saturating_sub(ago.max(0)));
        let mut status = status.unwrap_or_default();
        status.truncate(status.floor_char_boundary(LONGEST_STATUS));
        let until = now + REMOTE;
        self.presence_change(Change { user_pk, device_pk: 0, state, status: Some(status), until, active })
            .await
    }

    async fn presence_change(&self, change: Change) -> Result<()> {
        if self.replicas.are_there() {
            // This replica hears it too, in the order in which all do.
            let text = serde_json::to_string(&change).map_err(Error::internal_display)?;
            self.replicas.tell(format!("presence {text}"));
            return Ok(());
        }
        if self.presence.apply(&change, self.now_ms().saturating_mul(1_000)) {
            self.presence_moved(change.user_pk).await?;
        }
        Ok(())
    }

    /// Takes what a replica tells of somebody's presence.
    pub(crate) fn hear_presence(self: &Arc<Self>, at_us: i64, note: &str) {
        let Some(text) = note.strip_prefix("presence ") else { return };
        let Ok(change) = serde_json::from_str::<Change>(text) else { return };
        if self.presence.apply(&change, at_us) {
            let server = self.clone();
            tokio::spawn(async move {
                if let Err(error) = server.presence_moved(change.user_pk).await {
                    tracing::debug!(%error, "somebody's presence is not told");
                }
            });
        }
    }

    /// Wakes those who share a room with a user, and tells other servers.
    async fn presence_moved(&self, user_pk: i64) -> Result<()> {
        let rooms = memberships::of_user(&mut self.database.read().await?, user_pk).await?;
        for room in rooms.iter().filter(|room| room.membership == memberships::JOIN) {
            self.online.wake_room(room.room_pk);
        }
        if let Ok(remote) = self.remote() {
            remote.presence(user_pk);
        }
        Ok(())
    }

    /// Tells of those who have not synced for a while.
    pub(crate) async fn expire_presence(&self, now: i64) -> Result<()> {
        for user_pk in self.presence.expire(now) {
            self.presence_moved(user_pk).await?;
        }
        Ok(())
    }

    /// The presence of a user, for another one.
    ///
    /// # Errors
    /// M_FORBIDDEN where they share no room.
    pub async fn presence_for(&self, user: &UserId, asker_pk: i64) -> Result<Shown> {
        let stranger = || Error::forbidden("you share no room with that user");
        let user_pk = self.ids.find_user(user.as_str()).await?.ok_or_else(stranger)?;
        if user_pk != asker_pk {
            let sharing =
                memberships::sharing(&mut self.database.read().await?, asker_pk, &[user_pk]).await?;
            if sharing.is_empty() {
                return Err(stranger());
            }
        }
        Ok(self.presence.of(user_pk, self.now_ms()))
    }

    /// Presence events for a user: of those who share a room and of whom there is news behind a number, and of `met`,
    /// whom the user may not have known of.
    pub(crate) async fn presence_events(
        &self,
        user_pk: i64,
        serial: i64,
        met: &[i64],
        is_wanted: impl Fn(&UserId) -> bool,
    ) -> Result<Vec<Box<RawValue>>> {
        let mut users: HashSet<i64> = self.presence.since(serial).into_iter().collect();
        users.extend(met);
        let others: Vec<i64> = users.iter().copied().filter(|user| *user != user_pk).collect();
        let own = users.contains(&user_pk).then_some(user_pk);
        let mut shown: Vec<i64> = own.into_iter().collect();
        if !others.is_empty() {
            shown.extend(memberships::sharing(&mut self.database.read().await?, user_pk, &others).await?);
        }
        let now = self.now_ms();
        let mut events = Vec::with_capacity(shown.len());
        for (pk, id) in self.ids.user_ids(&shown).await? {
            let Ok(user) = <&UserId>::try_from(&*id) else { continue };
            if is_wanted(user) {
                let content = self.presence.of(pk, now).content(now);
                let event = json!({ "type": "m.presence", "sender": user, "content": content });
                events.push(to_raw_value(&event).map_err(Error::internal_display)?);
            }
        }
        Ok(events)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(device_pk: i64, state: State, until: i64) -> Change {
        Change { user_pk: 1, device_pk, state, status: None, until, active: None }
    }

    #[test]
    fn the_most_present_device_counts_until_it_is_silent() {
        let presence = Presence::new(Arc::new(Serials::new(1)));
        assert!(presence.apply(&change(1, State::Unavailable, 100), 10_000));
        assert!(presence.apply(&change(2, State::Online, 50), 10_000));
        assert!(!presence.apply(&change(2, State::Online, 60), 20_000), "no news");
        assert_eq!(presence.of(1, 59).state, State::Online);
        let serial = presence.serials.newest();
        assert_eq!(presence.expire(60), [1]);
        assert_eq!((presence.of(1, 60).state, presence.since(serial)), (State::Unavailable, vec![1]));
        assert_eq!(presence.expire(99), [] as [i64; 0]);
        assert_eq!(presence.expire(100), [1]);
        assert_eq!(presence.of(1, 100).state, State::Offline);
    }

    #[test]
    fn a_status_stays_until_there_is_another() {
        let presence = Presence::new(Arc::new(Serials::new(1)));
        let said =
            Change { status: Some("here".to_owned()), active: Some(10), ..change(1, State::Online, 900_000) };
        assert!(presence.apply(&said, 10_000));
        assert!(!presence.apply(&change(1, State::Online, 900_000), 20_000));
        let shown = presence.of(1, 20);
        let expected = json!({
            "presence": "online", "status_msg": "here", "last_active_ago": 10, "currently_active": true,
        });
        assert_eq!(shown.content(20), expected);
        assert_eq!(shown.content(100_000)["currently_active"], false);
        assert_eq!(presence.of(2, 20).content(20), json!({ "presence": "offline" }));
        let note = serde_json::to_string(&said).unwrap();
        assert_eq!(serde_json::from_str::<Change>(&note).unwrap(), said);
    }
}
