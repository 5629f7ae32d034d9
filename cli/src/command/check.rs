//! `weft check`: the host check lives in the agent, which knows what it needs; this finds it and becomes it.

use std::{
    env,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::{Outcome, args::CheckArgs, enter::Plan};

const AGENT: &str = "weft-agent";

pub(super) fn run(args: CheckArgs) -> Result<Outcome> {
    let agent = find().context("weft-agent is neither beside this program nor in PATH: install it, or run `weft-agent check` where it is")?;
    let command = [agent.into_os_string(), "check".into()].into_iter().chain(args.args).collect();
    Ok(Outcome::Become(Box::new(Plan::new(command))))
}

fn find() -> Option<PathBuf> {
    let beside = env::current_exe().ok().and_then(|own| own.parent().map(Path::to_owned));
    let path = env::var_os("PATH").unwrap_or_default();
    beside.into_iter().chain(env::split_paths(&path)).map(|dir| dir.join(AGENT)).find(|p| runnable(p))
}

fn runnable(path: &Path) -> bool {
    path.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}
