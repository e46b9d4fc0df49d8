//! `demo`: two people with two devices each hold an encrypted conversation, and it is checked at
//! the end who could read what.
//!
//! The demo calls the functions of the commands, as a person would type them. It plays against a
//! server that it starts itself, two of them, or given ones, keeps its devices in a temporary folder, and
//! fails if anything is not as it should be:
//!
//! - [`server`]: starting and ending a homeserver; [`authority`]: certificates by which two trust each other
//! - [`people`]: accounts and devices
//! - [`conversation`]: the scenes
//! - [`verification`]: both sides of a verification at once
//! - [`evidence`]: who read what, the table, the verdict
//! - [`search`]: looking for the plain text in files

use crate::output::Output;
use anyhow::{Result, anyhow, bail};
use clap::Args;
use serde_json::json;
use std::path::{Path, PathBuf};

pub mod authority;
pub mod conversation;
pub mod evidence;
pub mod people;
pub mod search;
pub mod server;
pub mod verification;

/// Arguments of `demo`.
#[derive(Debug, Default, Args)]
pub struct Arguments {
    /// Start a server for each person; the two speak with each other over TLS
    #[arg(long, conflicts_with = "server")]
    pub federated: bool,
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
    let servers = match arguments.server.is_empty() {
        true => start(&arguments, folder.path(), out).await?,
        false => Vec::new(),
    };
    let (urls, stores) = match &*servers {
        [] => (arguments.server, conversation::Store::given(arguments.data)),
        [one] => (vec![one.url.clone()], vec![conversation::Store::new("the server's files", &one.data)]),
        all => {
            let labels = ["the files of alice's server", "the files of bob's server"];
            let stores =
                labels.iter().zip(all).map(|(label, one)| conversation::Store::new(label, &one.data));
            (all.iter().map(|one| one.url.clone()).collect(), stores.collect())
        }
    };
    let scene = conversation::Scene {
        servers: urls,
        stores,
        token: arguments.token,
        devices: folder.path().join("devices"),
    };
    // Whoever breaks it off gets servers and folder cleared away all the same.
    let played = tokio::select! {
        played = conversation::play(&scene, out) => played,
        _ = tokio::signal::ctrl_c() => Err(anyhow!("it was interrupted")),
    };
    let logs: Vec<_> = servers.iter().map(|one| (one.name.clone(), one.last_lines())).collect();
    out.say("")?;
    for server in servers {
        server.stop(out).await?;
    }
    let problems = match played {
        Ok(evidence) => evidence.conclude(out)?,
        Err(error) => {
            for (name, log) in logs.into_iter().filter(|(_, log)| !log.is_empty()) {
                out.say(format!("The last lines of {name}:\n{log}"))?;
            }
            return Err(error.context("the demo could not be played to its end"));
        }
    };
    if problems > 0 {
        bail!("{problems} things were not as they should be");
    }
    Ok(())
}

/// Starts one server, or two that trust each other.
async fn start(arguments: &Arguments, folder: &Path, out: &Output) -> Result<Vec<server::Server>> {
    let program = arguments.myelin.as_deref();
    if !arguments.federated {
        let plan = server::Plan { program, folder, label: "server", authority: None };
        return Ok(vec![server::Server::start(plan, out).await?]);
    }
    let authority = authority::Authority::new(folder)?;
    out.report(
        "authority",
        json!({ "certificate": authority.file }),
        "A certificate authority is made for this demo alone; each server trusts it, and no other machine does.",
    )?;
    let mut servers = Vec::new();
    for label in ["first-server", "second-server"] {
        let plan = server::Plan { program, folder, label, authority: Some(&authority) };
        servers.push(server::Server::start(plan, out).await?);
    }
    Ok(servers)
}
