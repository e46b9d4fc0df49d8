//! Asking a room's policy server to sign an event.

use super::request::{Patience, RequestError};
use crate::Federation;
use crate::inbound::raw_event;
use myelin_core::{Error, Result};
use ruma::ServerName;
use ruma::api::federation::policy::sign_event;
use ruma::canonical_json::CanonicalJsonObject;

impl Federation {
    pub(crate) async fn ask_policy_server(
        &self,
        server: &ServerName,
        event: &CanonicalJsonObject,
    ) -> Result<String> {
        let request = sign_event::v1::Request::new(raw_event(event)?);
        let answer =
            self.client.send(server, request, Patience::QUICK).await.map_err(|error| match error {
                // What it says is for who sent the event.
                RequestError::Refused { errcode, message, .. } if errcode == "M_FORBIDDEN" => {
                    Error::Forbidden(message)
                }
                other => other.into(),
            })?;
        let signature = answer.ed25519_signature(server).map(ToOwned::to_owned);
        signature.ok_or_else(|| Error::Elsewhere(format!("{server} did not sign the event")))
    }
}
