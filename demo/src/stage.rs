//! The stage: two nodes, a machine for the bridge, and the notice in `/run/weft-demo` by which other terminals find it.

use std::{
    fmt, fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result};
use weft_lab::{Lab, LabError, LabOptions, Machine, Node, bin, default_work_parent, precondition};

use crate::packages;

pub const NOTICE_DIR: &str = "/run/weft-demo";
/// The shop's window on the host.
pub const WINDOW: &str = "127.0.0.1:8480";
const PROGRAMS: &[&str] = &["weft-agent", "weft-iam-bridge", "weft", "shop-storefront", "shop-buy", "shop-stock"];

/// A precondition that does not hold; nothing has been changed.
#[derive(Debug)]
pub struct Missing(pub String);

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Missing {}

pub struct Stage {
    pub lab: Lab,
    pub a: Node,
    pub b: Node,
    pub control: Machine,
}

impl Stage {
    /// After `require`. `patience`: how long to wait for another lab on this machine.
    pub fn set(patience: Duration) -> Result<Self> {
        let options = LabOptions { lock_deadline: patience, notice: Some(PathBuf::from(NOTICE_DIR)), ..LabOptions::default() };
        let mut lab = Lab::with("demo", &options).map_err(|e| match e {
            LabError::Locked { holder, .. } => anyhow::Error::new(Missing(format!("another lab or demo is running ({holder}): `weft-demo down`, or wait"))),
            other => other.into(),
        })?;
        let (a, b) = (lab.node("a")?, lab.node("b")?);
        let control = lab.machine("control", &[])?;
        let stage = Self { lab, a, b, control };
        stage.announce()?;
        Ok(stage)
    }

    /// Configuration of `./weft`, and who runs the demo.
    fn announce(&self) -> Result<()> {
        let dir = Path::new(NOTICE_DIR);
        fs::create_dir_all(dir).with_context(|| format!("cannot create {NOTICE_DIR}"))?;
        let sockets = [&self.a, &self.b].map(|n| format!("{:?}", n.dir().join("run/agent.sock")));
        let text = format!("agents = [{}]\nbridge = {:?}\n", sockets.join(", "), self.control.place().dir().join("bridge.sock"));
        for (name, text) in [("weft.toml", text), ("pid", format!("{}\n", std::process::id())), ("run", format!("{}\n", self.lab.run()))] {
            let path = dir.join(name);
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }
}

/// `window`: whether the port on the host will be used. Each line names one thing and the way out; nothing is changed before all hold. What packages bring is installed then.
pub fn require(window: bool) -> Result<()> {
    let mut missing = precondition::machine(&default_work_parent());
    missing.extend(PROGRAMS.iter().filter_map(|p| bin(p).err()).map(|e| e.to_string()));
    if window && let Err(e) = TcpListener::bind(WINDOW) {
        missing.push(format!("port {WINDOW} is held ({e}); stop what listens there (`ss -ltnp`)"));
    }
    if !missing.is_empty() {
        return Err(Missing(missing.join("\nweft-demo: ")).into());
    }
    packages::ensure()
}

/// The CLI as people use it, preset to the running demo.
pub fn weft(arguments: &[&str]) -> Result<Command> {
    let program = bin("weft")?;
    let mut command = Command::new(&program);
    let path = std::env::var("PATH").unwrap_or_default();
    let here = program.parent().unwrap_or(Path::new("/")).display().to_string();
    command.args(arguments).env("WEFT_CONFIG", Path::new(NOTICE_DIR).join("weft.toml")).env("PATH", format!("{here}:{path}"));
    Ok(command)
}
