//! Pages of a room's messages, and what stands around one of them.

use myelin_core::rooms::timeline::Point;
use ruma::api::Direction;
use ruma::api::client::{context::get_context, message::get_message_events};
use ruma::serde::Raw;
use serde_json::value::RawValue;

use crate::{app::App, extract::Ruma, response::ApiError};

/// Most events of one answer.
const MOST: usize = 1_000;

/// `GET /rooms/{roomId}/messages`
pub async fn list(
    app: App,
    request: Ruma<get_message_events::v3::Request>,
) -> Result<get_message_events::v3::Response, ApiError> {
    let Ruma { body, identity, .. } = request;
    let point = |token: Option<&str>| token.map(Point::parse).transpose();
    let span = (point(body.from.as_deref())?, point(body.to.as_deref())?);
    let backwards = body.dir == Direction::Backward;
    let limit = limit(body.limit)?;
    let page =
        app.server.messages(&body.room_id, &identity.reader(), span, backwards, limit, &body.filter).await?;
    let mut response = get_message_events::v3::Response::new();
    response.start = page.start.to_string();
    response.end = page.end.map(|end| end.to_string());
    response.chunk = raw(page.chunk);
    response.state = raw(page.state);
    Ok(response)
}

/// `GET /rooms/{roomId}/context/{eventId}`
pub async fn context(
    app: App,
    request: Ruma<get_context::v3::Request>,
) -> Result<get_context::v3::Response, ApiError> {
    let Ruma { body, identity, .. } = request;
    let limit = limit(body.limit)?;
    let found =
        app.server.context(&body.room_id, &body.event_id, &identity.reader(), limit, &body.filter).await?;
    let mut response = get_context::v3::Response::new();
    response.start = Some(found.start.to_string());
    response.end = Some(found.end.to_string());
    response.events_before = raw(found.before);
    response.event = Some(Raw::from_json(found.event));
    response.events_after = raw(found.after);
    response.state = raw(found.state);
    Ok(response)
}

fn limit(asked: ruma::UInt) -> Result<usize, ApiError> {
    Ok(usize::try_from(u64::from(asked)).unwrap_or(MOST).min(MOST))
}

fn raw<T>(events: Vec<Box<RawValue>>) -> Vec<Raw<T>> {
    events.into_iter().map(Raw::from_json).collect()
}
