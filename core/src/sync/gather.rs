//! What changed for a user between two positions: from the log's tail in memory, or for an older token by probes of
//! the tables. Both fill the same [`Changed`], so nothing behind it knows the difference.

use crate::error::Result;
use crate::server::Server;
use crate::sync::online::Joined;
use myelin_storage::Entry;
use myelin_storage::log::Kind;
use myelin_storage::rooms::{events, memberships};
use myelin_storage::users::account_data;
use std::collections::{BTreeMap, BTreeSet};

/// What changed in a room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RoomChanged {
    /// There are new events.
    pub events: bool,
    /// The current state moved without an event.
    pub state: bool,
    /// There are new receipts.
    pub receipts: bool,
    /// Account data of the room changed.
    pub account_data: bool,
}

/// What changed for a user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// Rooms that the user is joined to, and rooms with account data.
    pub rooms: BTreeMap<i64, RoomChanged>,
    /// Rooms of which the user's own membership changed.
    pub memberships: BTreeSet<i64>,
    /// Global account data changed.
    pub account_data: bool,
    /// There are new to-device messages.
    pub to_device: bool,
    /// The device's keys changed in number.
    pub key_counts: bool,
    /// Somebody's devices changed, or who shares a room with the user.
    pub device_lists: bool,
}

/// For whom to gather.
pub(super) struct For<'a> {
    pub(super) user_pk: i64,
    pub(super) device_pk: i64,
    pub(super) joined: &'a Joined,
}

impl Changed {
    /// Takes one entry of the log into account.
    fn add(&mut self, entry: &Entry, who: &For<'_>) {
        let own = entry.scope == who.user_pk;
        let in_room = || who.joined.contains_key(&entry.scope);
        match entry.kind {
            Kind::Event if in_room() => self.rooms.entry(entry.scope).or_default().events = true,
            Kind::State if in_room() => self.rooms.entry(entry.scope).or_default().state = true,
            Kind::Receipt if in_room() => self.rooms.entry(entry.scope).or_default().receipts = true,
            Kind::PrivateReceipt if own => self.rooms.entry(entry.object).or_default().receipts = true,
            Kind::Membership if own => {
                self.memberships.insert(entry.object);
                self.device_lists = true;
            }
            Kind::Membership if who.joined.contains_key(&entry.object) => self.device_lists = true,
            Kind::AccountData if own && entry.object == 0 => self.account_data = true,
            Kind::AccountData if own => self.rooms.entry(entry.object).or_default().account_data = true,
            Kind::ToDevice if own && entry.object == who.device_pk => self.to_device = true,
            Kind::KeyCounts if own && entry.object == who.device_pk => self.key_counts = true,
            Kind::DeviceList => self.device_lists = true,
            Kind::Signature if own => self.device_lists = true,
            _ => {}
        }
    }
}

impl Server {
    /// What changed for somebody behind `since`, up to and including `upto`.
    pub(super) async fn gather(&self, who: &For<'_>, since: i64, upto: i64) -> Result<Changed> {
        let from_tail = self.log.since(since, |entries| {
            let mut changed = Changed::default();
            entries.take_while(|entry| entry.pos <= upto).for_each(|entry| changed.add(entry, who));
            changed
        });
        match from_tail {
            Some(changed) => Ok(changed),
            None => self.gather_from_tables(who, since, upto).await,
        }
    }

    async fn gather_from_tables(&self, who: &For<'_>, since: i64, upto: i64) -> Result<Changed> {
        let rooms: Vec<i64> = who.joined.keys().copied().collect();
        let mut connection = self.database.read().await?;
        let mut changed =
            Changed { to_device: true, key_counts: true, device_lists: true, ..Changed::default() };
        for (room_pk, _) in events::rooms_after(&mut connection, &rooms, since).await? {
            changed.rooms.entry(room_pk).or_default().events = true;
        }
        for (room_pk, state, receipts) in memberships::rooms_moved(&mut connection, &rooms, since).await? {
            if state || receipts {
                let room = changed.rooms.entry(room_pk).or_default();
                (room.state, room.receipts) = (state, receipts);
            }
        }
        for row in memberships::of_user(&mut connection, who.user_pk).await? {
            if row.pos > since && row.pos <= upto {
                changed.memberships.insert(row.room_pk);
            }
        }
        for row in account_data::since(&mut connection, who.user_pk, since).await? {
            match row.room_pk {
                0 => changed.account_data = true,
                room_pk => changed.rooms.entry(room_pk).or_default().account_data = true,
            }
        }
        Ok(changed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_concern_those_whom_they_should() {
        let joined = Joined::from([(10, 1), (11, 1)]);
        let who = For { user_pk: 1, device_pk: 5, joined: &joined };
        let mut changed = Changed::default();
        let entries = [
            (Kind::Event, 10, 100),
            (Kind::Event, 12, 101),
            (Kind::Receipt, 11, 2),
            (Kind::Membership, 1, 13),
            (Kind::Membership, 2, 10),
            (Kind::Membership, 3, 12),
            (Kind::AccountData, 1, 0),
            (Kind::AccountData, 2, 10),
            (Kind::ToDevice, 1, 6),
            (Kind::KeyCounts, 1, 5),
            (Kind::DeviceList, 9, 0),
            (Kind::Signature, 2, 1),
        ];
        for (pos, (kind, scope, object)) in (1..).zip(entries) {
            changed.add(&Entry { pos, kind, scope, object }, &who);
        }
        let room = RoomChanged::default();
        let expected = Changed {
            rooms: [(10, RoomChanged { events: true, ..room }), (11, RoomChanged { receipts: true, ..room })]
                .into(),
            memberships: [13].into(),
            account_data: true,
            to_device: false,
            key_counts: true,
            device_lists: true,
        };
        assert_eq!(changed, expected);
    }
}
