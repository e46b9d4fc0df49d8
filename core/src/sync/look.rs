//! One look: what there is to tell a client now. Waiting, where there is nothing, is the caller's.
//!
//! ```text
//! token -> joined rooms and upto (of one moment) -> gather -> rooms, account data, devices -> answer
//! ```

use crate::error::Result;
use crate::rooms::serialize::Reader;
use crate::server::Server;
use crate::sync::account::{AccountData, Preferences};
use crate::sync::answer::{Answer, List};
use crate::sync::filter::{self, Members};
use crate::sync::gather::{Changed, For, RoomChanged};
use crate::sync::history;
use crate::sync::online::{Joined, Online};
use crate::sync::token::Token;
use crate::sync::unread::ReadUpto;
use myelin_storage::rooms::memberships;
use ruma::api::client::filter::FilterDefinition;
use ruma::{OwnedUserId, UserId};
use serde_json::value::RawValue;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Where a client wants the state to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateAfter {
    /// Before the timeline, in `state`.
    Off,
    /// At its end, in `state_after`.
    Stable,
    /// The same by the unstable name of MSC4222.
    Unstable,
}

/// What a client asks.
pub struct Ask<'a> {
    /// Who asks.
    pub reader: Reader<'a>,
    /// What the client has been told already.
    pub since: Option<Token>,
    /// What it wants to hear of.
    pub filter: &'a FilterDefinition,
    /// Which members it wants to hear of.
    pub members: Members,
    /// It wants the whole state of all rooms again.
    pub full_state: bool,
    /// Where it wants the state to be.
    pub state_after: StateAfter,
}

/// What one answer is made from.
pub(super) struct Moment<'a> {
    pub(super) online: &'a Online,
    pub(super) ask: &'a Ask<'a>,
    pub(super) preferences: Arc<Preferences>,
    pub(super) joined: Arc<Joined>,
    /// The position that the client has; 0 where it has nothing.
    pub(super) since: i64,
    pub(super) upto: i64,
    pub(super) data: AccountData,
    pub(super) typing: HashMap<i64, Vec<i64>>,
    pub(super) receipts: HashMap<i64, Box<RawValue>>,
    pub(super) read: ReadUpto,
}

impl Server {
    /// What there is to tell a client now.
    pub async fn sync(&self, online: &Online, ask: &Ask<'_>) -> Result<Answer> {
        // A token of another epoch, or of a future that never came, says nothing: the client gets everything.
        let since = ask.since.filter(|token| token.epoch == self.epoch() && token.pos <= self.log.visible());
        if let Some(token) = &since {
            self.acknowledge(online, ask.reader.device_pk, token).await?;
        }
        let (joined, upto) = self.moment(online).await?;
        let typed = since.map_or(0, |token| token.typing);
        self.typing.expire(self.now_ms());
        // What comes from here on is told again rather than never. What another replica has told already, this one need
        // not repeat when it hears of it.
        let serial = self.serials.newest().max(typed);
        let mut typing = self.typing.since(typed, |room| joined.contains_key(&room));
        // Who knows nothing need not hear that nobody types.
        typing.retain(|(_, users)| since.is_some() || !users.is_empty());
        let who = For { user_pk: ask.reader.user_pk, device_pk: ask.reader.device_pk, joined: &joined };
        let mut changed = match &since {
            Some(token) => self.gather(&who, token.pos, upto).await?,
            None => self.everything(&who, ask.filter.room.include_leave).await?,
        };
        if ask.full_state {
            for room in joined.keys() {
                changed.rooms.entry(*room).or_default();
            }
        }
        for (room, _) in &typing {
            changed.rooms.entry(*room).or_default();
        }
        let is_new = changed.to_device || since.is_none();
        let messages =
            self.pending_messages(online, ask.reader.device_pk, since.as_ref(), upto, is_new).await?;
        let mut answer = Answer::default();
        if !changed.rooms.is_empty() || !changed.memberships.is_empty() || changed.account_data {
            let mut moment = Moment {
                online,
                ask,
                preferences: self.preferences(online, ask.reader.user).await?,
                joined,
                since: since.map_or(0, |token| token.pos),
                upto,
                data: AccountData::new(),
                typing: typing.into_iter().collect(),
                receipts: HashMap::new(),
                read: ReadUpto::default(),
            };
            self.tell_rooms(&mut moment, &changed, &mut answer).await?;
        }
        match (&since, &ask.since) {
            (Some(token), _) if changed.device_lists => {
                self.tell_device_lists(ask, token.pos, upto, &mut answer).await?;
            }
            // The client takes the answer for one that goes on from its token, and knows devices as they were.
            (None, Some(_)) => self.tell_device_lists(ask, 0, upto, &mut answer).await?,
            _ => {}
        }
        answer.presence = self.tell_presence(ask, typed, &answer).await?;
        let counts = self.key_counts(online, ask.reader.device_pk).await?;
        answer.keys_changed = changed.key_counts;
        answer.device_one_time_keys_count = counts.one_time.clone();
        answer.device_unused_fallback_key_types = counts.fallback.clone();
        answer.to_device = messages.events.into();
        let token = Token { epoch: self.epoch(), pos: upto, typing: serial, to_device: messages.upto };
        answer.next_batch = self.seal.sealed(&token);
        Ok(answer)
    }

    /// A user's joined rooms, and the position for which they are true.
    async fn moment(&self, online: &Online) -> Result<(Arc<Joined>, i64)> {
        loop {
            let generation = online.generation();
            let joined = self.online.joined(online).await?;
            // The table may be ahead of what is visible: then the rest follows at once.
            self.log.wait_for(joined.values().copied().max().unwrap_or(0)).await?;
            let upto = self.log.visible();
            // What becomes wrong does so before its position is visible.
            if online.generation() == generation {
                return Ok((joined, upto));
            }
        }
    }

    /// All that there is, for a client that knows nothing.
    async fn everything(&self, who: &For<'_>, include_leave: bool) -> Result<Changed> {
        let all = RoomChanged { events: true, state: false, receipts: true, account_data: true };
        let mut changed = Changed {
            rooms: who.joined.keys().map(|room| (*room, all)).collect(),
            account_data: true,
            key_counts: true,
            ..Changed::default()
        };
        for row in memberships::of_user(&mut self.database.read().await?, who.user_pk).await? {
            let wanted = match row.membership {
                memberships::JOIN => false,
                memberships::LEAVE | memberships::BAN => include_leave,
                _ => true,
            };
            if wanted {
                changed.memberships.insert(row.room_pk);
            }
        }
        Ok(changed)
    }

    async fn tell_device_lists(
        &self,
        ask: &Ask<'_>,
        since: i64,
        upto: i64,
        answer: &mut Answer,
    ) -> Result<()> {
        let lists = crate::keys::device_lists::changes(self, ask.reader.user_pk, since, upto).await?;
        let ids =
            |ids: Vec<String>| ids.into_iter().filter_map(|id| OwnedUserId::try_from(id).ok()).collect();
        answer.device_lists.changed = ids(lists.changed);
        answer.device_lists.left = ids(lists.left);
        Ok(())
    }

    /// Who is there, of those with whom the user shares a room.
    async fn tell_presence(&self, ask: &Ask<'_>, serial: i64, answer: &Answer) -> Result<List> {
        if !self.settings.presence.enabled {
            return Ok(List::default());
        }
        // Who begins to share a room is named there, and others now and then.
        let met: Vec<&str> = answer.device_lists.changed.iter().map(|user| user.as_str()).collect();
        let met: Vec<i64> =
            self.ids.find_users(&met).await?.into_iter().map(|(_, user_pk)| user_pk).collect();
        let filter = &ask.filter.presence;
        let wanted = |user: &UserId| filter::wants(filter, "m.presence", Some(user));
        Ok(self.presence_events(ask.reader.user_pk, serial, &met, wanted).await?.into())
    }

    /// Reads at once what an answer with many rooms needs.
    async fn warm_rooms(&self, moment: &Moment<'_>, changed: &Changed) -> Result<()> {
        let joined = changed.rooms.keys().filter(|room| moment.joined.contains_key(room));
        let joined: Vec<i64> = joined.copied().collect();
        let timeline = history::limit(moment.ask.filter).saturating_add(1);
        let all_members = moment.since == 0 && moment.ask.members == Members::All;
        self.warm(&joined, moment.ask.reader.user, timeline, all_members).await
    }

    /// Rooms and account data.
    async fn tell_rooms(
        &self,
        moment: &mut Moment<'_>,
        changed: &Changed,
        answer: &mut Answer,
    ) -> Result<()> {
        let (reader, filter) = (&moment.ask.reader, moment.ask.filter);
        if changed.account_data || changed.rooms.values().any(|room| room.account_data) {
            moment.data = self.account_data(reader.user_pk, reader.user, moment.since).await?;
        }
        let mut stands = BTreeMap::new();
        for room_pk in &changed.memberships {
            if let Some(stand) = self.stand(reader.user_pk, *room_pk, moment.since, moment.upto).await? {
                stands.insert(*room_pk, stand);
            }
        }
        let entered: Vec<i64> =
            stands.iter().filter(|(_, stand)| stand.entered()).map(|(room, _)| *room).collect();
        if !entered.is_empty() && moment.since > 0 {
            let mut all = self.account_data(reader.user_pk, reader.user, 0).await?;
            for room in &entered {
                moment.data.insert(*room, all.remove(room).unwrap_or_default());
            }
        }
        let with_receipts = changed.rooms.iter().filter(|(room, it)| it.receipts && !entered.contains(room));
        let with_receipts: Vec<i64> = with_receipts.map(|(room, _)| *room).collect();
        moment.receipts = self.receipts_since(&with_receipts, moment.since, reader.user_pk).await?;
        moment.receipts.extend(self.receipts_since(&entered, 0, reader.user_pk).await?);
        if let Some(global) = moment.data.remove(&0) {
            let wanted = |kind: &str| filter::wants(&filter.account_data, kind, None);
            let events = global.into_iter().filter(|(kind, _)| wanted(kind)).map(|(_, event)| event);
            answer.account_data = events.collect::<Vec<_>>().into();
        }
        self.warm_rooms(moment, changed).await?;
        moment.read = self.read_upto(moment.online, changed.rooms.keys().copied()).await?;
        for (room_pk, room) in &changed.rooms {
            if moment.joined.contains_key(room_pk) && !stands.contains_key(room_pk) {
                self.tell_joined(moment, *room_pk, *room, false, answer).await?;
            }
        }
        for (room_pk, stand) in &stands {
            let room = changed.rooms.get(room_pk).copied().unwrap_or_default();
            self.tell_stand(moment, *room_pk, room, stand, answer).await?;
        }
        Ok(())
    }
}
