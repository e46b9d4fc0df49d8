//! What belongs to one device: to-device messages and the number of its keys.
//!
//! Enough is remembered of each device that an answer without news reads nothing.

use crate::error::Result;
use crate::keys::upload::{self, Counts};
use crate::server::Server;
use crate::sync::online::Online;
use crate::sync::token::Token;
use crate::to_device::{self, Pending};
use std::sync::Arc;

/// What is known of a device.
#[derive(Debug, Default)]
pub struct DeviceState {
    counts: Option<Arc<KeyCounts>>,
    moved: u64,
    waiting: Waiting,
    /// The log told of messages since it was last looked whether a token acknowledges any.
    came: bool,
}

/// What is known of the messages that wait for a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Waiting {
    /// Nothing: it was not looked.
    #[default]
    Unknown,
    /// Some were given to the device, and not acknowledged yet.
    Given,
    /// There are none but those that later entries of the log tell of.
    Nothing,
}

impl DeviceState {
    /// A new epoch: nothing is known any more.
    pub(super) fn forget(&mut self) {
        self.counts_moved();
        self.waiting = Waiting::Unknown;
    }

    /// The keys changed in number.
    pub(super) fn counts_moved(&mut self) {
        self.counts = None;
        self.moved += 1;
    }

    /// There are messages, which perhaps another replica hands out: its tokens acknowledge them here.
    pub(super) fn messages_came(&mut self) {
        self.came = true;
    }
}

/// The number of a device's keys.
#[derive(Debug, Default)]
pub(super) struct KeyCounts {
    /// One-time keys, by algorithm.
    pub(super) one_time: Counts,
    /// Algorithms with an unused fallback key.
    pub(super) fallback: Vec<String>,
}

impl Server {
    /// How many keys a device has here.
    pub(super) async fn key_counts(&self, online: &Online, device_pk: i64) -> Result<Arc<KeyCounts>> {
        let (known, moved) = online.device(device_pk, |device| (device.counts.clone(), device.moved));
        if let Some(known) = known {
            return Ok(known);
        }
        let one_time = upload::counts(self, device_pk).await?;
        let fallback = upload::unused_fallback_keys(self, device_pk).await?;
        let counts = Arc::new(KeyCounts { one_time, fallback });
        online.device(device_pk, |device| {
            if device.moved == moved {
                device.counts = Some(counts.clone());
            }
        });
        Ok(counts)
    }

    /// Deletes the messages that a token acknowledges. The token must be of this epoch and of the past.
    pub(super) async fn acknowledge(&self, online: &Online, device_pk: i64, token: &Token) -> Result<()> {
        let (waiting, came) =
            online.device(device_pk, |device| (device.waiting, std::mem::take(&mut device.came)));
        let wait = match waiting {
            Waiting::Nothing if came && self.replicas.are_there() => {
                to_device::waits(self, device_pk, token.to_device).await?
            }
            Waiting::Nothing => false,
            Waiting::Given => true,
            Waiting::Unknown => to_device::waits(self, device_pk, token.to_device).await?,
        };
        if wait {
            to_device::acknowledge(self, device_pk, token.to_device);
        }
        Ok(())
    }

    /// The messages that wait for a device and are not in the answer that it has. `is_new`: the log tells of new ones.
    pub(super) async fn pending_messages(
        &self,
        online: &Online,
        device_pk: i64,
        since: Option<&Token>,
        upto: i64,
        is_new: bool,
    ) -> Result<Pending> {
        let nothing = online.device(device_pk, |device| device.waiting == Waiting::Nothing);
        if device_pk == 0 || (!is_new && nothing) {
            return Ok(Pending { events: Vec::new(), upto });
        }
        let after = since.map_or(0, |token| token.to_device);
        let pending = to_device::pending(self, device_pk, after, upto).await?;
        let waiting = if pending.events.is_empty() { Waiting::Nothing } else { Waiting::Given };
        online.device(device_pk, |device| device.waiting = waiting);
        Ok(pending)
    }
}
