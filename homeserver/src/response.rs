//! Answers, and every error's status and errcode.
//!
//! Handlers return `Result<_, ApiError>`; an error is made by the constructor that carries its errcode, so that the
//! pair of status and errcode of the specification stands here and nowhere else.

use std::{borrow::Cow, fmt};

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use hyper::{HeaderMap, StatusCode, header, header::HeaderValue};
use ruma::api::{
    OutgoingResponse, OutgoingResponseExt as _, client::uiaa::UiaaInfo, error::DeserializationError,
    error::FromHttpRequestError,
};
use serde::Serialize;
use serde_json::{Map, Value};

/// What a handler's failure tells the client.
#[derive(Debug)]
pub struct ApiError(Box<Content>);

#[derive(Debug)]
struct Content {
    status: StatusCode,
    /// Unset only in the questions of user-interactive authentication.
    errcode: Option<Cow<'static, str>>,
    message: Cow<'static, str>,
    fields: Map<String, Value>,
    /// Milliseconds after which the client may try again.
    retry_after: Option<u64>,
}

impl ApiError {
    /// An error with any status and errcode; the other constructors have the usual ones.
    pub fn new<C, M>(status: StatusCode, errcode: C, message: M) -> Self
    where
        C: Into<Cow<'static, str>>,
        M: Into<Cow<'static, str>>,
    {
        Self(Box::new(Content {
            status,
            errcode: Some(errcode.into()),
            message: message.into(),
            fields: Map::new(),
            retry_after: None,
        }))
    }

    /// Adds a field to the error's JSON.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.fields.insert(name.to_owned(), value.into());
        self
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// The errcode, if there is one.
    pub fn errcode(&self) -> Option<&str> {
        self.0.errcode.as_deref()
    }

    /// 403 M_FORBIDDEN.
    pub fn forbidden(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "M_FORBIDDEN", message)
    }

    /// 403 M_GUEST_ACCESS_FORBIDDEN.
    pub fn guest_access_forbidden() -> Self {
        Self::new(StatusCode::FORBIDDEN, "M_GUEST_ACCESS_FORBIDDEN", "guests may not do this")
    }

    /// 404 M_NOT_FOUND.
    pub fn not_found(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "M_NOT_FOUND", message)
    }

    /// 404 M_UNRECOGNIZED: no such endpoint.
    pub fn unrecognized() -> Self {
        Self::new(StatusCode::NOT_FOUND, "M_UNRECOGNIZED", "no such endpoint")
    }

    /// 405 M_UNRECOGNIZED: the endpoint knows other methods.
    pub fn wrong_method() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "M_UNRECOGNIZED", "the endpoint has no such method")
    }

    /// 400 M_NOT_JSON.
    pub fn not_json(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "M_NOT_JSON", message)
    }

    /// 400 M_BAD_JSON: JSON of the wrong shape.
    pub fn bad_json(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "M_BAD_JSON", message)
    }

    /// 400 M_MISSING_PARAM.
    pub fn missing_param(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "M_MISSING_PARAM", message)
    }

    /// 400 M_INVALID_PARAM.
    pub fn invalid_param(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "M_INVALID_PARAM", message)
    }

    /// 401 M_MISSING_TOKEN.
    pub fn missing_token() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "M_MISSING_TOKEN", "an access token is needed")
    }

    /// 401 M_UNKNOWN_TOKEN. After a soft logout the device and its keys are still there.
    pub fn unknown_token(soft_logout: bool) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "M_UNKNOWN_TOKEN", "the access token is not valid")
            .with("soft_logout", soft_logout)
    }

    /// 413 M_TOO_LARGE.
    pub fn too_large(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "M_TOO_LARGE", message)
    }

    /// 429 M_LIMIT_EXCEEDED, with the milliseconds to wait in the body and, in seconds, in Retry-After.
    pub fn limit_exceeded(retry_after_ms: u64) -> Self {
        let mut error = Self::new(StatusCode::TOO_MANY_REQUESTS, "M_LIMIT_EXCEEDED", "too many requests")
            .with("retry_after_ms", retry_after_ms);
        error.0.retry_after = Some(retry_after_ms);
        error
    }

    /// 408 M_UNKNOWN: the request body did not come in time.
    pub fn too_slow() -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "M_UNKNOWN", "the request body took too long")
    }

    /// 500 M_UNKNOWN. What happened goes to the log, not to the client.
    pub fn internal(cause: impl fmt::Display) -> Self {
        tracing::error!(%cause, "request failed");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "M_UNKNOWN", "internal server error")
    }

    /// 401 with the flows of user-interactive authentication.
    pub fn uiaa(info: &UiaaInfo) -> Self {
        match serde_json::to_value(info) {
            Ok(Value::Object(fields)) => Self(Box::new(Content {
                status: StatusCode::UNAUTHORIZED,
                errcode: None,
                message: Cow::Borrowed(""),
                fields,
                retry_after: None,
            })),
            Ok(_) => Self::internal("user-interactive authentication is no JSON object"),
            Err(error) => Self::internal(error),
        }
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let content = &self.0;
        write!(f, "{} {}: {}", content.status, content.errcode.as_deref().unwrap_or("-"), content.message)
    }
}

impl std::error::Error for ApiError {}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let Content { status, errcode, message, mut fields, retry_after } = *self.0;
        if let Some(errcode) = errcode {
            fields.insert("errcode".to_owned(), errcode.into());
            fields.insert("error".to_owned(), message.into());
        }
        let mut response = json_response(status, Value::Object(fields).to_string());
        if let Some(milliseconds) = retry_after {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(milliseconds.div_ceil(1000)));
        }
        response
    }
}

impl From<myelin_core::Error> for ApiError {
    fn from(error: myelin_core::Error) -> Self {
        use myelin_core::Error;
        const BAD: StatusCode = StatusCode::BAD_REQUEST;
        match error {
            Error::Forbidden(text) => Self::forbidden(text),
            Error::Unauthorized(text) => Self::new(StatusCode::UNAUTHORIZED, "M_UNAUTHORIZED", text),
            Error::NotFound(text) => Self::not_found(text),
            Error::BadJson(text) => Self::bad_json(text),
            Error::InvalidParam(text) => Self::invalid_param(text),
            Error::MissingParam(text) => Self::missing_param(text),
            Error::TooLarge(text) => Self::too_large(text),
            Error::UnknownToken { soft_logout } => Self::unknown_token(soft_logout),
            Error::UserDeactivated => {
                Self::new(StatusCode::FORBIDDEN, "M_USER_DEACTIVATED", error.to_string())
            }
            Error::UserInUse => Self::new(BAD, "M_USER_IN_USE", error.to_string()),
            Error::InvalidUsername(text) => Self::new(BAD, "M_INVALID_USERNAME", text),
            Error::WeakPassword(text) => Self::new(BAD, "M_WEAK_PASSWORD", text),
            Error::RoomInUse(text) => Self::new(BAD, "M_ROOM_IN_USE", text),
            Error::UnsupportedRoomVersion(text) => Self::new(BAD, "M_UNSUPPORTED_ROOM_VERSION", text),
            Error::IncompatibleRoomVersion(ref version) => {
                Self::new(BAD, "M_INCOMPATIBLE_ROOM_VERSION", error.to_string())
                    .with("room_version", version.as_str())
            }
            Error::BadState(text) => Self::new(BAD, "M_BAD_STATE", text),
            Error::BadAlias(text) => Self::new(BAD, "M_BAD_ALIAS", text),
            Error::WrongRoomKeysVersion { ref current } => {
                Self::new(StatusCode::FORBIDDEN, "M_WRONG_ROOM_KEYS_VERSION", error.to_string())
                    .with("current_version", current.as_str())
            }
            Error::InvalidSignature(text) => Self::new(BAD, "M_INVALID_SIGNATURE", text),
            Error::GuestAccessForbidden => Self::guest_access_forbidden(),
            Error::LimitExceeded { retry_after_ms } => Self::limit_exceeded(retry_after_ms),
            Error::WrongEndpoint(text) => Self::new(StatusCode::METHOD_NOT_ALLOWED, "M_BAD_JSON", text),
            Error::Other { errcode, message } => Self::new(BAD, errcode, message),
            Error::Interactive(info) => Self::uiaa(&info),
            Error::Elsewhere(text) => Self::new(StatusCode::BAD_GATEWAY, "M_UNKNOWN", text),
            Error::Unavailable(text) => Self::new(StatusCode::SERVICE_UNAVAILABLE, "M_UNKNOWN", text),
            Error::Storage(error) if error.is_unstorable() => {
                tracing::debug!(%error, "what a request brings can't be stored");
                Self::invalid_param("a name or an id is too long, or holds U+0000")
            }
            Error::Storage(error) if error.is_outage() => {
                tracing::error!(%error, "a request failed for what the database cannot do now");
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "M_UNKNOWN", "the database cannot do this now")
            }
            Error::Storage(error) => Self::internal(error),
            Error::Internal(text) => Self::internal(text),
        }
    }
}

impl From<FromHttpRequestError> for ApiError {
    fn from(error: FromHttpRequestError) -> Self {
        match error {
            FromHttpRequestError::Deserialization(DeserializationError::Json(error)) => error.into(),
            // Path arguments and the query are both read by serde's plain deserializer.
            FromHttpRequestError::Deserialization(DeserializationError::Query(error)) => {
                let message = error.to_string();
                if message.starts_with("missing field") {
                    Self::missing_param(message)
                } else {
                    Self::invalid_param(message)
                }
            }
            FromHttpRequestError::Deserialization(DeserializationError::Utf8(error)) => {
                Self::not_json(error.to_string())
            }
            FromHttpRequestError::MethodMismatch { .. } => Self::wrong_method(),
            other => Self::invalid_param(other.to_string()),
        }
    }
}

impl From<serde_json::Error> for ApiError {
    /// For JSON that a client sent: not JSON, or JSON of the wrong shape.
    fn from(error: serde_json::Error) -> Self {
        if error.is_data() { Self::bad_json(error.to_string()) } else { Self::not_json(error.to_string()) }
    }
}

/// An answer whose body is JSON text already.
pub fn json_response(status: StatusCode, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// 200 with a value as JSON.
pub fn json<T: Serialize>(value: &T) -> Result<Response, ApiError> {
    let body = serde_json::to_vec(value).map_err(ApiError::internal)?;
    Ok(json_response(StatusCode::OK, body))
}

/// The answer of a ruma type.
pub(crate) fn ruma_response<R: OutgoingResponse>(response: R) -> Result<Response, ApiError> {
    let response = response.try_into_http_response::<Vec<u8>>().map_err(ApiError::internal)?;
    Ok(response.map(Body::from))
}

/// The answer of a ruma type in the form of some endpoints in version 1: `[200, answer]`.
pub(crate) fn response_in_list<R: OutgoingResponse>(response: R) -> Result<Response, ApiError> {
    let response = response.try_into_http_response::<Vec<u8>>().map_err(ApiError::internal)?;
    Ok(response.map(|body| Body::from([b"[200,", &*body, b"]"].concat())))
}

/// Lets web clients of any origin in, as the specification asks for every answer, errors too.
pub(crate) fn add_cors(headers: &mut HeaderMap) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_METHODS,
        HeaderValue::from_static("GET, HEAD, POST, PUT, DELETE, OPTIONS"),
    );
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_HEADERS,
        HeaderValue::from_static("X-Requested-With, Content-Type, Authorization"),
    );
}
