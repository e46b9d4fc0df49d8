//! One server that is told things: its queue, and the task that empties it.

use super::{Inner, catch_up};
use crate::outbound::request::Patience;
use myelin_core::Result;
use myelin_storage::federation::outbox;
use parking_lot::Mutex;
use ruma::api::federation::transactions::edu::Edu;
use ruma::api::federation::transactions::send_transaction_message::v1::Request;
use ruma::serde::Raw;
use ruma::{MilliSecondsSinceUnixEpoch, OwnedServerName, UInt};
use serde_json::value::RawValue;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Events that wait for one server in memory; where more come, it has a backlog.
const WAITING: usize = 200;
/// Events of one transaction, as the specification limits them.
pub(super) const PDUS: usize = 50;
/// EDUs of one transaction.
const EDUS: usize = 100;
/// Typing and receipts that wait for one server; the oldest give way.
const VOLATILE: usize = 100;
/// Pause after an answer that helps nobody, in milliseconds; twice as long after each further one.
const PAUSE: i64 = 10_000;
/// The longest such pause: such a server lives, and may be repaired at any time.
const LONGEST_PAUSE: i64 = 60_000;
/// A server that speaks to us is tried at once, and then again only after this part of its pause. Otherwise two servers
/// that can't write anything down would speak to each other without end, each because the other did.
const PART: i64 = 10;

/// A server that is told things.
pub(super) struct Destination {
    pub(super) name: OwnedServerName,
    pub(super) state: Mutex<State>,
}

/// What is to be sent.
#[derive(Default)]
pub(super) struct State {
    /// Events by their positions.
    pub(super) queue: BTreeMap<i64, i64>,
    /// EDUs that may be lost, each with what it replaces.
    pub(super) volatile: VecDeque<(String, Box<RawValue>)>,
    /// The server has the events up to this position, and misses some behind it.
    pub(super) behind: Option<i64>,
    /// The newest event that came while it was behind.
    pub(super) missed: Option<i64>,
    /// The backlog is in the database as `behind` says.
    pub(super) noted: Option<i64>,
    /// Something waits in the outbox.
    pub(super) outbox: bool,
    /// The last pause, while its answers help nobody.
    pause: i64,
    /// When it is tried again, if it is left alone until then, and when that was decided.
    retry: Option<(i64, i64)>,
    running: bool,
    /// Something came while the task was about to end.
    again: bool,
    /// The server spoke to us since the task last began to send.
    spoke: bool,
    /// When it was last tried because it spoke.
    answered: i64,
}

impl State {
    /// The server will have to be caught up with, from its first event on that waits up to this one.
    pub(super) fn fall_behind(&mut self, newest: i64) {
        let first = self.queue.first_key_value().map_or(newest, |(pos, _)| *pos);
        self.queue.clear();
        self.behind.get_or_insert(first - 1);
        self.missed = self.missed.max(Some(newest));
    }

    /// Everything up to a position was caught up with. Says whether that is all.
    pub(super) fn caught_up(&mut self, upto: i64) -> bool {
        self.missed = self.missed.filter(|newest| *newest > upto);
        self.behind = self.missed.map(|_| upto);
        self.behind.is_none()
    }

    /// The server spoke, so that it may go better now: `None` to try it at once, or the time from which on.
    fn may_try(&mut self, now: i64) -> Option<i64> {
        let time = self.answered + self.pause / PART;
        if (self.answered..time).contains(&now) {
            return Some(time);
        }
        self.answered = now;
        None
    }

    fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.volatile.is_empty() && self.behind.is_none() && !self.outbox
    }
}

impl Destination {
    pub(super) fn new(name: OwnedServerName) -> Self {
        Self { name, state: Mutex::default() }
    }

    /// Whether its task has ended and is to begin anew later.
    pub(super) fn is_left_alone(&self) -> bool {
        self.state.lock().retry.is_some()
    }

    /// Puts an event into the queue.
    pub(super) fn push(&self, pos: i64, event_pk: i64) {
        let mut state = self.state.lock();
        if state.behind.is_some() || state.queue.len() >= WAITING {
            state.fall_behind(pos);
        } else {
            state.queue.insert(pos, event_pk);
        }
    }

    /// Puts an EDU into the queue that takes the place of an earlier one with the same key.
    pub(super) fn push_volatile(&self, key: String, edu: Box<RawValue>) {
        let mut state = self.state.lock();
        state.volatile.retain(|(known, _)| *known != key);
        if state.volatile.len() >= VOLATILE {
            state.volatile.pop_front();
        }
        state.volatile.push_back((key, edu));
    }
}

/// A destination speaks to us: where it was to be left alone it is tried nevertheless.
pub(super) fn try_now(inner: &Arc<Inner>, destination: &Arc<Destination>) {
    {
        let mut state = destination.state.lock();
        let now = inner.server.now_ms();
        state.spoke = true;
        let Some((planned, _)) = state.retry else { return };
        match state.may_try(now) {
            None => state.retry = None,
            Some(time) if time < planned => {
                state.retry = Some((time, now));
                inner.retry_at(time, now, &destination.name);
                return;
            }
            Some(_) => return,
        }
    }
    wake(inner, destination);
}

/// Starts the task of a destination, if it has something to do and none runs.
pub(super) fn wake(inner: &Arc<Inner>, destination: &Arc<Destination>) {
    {
        let mut state = destination.state.lock();
        // Behind the lock, or it may seem that the clock was put back since the state was written.
        let now = inner.server.now_ms();
        if state.running {
            state.again = true;
            return;
        }
        if state.is_idle() {
            return;
        }
        // A clock that was put back is no reason to wait for longer.
        if state.retry.is_some_and(|(time, since)| (since..time).contains(&now)) {
            // What waits is found again by catching up; nothing is kept in memory for it.
            if let Some((&last, _)) = state.queue.last_key_value() {
                state.fall_behind(last);
            }
            state.volatile.clear();
            return;
        }
        state.retry = None;
        state.running = true;
    }
    tokio::spawn(work(inner.clone(), destination.clone()));
}

async fn work(inner: Arc<Inner>, destination: Arc<Destination>) {
    loop {
        {
            let mut state = destination.state.lock();
            (state.again, state.spoke) = (false, false);
        }
        let now = inner.server.now_ms();
        let retry = match inner.client.backoff.until(&destination.name, now) {
            Some(time) => Some(time),
            None => match send_all(&inner, &destination).await {
                Ok(()) => {
                    destination.state.lock().pause = 0;
                    None
                }
                Err(error) => Some(failed(&inner, &destination, &error).await),
            },
        };
        if let Some(mut time) = retry {
            let now = {
                let mut state = destination.state.lock();
                let now = inner.server.now_ms();
                if let Some((&last, _)) = state.queue.last_key_value() {
                    state.fall_behind(last);
                }
                state.volatile.clear();
                if state.spoke {
                    // What failed was begun before.
                    match state.may_try(now) {
                        None => continue,
                        Some(sooner) => time = time.min(sooner),
                    }
                }
                state.running = false;
                state.retry = Some((time, now));
                now
            };
            if let Err(error) = catch_up::note(&inner, &destination).await {
                tracing::debug!(%error, "a backlog was not noted and will be with the next");
            }
            inner.retry_at(time, now, &destination.name);
            return;
        }
        let mut state = destination.state.lock();
        if !state.again && state.is_idle() {
            state.running = false;
            return;
        }
    }
}

/// When to try again.
async fn failed(inner: &Inner, destination: &Destination, error: &myelin_core::Error) -> i64 {
    tracing::info!(server = %destination.name, %error, "a server could not be told");
    let now = inner.server.now_ms();
    let mut state = destination.state.lock();
    state.pause = (2 * state.pause).clamp(PAUSE, LONGEST_PAUSE);
    inner.client.backoff.until(&destination.name, now).unwrap_or(now + state.pause)
}

/// Sends until nothing waits.
async fn send_all(inner: &Arc<Inner>, destination: &Arc<Destination>) -> Result<()> {
    loop {
        if destination.state.lock().behind.is_some() {
            catch_up::run(inner, destination).await?;
        }
        let (events, volatile, outbox_waits) = {
            let mut state = destination.state.lock();
            let events: Vec<(i64, i64)> =
                state.queue.iter().take(PDUS).map(|(pos, pk)| (*pos, *pk)).collect();
            let most = state.volatile.len().min(EDUS / 2);
            let volatile: Vec<_> = state.volatile.drain(..most).map(|(_, edu)| edu).collect();
            (events, volatile, std::mem::take(&mut state.outbox))
        };
        let durable = match outbox_waits {
            true => waiting(inner, destination).await,
            false => Ok(Vec::new()),
        };
        let durable = durable.inspect_err(|_| destination.state.lock().outbox = outbox_waits)?;
        if events.is_empty() && volatile.is_empty() && durable.is_empty() {
            return Ok(());
        }
        let pks: Vec<i64> = events.iter().map(|(_, pk)| *pk).collect();
        let mut edus: Vec<Box<RawValue>> = durable.iter().filter_map(|(_, edu)| raw(edu)).collect();
        edus.extend(volatile);
        let sent = transaction(inner, destination, &pks, edus).await;
        if let Err(error) = sent {
            destination.state.lock().outbox |= outbox_waits;
            return Err(error);
        }
        {
            let mut state = destination.state.lock();
            for (pos, _) in &events {
                state.queue.remove(pos);
            }
            state.outbox |= durable.len() >= EDUS / 2;
        }
        if let Some((upto, _)) = durable.last() {
            let (name, upto) = (destination.name.to_string(), *upto);
            let delivered = inner
                .server
                .commit
                .run(move |tx| Box::pin(async move { Ok(outbox::delivered(tx, &name, upto).await?) }));
            // What is not deleted is sent once more, and dropped there by its id.
            delivered.await.inspect_err(|_| destination.state.lock().outbox = true)?;
        }
    }
}

/// The oldest EDUs in the outbox, with their positions.
async fn waiting(inner: &Inner, destination: &Destination) -> Result<Vec<(i64, String)>> {
    let mut connection = inner.server.database.read().await?;
    Ok(outbox::waiting(&mut connection, destination.name.as_str(), 0, (EDUS / 2) as i64).await?)
}

fn raw(json: &str) -> Option<Box<RawValue>> {
    RawValue::from_string(json.to_owned()).ok()
}

/// Sends one transaction; returns when the server has it. What is not the answer to a transaction may come from
/// something that stands before the server, so it counts as none.
pub(super) async fn transaction(
    inner: &Inner,
    destination: &Destination,
    event_pks: &[i64],
    edus: Vec<Box<RawValue>>,
) -> Result<()> {
    let events = inner.server.rooms.events(event_pks).await?;
    let now = UInt::try_from(inner.server.now_ms()).unwrap_or_default();
    let mut request = Request::new(
        inner.transaction_id().into(),
        inner.server.owned_name(),
        MilliSecondsSinceUnixEpoch(now),
    );
    request.pdus = events.iter().filter_map(|event| RawValue::from_string(event.pdu.json()).ok()).collect();
    request.edus = edus.into_iter().map(Raw::<Edu>::from_json).collect();
    let answer = inner.client.send(&destination.name, request, Patience::TRANSACTION).await?;
    for (event, error) in answer.pdus.iter().filter_map(|(id, answer)| Some((id, answer.as_ref().err()?))) {
        tracing::debug!(server = %destination.name, %event, %error, "an event was not accepted");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dispatched_again_waits_once_and_in_order() {
        let to = Destination::new("x.example".try_into().unwrap());
        [(5, 50), (6, 60), (7, 70), (5, 50), (6, 60), (7, 70), (8, 80)]
            .iter()
            .for_each(|(pos, pk)| to.push(*pos, *pk));
        let waiting: Vec<i64> = to.state.lock().queue.values().copied().collect();
        assert_eq!(waiting, [50, 60, 70, 80]);
    }

    #[test]
    fn an_event_that_comes_while_a_server_is_caught_up_with_is_not_forgotten() {
        let to = Destination::new("x.example".try_into().unwrap());
        to.push(5, 50);
        to.state.lock().fall_behind(5);
        assert_eq!(to.state.lock().behind, Some(4));
        // These come while everything up to 7 is looked up, which has the first of them.
        to.push(7, 70);
        to.push(9, 90);
        assert!(!to.state.lock().caught_up(7));
        assert_eq!(to.state.lock().behind, Some(7));
        assert!(to.state.lock().caught_up(9));
        let state = to.state.lock();
        assert_eq!((state.behind, state.missed), (None, None));
    }

    #[test]
    fn a_full_queue_is_a_server_that_is_behind() {
        let to = Destination::new("x.example".try_into().unwrap());
        let most = WAITING as i64;
        (10..=10 + most).for_each(|pos| to.push(pos, pos));
        let state = to.state.lock();
        assert_eq!((state.behind, state.missed), (Some(9), Some(10 + most)));
        assert!(state.queue.is_empty());
    }
}
