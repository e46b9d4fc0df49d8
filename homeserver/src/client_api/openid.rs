//! Tokens for third parties.

use myelin_core::users::openid;
use ruma::{api::client::account::request_openid_token, authentication::TokenType};

use crate::{app::App, extract::Ruma, response::ApiError};

/// `POST /user/{userId}/openid/request_token`
pub async fn request_token(
    app: App,
    request: Ruma<request_openid_token::v3::Request>,
) -> Result<request_openid_token::v3::Response, ApiError> {
    if request.body.user_id != request.identity.user {
        return Err(ApiError::forbidden("tokens are made for oneself only"));
    }
    let token = openid::request_token(&app.server, request.identity.user_pk).await?;
    let name = app.server.owned_name();
    Ok(request_openid_token::v3::Response::new(token, TokenType::Bearer, name, openid::LIFETIME))
}
