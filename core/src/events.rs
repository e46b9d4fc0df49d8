//! Events (PDUs): their form in memory, and everything that is decided by looking at one event alone.
//!
//! [`pdu`] parses, [`build`] makes new ones, [`client_format`] shows them to clients, [`redaction`]
//! strips them. [`canonical`], [`format`](mod@format), [`hashes`] and [`signatures`] are the only places (with
//! [`crate::state_resolution`] and [`crate::rooms::version`]) that name ruma's signature code, so
//! that the room versions that ruma does not know (1 to 5) have one place to come in.
//!
//! Event types are raw strings everywhere. ruma's enums merge some unstable names with the stable
//! ones; where ruma wants its enum, [`pdu::ruma_type`] hands out one that compares as the string does.

pub mod build;
pub mod canonical;
pub mod client_format;
pub mod format;
pub mod hashes;
pub mod pdu;
pub mod redaction;
pub mod signatures;

pub use self::pdu::Pdu;

/// The largest PDU, as canonical JSON with its signatures. The specification allows 65,536 bytes;
/// some servers stop one byte earlier, and an event that only half of the room takes splits it.
pub const MAX_PDU_BYTES: usize = 65_535;

/// The longest event type, state key, sender, room id or event id, in bytes.
pub const MAX_FIELD_BYTES: usize = 255;

/// Whether a text can be the id of an event or of a key, or the name of a relation: PostgreSQL can't index what is much
/// longer than any of these is, nor store U+0000.
pub fn can_be_id(text: &str) -> bool {
    text.len() <= MAX_FIELD_BYTES && !text.contains('\0')
}
