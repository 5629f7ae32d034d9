//! `weft-gateway`: parse, build, run, drain.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result};
use clap::{Args, Parser, Subcommand};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use weft_gateway::{Config, start};

/// The one door of the mesh for people: TLS, single sign-on, routes from the catalog, the portal.
#[derive(Parser)]
#[command(name = "weft-gateway", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve until told to stop. SIGTERM drains, SIGHUP looks at the certificates' files and opens the access log anew.
    Run(ConfigArg),
    /// Say whether configuration and certificates can be used; changes nothing.
    Check(ConfigArg),
    /// Print the version.
    Version,
}

#[derive(Args)]
struct ConfigArg {
    /// The configuration file.
    #[arg(long, env = "WEFT_GATEWAY_CONFIG", default_value = "/etc/weft/gateway.toml")]
    config: PathBuf,
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Version => {
            println!("weft-gateway {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
        Command::Check(arg) => check(&arg),
        Command::Run(arg) => block_on(run(arg)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weft-gateway: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn check(arg: &ConfigArg) -> Result<()> {
    let config = Config::load(&arg.config)?;
    weft_gateway::Certificates::load(config.certificates)?;
    println!("{}: the configuration and its certificates can be used", arg.config.display());
    Ok(())
}

async fn run(arg: ConfigArg) -> Result<()> {
    let config = Config::load(&arg.config)?;
    weft_telemetry::init_logs(&config.log_level, config.log_format)?;
    let maximum = getrlimit(Resource::Nofile).maximum;
    // Where it cannot be raised, the present limit counts.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    let (mut term, mut int, mut hup) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?, signal(SignalKind::hangup())?);
    let mut running = tokio::select! {
        running = start(config) => running?,
        _ = term.recv() => return Ok(()),
        _ = int.recv() => return Ok(()),
    };
    eprintln!("weft-gateway: listening on {}", running.public);
    if let Some(addr) = running.metrics {
        eprintln!("weft-gateway: metrics on {addr}");
    }
    let failed = loop {
        tokio::select! {
            _ = term.recv() => break false,
            _ = int.recv() => break false,
            _ = hup.recv() => running.reload(),
            () = running.failed() => break true,
        }
    };
    let drained = running.stop().await;
    tracing::info!(?drained, "the gateway has ended");
    anyhow::ensure!(!failed, "a part of the gateway ended by itself: see the log");
    Ok(())
}

fn block_on(future: impl Future<Output = Result<()>>) -> Result<()> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("the runtime cannot start")?.block_on(future)
}
