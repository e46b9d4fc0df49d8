//! Messages of a room as people and scripts see them.

use crate::output::{Output, indent};
use anyhow::Result;
use matrix_sdk::{
    Room,
    deserialized_responses::{ShieldState, TimelineEvent, TimelineEventKind},
    room::MessagesOptions,
    ruma::{
        UInt,
        events::{
            AnySyncMessageLikeEvent, AnySyncTimelineEvent,
            room::message::{MessageType, SyncRoomMessageEvent},
        },
    },
};
use serde_json::json;

/// How many events are asked for at once.
const PAGE: u32 = 100;

/// What can be said about the content of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Readable text (for files: their name).
    Text(String),
    /// Encrypted, and this device does not have the key.
    Undecryptable,
    /// Removed by its sender or a moderator.
    Redacted,
}

/// One message.
#[derive(Clone, Debug)]
pub struct Message {
    /// The event's identifier.
    pub event: String,
    /// Who sent it, according to the server; see `warning`.
    pub sender: String,
    /// Milliseconds since 1970, according to the sender's server.
    pub time: u64,
    /// The text, or why there is none.
    pub content: Content,
    /// Whether it came encrypted.
    pub encrypted: bool,
    /// Why the sender may not be who it seems, if so.
    pub warning: Option<String>,
}

impl Message {
    /// The message in an event, if the event is one.
    pub fn from_event(event: &TimelineEvent) -> Option<Self> {
        let parsed = event.raw().deserialize().ok()?;
        let content = content(&parsed, &event.kind)?;
        let warning =
            event.encryption_info().and_then(|info| match info.verification_state.to_shield_state_lax() {
                ShieldState::Red { message, .. } | ShieldState::Grey { message, .. } => {
                    Some(message.to_owned())
                }
                ShieldState::None => None,
            });
        Some(Self {
            event: parsed.event_id().to_string(),
            sender: parsed.sender().to_string(),
            time: parsed.origin_server_ts().get().into(),
            content,
            encrypted: !matches!(event.kind, TimelineEventKind::PlainText { .. }),
            warning,
        })
    }

    /// The text, if it could be read.
    pub fn text(&self) -> Option<&str> {
        match &self.content {
            Content::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Prints the message, after the room's name if one is given.
    pub fn report(&self, room: &Room, name: Option<&str>, out: &Output) -> Result<()> {
        let body = match &self.content {
            Content::Text(text) => indent(text),
            Content::Undecryptable => "(this device does not have the key)".to_owned(),
            Content::Redacted => "(removed)".to_owned(),
        };
        let plain = if self.encrypted { "" } else { " (not encrypted)" };
        let warning = self.warning.as_ref().map(|text| format!("\n    ! {text}")).unwrap_or_default();
        let place = name.map(|name| format!("[{}] ", indent(name))).unwrap_or_default();
        let human = format!("{} {place}{}{plain}: {body}{warning}", clock(self.time), self.sender);
        let fields = json!({
            "room": room.room_id(), "event": self.event, "sender": self.sender, "time": self.time,
            "body": self.text(), "readable": self.content != Content::Undecryptable,
            "redacted": self.content == Content::Redacted, "encrypted": self.encrypted, "warning": self.warning,
        });
        out.report("message", fields, human)
    }
}

fn content(event: &AnySyncTimelineEvent, kind: &TimelineEventKind) -> Option<Content> {
    if kind.is_utd() {
        return Some(Content::Undecryptable);
    }
    let AnySyncTimelineEvent::MessageLike(event) = event else { return None };
    match event {
        AnySyncMessageLikeEvent::RoomMessage(SyncRoomMessageEvent::Original(event)) => {
            match &event.content.msgtype {
                MessageType::VerificationRequest(_) => None,
                message => Some(Content::Text(message.body().to_owned())),
            }
        }
        AnySyncMessageLikeEvent::RoomMessage(SyncRoomMessageEvent::Redacted(_)) => Some(Content::Redacted),
        AnySyncMessageLikeEvent::RoomEncrypted(event) if event.as_original().is_none() => {
            Some(Content::Redacted)
        }
        _ => None,
    }
}

/// The last `limit` messages of a room, oldest first. Keys that are missing are looked for in the
/// key backup.
pub async fn last(room: &Room, limit: usize) -> Result<Vec<Message>> {
    let messages = page_back(room, limit).await?;
    let backups = room.client().encryption().backups();
    let missing = messages.iter().any(|message| message.content == Content::Undecryptable);
    if missing && backups.are_enabled().await {
        backups.download_room_keys_for_room(room.room_id()).await?;
        return page_back(room, limit).await;
    }
    Ok(messages)
}

async fn page_back(room: &Room, limit: usize) -> Result<Vec<Message>> {
    let mut found = Vec::new();
    let mut from = None;
    while found.len() < limit {
        let mut options = MessagesOptions::backward().from(from.as_deref());
        options.limit = UInt::from(PAGE);
        let page = room.messages(options).await?;
        found.extend(page.chunk.iter().filter_map(Message::from_event));
        // A token that stands still would make this endless.
        if page.end.is_none() || page.end == from {
            break;
        }
        from = page.end;
    }
    found.truncate(limit);
    found.reverse();
    Ok(found)
}

/// Day and time in UTC: the client has no other way to be the same everywhere.
fn clock(milliseconds: u64) -> String {
    let minutes = milliseconds / 60_000;
    let (days, minute_of_day) = (minutes / 1440, minutes % 1440);
    // Civil date from a count of days, years beginning in March so that leap days come last.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}", minute_of_day / 60, minute_of_day % 60)
}

#[cfg(test)]
mod tests {
    use super::clock;

    #[test]
    fn times_are_civil() {
        assert_eq!(clock(0), "1970-01-01 00:00");
        assert_eq!(clock(951_782_400_000), "2000-02-29 00:00");
        assert_eq!(clock(1_764_028_799_000), "2025-11-24 23:59");
    }
}
