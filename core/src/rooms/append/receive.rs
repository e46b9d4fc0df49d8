//! The door for events that were made elsewhere.
//!
//! [`Server::receive`] takes an event through the checks of the server-server API, in their order:
//!
//! 1. its form, and 2. its signatures: on failure it is [`Received::Refused`] and nothing is kept;
//! 3. its content hash: on failure its redacted form goes on;
//! 4. the rules by its auth events, and 5. by the state before it: on failure it is rejected;
//! 6. the rules by the current state: on failure it is soft-failed.
//!
//! Rejected and soft-failed events stay in the graph, have no position in the log and are no extremities. The state
//! before an event is resolved from the states after its previous events; the current state from those after all
//! extremities. When that moves by more than the event itself (branches merge, or a branch wins that had lost), the
//! move is an entry of the log of its own.
//!
//! Nothing is asked over the network here. What an event needs and this server does not have is answered
//! ([`Received::Missing`]); whoever can fetch it hands in auth events by [`Server::receive_outliers`], previous events
//! as they are, oldest first, or the state before the event ([`Arrival::state`]), and then the event again.
//!
//! States are resolved outside of the room's turn, on a snapshot; the commit is guarded by the snapshot's version, and
//! whoever loses plans anew, after [`FREE_TRIES`] times within the turn.

pub mod check;
mod near;
mod outliers;
mod outside;
mod place;

use self::check::Checked;
use super::plan::Plan;
use super::publish;
use crate::error::{Error, Result};
use crate::rooms::authorize::Reason;
use crate::rooms::cache::Room;
use crate::server::Server;
use futures_util::future::BoxFuture;
use myelin_storage::rooms;
use ruma::canonical_json::CanonicalJsonObject;
use ruma::signatures::PublicKeyMap;
use ruma::{OwnedEventId, RoomId, RoomVersionId};
use std::sync::Arc;

/// Guards that may be lost before the event is planned within the room's turn.
const FREE_TRIES: usize = 3;
/// Guards that may be lost before giving up: other replicas take no turns with this one.
const TRIES: usize = 32;

/// How an event came, and what came with it.
#[derive(Clone, Debug, Default)]
pub struct Arrival {
    /// The event is history that belongs before this event: it gets no position and comes down no /sync.
    pub history_before: Option<OwnedEventId>,
    /// States before the event, by the word of a server that has the previous events that are not here: after each of
    /// them, or one for all. The events themselves are handed in by [`Server::receive_outliers`].
    pub states: Vec<Vec<OwnedEventId>>,
    /// Who tells the other servers of the room.
    pub told_by: ToldBy,
}

/// Who tells the other servers of a room of an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ToldBy {
    /// The server of its sender.
    #[default]
    Sender,
    /// This server: the event came by a handshake (a join, leave or knock).
    Us,
    /// Another server, with which this one joined the room.
    Other,
}

/// What became of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// It is in the room.
    Accepted(OwnedEventId),
    /// It is allowed where it stands, and not by the current state: in the graph, and not shown.
    SoftFailed(OwnedEventId, Reason),
    /// It is not allowed where it stands: in the graph, without effect.
    Rejected(OwnedEventId, Reason),
    /// It was here already.
    Known(OwnedEventId),
    /// It cannot be judged before these are here; nothing of it was kept.
    Missing {
        /// Auth events, and events of the given state.
        auth: Vec<OwnedEventId>,
        /// Previous events.
        prev: Vec<OwnedEventId>,
    },
    /// It is no event of this room, or its signatures are wrong; nothing of it was kept.
    Refused(String),
}

/// What is to be taken in.
enum Work<'a> {
    /// An event that gets its place.
    Event(&'a Checked, &'a Arrival),
    /// Outliers; the errors say why some were refused.
    Outliers(&'a [Result<Checked, String>]),
    /// A member event of a room that this server is not in, with what is shown of the room.
    Outside(&'a Checked, Option<&'a str>),
}

/// What planning led to.
enum Step {
    /// There is nothing to write.
    Answer(Vec<Received>),
    /// What is to be written, and the answer once it is.
    Write(Box<Plan>, Vec<Received>),
}

/// Checks an event by itself, and that it is of the room.
fn check_in(room: &Room, event: CanonicalJsonObject, keys: &PublicKeyMap) -> Result<Checked, String> {
    let checked = check::check(&room.rules, event, keys)?;
    match checked.pdu.room_id == room.id {
        true => Ok(checked),
        false => Err(format!("the event is of the room {}", checked.pdu.room_id)),
    }
}

impl Server {
    /// A room that other servers made: the one that is here, or an empty one, for events to come into.
    pub async fn enter_room(&self, room_id: &RoomId, version: &RoomVersionId) -> Result<Arc<Room>> {
        if let Some(room) = self.rooms.find(room_id).await? {
            return Ok(room);
        }
        let candidate = self.ids.rooms.next().await?;
        let pk = rooms::intern(&self.database, room_id.as_str(), version.as_str(), candidate).await?;
        self.rooms.enter(pk, room_id.to_owned(), version.clone())
    }

    /// Takes an event in that another server made. `keys` are those of the servers that must have signed it
    /// ([`crate::events::signatures::signers`]).
    pub async fn receive(
        &self,
        room: &Arc<Room>,
        event: CanonicalJsonObject,
        keys: &PublicKeyMap,
        arrival: &Arrival,
    ) -> Result<Received> {
        let checked = match check_in(room, event, keys) {
            Ok(checked) => checked,
            Err(reason) => return Ok(Received::Refused(reason)),
        };
        let answers = self.guarded(room, Work::Event(&checked, arrival)).await?;
        answers.into_iter().next().ok_or_else(|| Error::internal("an event without an answer"))
    }

    /// Takes events in that others are judged by: auth events, and the events of a state. They have no place in the
    /// graph until they are [received](Server::receive) for themselves. The answers are in the order of the events,
    /// which may be any.
    pub async fn receive_outliers(
        &self,
        room: &Arc<Room>,
        events: Vec<CanonicalJsonObject>,
        keys: &PublicKeyMap,
    ) -> Result<Vec<Received>> {
        let checked: Vec<_> = events.into_iter().map(|event| check_in(room, event, keys)).collect();
        self.guarded(room, Work::Outliers(&checked)).await
    }

    /// Takes a member event of a user of ours in that belongs to a room which this server is not in: an invitation, or
    /// the end of one. `stripped` is what the user is shown of the room, as a JSON list.
    pub async fn receive_outside(
        &self,
        room: &Arc<Room>,
        event: CanonicalJsonObject,
        keys: &PublicKeyMap,
        stripped: Option<&str>,
    ) -> Result<Received> {
        let checked = match check_in(room, event, keys) {
            Ok(checked) => checked,
            Err(reason) => return Ok(Received::Refused(reason)),
        };
        let answers = self.guarded(room, Work::Outside(&checked, stripped)).await?;
        answers.into_iter().next().ok_or_else(|| Error::internal("an event without an answer"))
    }

    /// Plans and commits until no other writer was faster.
    async fn guarded(&self, room: &Arc<Room>, work: Work<'_>) -> Result<Vec<Received>> {
        let _order = room.receiving.lock().await;
        for attempt in 0..TRIES {
            let mut turn = match attempt < FREE_TRIES {
                true => None,
                false => Some(room.turn.lock().await),
            };
            // Boxed: what is planned is large, and its future is held by whoever receives.
            let planning: BoxFuture<'_, Result<Step>> = match &work {
                Work::Event(checked, arrival) => {
                    Box::pin(place::plan(self, room, checked, arrival, attempt > 0))
                }
                Work::Outliers(checked) => Box::pin(outliers::plan(self, room, checked)),
                Work::Outside(checked, stripped) => Box::pin(outside::plan(self, room, checked, *stripped)),
            };
            let (plan, answers) = match planning.await? {
                Step::Answer(answers) => return Ok(answers),
                Step::Write(plan, answers) => (plan, answers),
            };
            if turn.is_none() {
                turn = Some(room.turn.lock().await);
            }
            match publish::commit(self, room, *plan).await {
                Ok(_) => return Ok(answers),
                Err(Error::Storage(myelin_storage::Error::GuardLost)) => {
                    room.forget();
                    self.log.catch_up().await?;
                }
                Err(error) => return Err(error),
            }
            drop(turn);
        }
        Err(Error::Unavailable("the room is being written to by too many replicas".to_owned()))
    }
}
