//! Verification by QR code: one side draws it, the other scans it.

use super::sas::confirm;
use crate::output::Output;
pub use crate::qr_code::Drawing;
use anyhow::{Context, Result, bail};
use base64::{Engine, prelude::BASE64_STANDARD_NO_PAD};
use futures_util::{StreamExt, pin_mut};
use matrix_sdk::encryption::verification::{
    QrVerification, QrVerificationData, QrVerificationState, VerificationRequest,
};
use serde_json::json;

/// Draws the code, with its content as text for terminals without a camera in front of them.
pub fn report(drawing: &Drawing, out: &Output) -> Result<()> {
    let data = BASE64_STANDARD_NO_PAD.encode(&drawing.bytes);
    let text = format!(
        "{}\nScan this with the other device. If that is a terminal too: `verify --accept --scan`, and paste\n{data}",
        drawing.picture
    );
    out.report("qr_code", json!({ "data": data }), text)
}

/// Takes the code that the other side shows from standard input.
pub async fn scan_from_input(request: &VerificationRequest, out: &Output) -> Result<QrVerification> {
    out.say("Paste the line below the other side's QR code:")?;
    let line = tokio::task::spawn_blocking(|| -> Result<String> {
        let mut line = String::new();
        std::io::stdin().read_line(&mut line)?;
        Ok(line)
    })
    .await??;
    scan(request, &BASE64_STANDARD_NO_PAD.decode(line.trim().trim_end_matches('=')).context("not base64")?)
        .await
}

/// Scans a code, given its bytes.
pub async fn scan(request: &VerificationRequest, bytes: &[u8]) -> Result<QrVerification> {
    let data = QrVerificationData::from_bytes(bytes).context("this is not the QR code of a verification")?;
    request.scan_qr_code(data).await?.context("the other side does not expect a QR code")
}

/// Waits until both sides are done; `agree` is asked when the other side says that it has scanned
/// our code, which only the person in front of both can know.
pub async fn wait_until_done(qr: &QrVerification, agree: impl AsyncFnOnce() -> Result<bool>) -> Result<()> {
    let changes = qr.changes();
    pin_mut!(changes);
    let mut agree = Some(agree);
    // Subscribed before looking, so that no change falls between the two.
    let mut state = Some(qr.state());
    while let Some(now) = state {
        match now {
            QrVerificationState::Scanned => {
                if let Some(agree) = agree.take() {
                    if !agree().await? {
                        qr.cancel().await?;
                        bail!("the other side has not scanned this code: somebody may be in between");
                    }
                    qr.confirm().await?;
                }
            }
            QrVerificationState::Done { .. } => return Ok(()),
            QrVerificationState::Cancelled(info) => bail!("cancelled: {}", info.reason()),
            _ => {}
        }
        state = changes.next().await;
    }
    bail!("the verification ended")
}

/// Asks whether the other side says that it is done.
pub async fn ask(yes: bool, out: &Output) -> Result<bool> {
    if yes {
        return Ok(true);
    }
    confirm("The code was scanned. Does the other device say that all is well?", out).await
}
