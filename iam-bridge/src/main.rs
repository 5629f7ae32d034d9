//! `weft-iam-bridge`: parse, build, run, drain.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context as _, Result};
use clap::{Args, Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use weft_iam_bridge::{
    Config,
    config::{FrontConfig, ParseDurationError, parse_duration},
    start, start_front, token,
};

/// The control plane of weft: mesh CA, catalog, placement, signed policy stream.
#[derive(Parser)]
#[command(name = "weft-iam-bridge", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve nodes and people until told to stop.
    Run(ConfigArg),
    /// Relay between the mesh and the local OpenID provider of a bridge on this machine, as the workload weft/iam-bridge.
    Front(ConfigArg),
    /// Join tokens, which let a node in.
    #[command(subcommand)]
    Token(Token),
    /// Print the version.
    Version,
}

#[derive(Subcommand)]
enum Token {
    /// Make a token for one node, on the machine of the running bridge.
    Create {
        #[command(flatten)]
        config: ConfigArg,
        /// The node that may use it.
        #[arg(long)]
        node: String,
        /// A service that the node may run, NAMESPACE/NAME or NAMESPACE/*; may be repeated. None: the node runs nothing.
        #[arg(long = "may-run", value_name = "PATTERN")]
        may_run: Vec<String>,
        /// How long the token can be used, as in 30m or 24h. Default: 1h.
        #[arg(long, value_parser = duration)]
        ttl: Option<Duration>,
        /// Write the token to a file that only you can read, instead of printing it.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
}

#[derive(Args)]
struct ConfigArg {
    /// The configuration file.
    #[arg(long, env = "WEFT_BRIDGE_CONFIG", default_value = "/etc/weft/bridge.toml")]
    config: PathBuf,
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Version => {
            println!("weft-iam-bridge {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
        Command::Run(arg) => block_on(run(arg)),
        Command::Front(arg) => block_on(front(arg)),
        Command::Token(Token::Create { config, node, may_run, ttl, out }) => block_on(async {
            let config = Config::load(&config.config)?;
            token::create(&config.admin_socket, token::Wish { node, may_run, ttl }, out.as_deref()).await
        }),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weft-iam-bridge: {error:#}");
            ExitCode::from(2)
        }
    }
}

async fn run(arg: ConfigArg) -> Result<()> {
    let config = Config::load(&arg.config)?;
    weft_telemetry::init_logs(&config.log_level, config.log_format)?;
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut running = start(config).await?;
    println!("nodes {}", running.nodes);
    if let Some(addr) = running.metrics {
        println!("metrics {addr}");
    }
    if let Some(addr) = &running.provider {
        println!("provider {addr}");
    }
    println!("admin {}", running.admin_socket.display());
    let failed = tokio::select! {
        _ = term.recv() => false,
        _ = int.recv() => false,
        () = running.failed() => true,
    };
    running.stop().await;
    anyhow::ensure!(!failed, "a part of the bridge ended by itself: see the log");
    Ok(())
}

async fn front(arg: ConfigArg) -> Result<()> {
    let config = FrontConfig::load(&arg.config)?;
    weft_telemetry::init_logs(&config.log_level, config.log_format)?;
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let front = start_front(config).await?;
    println!("front {}", front.addr);
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    front.stop().await;
    Ok(())
}

fn block_on(future: impl Future<Output = Result<()>>) -> Result<()> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("the runtime cannot start")?.block_on(future)
}

fn duration(text: &str) -> Result<Duration, ParseDurationError> {
    parse_duration(text)
}
