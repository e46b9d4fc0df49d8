//! The command line.

use std::{fs, io::Write as _, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use myelin_core::config::{self, ConfigFile, Entries, Settings};

use crate::{
    admin, assembly,
    assembly::StartError,
    doctor::{
        Doctor,
        report::{Remark, Report},
    },
    logging,
};

/// A federated Matrix homeserver.
#[derive(Debug, Parser)]
#[command(name = "myelin", version, about)]
pub struct Cli {
    /// Configuration file (TOML); without one the defaults hold.
    #[arg(long, value_name = "FILE", env = "MYELIN_CONFIG", global = true)]
    pub config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server (also when no command is given).
    Serve,
    /// Say what is wrong with the configuration, or nothing.
    CheckConfig,
    /// Print every setting, explained, with the value that holds.
    PrintConfig {
        /// Print the documentation of all settings instead.
        #[arg(long)]
        markdown: bool,
    },
    /// Say that an old backup of the database was put back, before the server is started on it.
    ///
    /// One-time keys that were handed out since the backup must not be handed out again, and what clients were told since
    /// must not be taken for what they will be told now. This drops the unused one-time keys, which clients upload anew, and
    /// makes clients fetch everything again. Much of that is noticed without this command, but not a backup of the whole
    /// data directory or machine.
    Restore,
    /// Go the way that other servers go to a server, and say what is wrong there and what to do.
    ///
    /// Looks at `.well-known`, SRV records, addresses, certificates, keys and clock, from this machine. Of the settings only
    /// `federation.extra_ca_certificates` and `federation.denied_ip_ranges` count; there need not be any. The exit code is 0 if
    /// all is well, 1 if there is something to do, and 2 if NAME is no server name.
    Doctor {
        /// The name of a server, as it stands in its users' ids.
        name: String,
        /// Print the report as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Administer the server, by its database: it need not run.
    #[command(subcommand)]
    Admin(Admin),
}

#[derive(Debug, Subcommand)]
enum Admin {
    /// Administer accounts.
    #[command(subcommand)]
    User(admin::User),
    /// Put a new signing key in the place of the present one, which stays published for what it has signed.
    ///
    /// Stop the server first, all replicas of it: what it signs with the old key after this is refused by others.
    RotateKey,
}

impl Cli {
    /// Does what the command line asks for; the exit code is the doctor's, or 0.
    pub fn run(self) -> Result<ExitCode, StartError> {
        match &self.command {
            None | Some(Command::Serve) => serve(self.settings()?),
            Some(Command::CheckConfig) => {
                self.settings()?;
                print("The configuration is fine.")
            }
            Some(Command::Admin(Admin::User(command))) => {
                let text = runtime()?.block_on(command.run(self.settings()?))?;
                print(&text)
            }
            Some(Command::Admin(Admin::RotateKey)) => {
                print(&runtime()?.block_on(admin::rotate_key(self.settings()?))?)
            }
            Some(Command::Restore) => print(&runtime()?.block_on(admin::restore(self.settings()?))?),
            Some(Command::PrintConfig { markdown: true }) => print(&config::as_markdown()),
            Some(Command::PrintConfig { markdown: false }) => print(&config::as_toml(&self.entries()?)),
            Some(Command::Doctor { name, json }) => return runtime()?.block_on(self.doctor(name, *json)),
        }?;
        Ok(ExitCode::SUCCESS)
    }

    async fn doctor(&self, name: &str, json: bool) -> Result<ExitCode, StartError> {
        let mut report = Report::new(move |finding| {
            if !json {
                // Whoever closed the pipe wants no more of it; the exit code still tells.
                let _ = writeln!(std::io::stdout(), "{finding}");
            }
        });
        let settings = match self.settings() {
            Ok(settings) => settings,
            Err(error) => {
                let problems: Vec<_> = error.to_string().lines().map(|line| line.trim().to_owned()).collect();
                let problems = problems.join(" ");
                report.add("settings", Remark::note(format!("the defaults count here, since {problems}")));
                config::load(None, [])?
            }
        };
        let (doctor, remarks) = Doctor::new(&settings);
        for remark in remarks {
            report.add("settings", remark);
        }
        let examined = doctor.examine(name, &mut report).await;
        match json {
            true => print(&serde_json::to_string_pretty(&report.to_json(name))?)?,
            false => print(&format!("\n{}", report.summary(name)))?,
        }
        Ok(match (examined, report.is_well()) {
            (false, _) => ExitCode::from(2),
            (true, true) => ExitCode::SUCCESS,
            (true, false) => ExitCode::FAILURE,
        })
    }

    fn settings(&self) -> Result<Settings, StartError> {
        self.with_file(|file| config::load(file, variables()))
    }

    fn entries(&self) -> Result<Entries, StartError> {
        self.with_file(|file| config::load_entries(file, variables()))
    }

    fn with_file<T, F>(&self, load: F) -> Result<T, StartError>
    where
        F: FnOnce(Option<ConfigFile<'_>>) -> Result<T, config::ConfigError>,
    {
        let Some(path) = &self.config else { return Ok(load(None)?) };
        let name = path.display().to_string();
        let text = fs::read_to_string(path).map_err(|error| format!("can't read {name}: {error}"))?;
        Ok(load(Some(ConfigFile { name: &name, text: &text }))?)
    }
}

/// The process's variables; what is no text is passed over, since no setting of ours is.
fn variables() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

fn print(text: &str) -> Result<(), StartError> {
    Ok(writeln!(std::io::stdout(), "{}", text.trim_end())?)
}

fn serve(settings: Settings) -> Result<(), StartError> {
    logging::start(&settings.log)?;
    runtime()?.block_on(assembly::run(settings))
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()
}
