//! Profiles and aliases of other servers.

use super::request::Patience;
use crate::Federation;
use myelin_core::{Error, Result};
use ruma::api::federation::query::{get_profile_information, get_room_information};
use ruma::{OwnedRoomId, OwnedServerName, RoomAliasId, UserId};
use serde_json::Value;
use std::collections::BTreeMap;

impl Federation {
    pub(crate) async fn remote_profile(
        &self,
        user: &UserId,
        field: Option<&str>,
    ) -> Result<BTreeMap<String, Value>> {
        let mut request = get_profile_information::v1::Request::new(user.to_owned());
        request.field = field.map(Into::into);
        let answer = self.client.send(user.server_name(), request, Patience::QUICK).await?;
        Ok(answer.iter().map(|(name, value)| (name.clone(), value.clone())).collect())
    }

    pub(crate) async fn remote_alias(
        &self,
        alias: &RoomAliasId,
    ) -> Result<(OwnedRoomId, Vec<OwnedServerName>)> {
        let request = get_room_information::v1::Request::new(alias.to_owned());
        let answer = self.client.send(alias.server_name(), request, Patience::INSIST).await;
        let answer = answer.map_err(|error| match Error::from(error) {
            Error::NotFound(_) => Error::not_found("there is no room with that alias"),
            other => other,
        })?;
        let mut servers = answer.servers;
        if !servers.iter().any(|server| server == alias.server_name()) {
            servers.push(alias.server_name().to_owned());
        }
        Ok((answer.room_id, servers))
    }
}
