//! `/register`: who wants an account, and under which name.

use std::time::Duration;

use axum::response::Response;
use myelin_core::users::{
    accounts::{self, Registered, Registration},
    registration_tokens,
    sessions::{LoggedIn, Wanted},
    shared_secret,
    uia::{self, Question},
};
use ruma::api::client::account::{
    check_registration_token_validity, get_username_availability,
    register::{self, RegistrationKind},
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{
    app::App,
    extract::{Incoming, Ruma},
    response::{ApiError, json},
};

/// `POST /_matrix/client/v3/register`
pub async fn register(app: App, request: Ruma<register::v3::Request>) -> Result<Response, ApiError> {
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
            // All that a guest wishes but the device's name is to be ignored.
            let login = Wanted { display_name: body.initial_device_display_name, ..Wanted::default() };
            Registration { guest: true, login: Some(login), ..Registration::default() }
        }
        RegistrationKind::Guest => return Err(ApiError::forbidden("guests may not register here")),
        RegistrationKind::User => {
            let upgrades = match (&body.username, &body.guest_access_token) {
                (Some(username), Some(token)) => accounts::guest_to_upgrade(server, username, token).await?,
                _ => None,
            };
            if let Some(username) = &body.username
                && upgrades.is_none()
            {
                accounts::check_available(server, username).await?;
            }
            let flows = accounts::registration_flows(server)?;
            if body.auth.is_some() && body.password.is_none() {
                return Err(ApiError::missing_param("password"));
            }
            let auth = body.auth.as_ref();
            // Clients begin the session with an empty request, to see the flows, and name the user later.
            let question = Question { operation: "register", auth, flows, user: None };
            let authentication = Some(uia::check(server, question).await?);
            let (username, password) = (body.username, body.password);
            Registration { username, password, upgrades, login, authentication, ..Registration::default() }
        }
        _ => return Err(ApiError::invalid_param("kind is neither guest nor user")),
    };
    answer(accounts::register(server, registration).await?)
}

/// By hand, since ruma writes a null for the device of whom no session was opened.
fn answer(registered: Registered) -> Result<Response, ApiError> {
    let mut fields = registered.login.map(login_fields).unwrap_or_default();
    fields.insert("user_id".to_owned(), registered.user.as_str().into());
    json(&fields)
}

/// What the answers to a registration and a login say of the session.
pub(super) fn login_fields(login: LoggedIn) -> Map<String, Value> {
    let LoggedIn { device, tokens } = login;
    let mut fields = Map::new();
    fields.insert("device_id".to_owned(), device.as_str().into());
    fields.insert("access_token".to_owned(), tokens.access_token.into());
    if let Some(token) = tokens.refresh_token {
        fields.insert("refresh_token".to_owned(), token.into());
        fields.insert("expires_in_ms".to_owned(), tokens.expires_in_ms.into());
    }
    fields
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
    let mut fields = registered.login.map(login_fields).unwrap_or_default();
    fields.insert("user_id".to_owned(), registered.user.as_str().into());
    fields.insert("home_server".to_owned(), app.server.name().as_str().into());
    json(&fields)
}
