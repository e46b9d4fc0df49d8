//! A transaction of another server: events and EDUs.
//!
//! It is answered when its events are durable. A repeated transaction gets the first answer, which is stored where going
//! through it again could give another one; one whose first attempt is still under way waits for it. Each event is
//! judged by itself, and its failure is told by its id.

use super::{event_id, passed_over, room_of, text};
use crate::Federation;
use myelin_core::events::canonical;
use myelin_core::rooms::append::receive::{Received, ToldBy};
use myelin_core::rooms::cache::Room;
use myelin_core::users::{LONGEST_TEXT, check_text};
use myelin_core::{Error, Result};
use myelin_storage::changes::Changes;
use myelin_storage::transaction_ids;
use ruma::api::federation::transactions::send_transaction_message::v1::{Request, Response};
use ruma::canonical_json::{CanonicalJsonObject, CanonicalJsonValue};
use ruma::{EventId, OwnedEventId, OwnedServerName, RoomId, ServerName, UserId};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Events of one transaction.
const MOST_PDUS: usize = 50;
/// Transactions of one server that are here at once; a server that keeps to the specification sends one.
const MOST_WAITING: usize = 16;
/// EDUs of one transaction.
const MOST_EDUS: usize = 100;

type Answers = BTreeMap<OwnedEventId, Result<(), String>>;

/// What became of an event.
pub(crate) struct Judged {
    id: OwnedEventId,
    answer: Result<(), String>,
    /// It was not here, and now it is.
    is_new: bool,
}

impl Federation {
    /// Carries a transaction out.
    ///
    /// # Errors
    /// M_BAD_JSON where it has too many events, M_LIMIT_EXCEEDED where many of its server are under way.
    pub async fn transaction(&self, origin: OwnedServerName, request: Request) -> Result<Response> {
        if request.pdus.len() > MOST_PDUS || request.edus.len() > MOST_EDUS {
            return Err(Error::bad_json(format!(
                "a transaction has at most {MOST_PDUS} events and {MOST_EDUS} EDUs"
            )));
        }
        check_text("the transaction id", request.transaction_id.as_str(), LONGEST_TEXT)?;
        let scope = format!("send/{origin}");
        let id = request.transaction_id.to_string();
        // One at a time from a server, so that a repeated one waits for the first.
        let turn = self.sender.turn_of(&origin);
        if Arc::strong_count(&turn) > MOST_WAITING {
            return Err(Error::LimitExceeded { retry_after_ms: 1_000 });
        }
        let _turn = turn.lock().await;
        if !request.edus.is_empty()
            && let Some(answers) = self.answered(&scope, &id).await?
        {
            return Ok(Response::new(answers));
        }
        let mut answers = Answers::new();
        let mut all_new = true;
        for pdu in &request.pdus {
            let Some(judged) = self.pdu(&origin, pdu).await? else { continue };
            all_new &= judged.is_new;
            answers.insert(judged.id, judged.answer);
        }
        for edu in &request.edus {
            match self.edu(&origin, edu.json().get()).await {
                Ok(()) => {}
                Err(error) => passed_over(error, &origin, "an EDU")?,
            }
        }
        self.device_lists.go_on(&origin);
        if request.edus.is_empty() {
            // Where no event had been here, this transaction had not either.
            let known = if all_new { None } else { self.answered(&scope, &id).await? };
            // Events that are here already are answered the same again, so what went well need not be remembered.
            if known.is_some() || answers.values().all(Result::is_ok) {
                return Ok(Response::new(known.unwrap_or(answers)));
            }
        }
        let row = (0, scope, id, to_json(&answers), self.server.now_ms());
        let changes = Changes { transactions: vec![row], ..Changes::default() };
        self.server.commit.write(changes, |_| ()).await?;
        Ok(Response::new(answers))
    }

    /// The answer to a transaction that is repeated.
    async fn answered(&self, scope: &str, id: &str) -> Result<Option<Answers>> {
        let answer = transaction_ids::find(&mut self.server.database.read().await?, 0, scope, id).await?;
        Ok(answer.map(|answer| from_json(&answer)))
    }

    /// One event. `None` for what has not even an id. An error means that this server failed: the other one tries again.
    async fn pdu(&self, origin: &ServerName, pdu: &RawValue) -> Result<Option<Judged>> {
        let Ok(event) = canonical::parse(pdu.get()) else { return Ok(None) };
        let Some(room_id) = room_of(&event) else { return Ok(None) };
        let Some(event) = self.joined(&room_id, origin, event).await? else { return Ok(None) };
        self.room_event(origin, &room_id, event).await
    }

    /// The same, once it is known which room it is of.
    pub(crate) async fn room_event(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        event: CanonicalJsonObject,
    ) -> Result<Option<Judged>> {
        let room = match self.server.rooms.find(room_id).await {
            Ok(Some(room)) => room,
            Ok(None) => return Ok(None),
            Err(error) => {
                return passed_over(error, origin, "an event of a room that can't be read").map(|()| None);
            }
        };
        let Ok(id) = event_id(&event, &room) else { return Ok(None) };
        let (answer, is_new) = match self.judge(origin, &room, &id, event).await {
            Ok(is_new) => (Ok(()), is_new),
            Err(error) => {
                let answer = match &error {
                    // What is wrong here is nobody else's affair.
                    Error::Storage(_) | Error::Internal(_) => "the event can't be stored".to_owned(),
                    error => error.to_string(),
                };
                passed_over(error, origin, "an event")?;
                (Err(answer), false)
            }
        };
        Ok(Some(Judged { id, answer, is_new }))
    }

    /// Takes an event in and says whether it is new. An error says why it is not accepted, or that this server failed.
    async fn judge(
        &self,
        origin: &ServerName,
        room: &Arc<Room>,
        id: &EventId,
        event: CanonicalJsonObject,
    ) -> Result<bool> {
        match self.server.room_for_server(&room.id, origin).await {
            Ok(_) => {}
            Err(_) if self.ends_invitation(origin, room, &event).await? => return Ok(false),
            Err(error) => return Err(error),
        }
        match self.take_in(origin, room, event, ToldBy::Sender).await? {
            Received::Accepted(_) => Ok(true),
            // That the event is not shown is this server's own affair.
            Received::Known(_) | Received::SoftFailed(..) => Ok(false),
            Received::Rejected(_, reason) => Err(Error::Forbidden(reason.0)),
            Received::Refused(reason) => Err(Error::BadJson(reason)),
            // It is no fault of the event, and may be had when another event leads to it.
            Received::Missing { .. } => {
                tracing::debug!(%origin, event = %id, "what an event needs could not be fetched");
                Ok(false)
            }
        }
    }
}

impl Federation {
    /// An invitation of a user of ours is taken back by who sent it, in a room that this server is not in. Whether
    /// others may do so can't be told from here.
    async fn ends_invitation(
        &self,
        origin: &ServerName,
        room: &Arc<Room>,
        event: &CanonicalJsonObject,
    ) -> Result<bool> {
        let content = event.get("content").and_then(CanonicalJsonValue::as_object);
        let sets = content.and_then(|content| content.get("membership")?.as_str());
        let user = text(event, "state_key").and_then(|key| <&UserId>::try_from(key).ok());
        let sender = text(event, "sender").and_then(|sender| <&UserId>::try_from(sender).ok());
        let (Some(user), Some(sender)) = (user, sender) else { return Ok(false) };
        let ends = text(event, "type") == Some("m.room.member") && matches!(sets, Some("leave" | "ban"));
        if !ends || !self.server.is_local(user) || sender.server_name() != origin {
            return Ok(false);
        }
        let Some(inviter) = self.server.invited_by(room, user).await? else { return Ok(false) };
        if inviter != sender || self.server.is_in(room).await? {
            return Ok(false);
        }
        let keys = self.keys.for_event(event, &room.rules).await?;
        let received = self.server.receive_outside(room, event.clone(), &keys, None).await?;
        Ok(matches!(received, Received::Accepted(_)))
    }
}

fn to_json(answers: &Answers) -> String {
    let refused =
        |(id, answer): (&OwnedEventId, &Result<(), String>)| (id.to_string(), answer.as_ref().err().cloned());
    let map: BTreeMap<String, Option<String>> = answers.iter().map(refused).collect();
    serde_json::to_string(&map).unwrap_or_default()
}

fn from_json(text: &str) -> Answers {
    let map: BTreeMap<OwnedEventId, Option<String>> = serde_json::from_str(text).unwrap_or_default();
    map.into_iter().map(|(id, refused)| (id, refused.map_or(Ok(()), Err))).collect()
}
