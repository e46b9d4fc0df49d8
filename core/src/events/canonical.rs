//! Canonical JSON: sorted keys, no spaces, integers only. What is hashed and signed.

use ruma::canonical_json::{CanonicalJsonObject, CanonicalJsonValue};

/// Reads an object, refusing what canonical JSON can't hold (floats, integers beyond 2^53 - 1).
pub fn parse(json: &str) -> Result<CanonicalJsonObject, serde_json::Error> {
    serde_json::from_str(json)
}

/// Writes an object in canonical form.
pub fn to_string(object: &CanonicalJsonObject) -> Result<String, serde_json::Error> {
    serde_json::to_string(object)
}

/// A string as a canonical value.
pub(crate) fn string(text: impl Into<String>) -> CanonicalJsonValue {
    CanonicalJsonValue::String(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sorts_and_packs() {
        let object = parse(r#"{ "b": [1, {"d": 0, "c": null}], "a": "\u00e9\n" }"#).unwrap();
        assert_eq!(to_string(&object).unwrap(), "{\"a\":\"é\\n\",\"b\":[1,{\"c\":null,\"d\":0}]}");
    }

    #[test]
    fn refuses_what_is_not_canonical() {
        for json in [r#"{"a":1.5}"#, r#"{"a":9007199254740992}"#, r#"{"a":1e400}"#, "[]", "", "{\"a\":"] {
            assert!(parse(json).is_err(), "{json}");
        }
    }
}
