//! `verify`: another device of one's own, or another person.
//!
//! One side asks, the other runs `verify --accept`. Both then compare seven emojis, or one side
//! draws a QR code that the other scans. A verified new device receives the cross-signing keys and
//! the key of the backup from the old one, so both keep syncing until that is done.

use crate::{commands::find_user, output::Output, session::Session};
use anyhow::{Context, Result, bail};
use clap::Args;
use matrix_sdk::{
    encryption::verification::{Verification, VerificationRequest, VerificationRequestState},
    ruma::{OwnedDeviceId, UserId, events::key::verification::VerificationMethod},
};
use serde_json::json;
use std::time::Duration;
use tokio::task::JoinHandle;

pub mod handover;
pub mod incoming;
pub mod qr;
pub mod sas;

/// Arguments of `verify`.
#[derive(Debug, Default, Args)]
pub struct Arguments {
    /// Whom to verify (default: another device of one's own)
    pub user: Option<String>,
    /// Ask this device of one's own only
    #[arg(long, conflicts_with = "user")]
    pub device: Option<OwnedDeviceId>,
    /// Wait for somebody else's request and accept it
    #[arg(long, conflicts_with_all = ["user", "device"])]
    pub accept: bool,
    /// Draw a QR code for the other side to scan
    #[arg(long, conflicts_with = "scan")]
    pub qr: bool,
    /// Take the content of the other side's QR code (base64, from standard input)
    #[arg(long)]
    pub scan: bool,
    /// Take it for granted that both sides show the same (for scripts that compare themselves)
    #[arg(long)]
    pub yes: bool,
    /// Give up after so many seconds
    #[arg(long, default_value_t = 300, value_name = "SECONDS")]
    pub timeout: u64,
}

impl Arguments {
    fn methods(&self) -> Vec<VerificationMethod> {
        let mut methods = vec![VerificationMethod::SasV1, VerificationMethod::ReciprocateV1];
        // Promising to scan when nobody sits ready to do so would lead the other side astray.
        methods.push(if self.scan {
            VerificationMethod::QrCodeScanV1
        } else {
            VerificationMethod::QrCodeShowV1
        });
        methods
    }
}

/// A sync that runs beside the verification and ends with it.
pub struct Syncing(JoinHandle<()>);

impl Syncing {
    /// Starts to sync.
    pub fn start(session: &Session) -> Self {
        let client = session.client.clone();
        Self(tokio::spawn(async move {
            loop {
                let settings = Session::sync_settings().timeout(Duration::from_secs(30));
                if let Err(error) = client.sync(settings).await {
                    tracing::warn!("the sync failed, trying again: {error}");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }))
    }
}

impl Drop for Syncing {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Verifies and waits until both sides have what they need.
pub async fn run(session: &Session, arguments: &Arguments, out: &Output) -> Result<()> {
    let mut requests = incoming::requests(&session.client);
    session.catch_up(out).await?;
    let handover = handover::Handover::prepare(session).await;
    let syncing = Syncing::start(session);
    let verify = async {
        let request = if arguments.accept {
            out.say("Waiting for a request (`verify` on the other side)")?;
            let request = requests.recv().await.context("no request came")?;
            out.report(
                "request",
                json!({ "user": request.other_user_id() }),
                format!("{} wants to verify", request.other_user_id()),
            )?;
            request.accept_with_methods(arguments.methods()).await?;
            request
        } else {
            ask(session, arguments, out).await?
        };
        if let Err(error) = perform(&request, &handover, arguments, out).await {
            // The other side should not wait for us. If it can't be told, the first error matters.
            let _ = request.cancel().await;
            return Err(error);
        }
        report_done(&request, out)?;
        if request.is_self_verification() {
            handover.complete(session, out).await
        } else {
            signed(session, request.other_user_id(), out).await
        }
    };
    tokio::time::timeout(Duration::from_secs(arguments.timeout), verify)
        .await
        .context("the other side did not finish in time")??;
    drop(syncing);
    session.catch_up(out).await
}

async fn ask(session: &Session, arguments: &Arguments, out: &Output) -> Result<VerificationRequest> {
    let encryption = session.client.encryption();
    if let Some(device) = &arguments.device {
        let device = encryption
            .get_device(&session.user, device)
            .await?
            .with_context(|| format!("you have no device {device}"))?;
        out.say(format!("Asked {}: run `verify --accept` there", device.device_id()))?;
        return Ok(device.request_verification_with_methods(arguments.methods()).await?);
    }
    let user = match &arguments.user {
        Some(user) => find_user(session, user)?,
        None => session.user.clone(),
    };
    let identity = encryption
        .request_user_identity(&user)
        .await?
        .with_context(|| format!("{user} has no cross-signing identity that could be verified"))?;
    if user == session.user && !encryption.has_devices_to_verify_against().await? {
        bail!("there is no other verified device of yours: use `recovery restore`");
    }
    let request = identity.request_verification_with_methods(arguments.methods()).await?;
    out.say(format!("Asked {user}: run `verify --accept` on the other side"))?;
    Ok(request)
}

/// Goes through the method that the two sides agree on.
async fn perform(
    request: &VerificationRequest,
    handover: &handover::Handover,
    arguments: &Arguments,
    out: &Output,
) -> Result<()> {
    let started_by_other = wait_until_ready(request).await?;
    if let Some(verification) = started_by_other {
        return continue_with(verification, handover, arguments, out).await;
    }
    if arguments.scan {
        let qr = qr::scan_from_input(request, out).await?;
        out.say("The code is right. Now confirm on the other device.")?;
        return qr::wait_until_done(&qr, async || Ok(true)).await;
    }
    if arguments.qr {
        if let Some(qr) = request.generate_qr_code().await? {
            qr::report(&qr::Drawing::of(&qr)?, out)?;
            return tokio::select! {
                result = qr::wait_until_done(&qr, async || qr::ask(arguments.yes, out).await) => result,
                verification = wait_for_sas(request) => continue_with(verification?, handover, arguments, out).await,
            };
        }
        out.say("The other side can't scan: comparing emojis instead")?;
    }
    let verification = if request.we_started() {
        Verification::SasV1(request.start_sas().await?.context("the other side can't compare emojis")?)
    } else {
        wait_for_sas(request).await?
    };
    continue_with(verification, handover, arguments, out).await
}

async fn continue_with(
    verification: Verification,
    handover: &handover::Handover,
    arguments: &Arguments,
    out: &Output,
) -> Result<()> {
    match verification {
        Verification::SasV1(sas) => {
            sas::run(&sas, async |emojis| {
                sas::report(emojis, out)?;
                let same = sas::ask(arguments.yes, out).await?;
                if same && sas.is_self_verification() {
                    handover.other_confirmed().await;
                }
                Ok(same)
            })
            .await
        }
        Verification::QrV1(qr) => qr::wait_until_done(&qr, async || qr::ask(arguments.yes, out).await).await,
        _ => bail!("the other side chose a method that is not known here"),
    }
}

/// Waits until both sides are ready; returns what the other side started meanwhile, if it did.
pub async fn wait_until_ready(request: &VerificationRequest) -> Result<Option<Verification>> {
    wait_for(request, |state| match state {
        VerificationRequestState::Ready { .. } => Some(None),
        VerificationRequestState::Transitioned { verification } => Some(Some(verification)),
        _ => None,
    })
    .await
}

/// Waits until the other side starts to compare emojis.
pub async fn wait_for_sas(request: &VerificationRequest) -> Result<Verification> {
    wait_for(request, |state| match state {
        VerificationRequestState::Transitioned { verification: verification @ Verification::SasV1(_) } => {
            Some(verification)
        }
        _ => None,
    })
    .await
}

async fn wait_for<T>(
    request: &VerificationRequest,
    pick: impl Fn(VerificationRequestState) -> Option<T>,
) -> Result<T> {
    use futures_util::StreamExt;
    let changes = request.changes();
    futures_util::pin_mut!(changes);
    // Subscribed before looking, so that no change falls between the two.
    let mut state = Some(request.state());
    while let Some(now) = state {
        if let VerificationRequestState::Cancelled(info) = &now {
            bail!("cancelled: {}", info.reason());
        }
        if let Some(found) = pick(now) {
            return Ok(found);
        }
        state = changes.next().await;
    }
    bail!("the request ended")
}

/// Waits until the other's identity bears our signature. It is made and sent by whoever syncs, after the
/// verification already counts as done; ending the sync before would lose it.
async fn signed(session: &Session, user: &UserId, out: &Output) -> Result<()> {
    let _progress = out.progress("Signing");
    loop {
        let identity = session.client.encryption().request_user_identity(user).await?;
        if identity.is_some_and(|identity| identity.is_verified()) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

fn report_done(request: &VerificationRequest, out: &Output) -> Result<()> {
    let user = request.other_user_id();
    let what = if request.is_self_verification() { "Your other device".to_owned() } else { user.to_string() };
    out.report("verified", json!({ "user": user }), format!("{what} is verified."))
}
