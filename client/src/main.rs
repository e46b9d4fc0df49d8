//! The executable `myelin-client`: everything it does is in the library.

use clap::Parser;
use myelin_client::{cli::Cli, output::Output};
use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    // Silent unless RUST_LOG asks: what a person needs to know is said by the commands.
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "off".into()),
        )
        .with_writer(std::io::stderr)
        .init();
    let cli = Cli::parse();
    let out = Output::terminal(cli.json);
    match myelin_client::commands::run(cli, &out).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            out.failure(&error);
            ExitCode::FAILURE
        }
    }
}
