//! What the server answers: its keys, its time, its software.

use hyper::header;
use myelin_federation::server_keys::document;
use ruma::ServerName;
use serde_json::Value;

use super::{
    page::Page,
    report::Remark,
    words::{DAY, date, foreign, span},
};

/// Where a server publishes its keys.
pub const KEYS: &str = "/_matrix/key/v2/server";
/// Where it says what it is.
pub const VERSION: &str = "/_matrix/federation/v1/version";
/// Keys that say to be valid for longer than this are warned of, in milliseconds.
const ABSURD: i64 = 10 * 365 * DAY;
/// How far a clock may be off, in milliseconds.
const OFF: i64 = 5_000;
const FAR_OFF: i64 = 60_000;

/// Judges the document of a server's keys.
pub fn keys(page: &Page, server: &ServerName, now: i64) -> Vec<Remark> {
    if page.status != 200 {
        return vec![refusal(KEYS, page.status)];
    }
    let Ok(Value::Object(value)) = serde_json::from_slice::<Value>(&page.body) else {
        return vec![Remark::wrong(
            format!("what comes from {KEYS} is no JSON object"),
            "see that the proxy passes /_matrix/ on to the homeserver and not to a web site",
        )];
    };
    match value.get("server_name").and_then(Value::as_str) {
        Some(name) if name == server.as_str() => {}
        name => {
            let whose =
                name.map_or_else(|| "of no server".to_owned(), |name| format!("of {}", foreign(name)));
            return vec![Remark::wrong(
                format!("the keys that come are those {whose}, and not of {server}"),
                format!(
                    "let .well-known, SRV records and the proxy lead to the homeserver whose server_name is {server}. The name \
                     of a server that has users can't be changed any more"
                ),
            )];
        }
    }
    let json = String::from_utf8_lossy(&page.body);
    let checked = match document::check(server, &json) {
        Ok(checked) => checked,
        Err(reason) => {
            return vec![Remark::wrong(
                format!("the document of its keys is not right: {}", foreign(&reason)),
                "see that nothing between here and the homeserver changes it; if nothing does, the homeserver's signing key \
                 is not the one that it publishes",
            )];
        }
    };
    let mut remarks = vec![until(checked.valid_until_ts, now)];
    let names = |field: &str| value.get(field).and_then(Value::as_object).into_iter().flatten();
    let current: Vec<String> = names("verify_keys").map(|(id, _)| foreign(id)).take(5).collect();
    let old = names("old_verify_keys").count();
    let old = if old == 0 { String::new() } else { format!("; {old} of earlier times") };
    remarks.push(Remark::ok(format!("signed by itself with {}{old}", current.join(", "))));
    for (id, key) in names("old_verify_keys") {
        if key.get("expired_ts").and_then(Value::as_i64).is_some_and(|expired| expired > now) {
            remarks.push(Remark::warning(
                format!("the old key {} says to expire only in the future", foreign(id)),
                "an old key's expired_ts is the moment when it was used last",
            ));
            break;
        }
    }
    remarks
}

/// Whether the keys still count.
fn until(valid_until: i64, now: i64) -> Remark {
    let day = date(valid_until);
    if valid_until <= now {
        return Remark::wrong(
            format!("its keys counted until {day} only, {} ago", span(now - valid_until)),
            format!("see that its clock is right and that no proxy keeps old answers to {KEYS}"),
        );
    }
    if valid_until - now > ABSURD {
        return Remark::warning(
            format!("its keys say to be valid until {day}"),
            "servers believe it for seven days at most: a day or a week ahead is usual",
        );
    }
    Remark::ok(format!("its keys are valid for another {}", span(valid_until - now)))
}

/// Compares the time of an answer with ours.
pub fn clock(page: &Page) -> Remark {
    let told = page.header(header::DATE).and_then(|told| httpdate::parse_http_date(told).ok());
    let told = told.and_then(|told| told.duration_since(std::time::UNIX_EPOCH).ok());
    let Some(told) = told.and_then(|told| i64::try_from(told.as_millis()).ok()) else {
        return Remark::note("its answers carry no date, so its clock can't be compared");
    };
    // The header says whole seconds, and nobody knows when between question and answer it was written.
    let (before, after) = page.asked;
    let off = match () {
        () if told > after => told - after,
        () if told + 1_000 < before => told + 1_000 - before,
        () => 0,
    };
    let far = off.abs();
    let which = if off > 0 { "ahead of" } else { "behind" };
    let text = format!("its clock is {} {which} this machine's", span(off));
    let advice = "let both machines take the time from the network (timedatectl): events carry it, and keys and certificates \
                  are judged by it";
    match far {
        FAR_OFF.. => Remark::wrong(text, advice),
        OFF.. => Remark::warning(text, advice),
        _ => Remark::ok("its clock agrees with this machine's"),
    }
}

/// What software it is.
pub fn software(page: &Page) -> Remark {
    if page.status != 200 {
        return refusal(VERSION, page.status);
    }
    let value: Value = serde_json::from_slice(&page.body).unwrap_or_default();
    let text = |field: &str| value.pointer(field).and_then(Value::as_str).map(foreign);
    match (text("/server/name"), text("/server/version")) {
        (Some(name), version) => {
            Remark::ok(format!("it is {name} {}", version.unwrap_or_default()).trim_end())
        }
        _ => Remark::warning(
            format!("what comes from {VERSION} names no software"),
            "see that the proxy passes all of /_matrix/ on to the homeserver",
        ),
    }
}

fn refusal(path: &str, status: u16) -> Remark {
    let text = format!("{path} answers {status}");
    match status {
        502..=504 => Remark::wrong(
            format!("{text}: a proxy is there, and the homeserver behind it is not"),
            "start the homeserver, and see that the proxy knows its port",
        ),
        300..400 => Remark::wrong(
            format!("{text}, and servers follow no redirects there"),
            "let the proxy pass /_matrix/ on to the homeserver instead of redirecting",
        ),
        _ => Remark::wrong(
            text,
            "let the proxy pass all of /_matrix/ on to the homeserver, and the homeserver serve federation on that port (in \
             Myelin: \"federation\" in serve of the listener)",
        ),
    }
}
