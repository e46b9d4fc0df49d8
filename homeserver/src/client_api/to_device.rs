//! Messages to devices.

use myelin_core::to_device;
use ruma::{api::client::to_device::send_event_to_device, serde::Raw};

use super::keys::device;
use crate::{app::App, extract::Ruma, response::ApiError};

/// `PUT /_matrix/client/v3/sendToDevice/{eventType}/{txnId}`
pub async fn send(
    app: App,
    request: Ruma<send_event_to_device::v3::Request>,
) -> Result<send_event_to_device::v3::Response, ApiError> {
    let Ruma { body, identity, .. } = request;
    let mut messages = to_device::Messages::new();
    for (user, devices) in body.messages {
        let contents = devices.into_iter().map(|(device, content)| (device, Raw::into_json(content)));
        messages.insert(user, contents.collect());
    }
    let (kind, txn_id) = (body.event_type.to_string(), body.txn_id.to_string());
    to_device::send(&app.server, device(&identity)?, &kind, txn_id, messages).await?;
    Ok(send_event_to_device::v3::Response::new())
}
