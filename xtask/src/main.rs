//! One entry point for everything that is done to this repository: `cargo xtask --help`.
//!
//! Exit codes: 0 as promised, 1 not as promised, 2 a prerequisite is missing (said in one line, before anything has changed).
//! Nothing here is linked into weft, and nothing of weft is linked in here: the crates are checked and run from outside.

mod bench;
mod boot;
mod codegen;
mod copy;
mod debian;
mod demo;
mod ebpf;
mod fresh;
mod host;
mod kernels;
mod layers;
mod metadata;
mod mutations;
mod npm;
mod process;
mod suite;
mod tidy;
mod upgrade;
mod vm;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(if error.is::<weft_host::Unmet>() { 2 } else { 1 })
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Bench { what, args } => bench::run(what, &args),
        Command::Codegen { check } => codegen::run(check),
        Command::Demo { action, check } => demo::run(action.unwrap_or(if check { demo::Action::Check } else { demo::Action::Foreground })),
        Command::Ebpf { check } => ebpf::run(check),
        Command::Fresh(args) => fresh::run(&args),
        Command::FreshInside { root, args } => fresh::inside(&root, &args),
        Command::Guest => vm::inside(),
        Command::Layers => layers::run(),
        Command::Test(args) => suite::run(&args),
        Command::Tidy => tidy::run(),
    }
}

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = "One entry point for everything that is done to this repository")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measure in release builds: no mesh beside same node and two nodes, or the gateway beside nginx and HAProxy
    Bench {
        #[arg(value_enum, default_value_t = bench::What::Paths)]
        what: bench::What,
        /// Handed to `weft-bench`
        #[arg(last = true)]
        args: Vec<String>,
    },
    /// Generate the Rust of the protocol buffers
    Codegen {
        /// Change nothing; fail when what is committed differs
        #[arg(long)]
        check: bool,
    },
    /// Run the micro-app shop on a mesh of two nodes
    Demo {
        action: Option<demo::Action>,
        /// Take the tour without a person, and fail at the first thing that is not as promised
        #[arg(long, conflicts_with = "action")]
        check: bool,
    },
    /// Rebuild the object of the kernel programs, after installing what that needs
    Ebpf {
        /// Change nothing; fail when the rebuilt object differs and was built by the same toolchain
        #[arg(long)]
        check: bool,
    },
    /// Run both commands of the README in a clean Debian root
    Fresh(fresh::FreshArgs),
    #[command(hide = true)]
    FreshInside {
        root: std::path::PathBuf,
        #[command(flatten)]
        args: fresh::FreshArgs,
    },
    #[command(hide = true)]
    Guest,
    /// Check that dependencies between crates point down
    Layers,
    /// Run everything that CI runs, or only the suites named
    Test(suite::TestArgs),
    /// Check what no compiler checks: module docs, sizes, unsafe, documents that name code, licences
    Tidy,
}
