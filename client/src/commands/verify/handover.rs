//! After a verification between two devices of one user: the old one hands over the secrets.
//!
//! The new device asks for the cross-signing keys and the backup key, the old one answers, both
//! over encrypted to-device messages. A command that ended before would leave the new device
//! without history.
//!
//! The old device refuses for good what a device asks for that it has not verified yet, and matrix-sdk sends what waits
//! at once, in any order: if the old device's confirmation and its word that it is done come together, the new one asks
//! while it still says that it is done itself. So the new device confirms when the old one has.

use crate::{output::Output, session::Session};
use anyhow::{Result, bail};
use matrix_sdk::ruma::events::{
    key::verification::mac::ToDeviceKeyVerificationMacEvent, secret::request::ToDeviceSecretRequestEvent,
};
use serde_json::json;
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::sync::Notify;

const STEP: Duration = Duration::from_millis(250);
/// How long the new device waits for its secrets.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long the old device waits for a first, and for yet another, request.
const FIRST_REQUEST: u32 = 40;
const NEXT_REQUEST: u32 = 12;

/// What a device has to do after it was verified against another of the same user.
pub struct Handover {
    receives: bool,
    requests: Arc<AtomicUsize>,
    confirmed: Arc<Notify>,
}

impl Handover {
    /// Looks at what this device has, before the verification.
    pub async fn prepare(session: &Session) -> Self {
        let requests = Arc::new(AtomicUsize::new(0));
        let counter = requests.clone();
        session.client.add_event_handler(move |_: ToDeviceSecretRequestEvent| {
            let counter = counter.clone();
            async move {
                counter.fetch_add(1, Ordering::Relaxed);
            }
        });
        let confirmed = Arc::new(Notify::new());
        let notify = confirmed.clone();
        session.client.add_event_handler(move |_: ToDeviceKeyVerificationMacEvent| {
            let notify = notify.clone();
            async move { notify.notify_one() }
        });
        Self { receives: !has_secrets(session).await, requests, confirmed }
    }

    /// On a device that is to receive the secrets, waits until the other one has confirmed that both show the same.
    pub async fn other_confirmed(&self) {
        if self.receives {
            // Whoever waits in vain goes on as if it did not matter: the verification itself does not need it.
            let _ = tokio::time::timeout(PATIENCE, self.confirmed.notified()).await;
        }
    }

    /// Waits until this device has received, or handed over, the secrets. Somebody must be syncing.
    pub async fn complete(self, session: &Session, out: &Output) -> Result<()> {
        if self.receives { receive(session, out).await } else { self.give(out).await }
    }

    async fn give(self, out: &Output) -> Result<()> {
        let _progress = out.progress("Handing the keys over");
        let (mut seen, mut quiet) = (0, 0);
        while quiet < if seen == 0 { FIRST_REQUEST } else { NEXT_REQUEST } {
            tokio::time::sleep(STEP).await;
            let now = self.requests.load(Ordering::Relaxed);
            quiet = if now == seen { quiet + 1 } else { 0 };
            seen = now;
        }
        Ok(())
    }
}

async fn receive(session: &Session, out: &Output) -> Result<()> {
    let progress = out.progress("Waiting for the keys from the other device");
    let encryption = session.client.encryption();
    let complete = async {
        loop {
            let signed =
                encryption.get_own_device().await?.is_some_and(|device| device.is_cross_signed_by_owner());
            let backup =
                encryption.backups().are_enabled().await || !encryption.backups().exists_on_server().await?;
            if signed && backup && has_secrets(session).await {
                return anyhow::Ok(());
            }
            tokio::time::sleep(STEP).await;
        }
    };
    match tokio::time::timeout(PATIENCE, complete).await {
        Ok(result) => result?,
        Err(_) => bail!("verified, but the other device did not hand over the keys: is it still running?"),
    }
    drop(progress);
    out.report("keys_received", json!({}), "This device has the keys of your identity and of the key backup.")
}

async fn has_secrets(session: &Session) -> bool {
    session.client.encryption().cross_signing_status().await.is_some_and(|status| status.is_complete())
}
