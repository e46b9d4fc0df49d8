//! Entering and leaving rooms through other servers: `make_*`, our signature, `send_*`.

mod invite;
pub(crate) mod joining;

use crate::Federation;
use crate::inbound::{membership, raw_event};
use crate::outbound::request::Patience;
use crate::receive::{event_id, parse_all, room_of, text};
use futures_util::future::BoxFuture;
use myelin_core::events::{canonical, hashes};
use myelin_core::ports::Wish;
use myelin_core::rooms::append::receive::{Arrival, Received, ToldBy};
use myelin_core::rooms::cache::Room;
use myelin_core::rooms::version;
use myelin_core::{Error, Result};
use ruma::api::federation::membership::{
    create_join_event, create_knock_event, create_leave_event, prepare_join_event, prepare_knock_event,
    prepare_leave_event,
};
use ruma::canonical_json::{CanonicalJsonObject, CanonicalJsonValue};
use ruma::room_version_rules::RoomVersionRules;
use ruma::{Int, OwnedEventId, OwnedServerName, RoomVersionId, ServerName};
use serde_json::value::RawValue;
use std::sync::Arc;

/// Servers that are tried for one wish.
const MOST_SERVERS: usize = 10;
/// A template that was completed: the event with its id, for rooms of a version.
struct Completed {
    event: CanonicalJsonObject,
    id: OwnedEventId,
    version: RoomVersionId,
    rules: RoomVersionRules,
}

impl Federation {
    /// Tries servers until one gives an answer that counts for all of them.
    async fn through<'a, T>(
        &'a self,
        via: &'a [OwnedServerName],
        ask: impl Fn(&'a ServerName) -> BoxFuture<'a, Result<T>> + Send,
    ) -> Result<T> {
        let mut last = Error::not_found("no server is known that is in this room");
        for server in via.iter().take(MOST_SERVERS) {
            match ask(server).await {
                Ok(done) => return Ok(done),
                // It may be that it does not know better: the others may. But what it says is worth more than silence.
                Err(error) => {
                    tracing::debug!(%server, %error, "a room can't be entered or left through a server");
                    if !matches!(last, Error::Forbidden(_) | Error::IncompatibleRoomVersion(_)) {
                        last = error;
                    }
                }
            }
        }
        Err(last)
    }

    /// Joins a room.
    pub(crate) async fn join_room<'a>(&'a self, wish: Wish<'a>) -> Result<()> {
        let turn = self.joining.begin(wish.room_id).await;
        let announced = self.announce_join(wish.room_id);
        let joined = self.through(wish.via, |server| Box::pin(self.join_by(server, wish))).await;
        drop(announced);
        let held = self.joining.end(wish.room_id, turn);
        if joined.is_ok() {
            self.take_in_held(wish.room_id, held);
        }
        joined
    }

    async fn join_by(&self, server: &ServerName, wish: Wish<'_>) -> Result<()> {
        let mut request = prepare_join_event::v1::Request::new(wish.room_id.to_owned(), wish.user.to_owned());
        request.ver = version::SUPPORTED.to_vec();
        let template = self.client.send(server, request, Patience::INSIST).await?;
        let completed = self.complete(wish, template.room_version, &template.event, "join")?;
        let pdu = raw_event(&completed.event)?;
        let request = create_join_event::v2::Request::new(wish.room_id.to_owned(), completed.id.clone(), pdu);
        let answer = self.client.send(server, request, Patience::ROOM).await?.room_state;
        let mut event = completed.event;
        if let Some(returned) = &answer.event {
            // A restricted join comes back with another signature.
            let returned =
                canonical::parse(returned.get()).map_err(|error| Error::Elsewhere(error.to_string()))?;
            let id = hashes::event_id(&returned, &completed.rules);
            if id.is_ok_and(|id| id == completed.id) {
                event = returned;
            }
        }
        let state = parse_all(&answer.state);
        must_have_create(&state, &completed.version)?;
        let room = self.server.enter_room(wish.room_id, &completed.version).await?;
        self.settle(&room, event, parse_all(&answer.auth_chain), state).await
    }

    /// Takes in what a join was answered with.
    async fn settle(
        &self,
        room: &Arc<Room>,
        event: CanonicalJsonObject,
        chain: Vec<CanonicalJsonObject>,
        state: Vec<CanonicalJsonObject>,
    ) -> Result<()> {
        let ids: Vec<OwnedEventId> = state.iter().filter_map(|event| event_id(event, room).ok()).collect();
        let mut all = chain;
        all.extend(state);
        self.take_outliers(room, all).await?;
        let here = self.server.rooms.events_by_ids(&ids).await?;
        let state = ids.into_iter().filter(|id| here.contains_key(id)).collect();
        let keys = self.keys.for_event(&event, &room.rules).await?;
        let arrival = Arrival { states: vec![state], told_by: ToldBy::Other, ..Arrival::default() };
        match self.server.receive(room, event, &keys, &arrival).await? {
            Received::Accepted(_) | Received::Known(_) => Ok(()),
            Received::Rejected(_, reason) | Received::SoftFailed(_, reason) => {
                Err(Error::forbidden(format!("the room does not let you in: {}", reason.0)))
            }
            Received::Refused(reason) => Err(Error::Elsewhere(reason)),
            Received::Missing { .. } => {
                Err(Error::Elsewhere("the other server did not give all that the join needs".to_owned()))
            }
        }
    }

    /// Knocks on a room.
    pub(crate) async fn knock_room<'a>(&'a self, wish: Wish<'a>) -> Result<()> {
        self.through(wish.via, |server| Box::pin(self.knock_by(server, wish))).await
    }

    async fn knock_by(&self, server: &ServerName, wish: Wish<'_>) -> Result<()> {
        let mut request =
            prepare_knock_event::v1::Request::new(wish.room_id.to_owned(), wish.user.to_owned());
        request.ver = version::SUPPORTED.to_vec();
        let template = self.client.send(server, request, Patience::INSIST).await?;
        let completed = self.complete(wish, Some(template.room_version), &template.event, "knock")?;
        let pdu = raw_event(&completed.event)?;
        let request =
            create_knock_event::v1::Request::new(wish.room_id.to_owned(), completed.id.clone(), pdu.clone());
        let answer = self.client.send(server, request, Patience::INSIST).await?;
        let shown = membership::shown(&answer.knock_room_state, &pdu)?;
        self.note_outside(wish, completed, Some(&shown)).await
    }

    /// Declines an invitation or takes a knock back. Where no server answers the user is out all the same.
    pub(crate) async fn leave_room<'a>(&'a self, wish: Wish<'a>) -> Result<()> {
        match self.through(wish.via, |server| Box::pin(self.leave_by(server, wish))).await {
            Ok(completed) => self.note_outside(wish, completed, None).await,
            Err(error) => {
                tracing::info!(%error, room = %wish.room_id, "an invitation is declined here only");
                self.leave_alone(wish).await
            }
        }
    }

    async fn leave_by(&self, server: &ServerName, wish: Wish<'_>) -> Result<Completed> {
        let request = prepare_leave_event::v1::Request::new(wish.room_id.to_owned(), wish.user.to_owned());
        let template = self.client.send(server, request, Patience::QUICK).await?;
        let completed = self.complete(wish, template.room_version, &template.event, "leave")?;
        let pdu = raw_event(&completed.event)?;
        let request =
            create_leave_event::v2::Request::new(wish.room_id.to_owned(), completed.id.clone(), pdu);
        self.client.send(server, request, Patience::QUICK).await?;
        Ok(completed)
    }

    /// A leave event that no other server knows.
    async fn leave_alone(&self, wish: Wish<'_>) -> Result<()> {
        let room = self.server.rooms.get(wish.room_id).await?;
        let template = serde_json::json!({
            "type": "m.room.member", "room_id": room.id, "sender": wish.user, "state_key": wish.user,
            "content": wish.content, "depth": 1, "prev_events": [], "auth_events": [],
        });
        let template = serde_json::value::to_raw_value(&template).map_err(Error::internal_display)?;
        let completed = self.complete(wish, Some(room.version.clone()), &template, "leave")?;
        self.note_outside(wish, completed, None).await
    }

    async fn note_outside(&self, wish: Wish<'_>, completed: Completed, shown: Option<&str>) -> Result<()> {
        let room = self.server.enter_room(wish.room_id, &completed.version).await?;
        let keys = self.keys.for_event(&completed.event, &completed.rules).await?;
        match self.server.receive_outside(&room, completed.event, &keys, shown).await? {
            Received::Refused(reason) => Err(Error::internal(reason)),
            _ => Ok(()),
        }
    }

    /// Turns another server's template into an event of ours. What the event says beyond where it stands is decided here.
    fn complete(
        &self,
        wish: Wish<'_>,
        version: Option<RoomVersionId>,
        template: &RawValue,
        membership: &str,
    ) -> Result<Completed> {
        let nonsense = |text: &str| Error::Elsewhere(format!("the other server's template: {text}"));
        let version = version.ok_or_else(|| nonsense("it names no room version"))?;
        let rules = version::rules(&version).ok_or_else(|| {
            Error::UnsupportedRoomVersion(format!("room version {version} is not supported"))
        })?;
        let mut event = canonical::parse(template.get()).map_err(|error| nonsense(&error.to_string()))?;
        let user = wish.user.as_str();
        if text(&event, "type") != Some("m.room.member")
            || text(&event, "sender") != Some(user)
            || text(&event, "state_key") != Some(user)
            || room_of(&event).is_none_or(|id| id != *wish.room_id)
        {
            return Err(nonsense("it is no member event of this user in this room"));
        }
        let theirs = event.get("content").and_then(CanonicalJsonValue::as_object);
        let by = theirs.and_then(|content| content.get("join_authorised_via_users_server")).cloned();
        let content = serde_json::to_string(wish.content).map_err(Error::internal_display)?;
        let mut content = canonical::parse(&content).map_err(|error| Error::bad_json(error.to_string()))?;
        content.insert("membership".to_owned(), CanonicalJsonValue::String(membership.to_owned()));
        content.remove("join_authorised_via_users_server");
        if let Some(by) = by.filter(|_| membership == "join") {
            content.insert("join_authorised_via_users_server".to_owned(), by);
        }
        event.insert("content".to_owned(), CanonicalJsonValue::Object(content));
        let now = Int::new_saturating(self.server.now_ms());
        event.insert("origin_server_ts".to_owned(), now.into());
        for field in ["hashes", "signatures", "unsigned", "event_id", "origin"] {
            event.remove(field);
        }
        self.server
            .key
            .hash_and_sign(self.server.name(), &mut event, &rules)
            .map_err(|error| nonsense(&error.to_string()))?;
        let id = hashes::event_id(&event, &rules).map_err(|error| nonsense(&error.to_string()))?;
        Ok(Completed { event, id, version, rules })
    }
}

/// The state must have a create event of the version that was promised: else everything would be judged by wrong rules.
fn must_have_create(state: &[CanonicalJsonObject], version: &RoomVersionId) -> Result<()> {
    let create = state.iter().find(|event| text(event, "type") == Some("m.room.create"));
    let content = create.and_then(|create| create.get("content")?.as_object());
    let Some(content) = content else {
        return Err(Error::Elsewhere("the other server's state has no create event".to_owned()));
    };
    let said = content.get("room_version").and_then(CanonicalJsonValue::as_str).unwrap_or("1");
    match said == version.as_str() {
        true => Ok(()),
        false => Err(Error::Elsewhere(format!("the room has version {said}, not {version}"))),
    }
}
