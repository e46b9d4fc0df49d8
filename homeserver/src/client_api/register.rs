//! `/register`: who wants an account, and under which name.

use std::time::Duration;

use axum::response::Response;
use myelin_core::users::{
    accounts::{self, Registered, Registration},
    registration_tokens,
    sessions::Wanted,
    shared_secret,
    uia::{self, Question},
};
use ruma::api::client::account::{
    check_registration_token_validity, get_username_availability,
    register::{self, RegistrationKind},
};
use serde::Deserialize;
use serde_json::json;

use crate::{
    app::App,
    extract::{Incoming, Ruma},
    response::{ApiError, json},
};

/// `POST /_matrix/client/v3/register`
pub async fn register(
    app: App,
    request: Ruma<register::v3::Request>,
) -> Result<register::v3::Response, ApiError> {
    let Ruma { body, address, .. } = request;
    let server = &*app.server;
    let address = address.map(|address| address.to_string()).unwrap_or_default();
    app.rate_limits.registration.check(&address, app.now())?;
    if body.login_type == Some(register::LoginType::ApplicationService) {
        return Err(ApiError::forbidden("no application service has this token"));
    }
    let login = (!body.inhibit_login).then(|| Wanted {
        device_id: body.device_id.clone(),
        display_name: body.initial_device_display_name.clone(),
        refresh: body.refresh_token,
    });
    let registration = match body.kind {
        RegistrationKind::Guest if app.settings.registration.guests => {
            Registration { guest: true, login, ..Registration::default() }
        }
        RegistrationKind::Guest => return Err(ApiError::forbidden("guests may not register here")),
        RegistrationKind::User => {
            if let Some(username) = &body.username {
                accounts::check_available(server, username).await?;
            }
            let operation = format!("register {}", body.username.as_deref().unwrap_or_default());
            let flows = accounts::registration_flows(server)?;
            if body.auth.is_some() && body.password.is_none() {
                return Err(ApiError::missing_param("password"));
            }
            let auth = body.auth.as_ref();
            let question = Question { operation: &operation, auth, flows, user: None };
            let authentication = Some(uia::check(server, question).await?);
            let (username, password) = (body.username, body.password);
            Registration { username, password, login, authentication, ..Registration::default() }
        }
        _ => return Err(ApiError::invalid_param("kind is neither guest nor user")),
    };
    Ok(answer(accounts::register(server, registration).await?))
}

fn answer(registered: Registered) -> register::v3::Response {
    let mut response = register::v3::Response::new(registered.user);
    if let Some(login) = registered.login {
        response.device_id = Some(login.device);
        response.access_token = Some(login.tokens.access_token);
        response.refresh_token = login.tokens.refresh_token;
        response.expires_in = login.tokens.expires_in_ms.map(milliseconds);
    }
    response
}

/// A span of time for an answer.
pub(super) fn milliseconds(ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

/// `GET /_matrix/client/v3/register/available`
pub async fn available(
    app: App,
    request: Ruma<get_username_availability::v3::Request>,
) -> Result<get_username_availability::v3::Response, ApiError> {
    accounts::check_available(&app.server, &request.body.username).await?;
    Ok(get_username_availability::v3::Response::new(true))
}

/// `GET /_matrix/client/v1/register/m.login.registration_token/validity`
pub async fn token_validity(
    app: App,
    request: Ruma<check_registration_token_validity::v1::Request>,
) -> Result<check_registration_token_validity::v1::Response, ApiError> {
    let address = request.address.map(|address| address.to_string()).unwrap_or_default();
    app.rate_limits.login.check(&address, app.now())?;
    let valid = registration_tokens::is_valid(&app.server, &request.body.token).await?;
    Ok(check_registration_token_validity::v1::Response::new(valid))
}

/// `GET /_synapse/admin/v1/register`
pub async fn nonce(app: App, _request: Incoming) -> Result<Response, ApiError> {
    let nonce = shared_secret::nonce(&app.server).await?;
    json(&json!({ "nonce": nonce }))
}

/// `POST /_synapse/admin/v1/register`
pub async fn by_shared_secret(app: App, request: Incoming) -> Result<Response, ApiError> {
    #[derive(Deserialize)]
    struct Body {
        nonce: String,
        username: String,
        password: String,
        #[serde(default)]
        admin: bool,
        user_type: Option<String>,
        mac: String,
        #[serde(default)]
        inhibit_login: bool,
    }
    let body: Body = request.read_json(&app).await?;
    let Body { nonce, username, password, admin, user_type, mac, inhibit_login } = body;
    let asked = shared_secret::Request { nonce, username, password, admin, user_type, mac, inhibit_login };
    let registered = shared_secret::register(&app.server, asked).await?;
    let mut answer = json!({ "user_id": registered.user, "home_server": app.server.name() });
    if let (Some(login), Some(fields)) = (registered.login, answer.as_object_mut()) {
        fields.insert("access_token".to_owned(), login.tokens.access_token.into());
        fields.insert("device_id".to_owned(), login.device.as_str().into());
    }
    json(&answer)
}
