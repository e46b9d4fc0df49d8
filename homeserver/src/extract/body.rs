//! Request bodies: bounded in size, time and depth.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::{HeaderMap, header};
use serde::de::IgnoredAny;
use tokio::time::timeout;

use crate::response::ApiError;

/// Deepest nesting of a body. Below what serde_json refuses by itself, which does not look into raw values.
const DEPTH: usize = 100;

/// How much of a body that is too large is read and thrown away, since a client that is still sending when the
/// connection closes never sees the answer.
const DRAINED: usize = 64 << 20;

/// Reads a body into memory.
pub(super) async fn read(
    headers: &HeaderMap,
    mut body: Body,
    limit: usize,
    time: Duration,
) -> Result<Bytes, ApiError> {
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    let reading = async {
        let result = match announced {
            Some(length) if length > limit => Err(None),
            Some(0) => Ok(Bytes::new()),
            _ => Limited::new(&mut body, limit).collect().await.map(|body| body.to_bytes()).map_err(Some),
        };
        match result {
            Ok(bytes) => Ok(bytes),
            Err(Some(error)) if !error.is::<LengthLimitError>() => {
                Err(ApiError::not_json("the request body broke off"))
            }
            Err(_) => {
                if !headers.contains_key(header::EXPECT) {
                    drain(body).await;
                }
                Err(ApiError::too_large(format!("the request body is larger than {limit} bytes")))
            }
        }
    };
    timeout(time, reading).await.unwrap_or_else(|_| Err(ApiError::too_slow()))
}

async fn drain(mut body: Body) {
    let mut left = DRAINED;
    while let Some(Ok(frame)) = body.frame().await {
        let length = frame.data_ref().map_or(0, Bytes::len);
        match left.checked_sub(length) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}

/// Refuses what is too deep or no object. What parses it afterwards would take a list for a struct.
pub(super) fn check_json(body: &[u8]) -> Result<(), ApiError> {
    if body.len() > DEPTH && depth_exceeds(body, DEPTH) {
        return Err(ApiError::bad_json(format!("nested deeper than {DEPTH} levels")));
    }
    match body.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'{') | None => Ok(()),
        Some(_) => {
            serde_json::from_slice::<IgnoredAny>(body)?;
            Err(ApiError::bad_json("the request body must be a JSON object"))
        }
    }
}

/// An empty body counts as an empty object. ruma sees to that itself for most requests only, not for joining.
pub(super) fn or_empty_object(body: &[u8]) -> &[u8] {
    if body.is_empty() { b"{}" } else { body }
}

fn depth_exceeds(json: &[u8], limit: usize) -> bool {
    let mut depth = 0_usize;
    let mut in_string = false;
    let mut escaped = false;
    for byte in json {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'{' | b'[' => {
                depth += 1;
                if depth > limit {
                    return true;
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::{DEPTH, check_json, depth_exceeds};

    #[test]
    fn depth() {
        let nested = |depth| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        assert!(!depth_exceeds(nested(DEPTH - 1).as_bytes(), DEPTH));
        assert!(depth_exceeds(nested(DEPTH).as_bytes(), DEPTH));
        let in_strings = format!("{{\"a\":\"\\\"{}\"}}", "[".repeat(1000));
        assert!(!depth_exceeds(in_strings.as_bytes(), DEPTH));
    }

    #[test]
    fn shapes() {
        for (body, errcode) in [
            ("", None),
            ("  {}", None),
            ("[]", Some("M_BAD_JSON")),
            ("\"a\"", Some("M_BAD_JSON")),
            ("nonsense", Some("M_NOT_JSON")),
        ] {
            let result = check_json(body.as_bytes());
            assert_eq!(result.as_ref().err().and_then(|error| error.errcode()), errcode, "{body}");
        }
    }
}
