//! Tokens by which a user shows a third party, such as a widget's server, who they are. They open nothing else: the
//! third party asks this server whose a token is, by the server-server API's `/openid/userinfo`.

use super::hash;
use crate::error::{Error, Result};
use crate::ports::random_text;
use crate::server::Server;
use myelin_storage::users::openid_tokens;
use ruma::OwnedUserId;
use std::time::Duration;

/// How long a token tells who its user is.
pub const LIFETIME: Duration = Duration::from_secs(60 * 60);

/// A new token of a user.
pub async fn request_token(server: &Server, user_pk: i64) -> Result<String> {
    let token = format!("myo_{}", random_text(&*server.random, 40));
    let hash = hash(&token);
    let expires = server.now_ms() + i64::try_from(LIFETIME.as_millis()).unwrap_or_default();
    server
        .commit
        .run(move |tx| Box::pin(async move { Ok(openid_tokens::insert(tx, &hash, user_pk, expires).await?) }))
        .await?;
    Ok(token)
}

/// The user that a token was made for.
///
/// # Errors
/// M_UNKNOWN_TOKEN where it is none, or has expired.
pub async fn user_of(server: &Server, token: &str) -> Result<OwnedUserId> {
    let found =
        openid_tokens::find(&mut server.database.read().await?, &hash(token), server.now_ms()).await?;
    let user_pk = found.ok_or(Error::UnknownToken { soft_logout: false })?;
    let user = server.ids.user_id(user_pk).await?;
    OwnedUserId::try_from(&*user).map_err(Error::internal_display)
}
