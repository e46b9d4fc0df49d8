//! EDUs of other servers. What they say about other servers' users is ignored, as is what is not known.

use super::passed_over;
use crate::Federation;
use myelin_core::keys::remote_device_lists::{self, Update};
use myelin_core::presence::State;
use myelin_core::rooms::receipts::Audience;
use myelin_core::rooms::visibility::Membership;
use myelin_core::to_device;
use myelin_core::users::{LONGEST_TEXT, check_text};
use myelin_core::{Error, Result};
use ruma::api::federation::transactions::edu::{
    DeviceListUpdateContent, DirectDeviceContent, Edu, PresenceContent, ReceiptContent, ReceiptData,
    TypingContent,
};
use ruma::events::receipt::ReceiptThread;
use ruma::presence::PresenceState;
use ruma::serde::Raw;
use ruma::{RoomId, ServerName, UserId};

/// How long somebody types who says nothing more, in milliseconds.
const TYPING: i64 = 30_000;
/// Users whose presence one EDU tells.
const MOST_UPDATES: usize = 500;
/// Receipts of one EDU.
const MOST_RECEIPTS: usize = 500;

impl Federation {
    /// Takes one EDU in.
    pub(super) async fn edu(&self, origin: &ServerName, json: &str) -> Result<()> {
        let edu: Edu = serde_json::from_str(json).map_err(|error| Error::bad_json(error.to_string()))?;
        let own = |user: &UserId| match user.server_name() == origin {
            true => Ok(()),
            false => Err(Error::forbidden("the EDU is about a user of another server")),
        };
        match edu {
            Edu::Typing(typing) => {
                own(&typing.user_id)?;
                self.typing_edu(origin, typing).await
            }
            Edu::Receipt(receipts) => self.receipt_edu(origin, receipts).await,
            Edu::DirectToDevice(message) => {
                own(&message.sender)?;
                self.to_device_edu(message).await
            }
            Edu::DeviceListUpdate(update) => {
                own(&update.user_id)?;
                self.device_list_edu(update).await
            }
            Edu::SigningKeyUpdate(update) => {
                own(&update.user_id)?;
                let master = update.master_key.map(Raw::into_json);
                let self_signing = update.self_signing_key.map(Raw::into_json);
                let server = &self.server;
                remote_device_lists::cross_signing_changed(server, &update.user_id, master, self_signing)
                    .await
            }
            Edu::Presence(presence) => self.presence_edu(origin, presence).await,
            // The specification wants what is not known to be ignored.
            _ => Ok(()),
        }
    }

    /// A room that the user is in, and whose access list lets the server in.
    async fn room_of_edu(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        user: &UserId,
    ) -> Result<std::sync::Arc<myelin_core::rooms::cache::Room>> {
        let room = self.server.shared_room(room_id, origin).await?;
        let root = self.server.current_root(&room).await?;
        match self.server.membership_in(&room, root, user).await? {
            Membership::Join => Ok(room),
            _ => Err(Error::forbidden("the user is not in the room")),
        }
    }

    async fn device_list_edu(&self, update: DeviceListUpdateContent) -> Result<()> {
        let user = update.user_id.clone();
        let update = Update {
            user: update.user_id,
            device: update.device_id,
            stream_id: update.stream_id.into(),
            prev_ids: update.prev_id.into_iter().map(i64::from).collect(),
            deleted: update.deleted.unwrap_or(false),
            display_name: update.device_display_name,
            keys: update.keys.map(Raw::into_json),
        };
        if remote_device_lists::follow(&self.server, update).await? {
            self.device_lists.want(user);
        }
        Ok(())
    }

    async fn typing_edu(&self, origin: &ServerName, typing: TypingContent) -> Result<()> {
        let room = self.room_of_edu(origin, &typing.room_id, &typing.user_id).await?;
        let user_pk = self.server.ids.user(typing.user_id.as_str()).await?;
        self.server.set_typing(&room, user_pk, typing.typing.then_some(TYPING));
        Ok(())
    }

    async fn presence_edu(&self, origin: &ServerName, content: PresenceContent) -> Result<()> {
        for update in content.push.into_iter().take(MOST_UPDATES) {
            if update.user_id.server_name() != origin {
                continue;
            }
            let state = match update.presence {
                PresenceState::Online => State::Online,
                PresenceState::Unavailable => State::Unavailable,
                _ => State::Offline,
            };
            let ago = Some(i64::from(update.last_active_ago));
            self.server.presence_told(&update.user_id, state, update.status_msg, ago).await?;
        }
        Ok(())
    }

    async fn receipt_edu(&self, origin: &ServerName, content: ReceiptContent) -> Result<()> {
        let mut left = MOST_RECEIPTS;
        for (room_id, map) in content.receipts {
            for (user, data) in map.read {
                left = left.checked_sub(1).ok_or_else(|| Error::bad_json("too many receipts"))?;
                if user.server_name() != origin {
                    continue;
                }
                match self.receipt(origin, &room_id, &user, data).await {
                    Ok(()) => {}
                    Err(error) => passed_over(error, origin, "a receipt")?,
                }
            }
        }
        Ok(())
    }

    async fn receipt(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        user: &UserId,
        data: ReceiptData,
    ) -> Result<()> {
        let room = self.room_of_edu(origin, room_id, user).await?;
        let user_pk = self.server.ids.user(user.as_str()).await?;
        let thread = match data.data.thread {
            ReceiptThread::Unthreaded => String::new(),
            ReceiptThread::Main => "main".to_owned(),
            other => other.as_str().unwrap_or_default().to_owned(),
        };
        check_text("thread_id", &thread, LONGEST_TEXT)?;
        let Some(event_id) = data.event_ids.last() else { return Ok(()) };
        self.server.read(&room, user_pk, Audience::Public, thread, event_id).await
    }

    async fn to_device_edu(&self, message: DirectDeviceContent) -> Result<()> {
        check_text("message_id", message.message_id.as_str(), LONGEST_TEXT)?;
        let mut messages = to_device::Messages::new();
        for (user, devices) in message.messages {
            if self.server.is_local(&user) {
                let devices = devices.into_iter().map(|(device, content)| (device, content.into_json()));
                messages.insert(user, devices.collect());
            }
        }
        let kind = message.ev_type.to_string();
        to_device::deliver(&self.server, &message.sender, &kind, message.message_id.to_string(), messages)
            .await
    }
}
