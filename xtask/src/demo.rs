//! `cargo xtask demo`: builds as whoever calls, then runs `weft-demo` as root. What the demo does is written there.

use std::{
    io::IsTerminal as _,
    os::unix::process::CommandExt as _,
    process::{Command, Stdio},
};

use anyhow::{Context, Result};
use clap::ValueEnum;
use weft_host::{Need, Unmet};

use crate::{host, process};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Action {
    /// Start it and leave it running
    Up,
    /// Stop it and leave nothing behind
    Down,
    /// Say what is running
    Status,
    /// The tour without a person
    #[value(skip)]
    Check,
    /// Start it, say what to try, stop it at Ctrl-C
    #[value(skip)]
    Foreground,
}

pub(crate) fn run(action: Action) -> Result<()> {
    require(action)?;
    build()?;
    // In our place, so that Ctrl-C is the demo's alone and nothing returns before it has cleaned up.
    let error = command(action).exec();
    Err(error).with_context(|| format!("{} cannot be started", process::built("weft-demo").display()))
}

/// Everything that can be known before the build: waiting ten minutes for "not root" would be unkind.
fn require(action: Action) -> Result<()> {
    if weft_host::is_root() {
        weft_host::require(&[Need::Capabilities])?;
    } else if weft_host::find_program("sudo").is_none() {
        return Err(Unmet("not root, and there is no sudo to run the demo with: run the same command as root".into()).into());
    } else if !std::io::stdin().is_terminal() && !asks_for_no_password() {
        return Err(Unmet("not root, sudo wants a password, and there is no terminal to ask for it: run the same command as root".into()).into());
    }
    weft_host::require(&[Need::Cgroup2])?;
    if action != Action::Down && action != Action::Status {
        weft_host::require(&[Need::DemoWindow])?;
    }
    Ok(host::space()?)
}

fn asks_for_no_password() -> bool {
    Command::new("sudo").args(["-n", "true"]).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// The whole workspace with one set of features, so that the tests find it warm.
pub(crate) fn build() -> Result<()> {
    process::run(&mut process::cargo(["build", "--locked"]))
}

pub(crate) fn command(action: Action) -> Command {
    let program = process::built("weft-demo");
    let mut command = if weft_host::is_root() {
        Command::new(program)
    } else {
        let mut sudo = Command::new("sudo");
        sudo.arg("--").arg(program);
        sudo
    };
    if let Some(word) = word(action) {
        command.arg(word);
    }
    command.current_dir(process::root());
    command
}

fn word(action: Action) -> Option<&'static str> {
    match action {
        Action::Up => Some("up"),
        Action::Down => Some("down"),
        Action::Status => Some("status"),
        Action::Check => Some("check"),
        Action::Foreground => None,
    }
}
