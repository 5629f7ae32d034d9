//! The program `weft`: parse, run, turn the outcome into an exit code.

use std::{io, process::ExitCode};

use anyhow::Context as _;
use clap::Parser;
use weft_cli::{Context, Outcome, args::Args, command};

const ERROR: u8 = 2;

fn main() -> ExitCode {
    // clap itself exits 2 on a command line it cannot read.
    let args = Args::parse();
    match run(args) {
        Ok(Outcome::Ok) => ExitCode::SUCCESS,
        Ok(Outcome::Findings) => ExitCode::from(1),
        Ok(Outcome::Code(code)) => ExitCode::from(code),
        Ok(Outcome::Become(plan)) => {
            let failed = plan.go();
            let code = failed.exit_code();
            eprintln!("weft: {:#}", anyhow::Error::from(failed));
            ExitCode::from(code)
        }
        // Whoever reads us has seen enough.
        Err(e) if e.chain().any(|c| c.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("weft: {e:#}");
            ExitCode::from(ERROR)
        }
    }
}

/// One thread only: entering a mount namespace is refused to a process that has more.
fn run(args: Args) -> anyhow::Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
    runtime.block_on(command::run(&Context::new(args.global), args.command))
}
