//! Sending messages, state and redactions.
//!
//! Types are taken from the path as they are: ruma's enums would merge some of them (see docs/decisions).

use axum::response::Response;
use myelin_core::rooms::append::Transaction;
use ruma::api::auth_scheme::AccessToken;
use ruma::api::client::redact::redact_event;
use ruma::{OwnedEventId, RoomId};
use serde_json::json;
use serde_json::value::RawValue;

use crate::{
    app::App,
    extract::{Incoming, Ruma, Session},
    response::{ApiError, json},
};

/// `PUT /rooms/{roomId}/send/{eventType}/{txnId}`
pub async fn message(app: App, incoming: Incoming) -> Result<Response, ApiError> {
    let session = incoming.authenticate::<AccessToken>(&app).await?;
    let [room_id, kind, txn_id] = arguments(&incoming)?;
    let room_id = room(&room_id)?;
    limit(&app, &session)?;
    let content = content(&app, incoming).await?;
    let transaction = transaction(&session, format!("send/{kind}"), txn_id);
    let sent = app.server.send_message(&room_id, &session.user, kind, content, transaction).await?;
    event_id(&sent)
}

/// `PUT /rooms/{roomId}/state/{eventType}/{stateKey}`
pub async fn state(app: App, incoming: Incoming) -> Result<Response, ApiError> {
    let session = incoming.authenticate::<AccessToken>(&app).await?;
    let mut arguments = incoming.arguments.clone().into_iter();
    let (room_id, kind) = (arguments.next().unwrap_or_default(), arguments.next().unwrap_or_default());
    let state_key = arguments.next().unwrap_or_default();
    let room_id = room(&room_id)?;
    limit(&app, &session)?;
    let content = content(&app, incoming).await?;
    let sent = app.server.send_state(&room_id, &session.user, kind, state_key, content).await?;
    event_id(&sent)
}

/// `PUT /rooms/{roomId}/redact/{eventId}/{txnId}`
pub async fn redact(
    app: App,
    request: Ruma<redact_event::v3::Request>,
) -> Result<redact_event::v3::Response, ApiError> {
    let Ruma { body, identity, .. } = request;
    let scope = format!("redact/{}", body.event_id);
    let transaction = transaction(&identity, scope, body.txn_id.to_string());
    let sent =
        app.server.redact(&body.room_id, &identity.user, &body.event_id, body.reason, transaction).await?;
    Ok(redact_event::v3::Response::new(sent))
}

fn arguments<const N: usize>(incoming: &Incoming) -> Result<[String; N], ApiError> {
    let found = incoming.arguments.clone();
    found
        .try_into()
        .map_err(|_| ApiError::internal("a route has another number of arguments than its handler"))
}

/// The content of an event: an object, whatever is in it.
async fn content(app: &App, incoming: Incoming) -> Result<Box<RawValue>, ApiError> {
    let content: Box<RawValue> = incoming.read_json(app).await?;
    match content.get().starts_with('{') {
        true => Ok(content),
        false => Err(ApiError::bad_json("the content of an event is an object")),
    }
}

pub(super) fn room(id: &str) -> Result<ruma::OwnedRoomId, ApiError> {
    RoomId::parse(id).map_err(|error| ApiError::invalid_param(format!("room id: {error}")))
}

fn transaction(session: &Session, scope: String, id: String) -> Option<Transaction> {
    // Without a device there is nothing that the id could be unique to.
    session.device.as_ref().map(|_| Transaction { device_pk: session.device_pk, scope, id })
}

fn event_id(id: &OwnedEventId) -> Result<Response, ApiError> {
    json(&json!({ "event_id": id }))
}

/// Counts an event of a user's. M_LIMIT_EXCEEDED.
fn limit(app: &App, session: &Session) -> Result<(), ApiError> {
    app.rate_limits.message.check(session.user.as_str(), app.now())
}
