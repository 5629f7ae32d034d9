//! The stage: two nodes, a machine for the bridge, and the notice in `/run/weft-demo` by which other terminals find it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result};
use weft_host::{Need, Package, Unmet};
use weft_lab::{Lab, LabError, LabOptions, Machine, Node, bin, precondition};

pub const NOTICE_DIR: &str = "/run/weft-demo";
const PROGRAMS: &[&str] = &["weft-agent", "weft-iam-bridge", "weft-gateway", "weft", "shop-storefront", "shop-buy", "shop-stock"];

/// What the shop is made of.
const PACKAGES: &[Package] = &[
    Package { name: "nginx-light", probe: "/usr/sbin/nginx" },
    Package { name: "postgresql-15", probe: "/usr/lib/postgresql/15/bin/postgres" },
    Package { name: "postgresql-client-15", probe: "/usr/bin/psql" },
    Package { name: "prometheus", probe: "/usr/bin/prometheus" },
    Package { name: "curl", probe: "curl" },
    Package { name: "python3", probe: "/usr/bin/python3" },
    Package { name: "python3-psycopg2", probe: "/usr/lib/python3/dist-packages/psycopg2" },
];

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
            LabError::Locked { holder, .. } => anyhow::Error::new(Unmet(format!("another lab or demo is running ({holder}): `weft-demo down`, or wait"))),
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

/// Nothing is changed before all of it holds; what packages bring is installed then.
pub fn require() -> Result<()> {
    precondition::machine(&weft_host::work_dir())?;
    weft_host::require(&[Need::DemoWindow])?;
    for program in PROGRAMS {
        bin(program).map_err(|e| Unmet(e.to_string()))?;
    }
    weft_host::ensure(PACKAGES.iter().chain(precondition::PACKAGES))
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
