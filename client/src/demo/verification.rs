//! Both sides of a verification at once, as two people with two screens would do it.

use super::people::Device;
use crate::{
    commands::verify::{self, Syncing, handover::Handover, incoming, qr, sas},
    demo::people::quiet,
    output::Output,
};
use anyhow::{Context, Result, bail};
use matrix_sdk::{
    encryption::verification::{Emoji, Verification, VerificationRequest},
    ruma::{UserId, events::key::verification::VerificationMethod},
};
use std::time::Duration;
use tokio::sync::oneshot;

const PATIENCE: Duration = Duration::from_secs(90);

/// A new device is verified against the user's first one by emojis, and receives its keys.
pub async fn by_emojis(new: &Device, old: &Device, out: &Output) -> Result<()> {
    let mut requests = incoming::requests(&old.session.client);
    let (takes, gives) = (Handover::prepare(&new.session).await, Handover::prepare(&old.session).await);
    let _syncing = (Syncing::start(&new.session), Syncing::start(&old.session));
    let verification = async {
        let methods = vec![VerificationMethod::SasV1];
        let (asking, asked) = request(new, old.user(), &mut requests, methods).await?;
        let asking = asking.start_sas().await?.context("the other side can't compare emojis")?;
        let Verification::SasV1(asked) = verify::wait_for_sas(&asked).await? else { bail!("not by emojis") };
        let (show, seen) = oneshot::channel::<[&'static str; 7]>();
        let (answer, answered) = oneshot::channel();
        let new_side = sas::run(&asking, async |emojis| {
            out.say(format!("On {}:", new.label))?;
            sas::report(emojis, out)?;
            // The other side may have given up: then its error is the one that counts.
            let _ = show.send(symbols(emojis));
            let same = answered.await.unwrap_or(false);
            if same {
                takes.other_confirmed().await;
            }
            Ok(same)
        });
        let old_side = sas::run(&asked, async |emojis| {
            let other = seen.await.context("the other side showed nothing")?;
            out.say(format!("On {}:", old.label))?;
            sas::report(emojis, out)?;
            let same = other == symbols(emojis);
            let _ = answer.send(same);
            Ok(same)
        });
        tokio::try_join!(new_side, old_side)?;
        let silent = quiet();
        tokio::try_join!(takes.complete(&new.session, &silent), gives.complete(&old.session, &silent))?;
        anyhow::Ok(())
    };
    tokio::time::timeout(PATIENCE, verification).await.context("the verification took too long")?
}

/// Two people verify each other: one shows a QR code, the other scans it.
pub async fn by_qr_code(shows: &Device, scans: &Device, out: &Output) -> Result<()> {
    let mut requests = incoming::requests(&scans.session.client);
    let _syncing = (Syncing::start(&shows.session), Syncing::start(&scans.session));
    let verification = async {
        let methods = vec![
            VerificationMethod::QrCodeShowV1,
            VerificationMethod::QrCodeScanV1,
            VerificationMethod::ReciprocateV1,
        ];
        let (asking, asked) = request(shows, scans.user(), &mut requests, methods).await?;
        let shown = asking.generate_qr_code().await?.context("the other side can't scan")?;
        let drawing = qr::Drawing::of(&shown)?;
        out.say(format!("On {}:", shows.label))?;
        qr::report(&drawing, out)?;
        let scanned = qr::scan(&asked, &drawing.bytes).await?;
        tokio::try_join!(
            qr::wait_until_done(&shown, async || Ok(true)),
            qr::wait_until_done(&scanned, async || Ok(true)),
        )?;
        anyhow::Ok(())
    };
    tokio::time::timeout(PATIENCE, verification).await.context("the verification took too long")?
}

/// One side asks, the other accepts; returns both ends when they are ready.
async fn request(
    from: &Device,
    to: &UserId,
    requests: &mut tokio::sync::mpsc::Receiver<VerificationRequest>,
    methods: Vec<VerificationMethod>,
) -> Result<(VerificationRequest, VerificationRequest)> {
    let identity = from
        .session
        .client
        .encryption()
        .request_user_identity(to)
        .await?
        .with_context(|| format!("{to} has no identity"))?;
    let asking = identity.request_verification_with_methods(methods.clone()).await?;
    let asked = requests.recv().await.context("the request did not arrive")?;
    asked.accept_with_methods(methods).await?;
    verify::wait_until_ready(&asking).await?;
    verify::wait_until_ready(&asked).await?;
    Ok((asking, asked))
}

fn symbols(emojis: &[Emoji; 7]) -> [&'static str; 7] {
    std::array::from_fn(|i| emojis[i].symbol)
}
