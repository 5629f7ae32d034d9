//! `weft-demo`: the example shop on a mesh of two nodes. `cargo xtask demo` builds it and calls it as root.

mod checkout;
mod cli;
mod door;
mod limits;
mod mesh;
mod probe;
mod relay;
mod run;
mod shop;
mod signals;
mod stage;
mod tour;
mod trythis;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "weft-demo", version, about = "The example shop on a mesh of two nodes")]
struct Args {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Bring it up and leave it running
    Up,
    /// Bring it up and take it down at Ctrl-C (the default)
    Foreground,
    /// Take it down; nothing is left but installed packages
    Down,
    /// What runs
    Status,
    /// Take the whole tour without a person, watching from outside; stops at the first claim that does not hold
    Check,
    /// Print whom a TLS server says it is
    #[command(hide = true)]
    Probe { address: std::net::SocketAddr, name: String, alpn: String },
    /// Join standard input and output to a port
    #[command(hide = true)]
    Relay { address: std::net::SocketAddr },
}

fn main() -> ExitCode {
    let outcome = match Args::parse().command.unwrap_or(Command::Foreground) {
        Command::Up => run::up(),
        Command::Foreground => run::foreground(),
        Command::Down => run::down(),
        Command::Status => run::status(),
        Command::Check => tour::run(),
        Command::Probe { address, name, alpn } => probe::run(address, &name, &alpn),
        Command::Relay { address } => relay::pipe(address),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            let missing = e.is::<weft_host::Unmet>();
            eprintln!("weft-demo: {e:#}");
            ExitCode::from(if missing { 2 } else { 1 })
        }
    }
}
