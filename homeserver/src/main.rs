//! The binary `myelin`.

use std::{io::Write as _, process::ExitCode};

use clap::Parser as _;
use myelin::cli::Cli;

// Returns memory to the system and does not fragment under many small allocations.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    match Cli::parse().run() {
        Ok(code) => code,
        Err(error) => {
            // If standard error is gone there is nobody to tell.
            let _ = writeln!(std::io::stderr(), "myelin: {error}");
            ExitCode::FAILURE
        }
    }
}
