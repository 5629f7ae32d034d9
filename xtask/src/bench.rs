//! `cargo xtask bench`: release builds of what is measured, then `weft-bench run`, which compares the paths and judges nothing.

use std::process::Command;

use anyhow::Result;
use weft_host::Need;

use crate::{host, process};

pub(crate) fn run(args: &[String]) -> Result<()> {
    weft_host::require(&[Need::Root, Need::Capabilities, Need::Cgroup2])?;
    host::space()?;
    process::run(&mut process::cargo(["build", "--locked", "--release", "-p", "weft-agent", "-p", "weft-iam-bridge", "-p", "weft-cli", "-p", "weft-bench"]))?;
    process::run(Command::new(process::target_dir().join("release/weft-bench")).arg("run").args(args).current_dir(process::root()))
}
