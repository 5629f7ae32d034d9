//! `weft-bench`: serves and drives the loads, and compares the paths. It judges nothing.

mod gateway;
mod limits;
mod load;
mod paths;
mod report;
mod tls;

use std::{
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    time::Duration,
};

use clap::{Args, Parser, Subcommand};
use load::Load;

/// Load and measurement for comparing paths in the same run.
#[derive(Parser)]
#[command(name = "weft-bench", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serves one load until the process ends.
    Serve {
        #[arg(value_enum)]
        load: Load,
        /// Address to listen on; port 0 takes a free one, which is printed.
        #[arg(long, default_value = "127.0.0.1:0")]
        listen: SocketAddr,
    },
    /// Drives one load and prints one line of JSON.
    Drive {
        #[arg(value_enum)]
        load: Load,
        #[arg(long)]
        to: SocketAddr,
        #[arg(long, default_value_t = 1)]
        connections: usize,
        /// Milliseconds of the measured part.
        #[arg(long, default_value_t = 2000)]
        duration_ms: u64,
    },
    /// One request on each of as many TLS connections as there is time for; prints one line of JSON.
    Handshakes {
        #[command(flatten)]
        target: TargetArgs,
        /// Milliseconds.
        #[arg(long, default_value_t = 2000)]
        duration_ms: u64,
    },
    /// Opens TLS connections, asks once on each, and holds them until it is ended.
    Hold {
        #[command(flatten)]
        target: TargetArgs,
    },
    /// Compares the gateway with nginx and HAProxy in alternating rounds and prints a table in Markdown. Needs root.
    Gateway {
        #[arg(long, default_value_t = 3)]
        rounds: usize,
        /// Milliseconds of each measurement.
        #[arg(long, default_value_t = 3000)]
        duration_ms: u64,
    },
    /// Compares no mesh, same node and two nodes in interleaved rounds and prints a table in Markdown. Needs root.
    Run {
        #[arg(long, default_value_t = 3)]
        rounds: usize,
        /// Milliseconds of each measurement.
        #[arg(long, default_value_t = 2000)]
        duration_ms: u64,
    },
}

#[derive(Args)]
struct TargetArgs {
    #[arg(long)]
    to: SocketAddr,
    /// The name that is asked for.
    #[arg(long)]
    host: String,
    /// Who vouches for it, PEM.
    #[arg(long)]
    ca: PathBuf,
    #[arg(long, default_value_t = 1)]
    connections: usize,
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Serve { load, listen } => {
            let listener = TcpListener::bind(listen)?;
            let _ = socket2::SockRef::from(&listener).set_tcp_congestion(b"cubic");
            println!("listening on {}", listener.local_addr()?);
            Ok(load::serve(load, &listener)?)
        }
        Command::Drive { load, to, connections, duration_ms } => {
            let outcome = load::drive(load, to, connections, Duration::from_millis(duration_ms))?;
            println!("{}", serde_json::to_string(&outcome)?);
            Ok(())
        }
        Command::Handshakes { target, duration_ms } => {
            let outcome = tls::handshakes(&tls::Target::new(target.to, &target.host, &target.ca)?, target.connections, Duration::from_millis(duration_ms))?;
            println!("{}", serde_json::to_string(&outcome)?);
            Ok(())
        }
        Command::Hold { target } => tls::hold(&tls::Target::new(target.to, &target.host, &target.ca)?, target.connections),
        Command::Gateway { rounds, duration_ms } => {
            println!("{}", gateway::run(rounds.max(1), Duration::from_millis(duration_ms))?);
            Ok(())
        }
        Command::Run { rounds, duration_ms } => {
            println!("{}", report::run(rounds.max(1), Duration::from_millis(duration_ms))?);
            Ok(())
        }
    }
}
