//! Registration tokens.

use crate::config::RegistrationMode;
use crate::error::Result;
use crate::ports::random_text;
use crate::server::Server;
use myelin_storage::users::{accounts, registration_tokens};

/// Longest token, as the specification has it.
const LONGEST: usize = 64;

/// Whether a token can be used.
pub async fn is_valid(server: &Server, token: &str) -> Result<bool> {
    if token.len() > LONGEST || token.contains('\0') {
        return Ok(false);
    }
    let mut connection = server.database.read().await?;
    Ok(registration_tokens::is_valid(&mut connection, token, server.now_ms()).await?)
}

/// As long as there is no account and registration is not closed: the token that makes the first one, an
/// administrator's. It is made at the first start and stays the same until it is used.
pub async fn first_admin(server: &Server) -> Result<Option<String>> {
    if server.settings.registration.mode == RegistrationMode::Closed {
        return Ok(None);
    }
    let token = random_text(&*server.random, 32);
    server
        .commit
        .run(move |tx| {
            Box::pin(async move {
                if accounts::any(tx).await? {
                    registration_tokens::delete_for_admin(tx).await?;
                    return Ok(None);
                }
                if let Some(token) = registration_tokens::for_admin(tx).await? {
                    return Ok(Some(token));
                }
                registration_tokens::insert(tx, &token, Some(1), None, true).await?;
                Ok(Some(token))
            })
        })
        .await
}
