//! `weft-agent uninstall`: takes everything out of the kernel and off the disk. From then on nothing is enforced on this node.

use std::{io, path::Path};

use anyhow::{Context as _, bail};
use weft_kernel::cgroup;

use super::stop::running;
use crate::{app::places, config::Config, holder};

/// What the agent makes in its directories; anything else there is somebody else's.
const RUN_FILES: [&str; 7] = ["agent.sock", "gateway.sock", "agent.lock", "holder.sock", "holder.lock", "holder.log", "hosts"];
const STATE_FILES: [&str; 5] = ["snapshot.pb", "snapshot.next.pb", "workloads.json", "identity/mesh.json", "identity/node.pem"];

pub fn uninstall(config: &Config) -> anyhow::Result<()> {
    if let Some(pid) = running(config)? {
        bail!("an agent runs (process {}): end it first with `weft-agent stop --config {}`", pid.as_raw_nonzero(), config.file.display());
    }
    if holder::stop(&config.holder_socket())? {
        println!("the holder has ended");
    }
    let detached = weft_kernel::uninstall(&config.bpffs)?;
    println!("{detached} programs are detached; nothing is enforced on this node any more");
    for dir in places(config)?.managed {
        match cgroup::remove(&dir) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::ResourceBusy => println!("cgroup {} stays: there are processes in it", dir.display()),
            Err(e) => return Err(e).with_context(|| format!("cgroup {}", dir.display())),
        }
    }
    let state = &config.state_dir;
    remove_svids(&state.join("identity/svids"))?;
    STATE_FILES.iter().try_for_each(|f| remove_file(&state.join(f)))?;
    RUN_FILES.iter().try_for_each(|f| remove_file(&config.run_dir.join(f)))?;
    for dir in [&state.join("identity/svids"), &state.join("identity"), state, &config.run_dir] {
        remove_empty(dir)?;
    }
    Ok(())
}

fn remove_svids(dir: &Path) -> anyhow::Result<()> {
    let entries = match std::fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.with_context(|| dir.display().to_string())?,
    };
    entries.flatten().map(|e| e.path()).filter(|p| p.extension().is_some_and(|x| x == "pem")).try_for_each(|p| remove_file(&p))
}

fn remove_file(path: &Path) -> anyhow::Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e).with_context(|| format!("cannot remove {}", path.display())),
        _ => Ok(()),
    }
}

fn remove_empty(dir: &Path) -> anyhow::Result<()> {
    match std::fs::remove_dir(dir) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) if matches!(e.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::ResourceBusy) => {
            println!("{} stays: there is more in it", dir.display());
            Ok(())
        }
        Err(e) => Err(e).with_context(|| format!("cannot remove {}", dir.display())),
    }
}
