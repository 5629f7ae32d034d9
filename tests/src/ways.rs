//! Ways out that are no plain `connect()`, tried as a workload would.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Deserialize;
use weft_lab::Place;

const WAYS: &str = include_str!("ways.py");
const DEADLINE: Duration = Duration::from_secs(60);

#[derive(Clone, Debug, Default, Deserialize)]
pub struct Tried {
    pub ok: bool,
    #[serde(default)]
    pub errno: i32,
    /// The call that failed.
    #[serde(default)]
    pub at: String,
    #[serde(default)]
    pub data: String,
    /// This kernel has no such thing.
    #[serde(default)]
    pub absent: bool,
}

/// One attempt. `to`: an address, or one with an interface.
pub fn try_way(from: &Place, way: &str, to: &str, port: u16, mark: &str) -> Result<Tried> {
    run(from, &[way, to, &port.to_string(), mark])
}

/// A socket that `from` makes; then its process moves into `cgroup` (`None`: stays) and executes another program, which dials.
pub fn try_moved(from: &Place, cgroup: Option<&Place>, to: &str, port: u16, mark: &str) -> Result<Tried> {
    let cgroup = cgroup.map_or_else(|| "-".to_owned(), |place| place.cgroup().display().to_string());
    run(from, &["moved", to, &port.to_string(), mark, &cgroup])
}

fn run(from: &Place, args: &[&str]) -> Result<Tried> {
    let out = from.output(&[&["python3", "-c", WAYS], args].concat(), DEADLINE)?;
    let text = String::from_utf8_lossy(&out.stdout);
    let line = text.lines().rev().find(|l| l.starts_with('{'));
    let line = line.with_context(|| format!("ways.py said {text:?} / {:?}", String::from_utf8_lossy(&out.stderr)))?;
    serde_json::from_str(line).with_context(|| line.to_owned())
}
