//! Events in fewer bytes.
//!
//! Most of an event are hashes, signatures and ciphertext in base64, and words that nearly all events share. Here base64
//! becomes the bytes that it stands for, and a phrase its number: an encrypted message takes two thirds of its JSON. What
//! people wrote stays as legible as it was, so whoever searches the database's files for a plain text finds it if it is
//! there; a compression would hide it (docs/decisions/packed-events.md).
//!
//! Text in UTF-8 has no byte from [`PHRASE`] upwards, so such bytes announce what is not text. Plain JSON is a packed form,
//! too: the one of an event that has nothing to pack.

use base64::Engine as _;
use base64::engine::general_purpose::{GeneralPurpose, STANDARD_NO_PAD, URL_SAFE_NO_PAD};

/// The number of a phrase follows.
const PHRASE: u8 = 0xF8;
/// A length and so many bytes follow; they stand for unpadded base64.
const BASE64: u8 = 0xF9;
/// The same in the alphabet for URLs.
const BASE64_URL: u8 = 0xFA;

/// Shorter base64 stays as it is: words look like it.
const SHORTEST: usize = 24;

/// What events have in common, by number. Rows in databases hold these numbers: phrases are only ever added, at the end,
/// and none begins with a letter or a digit.
const PHRASES: &[&str] = &[
    r#"{"auth_events":["$"#,
    r#"","$"#,
    r#""],"content":{""#,
    r#""],"content":{"algorithm":"m.megolm.v1.aes-sha2","ciphertext":""#,
    r#"","device_id":""#,
    r#"","sender_key":""#,
    r#"","session_id":""#,
    r#"","m.relates_to":{"#,
    r#""},"depth":"#,
    r#"},"depth":"#,
    r#","hashes":{"sha256":""#,
    r#""},"origin_server_ts":"#,
    r#","prev_events":["$"#,
    r#""],"room_id":"!"#,
    r#"","sender":"@"#,
    r#"","signatures":{""#,
    r#"":{"ed25519:"#,
    r#""}},"state_key":""#,
    r#""}},"type":"m.room.encrypted"}"#,
    r#""}},"type":"m.room.message"}"#,
    r#""}},"type":"m.room.redaction"}"#,
    r#""}},"type":"m.reaction"}"#,
    r#"","type":"m.room.member"}"#,
    r#"","membership":"join"#,
    r#""membership":"leave"#,
    r#""membership":"invite"#,
    r#""displayname":""#,
    r#""avatar_url":"mxc://"#,
    r#""msgtype":"m.text"#,
    r#""body":""#,
    r#""event_id":"$"#,
    r#""rel_type":"m.thread"#,
    r#""rel_type":"m.replace"#,
    r#""rel_type":"m.annotation"#,
    r#""m.in_reply_to":{"event_id":"$"#,
    r#","prev_events":[],"room_id":"!"#,
    r#""auth_events":[],"content":{"#,
    r#"","redacts":"$"#,
];

/// Packs an event's JSON.
pub(crate) fn pack(json: &str) -> Vec<u8> {
    let mut rest = json.as_bytes();
    let mut packed = Vec::with_capacity(rest.len());
    while let Some(first) = rest.first() {
        let taken = if let Some((number, length)) = phrase(rest) {
            packed.extend([PHRASE, number]);
            length
        } else {
            let run = rest.iter().position(|byte| !is_base64(*byte)).unwrap_or(rest.len());
            let (run, _) = rest.split_at(run);
            match binary(run) {
                Some((mark, length, bytes)) => {
                    packed.push(mark);
                    put_length(&mut packed, bytes.len());
                    packed.extend(bytes);
                    length
                }
                None if run.is_empty() => {
                    packed.push(*first);
                    1
                }
                None => {
                    packed.extend(run);
                    run.len()
                }
            }
        };
        rest = rest.get(taken..).unwrap_or_default();
    }
    packed
}

/// The JSON that was packed; `None` where these bytes are nothing that was.
pub(crate) fn unpack(packed: &[u8]) -> Option<String> {
    let mut json = String::with_capacity(packed.len() * 3 / 2);
    let mut rest = packed;
    while !rest.is_empty() {
        let text = rest.iter().position(|byte| *byte >= PHRASE).unwrap_or(rest.len());
        let (text, behind) = rest.split_at(text);
        json.push_str(std::str::from_utf8(text).ok()?);
        let Some((mark, behind)) = behind.split_first() else { break };
        rest = if *mark == PHRASE {
            let (number, behind) = behind.split_first()?;
            json.push_str(PHRASES.get(usize::from(*number))?);
            behind
        } else {
            let (length, behind) = take_length(behind)?;
            let (bytes, behind) = behind.split_at_checked(length)?;
            engine(*mark)?.encode_string(bytes, &mut json);
            behind
        };
    }
    Some(json)
}

/// The longest phrase that stands here: its number and length.
fn phrase(rest: &[u8]) -> Option<(u8, usize)> {
    if rest.first().is_some_and(|byte| is_base64(*byte)) {
        return None;
    }
    let here = (0..).zip(PHRASES).filter(|(_, phrase)| rest.starts_with(phrase.as_bytes()));
    here.map(|(number, phrase)| (number, phrase.len())).max_by_key(|(_, length)| *length)
}

/// A byte of either alphabet.
fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_')
}

/// What a run of such bytes, or most of it, stands for: the mark, how many bytes of the run, and what they are.
fn binary(run: &[u8]) -> Option<(u8, usize, Vec<u8>)> {
    if run.len() < SHORTEST {
        return None;
    }
    let mark = match run.iter().any(|byte| matches!(byte, b'-' | b'_')) {
        true => BASE64_URL,
        false => BASE64,
    };
    let engine = engine(mark)?;
    // The end may have bits that no encoder leaves there; groups of four are never doubtful.
    let groups = run.get(..run.len() - run.len() % 4)?;
    let attempt = |part: &[u8]| Some((mark, part.len(), engine.decode(part).ok()?));
    attempt(run).or_else(|| attempt(groups))
}

fn engine(mark: u8) -> Option<&'static GeneralPurpose> {
    match mark {
        BASE64 => Some(&STANDARD_NO_PAD),
        BASE64_URL => Some(&URL_SAFE_NO_PAD),
        _ => None,
    }
}

/// Seven bits a byte, the lowest first.
fn put_length(out: &mut Vec<u8>, mut length: usize) {
    while length > 0x7F {
        out.push((length & 0x7F) as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
}

fn take_length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut length = 0_usize;
    for (byte, place) in bytes.iter().zip(0_u32..4) {
        length |= usize::from(byte & 0x7F) << (7 * place);
        if byte & 0x80 == 0 {
            return Some((length, bytes.get(place as usize + 1..)?));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ENCRYPTED: &str = r#"{"auth_events":["$oMgFq1agQ35t-4RtyMqtLHtdZ_6ysf0dtXWXyh7GxxE"],"content":{"algorithm":"m.megolm.v1.aes-sha2","ciphertext":"AwgCEpACdHh5IGlzIG5vdCBhIG1lc3NhZ2UsIGJ1dCBsb25nIGVub3VnaA","device_id":"QBVBHEQHEV","sender_key":"HX544Vt/GIOFvW0Bz9vERGWw/aw2iGQ2ewUmeieA/sA","session_id":"short"},"depth":161,"hashes":{"sha256":"HX544Vt/GIOFvW0Bz9vERGWw/aw2iGQ2ewUmeieA/sA"},"origin_server_ts":1,"prev_events":["$kUCzbwgZ_NuBvYLAvE9pYqWPiBYdP2yZhEOfM-w7_00"],"room_id":"!FRjHybv6aQinS4LGsi90XNOv4diZluLUgStRZ20gvd8","sender":"@é:localhost","signatures":{"localhost":{"ed25519:r_EU":"Yr4twCR1Sb282AGqsBeMT2o0UkLMpVxxWgJuWrAiYJH68RNZu8AjsuEsEytJJnz0lh0Grr16dl1AF4SNW2wFCg"}},"type":"m.room.encrypted"}"#;

    #[test]
    fn an_encrypted_message_takes_two_thirds() {
        let packed = pack(ENCRYPTED);
        assert_eq!(unpack(&packed).as_deref(), Some(ENCRYPTED));
        assert!(packed.len() * 3 < ENCRYPTED.len() * 2, "{} of {}", packed.len(), ENCRYPTED.len());
    }

    #[test]
    fn what_people_write_stays_legible() {
        let packed = pack(r#"{"content":{"body":"Meet me at the harbour, and tell nobody."}}"#);
        let text = b"Meet me at the harbour, and tell nobody.";
        assert!(packed.windows(text.len()).any(|window| window == text));
    }

    #[test]
    fn phrases_can_be_numbered_and_found() {
        assert!(PHRASES.len() <= 256);
        for phrase in PHRASES {
            assert!(!is_base64(phrase.as_bytes()[0]), "{phrase}");
            assert_eq!(pack(phrase).first(), Some(&PHRASE), "{phrase}");
        }
    }

    #[test]
    fn damage_is_noticed() {
        for bytes in [
            &b"a\xF8"[..],
            b"\xF8\xFF",
            b"\xF9",
            b"\xF9\x05abc",
            b"\xF9\x80\x80\x80\x80\x01",
            b"\xFBa",
            b"\xF0a",
        ] {
            assert_eq!(unpack(bytes), None, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_packed_comes_back(parts in prop::collection::vec(prop_oneof![
            "[A-Za-z0-9+/]{0,90}", "[A-Za-z0-9_-]{0,90}", "[A-Za-z0-9+/_=-]{20,60}", any::<String>(),
            prop::sample::select(PHRASES).prop_map(str::to_owned),
        ], 0..12)) {
            let text = parts.concat();
            let packed = pack(&text);
            prop_assert!(packed.len() <= text.len());
            prop_assert_eq!(unpack(&packed), Some(text));
        }
    }
}
