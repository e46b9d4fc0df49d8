//! Filters: which events a client wants, and in which form.
//!
//! ruma reads the definitions; here they are applied.

use std::borrow::Cow;
use std::collections::HashMap;

use ruma::api::client::filter::{
    EventFormat, Filter, FilterDefinition, LazyLoadOptions, RoomEventFilter, RoomFilter, UrlFilter,
};
use ruma::{OwnedRoomId, OwnedUserId, RoomId, UInt, UserId};
use serde::de::IgnoredAny;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value};

use crate::events::Pdu;
use crate::events::client_format::Shape;

/// May rooms with this id be in the answer?
pub fn wants_room(filter: &RoomFilter, room: &RoomId) -> bool {
    listed(filter.rooms.as_deref(), &filter.not_rooms, |id: &OwnedRoomId| *id == *room)
}

/// Does a filter of room events want those of this room?
pub fn wants_events_of(filter: &RoomEventFilter, room: &RoomId) -> bool {
    listed(filter.rooms.as_deref(), &filter.not_rooms, |id: &OwnedRoomId| *id == *room)
}

/// Does a filter of room events want this event? The room is one of [`wants_events_of`].
pub fn wants_event(filter: &RoomEventFilter, pdu: &Pdu) -> bool {
    wants_type(filter.types.as_deref(), &filter.not_types, &pdu.kind)
        && wants_sender(filter.senders.as_deref(), &filter.not_senders, &pdu.sender)
        && match filter.url_filter {
            None => true,
            Some(UrlFilter::EventsWithUrl) => has_url(pdu),
            Some(UrlFilter::EventsWithoutUrl) => !has_url(pdu),
        }
}

/// Does a filter of room events want this kind of account data or ephemeral event, which has no sender?
pub fn wants_room_type(filter: &RoomEventFilter, kind: &str) -> bool {
    wants_type(filter.types.as_deref(), &filter.not_types, kind)
}

/// Does a filter of what belongs to no room want it? Account data has no sender.
pub fn wants(filter: &Filter, kind: &str, sender: Option<&UserId>) -> bool {
    wants_type(filter.types.as_deref(), &filter.not_types, kind)
        && sender.is_none_or(|sender| wants_sender(filter.senders.as_deref(), &filter.not_senders, sender))
}

/// How many events at most. A limit of 0, which the specification rules out, counts as 1.
pub fn limit(asked: Option<UInt>, default: usize, most: usize) -> usize {
    asked.map_or(default, |asked| usize::try_from(u64::from(asked)).unwrap_or(usize::MAX).clamp(1, most))
}

/// Which member events come with a timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Members {
    /// All that changed.
    All,
    /// Those of the senders, if the client has not had them.
    Lazy,
    /// Those of the senders, always.
    LazyRedundant,
}

/// Which member events a filter wants.
pub fn members(filter: &RoomEventFilter) -> Members {
    match filter.lazy_load_options {
        LazyLoadOptions::Disabled => Members::All,
        LazyLoadOptions::Enabled { include_redundant_members: false } => Members::Lazy,
        LazyLoadOptions::Enabled { include_redundant_members: true } => Members::LazyRedundant,
    }
}

/// The form that a filter wants events in, `otherwise` if it names none.
pub fn shape(filter: &FilterDefinition, otherwise: Shape) -> Shape {
    if filter.event_format == EventFormat::Federation { Shape::Federation } else { otherwise }
}

/// The event with only the fields that a filter names, as dotted paths.
pub fn select_fields(event: &RawValue, paths: &[String]) -> Result<Box<RawValue>, serde_json::Error> {
    let event: Value = serde_json::from_str(event.get())?;
    let mut selected = Map::new();
    for path in paths {
        copy_field(&event, &mut selected, &split_path(path));
    }
    to_raw_value(&selected)
}

fn copy_field(from: &Value, to: &mut Map<String, Value>, path: &[String]) {
    let Some((name, below)) = path.split_first() else { return };
    let Some(value) = from.get(name) else { return };
    if below.is_empty() {
        to.insert(name.clone(), value.clone());
    } else if value.is_object() {
        let child = to.entry(name.as_str()).or_insert_with(|| Value::Object(Map::new()));
        if let Some(child) = child.as_object_mut() {
            copy_field(value, child, below);
        }
    }
}

/// Splits at the dots that no backslash stands before.
fn split_path(path: &str) -> Vec<String> {
    let mut names = vec![];
    let mut name = String::new();
    let mut chars = path.chars().peekable();
    while let Some(char) = chars.next() {
        match char {
            '.' => names.push(std::mem::take(&mut name)),
            '\\' => name.push(chars.next_if(|next| matches!(next, '.' | '\\')).unwrap_or('\\')),
            other => name.push(other),
        }
    }
    names.push(name);
    names
}

fn wants_type(types: Option<&[String]>, not_types: &[String], kind: &str) -> bool {
    listed(types, not_types, |pattern: &String| matches_wildcard(pattern, kind))
}

fn wants_sender(senders: Option<&[OwnedUserId]>, not_senders: &[OwnedUserId], sender: &UserId) -> bool {
    listed(senders, not_senders, |id: &OwnedUserId| *id == *sender)
}

fn listed<T>(wanted: Option<&[T]>, unwanted: &[T], is: impl Fn(&T) -> bool) -> bool {
    !unwanted.iter().any(&is) && wanted.is_none_or(|wanted| wanted.iter().any(is))
}

fn has_url(pdu: &Pdu) -> bool {
    // Most contents don't have the word at all.
    pdu.content.get().contains("\"url\"")
        && pdu
            .content_as::<HashMap<Cow<'_, str>, IgnoredAny>>()
            .is_some_and(|fields| fields.contains_key("url"))
}

/// Does the text match a pattern in which `*` stands for any characters, also none?
///
/// Linear in the number of pieces times the text: a pattern comes from a client.
fn matches_wildcard(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(first) else { return false };
    let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
    for piece in middle.split('*').filter(|piece| !piece.is_empty()) {
        // The first place is as good as any later one.
        let Some(at) = text.find(piece) else { return false };
        text = text.get(at + piece.len()..).unwrap_or_default();
    }
    text.ends_with(last)
}

#[cfg(test)]
mod tests;
