//! What other servers say about themselves.

use myelin_federation::outbound::discovery::{max_age, parse_well_known};
use myelin_federation::server_keys::document;
use ruma::api::federation::authentication::XMatrix;
use ruma::server_name;

/// Authorization headers.
pub(crate) const HEADERS: &[&[u8]] = &[
    br#"X-Matrix origin="example.org",destination="other.example:8448",key="ed25519:a_1",sig="AAAA""#,
    b"X-Matrix origin=example.org,key=ed25519:a,sig=AAAA",
    br#"Bearer x, X-Matrix origin="a\"b",sig="""#,
];

/// Documents of `/.well-known/matrix/server`.
pub(crate) const DELEGATIONS: &[&[u8]] =
    &[br#"{"m.server":"[2001:db8::1]:443"}"#, br#"{"m.server":"a.b","x":[1.5]}"#, b"max-age=3600, no-store"];

/// Documents of keys.
pub(crate) const KEYS: &[&[u8]] = &[
    br#"{"server_name":"example.org","valid_until_ts":1652262000000,"verify_keys":{"ed25519:a":{"key":"VGhpcyBzaG91bGQgYmUgYSByZWFsIGVkMjU1MTkga2V5"}},"old_verify_keys":{"ed25519:0":{"key":"AAAA","expired_ts":1}},"signatures":{"example.org":{"ed25519:a":"AAAA"}}}"#,
];

/// A header: what was read says the same when it is written and read again.
pub(crate) fn x_matrix(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(read) = XMatrix::parse(text) else { return };
    let again = XMatrix::parse(read.to_string()).expect("what was written can be read");
    assert_eq!((again.origin, again.destination, again.key), (read.origin, read.destination, read.key));
}

/// A delegation, and the header that says how long it holds.
pub(crate) fn well_known(data: &[u8]) {
    if let Some(server) = parse_well_known(data) {
        assert!(!server.host().is_empty());
    }
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = max_age(text);
    }
}

/// A document of keys: nothing counts that is not signed.
pub(crate) fn server_keys(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(checked) = document::check(server_name!("example.org"), text) {
        assert!(!checked.rows(0).is_empty());
    }
}
