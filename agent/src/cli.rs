//! What a person types after `weft-agent`.

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use weft_kernel::host::HostOptions;
use weft_telemetry::init_logs;

use crate::{
    app,
    command::{self, Format},
    config::Config,
    holder, limits, node,
};

/// The per-node daemon of weft: identifies and judges every connection of this node's workloads, and carries what leaves the node.
#[derive(Debug, Parser)]
#[command(
    name = "weft-agent",
    version,
    after_help = "Exit codes: 0 ok, 1 findings of `check`, 2 error.\nSee docs/agent.md for configuration, files and signals."
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the agent of this node.
    ///
    /// SIGTERM ends it after its connections have ended; enforcement and holder stay. SIGHUP reads the workloads file again;
    /// SIGUSR2 is what `handover` sends.
    Run(ConfigArg),
    /// Keep the agent's listeners, so that a restart resets nothing. `run` starts one by itself.
    Hold(ConfigArg),
    /// Say what this host lacks for an agent, and what that costs. Changes nothing.
    Check {
        /// The configuration whose paths and ports are looked at; without one the defaults are.
        #[arg(long, env = "WEFT_AGENT_CONFIG", value_name = "FILE")]
        config: Option<PathBuf>,
        /// How to print.
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// Attach the programs and end, so that managed workloads are denied before an agent ever ran. Needs no network, bridge or snapshot.
    Guard(ConfigArg),
    /// Let an agent of this program and configuration take the running one's place, whose connections go on until they end.
    Handover(ConfigArg),
    /// Leaves an agent behind that is nobody's child; started by `run`.
    #[command(hide = true)]
    Successor {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// End the agent and its holder. What is enforced stays enforced.
    Stop(ConfigArg),
    /// Take everything out of the kernel and remove state and sockets. Refused while an agent runs.
    Uninstall(ConfigArg),
    /// The process of the agent that dials from inside a workload; started by `run`.
    #[command(hide = true)]
    Canary { netns: PathBuf, what: Vec<String> },
    /// Print the version.
    Version,
}

#[derive(Args, Debug)]
struct ConfigArg {
    /// The configuration file.
    #[arg(long, env = "WEFT_AGENT_CONFIG", default_value = "/etc/weft/agent.toml", value_name = "FILE")]
    config: PathBuf,
}

impl Cli {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Run(arg) => {
                let config = arg.load()?;
                init_logs(&config.log_level, config.log_format)?;
                block_on(app::run(config))?;
            }
            Command::Hold(arg) => {
                let config = arg.load()?;
                // Started through /proc/self/exe, it would be shown as "exe".
                let _ = rustix::thread::set_name(c"weft-agent");
                init_logs(&config.log_level, config.log_format)?;
                holder::hold(&config.holder_socket())?;
            }
            Command::Check { config, output } => {
                let options = match config {
                    Some(file) => app::host_options(&Config::load(&file)?),
                    None => HostOptions { bpffs: "/sys/fs/bpf/weft".into(), state_dir: Some("/var/lib/weft-agent".into()), ..HostOptions::default() },
                };
                return Ok(command::check(&options, output));
            }
            Command::Guard(arg) => command::guard(&arg.load()?)?,
            Command::Handover(arg) => command::handover(&arg.load()?)?,
            Command::Successor { arguments } => command::leave(&arguments)?,
            Command::Stop(arg) => command::stop(&arg.load()?)?,
            Command::Uninstall(arg) => command::uninstall(&arg.load()?)?,
            Command::Canary { netns, what } => node::canary::run(&netns, &what)?,
            Command::Version => println!("weft-agent {}", env!("CARGO_PKG_VERSION")),
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl ConfigArg {
    fn load(&self) -> anyhow::Result<Config> {
        Ok(Config::load(&self.config)?)
    }
}

fn block_on(future: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .event_interval(limits::STEPS_BETWEEN_EVENTS)
        .thread_name("weft-agent")
        .build()
        .context("the runtime cannot start")?;
    let outcome = runtime.block_on(future);
    // What still blocks a thread is not waited for.
    runtime.shutdown_background();
    outcome
}
