//! `cargo xtask test upgrade`: an agent of another ABI version, made by a patch, takes over and gives back under load.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result};

use crate::{copy::Copy, demo, process};

/// Raises the ABI version and lays two tables out differently.
const PATCH: &str = "tests/upgrade/other-abi.patch";

pub(crate) fn run(args: &[String]) -> Result<()> {
    let agent = other_agent()?;
    demo::build()?;
    process::run(process::cargo(["test", "--locked", "--workspace", "--test=upgrade"]).args(args).env("WEFT_OTHER_AGENT", agent))
}

fn other_agent() -> Result<PathBuf> {
    let copy = Copy::of_head("other-abi")?;
    copy.apply(&process::root().join(PATCH))?;
    process::run(&mut copy.cargo(["build", "--locked"]))?;
    let agent = process::target_dir().join("weft-agent-other-abi");
    fs::copy(process::built("weft-agent"), &agent).with_context(|| format!("cannot keep {}", agent.display()))?;
    Ok(agent)
}
