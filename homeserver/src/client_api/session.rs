//! Logging in, refreshing, logging out.

use axum::response::Response;
use myelin_core::users::{
    accounts,
    sessions::{self, LOGIN_TOKEN_MS, Wanted},
    uia,
};
use ruma::{
    OwnedDeviceId,
    api::client::{
        session::{get_login_token, get_login_types, logout, logout_all, refresh_token},
        uiaa::UserIdentifier,
    },
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::register::{login_fields, milliseconds};
use crate::{
    app::App,
    extract::{Incoming, Ruma, Session},
    response::{ApiError, json},
};

/// `GET /_matrix/client/v3/login`
pub async fn login_types(
    _app: App,
    _request: Ruma<get_login_types::v3::Request>,
) -> Result<get_login_types::v3::Response, ApiError> {
    use get_login_types::v3::{LoginType, PasswordLoginType, Response, TokenLoginType};
    let mut token = TokenLoginType::new();
    token.get_login_token = true;
    Ok(Response::new(vec![LoginType::Password(PasswordLoginType::new()), LoginType::Token(token)]))
}

/// The body of a login. ruma's own type panics where `type` is missing.
#[derive(Deserialize)]
struct Login {
    #[serde(rename = "type")]
    kind: String,
    identifier: Option<UserIdentifier>,
    /// Deprecated, and still sent.
    user: Option<String>,
    password: Option<String>,
    token: Option<String>,
    device_id: Option<OwnedDeviceId>,
    initial_device_display_name: Option<String>,
    #[serde(default)]
    refresh_token: bool,
}

/// `POST /_matrix/client/v3/login`
pub async fn login(app: App, request: Incoming) -> Result<Response, ApiError> {
    let address = request.address.map(|address| address.to_string()).unwrap_or_default();
    app.rate_limits.login.check(&address, app.now())?;
    let body: Map<String, Value> = request.read_json(&app).await?;
    if !body.contains_key("type") {
        return Err(ApiError::missing_param("type"));
    }
    let body: Login = serde_json::from_value(Value::Object(body))?;
    let server = &*app.server;
    let user_pk = match body.kind.as_str() {
        "m.login.password" => by_password(&app, &body).await?,
        "m.login.token" => {
            let token = body.token.as_deref().ok_or_else(|| ApiError::missing_param("token"))?;
            sessions::take_login_token(server, token).await?
        }
        other => {
            let text = format!("logins of type {other:?} are not supported");
            return Err(ApiError::new(hyper::StatusCode::BAD_REQUEST, "M_UNKNOWN", text));
        }
    };
    let wanted = Wanted {
        device_id: body.device_id,
        display_name: body.initial_device_display_name,
        refresh: body.refresh_token,
    };
    let mut fields = login_fields(sessions::open(server, user_pk, wanted).await?);
    fields.insert("user_id".to_owned(), Value::from(&*server.ids.user_id(user_pk).await?));
    fields.insert("home_server".to_owned(), server.name().as_str().into());
    let base_url = app.settings.public_baseurl();
    fields.insert("well_known".to_owned(), json!({ "m.homeserver": { "base_url": base_url } }));
    json(&fields)
}

async fn by_password(app: &App, body: &Login) -> Result<i64, ApiError> {
    let server = &*app.server;
    let password = body.password.clone().ok_or_else(|| ApiError::missing_param("password"))?;
    let user = match (&body.identifier, &body.user) {
        (Some(identifier), _) => accounts::identify(server, identifier)?,
        (None, Some(user)) => accounts::local_user(server, user)?,
        (None, None) => return Err(ApiError::missing_param("identifier")),
    };
    app.rate_limits.login.check(user.as_str(), app.now())?;
    Ok(accounts::check_password(server, &user, password).await?.user_pk)
}

/// `POST /_matrix/client/v1/login/get_token`
pub async fn login_token(
    app: App,
    request: Ruma<get_login_token::v1::Request>,
) -> Result<get_login_token::v1::Response, ApiError> {
    let Session { user, user_pk, .. } = &*request.identity;
    uia::confirm(&app.server, user, &format!("login token {user}"), request.body.auth.as_ref()).await?;
    let token = sessions::login_token(&app.server, *user_pk).await?;
    Ok(get_login_token::v1::Response::new(milliseconds(LOGIN_TOKEN_MS), token))
}

/// `POST /_matrix/client/v3/refresh`
pub async fn refresh(
    app: App,
    request: Ruma<refresh_token::v3::Request>,
) -> Result<refresh_token::v3::Response, ApiError> {
    let issued = sessions::refresh(&app.server, &request.body.refresh_token).await?;
    let mut response = refresh_token::v3::Response::new(issued.access_token);
    response.refresh_token = issued.refresh_token;
    response.expires_in_ms = issued.expires_in_ms.map(milliseconds);
    Ok(response)
}

/// `POST /_matrix/client/v3/logout`
pub async fn log_out(app: App, request: Ruma<logout::v3::Request>) -> Result<logout::v3::Response, ApiError> {
    let Session { user_pk, device_pk, .. } = *request.identity;
    sessions::logout(&app.server, user_pk, device_pk).await?;
    Ok(logout::v3::Response::new())
}

/// `POST /_matrix/client/v3/logout/all`
pub async fn log_out_all(
    app: App,
    request: Ruma<logout_all::v3::Request>,
) -> Result<logout_all::v3::Response, ApiError> {
    sessions::logout_all(&app.server, request.identity.user_pk).await?;
    Ok(logout_all::v3::Response::new())
}
