//! Requests for verification that others send: to this device, or into a direct chat.

use matrix_sdk::{
    Client,
    encryption::verification::VerificationRequest,
    ruma::events::{
        key::verification::request::ToDeviceKeyVerificationRequestEvent,
        room::message::{MessageType, OriginalSyncRoomMessageEvent},
    },
};
use tokio::sync::mpsc;

/// The requests that arrive from now on. They are found by whoever syncs the client.
pub fn requests(client: &Client) -> mpsc::Receiver<VerificationRequest> {
    // More requests than this at once are nobody's wish.
    let (sender, receiver) = mpsc::channel(8);
    let to_device = sender.clone();
    client.add_event_handler(move |event: ToDeviceKeyVerificationRequestEvent, client: Client| {
        let sender = to_device.clone();
        async move { forward(&client, &event.sender, event.content.transaction_id.as_str(), &sender).await }
    });
    client.add_event_handler(move |event: OriginalSyncRoomMessageEvent, client: Client| {
        let sender = sender.clone();
        async move {
            if let MessageType::VerificationRequest(_) = &event.content.msgtype {
                forward(&client, &event.sender, event.event_id.as_str(), &sender).await;
            }
        }
    });
    receiver
}

async fn forward(
    client: &Client,
    from: &matrix_sdk::ruma::UserId,
    flow: &str,
    sender: &mpsc::Sender<VerificationRequest>,
) {
    let Some(request) = client.encryption().get_verification_request(from, flow).await else { return };
    if !request.we_started() && !request.is_cancelled() && !request.is_done() {
        // A full queue or a receiver that is gone: the request runs into its own timeout.
        let _ = sender.try_send(request);
    }
}
