//! Transactions: see [`crate::receive`].

use crate::Federation;
use myelin_core::{Error, Result};
use ruma::OwnedServerName;
use ruma::api::federation::transactions::send_transaction_message::v1::{Request, Response};
use std::sync::Arc;

/// `PUT /send/{txnId}`
pub async fn send(
    federation: Arc<Federation>,
    origin: OwnedServerName,
    request: Request,
) -> Result<Response> {
    if request.origin != origin {
        return Err(Error::forbidden("the transaction says that it is another server's"));
    }
    federation.transaction(origin, request).await
}
