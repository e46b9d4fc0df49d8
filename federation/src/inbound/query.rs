//! Profiles and aliases.

use crate::Federation;
use myelin_core::users::profiles;
use myelin_core::{Error, Result};
use ruma::OwnedServerName;
use ruma::api::federation::query::{get_profile_information, get_room_information};
use std::sync::Arc;

/// `GET /query/profile`
pub async fn profile(
    federation: Arc<Federation>,
    _origin: OwnedServerName,
    request: get_profile_information::v1::Request,
) -> Result<get_profile_information::v1::Response> {
    let server = &federation.server;
    if !server.is_local(&request.user_id) {
        return Err(Error::invalid_param("the user is not of this server"));
    }
    let fields = match request.field {
        Some(field) => {
            let field = field.to_string();
            let all = profiles::get(server, &request.user_id).await?;
            all.into_iter().filter(|(name, _)| *name == field).collect()
        }
        None => profiles::get(server, &request.user_id).await?,
    };
    Ok(fields.into_iter().collect())
}

/// `GET /query/directory`
pub async fn directory(
    federation: Arc<Federation>,
    _origin: OwnedServerName,
    request: get_room_information::v1::Request,
) -> Result<get_room_information::v1::Response> {
    let server = &federation.server;
    if request.room_alias.server_name() != server.name() {
        return Err(Error::invalid_param("the alias is not of this server"));
    }
    let (room_id, mut servers) = server.room_of_alias(&request.room_alias).await?;
    servers.truncate(100);
    Ok(get_room_information::v1::Response::new(room_id, servers))
}
