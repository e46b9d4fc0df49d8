//! `demo`: two people with two devices each hold an encrypted conversation, and it is checked at
//! the end who could read what.
//!
//! The demo calls the functions of the commands, as a person would type them. It plays against a
//! server that it starts itself or against given ones, keeps its devices in a temporary folder, and
//! fails if anything is not as it should be:
//!
//! - [`server`]: starting and ending a homeserver
//! - [`people`]: accounts and devices
//! - [`conversation`]: the scenes
//! - [`verification`]: both sides of a verification at once
//! - [`evidence`]: who read what, the table, the verdict
//! - [`search`]: looking for the plain text in files

use crate::output::Output;
use anyhow::{Result, bail};
use clap::Args;
use std::path::PathBuf;

pub mod conversation;
pub mod evidence;
pub mod people;
pub mod search;
pub mod server;
pub mod verification;

/// Arguments of `demo`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Use this server; a second one is for the second person. Without it a server is started
    #[arg(long, value_name = "URL")]
    pub server: Vec<String>,
    /// Where a given server keeps its data, to be searched for the plain text; may be repeated
    #[arg(long, value_name = "PATH", requires = "server")]
    pub data: Vec<PathBuf>,
    /// The server to start (default: `myelin` beside this program, or on the PATH)
    #[arg(long, env = "MYELIN_BIN", value_name = "FILE", conflicts_with = "server")]
    pub myelin: Option<PathBuf>,
    /// The registration token, where the servers ask for one
    #[arg(long, env = "MYELIN_CLIENT_REGISTRATION_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
}

/// Plays the demo; an error if anything was not as expected.
pub async fn run(arguments: Arguments, out: &Output) -> Result<()> {
    let folder = tempfile::Builder::new().prefix("myelin-demo-").tempdir()?;
    let server = match arguments.server.is_empty() {
        true => Some(server::Server::start(arguments.myelin.as_deref(), folder.path(), out).await?),
        false => None,
    };
    let scene = conversation::Scene {
        servers: server.as_ref().map_or(arguments.server, |server| vec![server.url.clone()]),
        data: server.as_ref().map_or(arguments.data, |server| vec![server.data.clone()]),
        token: arguments.token,
        devices: folder.path().join("devices"),
    };
    let played = conversation::play(&scene, out).await;
    let log = server.as_ref().map(server::Server::last_lines);
    if let Some(server) = server {
        server.stop(out).await?;
    }
    let problems = match played {
        Ok(evidence) => evidence.conclude(out)?,
        Err(error) => {
            if let Some(log) = log.filter(|log| !log.is_empty()) {
                out.say(format!("The server's last lines:\n{log}"))?;
            }
            return Err(error.context("the demo could not be played to its end"));
        }
    };
    if problems > 0 {
        bail!("{problems} things were not as they should be");
    }
    Ok(())
}
