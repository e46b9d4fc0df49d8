//! Request bodies: bounded in size, time and depth.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Body as _;
use hyper::{HeaderMap, header};
use serde::de::IgnoredAny;
use tokio::time::timeout;

use crate::response::ApiError;

/// Deepest nesting of a body. Below what serde_json refuses by itself, which does not look into raw values.
const DEPTH: usize = 100;

/// How much of a body that is too large is read and thrown away, since a client that is still sending when the
/// connection closes never sees the answer.
const DRAINED: usize = 64 << 20;

/// How long that goes on behind an answer that did not wait for the body.
const DRAIN_TIME: Duration = Duration::from_secs(10);

/// A body that was not read yet. One that nobody reads is drained, within bounds: the HTTP server ends a connection
/// whose request was not read to its end, and the client that keeps it would lose its next request.
#[derive(Debug)]
pub(crate) struct Unread(Option<Body>);

impl Unread {
    /// A request's body.
    pub(crate) fn new(body: Body) -> Self {
        Self(Some(body))
    }

    fn take(mut self) -> Body {
        self.0.take().unwrap_or_default()
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        let Some(body) = self.0.take().filter(|body| !body.is_end_stream()) else { return };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(timeout(DRAIN_TIME, drain(body)));
        }
    }
}

/// Reads a body into memory.
pub(super) async fn read(
    headers: &HeaderMap,
    body: Unread,
    limit: usize,
    time: Duration,
) -> Result<Bytes, ApiError> {
    let mut body = body.take();
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

/// Refuses what is no JSON, too deep or no object. What parses it afterwards would take a list for a struct, does not
/// read what it does not need, and where it needs nothing, reads nothing.
pub(super) fn check_json(body: &[u8]) -> Result<(), ApiError> {
    if body.len() > DEPTH && depth_exceeds(body, DEPTH) {
        return Err(ApiError::bad_json(format!("nested deeper than {DEPTH} levels")));
    }
    let text = std::str::from_utf8(body).map_err(|_| ApiError::not_json("the request body is not UTF-8"))?;
    let Some(first) = text.bytes().find(|byte| !byte.is_ascii_whitespace()) else { return Ok(()) };
    serde_json::from_str::<IgnoredAny>(text)?;
    match first {
        b'{' => Ok(()),
        _ => Err(ApiError::bad_json("the request body must be a JSON object")),
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
            ("{\"a\":", Some("M_NOT_JSON")),
        ] {
            let result = check_json(body.as_bytes());
            assert_eq!(result.as_ref().err().and_then(|error| error.errcode()), errcode, "{body}");
        }
        let latin = check_json(b"{\"a\":\"\xe9\"}");
        assert_eq!(latin.unwrap_err().errcode(), Some("M_NOT_JSON"));
    }
}
