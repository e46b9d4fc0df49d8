//! Every error of the core, as status and errcode.

use hyper::StatusCode;
use myelin_core::Error;

use super::ApiError;

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        let (status, errcode) = match error {
            Error::Forbidden(_) => (StatusCode::FORBIDDEN, "M_FORBIDDEN"),
            Error::NotFound(_) => (StatusCode::NOT_FOUND, "M_NOT_FOUND"),
            Error::BadJson(_) => (StatusCode::BAD_REQUEST, "M_BAD_JSON"),
            Error::InvalidParam(_) => (StatusCode::BAD_REQUEST, "M_INVALID_PARAM"),
            Error::MissingParam(_) => (StatusCode::BAD_REQUEST, "M_MISSING_PARAM"),
            Error::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "M_TOO_LARGE"),
            Error::UnknownToken { soft_logout } => return Self::unknown_token(soft_logout),
            Error::UserDeactivated => (StatusCode::FORBIDDEN, "M_USER_DEACTIVATED"),
            Error::UserInUse => (StatusCode::BAD_REQUEST, "M_USER_IN_USE"),
            Error::InvalidUsername(_) => (StatusCode::BAD_REQUEST, "M_INVALID_USERNAME"),
            Error::WeakPassword(_) => (StatusCode::BAD_REQUEST, "M_WEAK_PASSWORD"),
            Error::RoomInUse(_) => (StatusCode::BAD_REQUEST, "M_ROOM_IN_USE"),
            Error::UnsupportedRoomVersion(_) => (StatusCode::BAD_REQUEST, "M_UNSUPPORTED_ROOM_VERSION"),
            Error::IncompatibleRoomVersion(version) => {
                return Self::new(StatusCode::BAD_REQUEST, "M_INCOMPATIBLE_ROOM_VERSION", message)
                    .with("room_version", version);
            }
            Error::BadState(_) => (StatusCode::FORBIDDEN, "M_BAD_STATE"),
            Error::BadAlias(_) => (StatusCode::BAD_REQUEST, "M_BAD_ALIAS"),
            Error::WrongRoomKeysVersion { current } => {
                return Self::new(StatusCode::FORBIDDEN, "M_WRONG_ROOM_KEYS_VERSION", message)
                    .with("current_version", current);
            }
            Error::InvalidSignature(_) => (StatusCode::BAD_REQUEST, "M_INVALID_SIGNATURE"),
            Error::GuestAccessForbidden => return Self::guest_access_forbidden(),
            Error::LimitExceeded { retry_after_ms } => return Self::limit_exceeded(retry_after_ms),
            Error::Unrecognized(_) => return Self::unrecognized(),
            Error::Other { errcode, .. } => (StatusCode::BAD_REQUEST, errcode),
            Error::Unavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, "M_UNKNOWN"),
            Error::Storage(_) | Error::Internal(_) => return Self::internal(message),
        };
        Self::new(status, errcode, message)
    }
}
