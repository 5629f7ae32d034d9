//! `weft-agent handover`: an agent of the program and configuration of now takes the running one's place, whose connections go on until they end.
//!
//! The running agent is asked by SIGUSR2. It gives up its place, starts its successor, and names it to the service manager, for which the unit has
//! never stopped.

use std::{
    ffi::OsString,
    io,
    os::unix::{net::UnixStream, process::CommandExt as _},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use rustix::{
    net::sockopt::socket_peercred,
    process::{Signal, kill_process},
};

use super::running;
use crate::{config::Config, limits};

/// Returns when the successor answers. That the configuration could be read, by this very program, is the proof that it will start.
pub fn handover(config: &Config) -> anyhow::Result<()> {
    let old = running(config)?.context("no agent runs, so there is none to take over from")?;
    kill_process(old, Signal::USR2).context("the running agent cannot be told")?;
    let deadline = Instant::now() + limits::HANDOVER_TIMEOUT;
    loop {
        // Who listens there says who it is; the lock is for agents to take.
        let answers = UnixStream::connect(config.agent_socket()).and_then(|s| Ok(socket_peercred(&s)?.pid));
        if let Ok(new) = answers
            && new != old
        {
            println!("process {} has taken over from process {}", new.as_raw_nonzero(), old.as_raw_nonzero());
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("no successor of process {} answers within {} s", old.as_raw_nonzero(), limits::HANDOVER_TIMEOUT.as_secs());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Starts the program that this one was started as, with the same arguments; its process number. It is nobody's child: whoever waits for orphans,
/// waits for it.
pub fn start_successor() -> io::Result<u32> {
    let mut own = std::env::args_os();
    let program = own.next().ok_or(io::ErrorKind::NotFound)?;
    let said = Command::new(program).arg("successor").args(own).stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
    let pid = String::from_utf8_lossy(&said.stdout).trim().parse();
    pid.map_err(|_| io::Error::other(format!("its first process ended with {}", said.status)))
}

/// Between the two: leaves the successor behind.
pub fn leave(arguments: &[OsString]) -> anyhow::Result<()> {
    let program = std::env::args_os().next().context("no name")?;
    let mut successor = Command::new(program);
    // Its standard output is not the pipe that its number is told through.
    let child = successor.args(arguments).stdin(Stdio::null()).stdout(io::stderr()).process_group(0).spawn().context("a successor cannot be started")?;
    println!("{}", child.id());
    Ok(())
}
