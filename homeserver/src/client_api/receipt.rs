//! Receipts and read markers.

use myelin_core::rooms::receipts::Audience;
use ruma::api::client::read_marker::set_read_marker;
use ruma::api::client::receipt::create_receipt;
use ruma::events::receipt::ReceiptThread;
use ruma::{EventId, RoomId};

use crate::{
    app::App,
    extract::{Ruma, Session},
    response::ApiError,
};

/// `POST /rooms/{roomId}/receipt/{receiptType}/{eventId}`
pub async fn create(
    app: App,
    request: Ruma<create_receipt::v3::Request>,
) -> Result<create_receipt::v3::Response, ApiError> {
    use create_receipt::v3::ReceiptType;
    let Ruma { body, identity, .. } = request;
    let thread = thread(&body.thread)?;
    match body.receipt_type {
        ReceiptType::Read => {
            read(&app, &identity, &body.room_id, Audience::Public, thread, &body.event_id).await?
        }
        ReceiptType::ReadPrivate => {
            read(&app, &identity, &body.room_id, Audience::Private, thread, &body.event_id).await?;
        }
        ReceiptType::FullyRead if thread.is_empty() => {
            fully_read(&app, &identity, &body.room_id, &body.event_id).await?;
        }
        ReceiptType::FullyRead => return Err(ApiError::invalid_param("m.fully_read has no thread")),
        _ => return Err(ApiError::invalid_param("the receipt type is none that this server knows")),
    }
    Ok(create_receipt::v3::Response::new())
}

/// `POST /rooms/{roomId}/read_markers`
pub async fn markers(
    app: App,
    request: Ruma<set_read_marker::v3::Request>,
) -> Result<set_read_marker::v3::Response, ApiError> {
    let Ruma { body, identity, .. } = request;
    let room_id = &body.room_id;
    if let Some(event) = &body.fully_read {
        fully_read(&app, &identity, room_id, event).await?;
    }
    if let Some(event) = &body.read_receipt {
        read(&app, &identity, room_id, Audience::Public, String::new(), event).await?;
    }
    if let Some(event) = &body.private_read_receipt {
        read(&app, &identity, room_id, Audience::Private, String::new(), event).await?;
    }
    Ok(set_read_marker::v3::Response::new())
}

fn thread(thread: &ReceiptThread) -> Result<String, ApiError> {
    match thread {
        ReceiptThread::Unthreaded => Ok(String::new()),
        ReceiptThread::Main => Ok("main".to_owned()),
        ReceiptThread::Thread(root) => Ok(root.to_string()),
        _ => Err(ApiError::invalid_param("thread_id is neither `main` nor an event id")),
    }
}

async fn read(
    app: &App,
    session: &Session,
    room_id: &RoomId,
    audience: Audience,
    thread: String,
    event_id: &EventId,
) -> Result<(), ApiError> {
    let room = app.server.joined_room(room_id, &session.user).await?;
    Ok(app.server.read(&room, session.user_pk, audience, thread, event_id).await?)
}

async fn fully_read(
    app: &App,
    session: &Session,
    room_id: &RoomId,
    event_id: &EventId,
) -> Result<(), ApiError> {
    let room = app.server.joined_room(room_id, &session.user).await?;
    Ok(app.server.fully_read(&room, session.user_pk, event_id).await?)
}
