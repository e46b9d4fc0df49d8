//! What a rule of the homeserver refuses, in the specification's terms.
//!
//! Each variant is one errcode (with its usual HTTP status, which the HTTP layer chooses); the text is for people.

use ruma::api::client::uiaa::UiaaInfo;

/// The result of an operation of the homeserver.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation was refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// M_FORBIDDEN: it is known who asks, and they may not.
    #[error("{0}")]
    Forbidden(String),
    /// M_UNAUTHORIZED: another server did not show who it is.
    #[error("{0}")]
    Unauthorized(String),
    /// M_NOT_FOUND.
    #[error("{0}")]
    NotFound(String),
    /// M_BAD_JSON: JSON of the wrong shape.
    #[error("{0}")]
    BadJson(String),
    /// M_INVALID_PARAM: a value outside of what is allowed.
    #[error("{0}")]
    InvalidParam(String),
    /// M_MISSING_PARAM.
    #[error("{0}")]
    MissingParam(String),
    /// M_TOO_LARGE: an event or a body over its limit.
    #[error("{0}")]
    TooLarge(String),
    /// M_UNKNOWN_TOKEN. With `soft_logout` the device still stands and may log in again.
    #[error("the access token is not known, or has expired")]
    UnknownToken {
        /// The session can be taken up again.
        soft_logout: bool,
    },
    /// M_USER_DEACTIVATED.
    #[error("the account has been deactivated")]
    UserDeactivated,
    /// M_USER_IN_USE.
    #[error("the user name is taken")]
    UserInUse,
    /// M_INVALID_USERNAME.
    #[error("{0}")]
    InvalidUsername(String),
    /// M_WEAK_PASSWORD.
    #[error("{0}")]
    WeakPassword(String),
    /// M_ROOM_IN_USE: the alias is taken.
    #[error("{0}")]
    RoomInUse(String),
    /// M_UNSUPPORTED_ROOM_VERSION.
    #[error("{0}")]
    UnsupportedRoomVersion(String),
    /// M_INCOMPATIBLE_ROOM_VERSION, with the room's version.
    #[error("the room's version {0} is not among those that you support")]
    IncompatibleRoomVersion(String),
    /// M_BAD_STATE: the state of things does not allow it.
    #[error("{0}")]
    BadState(String),
    /// M_BAD_ALIAS.
    #[error("{0}")]
    BadAlias(String),
    /// M_WRONG_ROOM_KEYS_VERSION, with the version that counts.
    #[error("version {current} of the key backup is the current one")]
    WrongRoomKeysVersion {
        /// The current version.
        current: String,
    },
    /// M_INVALID_SIGNATURE.
    #[error("{0}")]
    InvalidSignature(String),
    /// M_GUEST_ACCESS_FORBIDDEN.
    #[error("guests may not do this")]
    GuestAccessForbidden,
    /// M_LIMIT_EXCEEDED.
    #[error("too many requests")]
    LimitExceeded {
        /// When to try again.
        retry_after_ms: u64,
    },
    /// M_BAD_JSON with status 405: another endpoint does that.
    #[error("{0}")]
    WrongEndpoint(String),
    /// M_UNKNOWN with status 400, and another errcode of the specification's where none of the above fits.
    #[error("{message}")]
    Other {
        /// The errcode.
        errcode: &'static str,
        /// For people.
        message: String,
    },
    /// Who asks must first show who they are: 401 with the flows of user-interactive authentication.
    #[error("user-interactive authentication is needed")]
    Interactive(Box<UiaaInfo>),
    /// Another server could not be asked, or answered nonsense: 502.
    #[error("{0}")]
    Elsewhere(String),
    /// The server is stopping, or its database cannot be reached: 503.
    #[error("the server cannot do this now: {0}")]
    Unavailable(String),
    /// The database failed; the HTTP layer logs it and tells no details.
    #[error(transparent)]
    Storage(#[from] myelin_storage::Error),
    /// Something that must not happen did.
    #[error("internal error: {0}")]
    Internal(String),
}

impl Error {
    /// M_FORBIDDEN.
    pub fn forbidden(text: impl Into<String>) -> Error {
        Error::Forbidden(text.into())
    }
    /// M_NOT_FOUND.
    pub fn not_found(text: impl Into<String>) -> Error {
        Error::NotFound(text.into())
    }
    /// M_INVALID_PARAM.
    pub fn invalid_param(text: impl Into<String>) -> Error {
        Error::InvalidParam(text.into())
    }
    /// M_BAD_JSON.
    pub fn bad_json(text: impl Into<String>) -> Error {
        Error::BadJson(text.into())
    }
    /// Something that must not happen, told by another library.
    pub fn internal_display(error: impl std::fmt::Display) -> Error {
        Error::Internal(error.to_string())
    }
    /// Something that must not happen.
    pub fn internal(text: impl Into<String>) -> Error {
        Error::Internal(text.into())
    }
}
