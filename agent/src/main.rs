//! `weft-agent`: parse, build, run, drain.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    match weft_agent::cli::Cli::parse().run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("weft-agent: {error:#}");
            ExitCode::from(2)
        }
    }
}
