//! How much a user has not read: counted when somebody asks, not when an event is sent.
//!
//! What was counted stays in memory and, if it took long, on disk ([`super::checkpoints`]); the next time only the events
//! behind it are looked at. A receipt of the user throws it away, and it is counted anew from there. An event of one's
//! own reads its thread up to itself.

use crate::cache::Weight;
use crate::error::{Error, Result};
use crate::push::rules;
use crate::rooms::authorize::Powers;
use crate::rooms::cache::{Room, Stored};
use crate::rooms::relations::{self, Thread};
use crate::server::Server;
use crate::sync::answer::Count;
use crate::sync::checkpoints;
use crate::sync::look::{Ask, Moment};
use crate::sync::online::Online;
use myelin_storage::rooms::{receipts, unread as written};
use ruma::OwnedEventId;
use ruma::push::PushConditionRoomCtx;
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Events that are looked at behind the last receipt: nobody needs to know the number of more.
const MOST: usize = 1_000;
/// The thread of events outside of threads, as in receipts.
const MAIN: &str = "main";

/// How far a user has read rooms: by room, the position of each thread.
#[derive(Default)]
pub(super) struct ReadUpto {
    /// [`Online::receipts`] before it was read.
    receipts: u64,
    rooms: HashMap<i64, HashMap<String, i64>>,
    /// Counts that were written down: how far was counted, and by thread.
    written: HashMap<i64, (i64, BTreeMap<String, Count>)>,
}

impl ReadUpto {
    /// Where counting a room begins: at what was written down, else at what was read.
    fn begin(&self, room_pk: i64, joined: i64) -> Unread {
        let read = self.rooms.get(&room_pk).cloned().unwrap_or_default();
        let written = self.written.get(&room_pk).filter(|(upto, _)| *upto >= joined).cloned();
        let (upto, threads) =
            written.unwrap_or_else(|| (read.get("").copied().unwrap_or(0).max(joined), BTreeMap::new()));
        Unread { upto, read, threads, looked_at: 0 }
    }
}

/// What a user has not read of a room.
#[derive(Clone, Debug, Default)]
pub struct Unread {
    /// The position up to which events are counted.
    pub(super) upto: i64,
    /// How far each thread was read; the empty one stands for all of them.
    pub(super) read: HashMap<String, i64>,
    /// Counts by thread.
    pub(super) threads: BTreeMap<String, Count>,
    /// Events that were looked at since the counts were last written down.
    pub(super) looked_at: usize,
}

impl Weight for Arc<Unread> {
    fn weight(&self) -> usize {
        let threads = self.read.keys().chain(self.threads.keys()).map(|thread| thread.len() + 64);
        size_of::<Unread>() + threads.sum::<usize>()
    }
}

impl Unread {
    /// The counts of the main timeline, and those of the threads.
    pub(super) fn by_thread(&self) -> (Count, BTreeMap<String, Count>) {
        let mut threads = self.threads.clone();
        let main = threads.remove(MAIN).unwrap_or_default();
        threads.retain(|_, count| *count != Count::default());
        (main, threads)
    }

    /// The counts of everything together, for clients that know no threads.
    pub(super) fn total(&self) -> Count {
        self.threads.values().fold(Count::default(), |sum, count| Count {
            notify: sum.notify + count.notify,
            highlight: sum.highlight + count.highlight,
        })
    }

    fn is_read(&self, thread: &str, pos: i64) -> bool {
        ["", thread].into_iter().any(|thread| self.read.get(thread).is_some_and(|read| *read >= pos))
    }

    /// Takes the next event into account.
    fn add(
        &mut self,
        thread: &str,
        pos: i64,
        is_own: bool,
        outcome: impl FnOnce() -> Result<rules::Outcome>,
    ) -> Result<()> {
        if is_own {
            self.read.insert(thread.to_owned(), pos);
            self.threads.remove(thread);
        } else if !self.is_read(thread, pos) {
            let outcome = outcome()?;
            if outcome.notify {
                let count = self.threads.entry(thread.to_owned()).or_default();
                count.notify += 1;
                count.highlight += u64::from(outcome.highlight);
            }
        }
        Ok(())
    }
}

impl Server {
    /// What somebody has not read of a room.
    pub(super) async fn unread(&self, moment: &Moment<'_>, room: &Room) -> Result<Arc<Unread>> {
        let (ask, preferences, upto) = (moment.ask, &moment.preferences, moment.upto);
        let key = (ask.reader.user_pk, room.pk);
        let looked_up;
        let mut known = &moment.read;
        let mut unread = match self.online.unread.get(&key) {
            Some(counted) if counted.upto >= upto => return Ok(counted),
            Some(counted) => (*counted).clone(),
            None => {
                if !known.rooms.contains_key(&room.pk) {
                    looked_up = self.read_upto(moment.online, [room.pk]).await?;
                    known = &looked_up;
                }
                // What was there before the user came is not unread.
                known.begin(room.pk, moment.joined.get(&room.pk).copied().unwrap_or(0))
            }
        };
        if unread.upto > upto {
            // Another replica has counted further: that must not be added to from here.
            return Ok(Arc::new(unread));
        }
        let mut rows = self.rooms.newest(room, unread.upto, upto, MOST).await?;
        rows.reverse();
        let looked_at = rows.len();
        let pks: Vec<i64> = rows.into_iter().map(|(_, pk)| pk).collect();
        let events = self.rooms.events(&pks).await?;
        let mut context = None;
        for event in events {
            let is_own = event.sender == ask.reader.user;
            if !is_own && preferences.ignored.contains(&event.sender) {
                continue;
            }
            let thread = self.thread_of(&event).await?;
            if !is_own && context.is_none() {
                context = Some(self.push_context(ask, room).await?);
            }
            let context = context.as_ref();
            unread.add(&thread, event.pos, is_own, || {
                let Some(context) = context else { return Ok(rules::Outcome::default()) };
                let flat = rules::flatten(&event).map_err(Error::internal_display)?;
                Ok(rules::evaluate(&preferences.rules, &flat, context))
            })?;
        }
        unread.upto = upto;
        unread.looked_at += looked_at;
        let worth_writing = unread.looked_at >= checkpoints::WORTH;
        let unread =
            Arc::new(Unread { looked_at: if worth_writing { 0 } else { unread.looked_at }, ..unread });
        self.online.unread.insert(key, unread.clone());
        if moment.online.receipts.load(Ordering::Acquire) != known.receipts {
            // The user has read something in the meantime; perhaps it was here.
            self.online.unread.remove(&key);
        } else if worth_writing {
            self.online.write_down(key, &unread);
        }
        Ok(unread)
    }

    /// How far a user has read those of these rooms of which nothing is counted yet.
    pub(super) async fn read_upto(
        &self,
        online: &Online,
        rooms: impl IntoIterator<Item = i64>,
    ) -> Result<ReadUpto> {
        let receipts = online.receipts.load(Ordering::Acquire);
        let counted = |room: &i64| self.online.unread.contains_key(&(online.user_pk, *room));
        let rooms: Vec<i64> = rooms.into_iter().filter(|room| !counted(room)).collect();
        let mut read: HashMap<i64, _> = rooms.iter().map(|room| (*room, HashMap::new())).collect();
        let mut counts = HashMap::new();
        if !rooms.is_empty() {
            let mut connection = self.database.read().await?;
            for (room, thread, pos) in receipts::read_upto(&mut connection, online.user_pk, &rooms).await? {
                read.entry(room).or_default().insert(thread, pos);
            }
            counts = checkpoints::from_rows(written::get(&mut connection, online.user_pk, &rooms).await?);
        }
        Ok(ReadUpto { receipts, rooms: read, written: counts })
    }

    /// The thread that an event counts in.
    async fn thread_of(&self, event: &Stored) -> Result<String> {
        let relation = relations::relation(event.content.get());
        let target: OwnedEventId = match relations::thread_of(event, relation.as_ref()) {
            Thread::Root(root) => return Ok(root.to_string()),
            Thread::Main => return Ok(MAIN.to_owned()),
            Thread::SameAs(target) => target.into_owned(),
        };
        let target = self.rooms.event_by_id(&target).await?;
        let root =
            target.and_then(|target| relations::relation(target.content.get())?.thread_root().cloned());
        Ok(root.map_or_else(|| MAIN.to_owned(), |root| root.to_string()))
    }

    async fn push_context(&self, ask: &Ask<'_>, room: &Room) -> Result<PushConditionRoomCtx> {
        #[derive(Deserialize)]
        struct Member {
            displayname: Option<String>,
        }
        let root = self.current_root(room).await?;
        let user = ask.reader.user;
        let keys = [("m.room.create", ""), ("m.room.power_levels", ""), ("m.room.member", user.as_str())];
        let state = self.state_events(room, root, &keys).await?;
        let find = |kind: &str| state.iter().find(|event| &*event.kind == kind);
        let name = find("m.room.member").and_then(|event| event.content_as::<Member>()?.displayname);
        let levels = find("m.room.create").and_then(|create| {
            let levels = find("m.room.power_levels").map(|event| &**event);
            Powers::new(&room.rules, create, levels).ok()?.to_notify().ok()
        });
        let members = self.brief(room).await?.joined;
        Ok(rules::context(&room.id, members.cast_unsigned(), user, name.as_deref(), levels))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(unread: &mut Unread, thread: &str, pos: i64, is_own: bool, highlight: bool) {
        unread.add(thread, pos, is_own, || Ok(rules::Outcome { notify: true, highlight })).unwrap();
    }

    #[test]
    fn counts_are_kept_by_thread() {
        let mut unread = Unread { read: [("$t".to_owned(), 4)].into(), ..Unread::default() };
        add(&mut unread, MAIN, 3, false, false);
        add(&mut unread, "$t", 4, false, true);
        add(&mut unread, "$t", 5, false, true);
        let (main, threads) = unread.by_thread();
        assert_eq!(main, Count { notify: 1, highlight: 0 });
        assert_eq!(threads, [("$t".to_owned(), Count { notify: 1, highlight: 1 })].into());
        assert_eq!(unread.total(), Count { notify: 2, highlight: 1 });
        add(&mut unread, "$t", 6, true, false);
        assert_eq!(unread.total(), Count { notify: 1, highlight: 0 });
        assert!(unread.by_thread().1.is_empty());
    }

    #[test]
    fn a_receipt_without_a_thread_reads_everything() {
        let mut unread = Unread { read: [(String::new(), 9)].into(), ..Unread::default() };
        add(&mut unread, MAIN, 8, false, false);
        add(&mut unread, "$t", 9, false, false);
        assert_eq!(unread.total(), Count::default());
    }
}
