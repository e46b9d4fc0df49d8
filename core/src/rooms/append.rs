//! The only door through which events come into a room: this server's here, those made elsewhere by [`receive`].
//!
//! Each room has a queue. Whoever wants to append puts a [`Request`] into it; one worker a room takes what waits (at most
//! [`TOGETHER`]), lets each event follow the one before in memory ([`plan`]), and submits all of them as one unit to the
//! committer, guarded by the version of the room on which they were planned. When another replica was faster the guard is
//! lost: the worker reads the room anew and plans again. A request is answered when its events are durable, and it is
//! carried out even if nobody waits for the answer any more.
//!
//! An event follows all extremities of the room, or the deepest [`plan::MOST_PREV_EVENTS`] of them, and so merges the
//! branches that events from elsewhere have made.

mod plan;
mod publish;
pub mod receive;
mod stripped;
mod template;
mod trees;

use crate::error::{Error, Result};
use crate::events::pdu::Pdu;
use crate::events::{can_be_id, canonical};
use crate::rooms::cache::{Room, Snapshot};
use crate::rooms::relations;
use crate::server::Server;
use myelin_storage::changes::{NewEvent, RoomChange};
use myelin_storage::rooms::memberships::{BAN, INVITE, JOIN, KNOCK, LEAVE};
use ruma::{OwnedEventId, OwnedUserId};
use serde_json::value::RawValue;
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Requests that are planned together.
const TOGETHER: usize = 64;
/// Requests that may wait for one room.
const WAITING: usize = 4_096;
/// Guards that may be lost before giving up.
const TRIES: usize = 8;

/// An event that somebody wants in a room; the rest of it follows from where it comes to stand.
#[derive(Clone, Debug)]
pub struct Draft {
    /// Who sends it.
    pub sender: OwnedUserId,
    /// The type, raw.
    pub kind: String,
    /// Present on state events.
    pub state_key: Option<String>,
    /// The content.
    pub content: Box<RawValue>,
    /// The target of a redaction.
    pub redacts: Option<OwnedEventId>,
    /// origin_server_ts, where it is not now.
    pub timestamp: Option<u64>,
}

impl Draft {
    /// A message event.
    pub fn message(sender: OwnedUserId, kind: impl Into<String>, content: Box<RawValue>) -> Draft {
        Draft { sender, kind: kind.into(), state_key: None, content, redacts: None, timestamp: None }
    }

    /// A state event.
    pub fn state(
        sender: OwnedUserId,
        kind: impl Into<String>,
        state_key: impl Into<String>,
        content: &impl serde::Serialize,
    ) -> Result<Draft> {
        let content =
            serde_json::value::to_raw_value(content).map_err(|error| Error::internal(error.to_string()))?;
        Ok(Draft { state_key: Some(state_key.into()), ..Draft::message(sender, kind, content) })
    }
}

/// A client's transaction id for a request.
#[derive(Clone, Debug)]
pub struct Transaction {
    /// The device.
    pub device_pk: i64,
    /// The endpoint and what follows it in the path: the same id elsewhere is another transaction. The room is added.
    pub scope: String,
    /// The id.
    pub id: String,
}

/// Events that go into a room together, or not at all.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// In their order.
    pub drafts: Vec<Draft>,
    /// The client's transaction.
    pub transaction: Option<Transaction>,
    /// The room does not exist yet: the first draft is its create event.
    pub creates: bool,
}

struct Waiting {
    request: Request,
    done: oneshot::Sender<Result<Vec<OwnedEventId>>>,
}

/// What waits to be appended to a room.
#[derive(Default)]
pub(crate) struct Queue {
    waiting: VecDeque<Waiting>,
    working: bool,
}

impl Server {
    /// Appends events to a room and gives their ids once they are durable.
    ///
    /// # Errors
    /// M_FORBIDDEN where the room's rules refuse one of them, M_TOO_LARGE, M_BAD_JSON for content that is not canonical.
    pub async fn append(self: &Arc<Self>, room: &Arc<Room>, request: Request) -> Result<Vec<OwnedEventId>> {
        let (done, answer) = oneshot::channel();
        let start = {
            let mut queue = room.queue.lock();
            if queue.waiting.len() >= WAITING {
                return Err(Error::LimitExceeded { retry_after_ms: 1_000 });
            }
            queue.waiting.push_back(Waiting { request, done });
            !std::mem::replace(&mut queue.working, true)
        };
        if start {
            tokio::spawn(work(self.clone(), room.clone()));
        }
        answer.await.map_err(|_| Error::Unavailable("the server is stopping".to_owned()))?
    }
}

/// A room's worker: it ends when nothing waits.
async fn work(server: Arc<Server>, room: Arc<Room>) {
    loop {
        let batch: Vec<Waiting> = {
            let mut queue = room.queue.lock();
            let count = queue.waiting.len().min(TOGETHER);
            if count == 0 {
                queue.working = false;
                return;
            }
            queue.waiting.drain(..count).collect()
        };
        let (requests, answers): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|waiting| (waiting.request, waiting.done)).unzip();
        let results = append(&server, &room, &requests).await;
        for (done, result) in answers.into_iter().zip(results) {
            // Whoever asked may have gone away.
            let _ = done.send(result);
        }
    }
}

async fn append(server: &Server, room: &Arc<Room>, requests: &[Request]) -> Vec<Result<Vec<OwnedEventId>>> {
    match is_watched(server, room, requests).await {
        Ok(false) => {}
        Ok(true) => {
            let mut results = Vec::with_capacity(requests.len());
            for request in requests {
                results.push(append_recommended(server, room, request).await);
            }
            return results;
        }
        Err(error) => return fail(requests, &error),
    }
    for attempt in 0..TRIES {
        let _turn = room.turn.lock().await;
        let plan = match plan::plan(server, room, requests, attempt > 0).await {
            Ok(plan) => plan,
            Err(error) => return fail(requests, &error),
        };
        match publish::commit(server, room, plan).await {
            Ok(results) => return results,
            // The room is there already: whoever creates it has to know.
            Err(Error::Storage(myelin_storage::Error::GuardLost)) if requests.iter().any(|r| r.creates) => {
                return requests.iter().map(|_| Err(myelin_storage::Error::GuardLost.into())).collect();
            }
            Err(Error::Storage(myelin_storage::Error::GuardLost)) => {
                room.forget();
                if let Err(error) = server.log.catch_up().await {
                    return fail(requests, &error);
                }
            }
            Err(error) => return fail(requests, &error),
        }
    }
    let error = Error::Unavailable("the room is being written to by too many replicas".to_owned());
    fail(requests, &error)
}

/// Whether a policy server has to be asked for the room's events.
async fn is_watched(server: &Server, room: &Arc<Room>, requests: &[Request]) -> Result<bool> {
    if requests.iter().any(|request| request.creates) {
        return Ok(false);
    }
    let root = server.current_root(room).await?;
    Ok(server.policy_server(room, root).await?.is_some())
}

/// Appends events that the room's policy server recommends. It is asked outside of the room's turn, so the room may have
/// moved when it has answered.
async fn append_recommended(
    server: &Server,
    room: &Arc<Room>,
    request: &Request,
) -> Result<Vec<OwnedEventId>> {
    for _ in 0..TRIES {
        let mut plan = plan::plan(server, room, std::slice::from_ref(request), true).await?;
        for (row, pdu) in plan.changes.events.iter_mut().zip(&mut plan.pdus) {
            let mut event = canonical::parse(&row.json).map_err(Error::internal_display)?;
            server.recommend(room, &mut event).await?;
            row.json = canonical::to_string(&event).map_err(Error::internal_display)?;
            let signed = Pdu::parse(pdu.event_id.clone(), &room.rules, &row.json);
            let mut signed = signed.map_err(Error::internal_display)?;
            (signed.pk, signed.state_root) = (pdu.pk, pdu.state_root);
            *pdu = Arc::new(signed);
        }
        let _turn = room.turn.lock().await;
        match publish::commit(server, room, plan).await {
            Ok(results) => return results.into_iter().next().unwrap_or_else(|| Ok(Vec::new())),
            Err(Error::Storage(myelin_storage::Error::GuardLost)) => {
                room.forget();
                server.log.catch_up().await?;
            }
            Err(error) => return Err(error),
        }
    }
    Err(Error::Unavailable("the room is being written to by too many others".to_owned()))
}

/// The same failure for everybody; its details are logged and not told.
fn fail(requests: &[Request], error: &Error) -> Vec<Result<Vec<OwnedEventId>>> {
    tracing::warn!(%error, "events could not be appended");
    let unavailable = || Error::Unavailable("the event could not be stored".to_owned());
    requests.iter().map(|_| Err(unavailable())).collect()
}

pub(crate) use stripped::keys as shown_keys;

/// What the table of memberships has for the membership of a member event.
fn membership_number(text: &str) -> Option<i64> {
    Some(match text {
        "invite" => INVITE,
        "join" => JOIN,
        "leave" => LEAVE,
        "ban" => BAN,
        "knock" => KNOCK,
        _ => return None,
    })
}

/// The row of an event that has no place yet.
fn row(pdu: &Pdu, room: &Room, json: String) -> NewEvent {
    NewEvent {
        event_pk: pdu.pk,
        event_id: pdu.event_id.to_string(),
        room_pk: room.pk,
        was_outlier: false,
        live: false,
        before_pos: None,
        depth: pdu.depth,
        root: pdu.state_root,
        flags: 0,
        ts: pdu.origin_server_ts.cast_signed(),
        json,
        state_after: None,
        membership: None,
        transaction: None,
    }
}

/// The row of a room that comes to stand elsewhere.
fn change(room: &Room, before: &Snapshot, after: &Snapshot) -> RoomChange {
    RoomChange {
        room_pk: room.pk,
        new: None,
        guard: before.guard,
        root: after.root,
        depth: after.depth,
        related: after.related,
        extremities: after.extremities.iter().map(|(pk, _)| *pk).collect(),
    }
}

/// The row of an event that relates to another one.
async fn relation(
    server: &Server,
    room: &Room,
    pdu: &Pdu,
) -> Result<Option<(i64, String, String, i64, String, i64)>> {
    let Some(relation) = relations::relation(pdu.content.get()) else { return Ok(None) };
    let (Some(rel_type), Some(target)) = (relation.rel_type, relation.event_id) else { return Ok(None) };
    if !can_be_id(&rel_type) || !can_be_id(target.as_str()) {
        return Ok(None);
    }
    let sender = server.ids.user(pdu.sender.as_str()).await?;
    Ok(Some((room.pk, target.to_string(), rel_type.into(), pdu.pk, pdu.kind.to_string(), sender)))
}
