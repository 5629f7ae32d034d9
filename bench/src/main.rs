//! `weft-bench`: serves and drives the loads, and compares the paths. It judges nothing.

mod limits;
mod load;
mod paths;
mod report;

use std::{
    net::{SocketAddr, TcpListener},
    time::Duration,
};

use clap::{Parser, Subcommand};
use load::Load;

/// Load and measurement for comparing paths in the same run.
#[derive(Parser)]
#[command(name = "weft-bench", version)]
struct Args {
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
    /// Compares no mesh, same node and two nodes in interleaved rounds and prints a table in Markdown. Needs root.
    Run {
        #[arg(long, default_value_t = 3)]
        rounds: usize,
        /// Milliseconds of each measurement.
        #[arg(long, default_value_t = 2000)]
        duration_ms: u64,
    },
}

fn main() -> anyhow::Result<()> {
    match Args::parse().command {
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
        Command::Run { rounds, duration_ms } => {
            println!("{}", report::run(rounds.max(1), Duration::from_millis(duration_ms))?);
            Ok(())
        }
    }
}
