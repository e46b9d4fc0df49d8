//! Who somebody is that has shown a token to a third party.

use crate::Federation;
use myelin_core::Result;
use myelin_core::users::openid;
use ruma::api::federation::openid::get_openid_userinfo;
use std::sync::Arc;

/// `GET /openid/userinfo`
pub async fn userinfo(
    federation: Arc<Federation>,
    request: get_openid_userinfo::v1::Request,
) -> Result<get_openid_userinfo::v1::Response> {
    let user = openid::user_of(&federation.server, &request.access_token).await?;
    Ok(get_openid_userinfo::v1::Response::new(user))
}
