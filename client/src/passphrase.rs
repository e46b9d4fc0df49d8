//! The passphrase that encrypts a profile's store.
//!
//! Where the operating system has a keychain, a random passphrase is made at the first login and
//! kept there. Elsewhere the person chooses one and is asked for it. `MYELIN_CLIENT_PASSPHRASE`,
//! meant for scripts, goes before both.

use anyhow::{Context, Result, bail};
use base64::{Engine, prelude::BASE64_STANDARD_NO_PAD};
use rand::{TryRngCore, rngs::OsRng};
use serde::{Deserialize, Serialize};
use std::{io::IsTerminal, path::Path};
use zeroize::Zeroizing;

/// The environment variable that replaces keychain and question.
pub const VARIABLE: &str = "MYELIN_CLIENT_PASSPHRASE";

const KEYCHAIN_SERVICE: &str = "myelin-client";

/// A text that is wiped from memory when it is dropped.
pub type Secret = Zeroizing<String>;

/// Where the passphrase of a profile is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// In the keychain of the operating system.
    Keychain,
    /// In somebody's head: it is asked for.
    Asked,
}

/// A passphrase for the store of a profile that is about to be made.
pub async fn for_new_profile(directory: &Path) -> Result<(Secret, Source)> {
    if let Some(passphrase) = from_environment() {
        return Ok((passphrase, Source::Asked));
    }
    let account = directory.display().to_string();
    if let Some(passphrase) = blocking(move || Ok(new_in_keychain(&account))).await? {
        return Ok((passphrase, Source::Keychain));
    }
    let first = ask("No keychain here. Choose a passphrase for the keys on this machine: ").await?;
    if first.is_empty() {
        bail!("the passphrase may not be empty");
    }
    if ask("Once more: ").await? != first {
        bail!("the two passphrases differ");
    }
    Ok((first, Source::Asked))
}

/// The passphrase of a profile that exists.
pub async fn for_profile(directory: &Path, source: Source) -> Result<Secret> {
    if let Some(passphrase) = from_environment() {
        return Ok(passphrase);
    }
    match source {
        Source::Asked => ask("Passphrase: ").await,
        Source::Keychain => {
            let account = directory.display().to_string();
            blocking(move || {
                let entry = keyring::Entry::new(KEYCHAIN_SERVICE, &account)?;
                Ok(Zeroizing::new(entry.get_password()?))
            })
            .await
            .context("the passphrase of this profile is in the keychain, which did not give it")
        }
    }
}

/// Removes a profile's passphrase from the keychain.
pub async fn forget(directory: &Path, source: Source) -> Result<()> {
    if source == Source::Asked {
        return Ok(());
    }
    let account = directory.display().to_string();
    blocking(move || Ok(keyring::Entry::new(KEYCHAIN_SERVICE, &account)?.delete_credential()?)).await
}

/// Asks for a secret without showing what is typed; `variable` replaces the question.
pub async fn ask_or_variable(question: &str, variable: &str) -> Result<Secret> {
    match std::env::var(variable) {
        Ok(value) => Ok(Zeroizing::new(value)),
        Err(_) => ask(question).await.with_context(|| format!("alternatively set {variable}")),
    }
}

fn from_environment() -> Option<Secret> {
    std::env::var(VARIABLE).ok().filter(|value| !value.is_empty()).map(Zeroizing::new)
}

/// Makes a passphrase and keeps it in the keychain. None where there is no keychain, or one that
/// does not give back what it was given.
fn new_in_keychain(account: &str) -> Option<Secret> {
    let mut bytes = Zeroizing::new([0; 32]);
    OsRng.try_fill_bytes(bytes.as_mut()).ok()?;
    let passphrase = Zeroizing::new(BASE64_STANDARD_NO_PAD.encode(bytes.as_ref()));
    let entry = keyring::Entry::new(KEYCHAIN_SERVICE, account).ok()?;
    entry.set_password(&passphrase).ok()?;
    let kept = Zeroizing::new(entry.get_password().ok()?);
    (kept == passphrase).then_some(passphrase)
}

async fn ask(question: &str) -> Result<Secret> {
    if !std::io::stdin().is_terminal() {
        bail!("a secret is needed and there is no terminal to ask at (for the passphrase set {VARIABLE})");
    }
    let question = question.to_owned();
    blocking(move || Ok(Zeroizing::new(rpassword::prompt_password(question)?))).await
}

/// Keychains and terminals block; they may not block the runtime.
async fn blocking<T: Send + 'static>(action: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(action).await?
}
