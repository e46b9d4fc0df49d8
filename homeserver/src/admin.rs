//! `myelin admin`: what an operator does at the database.
//!
//! It may be done while the server runs: on PostgreSQL the server hears of it at once, like of another replica. On
//! SQLite a running server does not hear of it, so stop the server first; the answer says so.

use std::{fmt::Write as _, sync::Arc};

use clap::Subcommand;
use myelin_core::{
    Server,
    config::Settings,
    ports::{SystemRandom, random_text},
    signing_key::{self, Rotated},
    users::accounts::{self, Registration},
};

use crate::assembly::{self, StartError};

/// `myelin admin user`
#[derive(Debug, Subcommand)]
pub enum User {
    /// Make an account.
    Create {
        /// The part of the user id before the colon.
        name: String,
        /// The password; without one it is made up and printed.
        #[arg(long, env = "MYELIN_PASSWORD")]
        password: Option<String>,
        /// Make it an administrator's.
        #[arg(long)]
        admin: bool,
    },
    /// Set a new password and log all devices out.
    ResetPassword {
        /// The user name or id.
        name: String,
        /// The password; without one it is made up and printed.
        #[arg(long, env = "MYELIN_PASSWORD")]
        password: Option<String>,
    },
    /// Close an account for ever.
    Deactivate {
        /// The user name or id.
        name: String,
        /// Remove the profile too.
        #[arg(long)]
        erase: bool,
    },
    /// List all accounts.
    List,
}

impl User {
    /// Does it, and says what was done.
    pub async fn run(&self, settings: Settings) -> Result<String, StartError> {
        let server = assembly::open_server(settings).await?;
        let done = self.run_on(&server).await;
        server.close().await;
        done
    }

    async fn run_on(&self, server: &Arc<Server>) -> Result<String, StartError> {
        match self {
            Self::Create { name, password, admin } => {
                let (password, told) = given_or_random(password.as_deref());
                let registration = Registration {
                    username: Some(name.clone()),
                    password: Some(password),
                    admin: *admin,
                    ..Registration::default()
                };
                let registered = accounts::register(server, registration).await?;
                Ok(format!("made {}{told}{}", registered.user, restart(server)))
            }
            Self::ResetPassword { name, password } => {
                let user_pk = find(server, name).await?;
                let (password, told) = given_or_random(password.as_deref());
                accounts::set_password(server, user_pk, password, true, None).await?;
                Ok(format!("set a new password and logged all devices out{told}{}", restart(server)))
            }
            Self::Deactivate { name, erase } => {
                let user = accounts::local_user(server, name)?;
                server.deactivate(&user, find(server, name).await?, *erase).await?;
                Ok(format!("closed the account{}", restart(server)))
            }
            Self::List => {
                let mut text = String::new();
                for account in accounts::list(server).await? {
                    let admin = if account.admin { " administrator" } else { "" };
                    let closed = if account.deactivated { " deactivated" } else { "" };
                    writeln!(text, "{}{admin}{closed}", account.user_id)?;
                }
                Ok(text)
            }
        }
    }
}

/// `myelin restore`: begins a new epoch, unless opening the database did it already, and says so.
pub async fn restore(settings: Settings) -> Result<String, StartError> {
    let server = assembly::open_server(settings).await?;
    let done = match &server.epoch_renewed {
        Some(reason) => Ok((server.epoch(), format!("a new epoch had to begin anyway: {reason}"))),
        None => {
            let renewed = server.renew_epoch("the operator says that a backup was put back").await;
            renewed.map(|number| {
                (number, "a new epoch begins, because you say that a backup was put back".to_owned())
            })
        }
    };
    let hint = restart(&server);
    server.close().await;
    let (number, why) = done?;
    Ok(format!(
        "{why}\n\
         This is epoch {number}.\n\
         - The one-time keys that nobody had claimed are dropped: some of them were perhaps handed out after the backup \
         was made. Clients upload new ones by themselves; until then their fallback keys are used.\n\
         - Clients fetch everything again at their next sync. What was sent after the backup was made is lost to this \
         server; clients may still show it.\n\
         - Everybody is told to look at the devices of the users of this server again.\n\
         What the backup brought back, look at yourself: devices that were logged out since, passwords that were changed \
         since, accounts that were closed since.{hint}"
    ))
}

/// `myelin admin rotate-key`
pub async fn rotate_key(settings: Settings) -> Result<String, StartError> {
    let server = assembly::open_server(settings).await?;
    let rotated = signing_key::rotate(&server).await;
    server.close().await;
    let Rotated { old, new } = rotated?;
    Ok(format!(
        "the signing key is {new} now\n\
         {old} stays published as one that was in use until now, so what it signed stays valid.\n\
         If the server is running, restart it at once, all replicas: other servers refuse what it still signs with {old}."
    ))
}

fn restart(server: &Server) -> &'static str {
    if server.database.is_sqlite() { "\nif the server is running, restart it to make it notice" } else { "" }
}

fn given_or_random(password: Option<&str>) -> (String, String) {
    match password {
        Some(password) => (password.to_owned(), String::new()),
        None => {
            let password = random_text(&SystemRandom, 20);
            let told = format!("\npassword: {password}");
            (password, told)
        }
    }
}

async fn find(server: &Server, name: &str) -> Result<i64, StartError> {
    let user = accounts::local_user(server, name)?;
    let account = accounts::find(server, &user).await?;
    Ok(account.ok_or_else(|| format!("there is no account {user}"))?.user_pk)
}
