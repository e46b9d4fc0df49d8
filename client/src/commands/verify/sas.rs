//! Comparing seven emojis (SAS, short authentication string).

use crate::output::Output;
use anyhow::{Context, Result, bail};
use futures_util::{StreamExt, pin_mut};
use matrix_sdk::encryption::verification::{Emoji, SasState, SasVerification};
use serde_json::json;
use std::io::{BufRead, Write};
use unicode_width::UnicodeWidthStr;

/// Columns of one emoji with its name.
const COLUMN: usize = 13;

/// Goes through a verification by emojis; `agree` sees them and says whether the other side's are
/// the same.
pub async fn run(sas: &SasVerification, agree: impl AsyncFnOnce(&[Emoji; 7]) -> Result<bool>) -> Result<()> {
    let changes = sas.changes();
    pin_mut!(changes);
    let mut agree = Some(agree);
    let mut accepted = false;
    // Subscribed before looking, so that no change falls between the two.
    let mut state = Some(sas.state());
    while let Some(now) = state {
        match now {
            SasState::Started { .. } if !sas.we_started() && !accepted => {
                accepted = true;
                sas.accept().await?;
            }
            SasState::KeysExchanged { emojis, .. } => {
                if let Some(agree) = agree.take() {
                    let emojis = emojis.context("the other side can't show emojis")?.emojis;
                    if agree(&emojis).await? {
                        sas.confirm().await?;
                    } else {
                        sas.mismatch().await?;
                        bail!("the two sides show different emojis: somebody may be in between");
                    }
                }
            }
            SasState::Done { .. } => return Ok(()),
            SasState::Cancelled(info) => bail!("cancelled: {}", info.reason()),
            _ => {}
        }
        state = changes.next().await;
    }
    bail!("the verification ended")
}

/// Prints the emojis.
pub fn report(emojis: &[Emoji; 7], out: &Output) -> Result<()> {
    let list: Vec<_> =
        emojis.iter().map(|emoji| json!({ "symbol": emoji.symbol, "name": emoji.description })).collect();
    out.report("emojis", json!({ "emojis": list }), picture(emojis))
}

/// The emojis in a row, their names below.
pub fn picture(emojis: &[Emoji; 7]) -> String {
    let row = |text: fn(&Emoji) -> &'static str| {
        emojis.iter().map(|emoji| centred(text(emoji))).collect::<String>().trim_end().to_owned()
    };
    format!("\n{}\n{}\n", row(|emoji| emoji.symbol), row(|emoji| emoji.description))
}

/// Centred by the columns that a terminal uses, which for emojis is not the number of characters.
fn centred(text: &str) -> String {
    let space = COLUMN.saturating_sub(text.width());
    format!("{}{text}{}", " ".repeat(space / 2), " ".repeat(space - space / 2))
}

/// Asks whether both sides show the same.
pub async fn ask(yes: bool, out: &Output) -> Result<bool> {
    if yes {
        return Ok(true);
    }
    confirm("Does the other side show the same, in the same order?", out).await
}

/// A question that only `y` or `yes` answers with yes.
pub async fn confirm(question: &str, out: &Output) -> Result<bool> {
    let prompt = (!out.is_json()).then(|| format!("{question} [y/N] "));
    let answer = tokio::task::spawn_blocking(move || -> Result<String> {
        if let Some(prompt) = prompt {
            let mut stdout = std::io::stdout();
            stdout.write_all(prompt.as_bytes())?;
            stdout.flush()?;
        }
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line)?;
        Ok(line)
    })
    .await??;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_below_their_emojis() {
        let emojis = std::array::from_fn(|i| match i {
            0 => Emoji { symbol: "🐶", description: "Dog" },
            _ => Emoji { symbol: "✈\u{fe0f}", description: "Aeroplane" },
        });
        let text = picture(&emojis);
        let lines: Vec<_> = text.lines().filter(|line| !line.is_empty()).collect();
        assert_eq!(lines.len(), 2);
        assert!(lines[0].starts_with("     🐶      "));
        assert!(lines[1].starts_with("     Dog     "));
        assert_eq!(lines[1].matches("Aeroplane").count(), 6);
    }
}
