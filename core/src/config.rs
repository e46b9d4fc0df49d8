//! Settings: one table of keys, a TOML file, `MYELIN_...` variables.
//!
//! [`KEYS`] is the single source: what a key is called, what may stand there, its default and its explanation.
//! From it come the check of a file, the names of the environment variables, `myelin print-config` and
//! `docs/config.md`. Loading goes
//!
//! ```text
//! file -> source::read_file --\
//!                              > Entries (path -> checked value) -> defaults -> serde -> Settings -> cross checks
//! env  -> source::read_env  --/
//! ```
//!
//! so [`Settings`] never needs a default of its own, and a wrong key, type or value is found before serde sees it:
//! the message names the key, the line or variable, what stands there and what is allowed. All problems are
//! reported at once. The environment is passed in; nothing here reads the process's own.

mod entries;
mod keys;
mod kind;
mod nearest;
mod print;
mod settings;
mod source;
#[cfg(test)]
mod tests;
mod values;

use std::fmt;

pub use self::{
    entries::Entries,
    keys::{KEYS, Key},
    kind::Kind,
    print::{as_markdown, as_toml},
    settings::{
        Api, Database, Federation, Limits, Listener, Log, LogFormat, OutboundHttp, PasswordHashing, Rate,
        Registration, RegistrationMode, Rooms, Settings,
    },
    values::{DatabaseUrl, IpRange, Secret},
};

/// Variables that start with `MYELIN_` and are no settings: the command line reads them.
pub const OTHER_VARIABLES: &[&str] = &["MYELIN_CONFIG", "MYELIN_PASSWORD"];

/// A configuration file's text and the name that messages give it.
#[derive(Clone, Copy, Debug)]
pub struct ConfigFile<'a> {
    /// How messages name the file.
    pub name: &'a str,
    /// Its content.
    pub text: &'a str,
}

/// Reads the settings from a file, if there is one, and from variables, which win.
///
/// Variables that do not start with `MYELIN_` are passed over.
pub fn load<I>(file: Option<ConfigFile<'_>>, env: I) -> Result<Settings, ConfigError>
where
    I: IntoIterator<Item = (String, String)>,
{
    settings::from_entries(&load_entries(file, env)?)
}

/// The first half of [`load`]: every key's value, checked one by one, defaults filled in.
pub fn load_entries<I>(file: Option<ConfigFile<'_>>, env: I) -> Result<Entries, ConfigError>
where
    I: IntoIterator<Item = (String, String)>,
{
    let mut entries = Entries::default();
    let mut problems = Vec::new();
    if let Some(file) = file {
        source::read_file(file, &mut entries, &mut problems);
    }
    source::read_env(env, &mut entries, &mut problems);
    entries.fill_in_defaults(&mut problems);
    if problems.is_empty() { Ok(entries) } else { Err(ConfigError { problems }) }
}

/// What is wrong with a configuration: everything that was found, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// At least one.
    pub problems: Vec<Problem>,
}

/// One thing that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where it stands: `myelin.toml:12`, the name of a variable, or `settings`.
    pub place: String,
    /// The key, what stands there, what is allowed.
    pub message: String,
}

impl Problem {
    fn new(place: impl Into<String>, message: impl Into<String>) -> Self {
        Self { place: place.into(), message: message.into() }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{}: {}", problem.place, problem.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}
