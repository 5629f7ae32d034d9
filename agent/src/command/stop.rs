//! `weft-agent stop`: ends the agent and its holder. What is in the kernel stays: denied is denied, the same node is reached directly, and what needs
//! the proxy is refused until another agent runs.

use std::{io::Read as _, time::Duration};

use anyhow::{Context as _, bail};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

use crate::{config::Config, files::Lock, holder, limits};

pub fn stop(config: &Config) -> anyhow::Result<()> {
    match running(config)? {
        Some(pid) => {
            end(pid, config.drain + limits::STOP_GRACE)?;
            println!("the agent (process {}) has ended", pid.as_raw_nonzero());
        }
        None => println!("no agent runs"),
    }
    match holder::stop(&config.holder_socket())? {
        true => println!("its holder has ended"),
        false => println!("no holder runs"),
    }
    Ok(())
}

/// The agent of this configuration, if one runs. Whoever has the lock wrote the number.
pub fn running(config: &Config) -> anyhow::Result<Option<Pid>> {
    let file = config.lock_file();
    if !file.exists() || Lock::take(&file).with_context(|| format!("cannot use {}", file.display()))?.is_some() {
        return Ok(None);
    }
    let mut text = String::new();
    std::fs::File::open(&file)?.take(32).read_to_string(&mut text)?;
    let pid = text.trim().parse().ok().and_then(Pid::from_raw);
    pid.map(Some).with_context(|| format!("{} is locked and names no process", file.display()))
}

fn end(pid: Pid, within: Duration) -> anyhow::Result<()> {
    let process = pidfd_open(pid, PidfdFlags::empty()).with_context(|| format!("process {}", pid.as_raw_nonzero()))?;
    pidfd_send_signal(&process, Signal::TERM).with_context(|| format!("process {}", pid.as_raw_nonzero()))?;
    let timeout = Timespec { tv_sec: within.as_secs() as i64, tv_nsec: within.subsec_nanos().into() };
    let ended = poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&timeout))?;
    if ended == 0 {
        bail!("process {} has not ended within {} s", pid.as_raw_nonzero(), within.as_secs());
    }
    Ok(())
}
