//! How events relate: threads, replies, edits, reactions.

use std::borrow::Cow;

use ruma::OwnedEventId;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::events::Pdu;

/// The relation of a thread's events to its root.
pub const THREAD: &str = "m.thread";

/// True for the relations of which an event's `unsigned` tells.
pub fn is_bundled(rel_type: &str) -> bool {
    matches!(rel_type, THREAD | "m.replace" | "m.reference")
}

/// What `m.relates_to` of an event says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Relation {
    /// How it relates (`m.thread`, `m.replace`, `m.annotation`, ...), with [`Relation::event_id`].
    pub rel_type: Option<Box<str>>,
    /// The event that it relates to; there if and only if `rel_type` is.
    pub event_id: Option<OwnedEventId>,
    /// The event that it replies to.
    pub in_reply_to: Option<OwnedEventId>,
    /// The key of a reaction.
    pub key: Option<Box<str>>,
    /// The reply is for clients without threads only.
    pub is_falling_back: bool,
}

/// A value of which only one form counts, whatever else may stand there.
#[derive(Deserialize)]
#[serde(untagged)]
enum Lax<T> {
    Is(T),
    Other(IgnoredAny),
}

impl<T> Lax<T> {
    fn get(self) -> Option<T> {
        match self {
            Self::Is(value) => Some(value),
            Self::Other(_) => None,
        }
    }
}

#[derive(Deserialize)]
struct Content<'a> {
    #[serde(rename = "m.relates_to", borrow)]
    relates_to: Option<&'a serde_json::value::RawValue>,
}

#[derive(Deserialize)]
struct RelatesTo {
    rel_type: Option<Lax<String>>,
    event_id: Option<Lax<OwnedEventId>>,
    #[serde(rename = "m.in_reply_to")]
    in_reply_to: Option<Lax<InReplyTo>>,
    key: Option<Lax<String>>,
    is_falling_back: Option<Lax<bool>>,
}

#[derive(Deserialize)]
struct InReplyTo {
    event_id: OwnedEventId,
}

/// The relation that an event's content names, if any.
///
/// Encrypted events keep theirs beside the ciphertext, so this works on them too.
pub fn relation(content: &str) -> Option<Relation> {
    // Most events relate to nothing: don't parse what can't hold the key. An escape in the key is
    // possible in foreign JSON, but not in the canonical form that is stored.
    if !content.contains("\"m.relates_to\"") {
        return None;
    }
    let raw = serde_json::from_str::<Content<'_>>(content).ok()?.relates_to?;
    let found: RelatesTo = serde_json::from_str(raw.get()).ok()?;
    let rel_type = found.rel_type.and_then(Lax::get);
    let event_id = found.event_id.and_then(Lax::get);
    let (rel_type, event_id) = match (rel_type, event_id) {
        (Some(rel_type), Some(event_id)) => (Some(rel_type.into()), Some(event_id)),
        _ => (None, None),
    };
    let in_reply_to = found.in_reply_to.and_then(Lax::get).map(|reply| reply.event_id);
    if event_id.is_none() && in_reply_to.is_none() {
        return None;
    }
    Some(Relation {
        rel_type,
        event_id,
        in_reply_to,
        key: found.key.and_then(Lax::get).map(Into::into),
        is_falling_back: found.is_falling_back.and_then(Lax::get).unwrap_or(false),
    })
}

/// What an event's own words say about its thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Thread<'a> {
    /// It is in the thread with this root.
    Root(Cow<'a, OwnedEventId>),
    /// It belongs to where this event is: edits, reactions, references.
    SameAs(Cow<'a, OwnedEventId>),
    /// It is in the main timeline.
    Main,
}

impl Relation {
    /// The event of a relation with this type.
    pub fn target(&self, rel_type: &str) -> Option<&OwnedEventId> {
        self.event_id.as_ref().filter(|_| self.rel_type.as_deref() == Some(rel_type))
    }

    /// The root of the thread that the event is in, if it says so.
    pub fn thread_root(&self) -> Option<&OwnedEventId> {
        self.target(THREAD)
    }
}

/// Where an event stands among threads, for receipts and counts.
pub fn thread_of<'a>(pdu: &'a Pdu, relation: Option<&'a Relation>) -> Thread<'a> {
    if pdu.is_state() {
        return Thread::Main;
    }
    if let Some(target) = &pdu.redacts {
        return Thread::SameAs(Cow::Borrowed(target));
    }
    match relation.and_then(|relation| Some((relation.rel_type.as_deref()?, relation.event_id.as_ref()?))) {
        Some((THREAD, root)) => Thread::Root(Cow::Borrowed(root)),
        Some((_, target)) => Thread::SameAs(Cow::Borrowed(target)),
        None => Thread::Main,
    }
}

#[cfg(test)]
mod tests {
    use ruma::owned_event_id;

    use super::*;

    #[test]
    fn reads_what_is_there() {
        let thread = r#"{"body":"x","m.relates_to":{"event_id":"$root","is_falling_back":true,"m.in_reply_to":{"event_id":"$last"},"rel_type":"m.thread"}}"#;
        let found = relation(thread).unwrap();
        assert_eq!(found.thread_root(), Some(&owned_event_id!("$root")));
        assert_eq!(found.in_reply_to, Some(owned_event_id!("$last")));
        assert!(found.is_falling_back && found.target("m.replace").is_none());

        let reaction = r#"{"m.relates_to":{"event_id":"$e","key":"👍","rel_type":"m.annotation"}}"#;
        let found = relation(reaction).unwrap();
        assert_eq!((found.key.as_deref(), found.rel_type.as_deref()), (Some("👍"), Some("m.annotation")));
        assert!(found.thread_root().is_none());

        let reply = r#"{"m.relates_to":{"m.in_reply_to":{"event_id":"$e"}}}"#;
        let found = relation(reply).unwrap();
        assert_eq!((found.rel_type, found.event_id), (None, None));
        assert_eq!(found.in_reply_to, Some(owned_event_id!("$e")));
    }

    #[test]
    fn what_is_malformed_relates_to_nothing() {
        for content in [
            "{}",
            r#"{"body":"\"m.relates_to\""}"#,
            r#"{"m.relates_to":null}"#,
            r#"{"m.relates_to":[]}"#,
            r#"{"m.relates_to":{"rel_type":"m.thread"}}"#,
            r#"{"m.relates_to":{"event_id":"$e"}}"#,
            r#"{"m.relates_to":{"event_id":7,"rel_type":"m.thread"}}"#,
            r#"{"m.relates_to":{"event_id":"no id","rel_type":"m.thread"}}"#,
            r#"{"m.relates_to":{"m.in_reply_to":"$e"}}"#,
        ] {
            assert_eq!(relation(content), None, "{content}");
        }
        let half =
            r#"{"m.relates_to":{"event_id":"$e","rel_type":"m.annotation","key":[],"m.in_reply_to":3}}"#;
        let found = relation(half).unwrap();
        assert_eq!((found.key, found.in_reply_to), (None, None));
    }
}
