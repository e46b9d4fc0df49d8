//! User-interactive authentication: somebody shows in stages that they may do something.
//!
//! A session is in the database, so that it holds on every replica and over restarts. It is bound to what is asked: one
//! that was begun for one request authorizes no other. Stages that are done stay done. A client whose first request
//! brings all that a flow needs is through at once, without a session.

use super::accounts;
use super::{hash, registration_tokens};
use crate::error::{Error, Result};
use crate::ports::random_text;
use crate::server::Server;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use myelin_storage::users::uia_sessions;
use ruma::UserId;
use ruma::api::client::uiaa::{AuthData, AuthFlow, AuthType, UiaaInfo};
use ruma::api::error::{ErrorKind, StandardErrorBody};
use serde::{Deserialize, Serialize};

/// How long a session waits for its next stage.
const SESSION_MS: i64 = 60 * 60 * 1_000;

/// What is asked.
pub struct Question<'a> {
    /// The request without its authentication, in words that differ where the request does.
    pub operation: &'a str,
    /// What the client brought.
    pub auth: Option<&'a AuthData>,
    /// Stages, any one list of which is enough.
    pub flows: Vec<Vec<AuthType>>,
    /// The user whose password counts.
    pub user: Option<&'a UserId>,
}

/// What was shown.
#[derive(Clone, Debug, Default)]
pub struct Completed {
    /// The session, which ends with the operation.
    pub session: Option<String>,
    /// The registration token that has to be used up.
    pub registration_token: Option<String>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct State {
    /// The hash of the operation: it may contain what nobody else has to know.
    operation: String,
    completed: Vec<String>,
    registration_token: Option<String>,
}

/// Lets through who has shown all that a flow needs.
///
/// # Errors
/// [`Error::Interactive`] tells what is still to show.
pub async fn check(server: &Server, question: Question<'_>) -> Result<Completed> {
    let Question { operation, auth, flows, user } = question;
    let operation = STANDARD_NO_PAD.encode(hash(operation));
    let named = auth.and_then(AuthData::session);
    let mut state = match named {
        Some(session) => resume(server, session, &operation).await?,
        None => State { operation, ..State::default() },
    };
    let mut failure = None;
    if let Some(auth) = auth {
        failure = stage(server, &mut state, auth, &flows, user).await?;
        let is_done = |stage: &AuthType| state.completed.iter().any(|done| done == stage.as_str());
        if failure.is_none() && flows.iter().any(|flow| flow.iter().all(is_done)) {
            let registration_token = state.registration_token;
            return Ok(Completed { session: named.map(str::to_owned), registration_token });
        }
    }
    let session = match named {
        Some(session) => session.to_owned(),
        None => random_text(&*server.random, 24),
    };
    save(server, session.clone(), &state).await?;
    let mut info = UiaaInfo::new(flows.into_iter().map(AuthFlow::new).collect());
    info.completed = state.completed.into_iter().map(AuthType::from).collect();
    info.session = Some(session);
    // Clients expect the object, also an empty one.
    info.params =
        Some(serde_json::value::to_raw_value(&serde_json::json!({})).map_err(Error::internal_display)?);
    info.auth_error = failure.map(Box::new);
    Err(Error::Interactive(Box::new(info)))
}

/// Asks a user who is logged in for their password again.
pub async fn confirm(server: &Server, user: &UserId, operation: &str, auth: Option<&AuthData>) -> Result<()> {
    let flows = vec![vec![AuthType::Password]];
    let completed = check(server, Question { operation, auth, flows, user: Some(user) }).await?;
    end(server, completed).await
}

/// Ends a session whose operation is not written in a transaction with it.
async fn end(server: &Server, completed: Completed) -> Result<()> {
    let Some(session) = completed.session else { return Ok(()) };
    let now = server.now_ms();
    let took = server
        .commit
        .run(move |tx| Box::pin(async move { Ok(uia_sessions::take(tx, &session, now).await?) }))
        .await?;
    // Two requests with one session: it authorizes the first of them.
    if took { Ok(()) } else { Err(unknown_session()) }
}

fn unknown_session() -> Error {
    Error::Other { errcode: "M_UNKNOWN", message: "there is no such session; begin again".to_owned() }
}

async fn resume(server: &Server, session: &str, operation: &str) -> Result<State> {
    if session.contains('\0') {
        return Err(unknown_session());
    }
    let body = uia_sessions::get(&mut server.database.read().await?, session, server.now_ms()).await?;
    let state: State = body.and_then(|body| serde_json::from_str(&body).ok()).ok_or_else(unknown_session)?;
    if state.operation != operation {
        return Err(Error::forbidden("this session was begun for another request"));
    }
    Ok(state)
}

async fn save(server: &Server, session: String, state: &State) -> Result<()> {
    let body = serde_json::to_string(state).map_err(Error::internal_display)?;
    let now = server.now_ms();
    server
        .commit
        .run(move |tx| {
            Box::pin(async move { Ok(uia_sessions::put(tx, &session, &body, now + SESSION_MS, now).await?) })
        })
        .await
}

/// Checks one stage and notes it when it is done; otherwise says why not.
async fn stage(
    server: &Server,
    state: &mut State,
    auth: &AuthData,
    flows: &[Vec<AuthType>],
    user: Option<&UserId>,
) -> Result<Option<StandardErrorBody>> {
    // Without a type the client asks how far the session is.
    let Some(kind) = auth.auth_type() else { return Ok(None) };
    let fail = |kind: ErrorKind, text: &str| Ok(Some(StandardErrorBody::new(kind, text.to_owned())));
    if !flows.iter().flatten().any(|stage| *stage == kind) {
        return fail(ErrorKind::Unrecognized, "this stage is in none of the flows");
    }
    if state.completed.iter().any(|done| done == kind.as_str()) {
        return Ok(None);
    }
    match auth {
        AuthData::Dummy(_) => {}
        AuthData::RegistrationToken(given) => {
            if !registration_tokens::is_valid(server, &given.token).await? {
                return fail(ErrorKind::Forbidden, "the registration token cannot be used");
            }
            state.registration_token = Some(given.token.clone());
        }
        AuthData::Password(given) => {
            let wrong = "the user or the password is wrong";
            let Ok(named) = accounts::identify(server, &given.identifier) else {
                return fail(ErrorKind::Forbidden, wrong);
            };
            if user.is_none_or(|user| *user != named) {
                return fail(ErrorKind::Forbidden, wrong);
            }
            match accounts::check_password(server, &named, given.password.clone()).await {
                Ok(_) => {}
                Err(Error::Forbidden(_)) => return fail(ErrorKind::Forbidden, wrong),
                Err(error) => return Err(error),
            }
        }
        _ => return fail(ErrorKind::Unrecognized, "this stage is not supported"),
    }
    state.completed.push(kind.as_str().to_owned());
    Ok(None)
}
