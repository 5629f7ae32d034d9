//! `weft-agent guard`: enforcement before the agent. From then on whoever is in a managed subtree gets no network until an agent has enrolled it.
//!
//! Pins do not outlive a boot, so this belongs before the container runtimes and the managed units. A managed subtree that is removed and made anew has
//! lost its programs too; beside a running agent only those are attached.

use weft_kernel::{Kernel, host::HostOptions};

use super::stop::running;
use crate::{
    app::{host_options, judge, kernel_options, places},
    config::Config,
};

pub fn guard(config: &Config) -> anyhow::Result<()> {
    // Less than the agent asks for: a full disk or a held port is no reason to leave the node open.
    for line in judge(&HostOptions { state_dir: None, listen: Vec::new(), ..host_options(config) })? {
        eprintln!("weft-agent: {line}");
    }
    let places = places(config)?;
    let options = kernel_options(config, &places);
    if let Some(pid) = running(config)? {
        let attached = Kernel::guard_beside(&options)?;
        println!("an agent runs (process {}): {attached} programs were attached to subtrees that had none", pid.as_raw_nonzero());
        return Ok(());
    }
    let kernel = Kernel::open(&options)?;
    if kernel.is_waiting() {
        println!("programs of another version are attached and stay in force until an agent takes over");
        return Ok(());
    }
    let attached = kernel.programs().iter().filter(|p| p.attached).count();
    let dirs: Vec<_> = places.managed.iter().map(|m| m.display().to_string()).collect();
    println!("{attached} programs are attached; unidentified workloads below {} are denied", dirs.join(", "));
    Ok(())
}
