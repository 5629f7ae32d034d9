//! Starters of weft's own programs: they write the configuration, run the built binary in its place, and wait until it answers.

use std::{
    fs, io,
    net::SocketAddr,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
};

use rustix::process::Signal;
use serde::Serialize;

use crate::{LabError, Machine, Node, Place, Pod, Proc, eventually, limits, node::MANAGED};

/// Where the agent of a node offers metrics and health, inside the node's own namespace.
pub const METRICS: &str = "127.0.0.1:15020";
/// Where the bridge listens, on its own machine.
const BRIDGE_PORT: u16 = 15100;

/// The directory that the built programs are in: beside the running one, or `WEFT_BIN_DIR`.
pub fn bin_dir() -> PathBuf {
    if let Some(dir) = std::env::var_os("WEFT_BIN_DIR") {
        return PathBuf::from(dir);
    }
    let exe = std::env::current_exe().unwrap_or_default();
    let dir = exe.parent().unwrap_or(Path::new("."));
    // Test binaries are one directory deeper.
    if dir.ends_with("deps") { dir.parent().unwrap_or(dir).to_owned() } else { dir.to_owned() }
}

/// A built program by name, or how to get it.
pub fn bin(name: &str) -> Result<PathBuf, LabError> {
    let path = bin_dir().join(name);
    if path.is_file() { Ok(path) } else { Err(LabError::Precondition(format!("{} is not built; cargo build --workspace", path.display()))) }
}

/// One line of the agent's file of static workloads.
#[derive(Clone, Debug, Serialize)]
pub struct Workload {
    pub service: String,
    pub cgroup: String,
    pub netns: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
}

impl Workload {
    pub fn of(service: &str, pod: &Pod) -> Self {
        Self { service: service.to_owned(), cgroup: pod.cgroup_below_node(), netns: pod.place().netns(), uid: None }
    }
}

/// What an agent is started with, beyond what its node says already.
#[derive(Clone, Debug, Default)]
pub struct AgentOptions {
    pub bridge: Option<SocketAddr>,
    /// Empty: the agent has joined before.
    pub token: String,
    pub workloads: Vec<Workload>,
    pub resolvers: Vec<SocketAddr>,
    /// Further top-level keys of the configuration.
    pub extra: toml::Table,
}

/// `weft-agent` of one node.
#[derive(Debug)]
pub struct Agent {
    node: Node,
    place: Place,
    config: PathBuf,
    process: Option<Proc>,
    /// Predecessors that still carry connections.
    draining: Vec<Proc>,
}

impl Agent {
    /// Writes the configuration and starts the agent; returns when its admin socket answers.
    pub fn start(node: &Node, options: &AgentOptions) -> Result<Self, LabError> {
        let mut agent = Self::configure(node, options)?;
        agent.run()?;
        Ok(agent)
    }

    /// Writes the configuration only: for what happens before an agent ever ran.
    pub fn configure(node: &Node, options: &AgentOptions) -> Result<Self, LabError> {
        let dir = node.dir();
        let token = dir.join("join-token");
        write_private(&token, &options.token)?;
        let mut table = toml::Table::new();
        let text = |p: &Path| toml::Value::String(p.display().to_string());
        table.insert("node".to_owned(), node.name().into());
        table.insert("state_dir".to_owned(), text(&dir.join("state")));
        table.insert("run_dir".to_owned(), text(&dir.join("run")));
        table.insert("cgroup_root".to_owned(), text(node.cgroup()));
        table.insert("managed".to_owned(), vec![MANAGED].into());
        table.insert("bpffs".to_owned(), text(&dir.join("bpf")));
        table.insert("workloads".to_owned(), text(&workloads_file(node)));
        table.insert("resolvers".to_owned(), options.resolvers.iter().map(ToString::to_string).collect::<Vec<_>>().into());
        table.extend(options.extra.clone());
        if let Some(bridge) = options.bridge {
            let section = toml::Table::from_iter([("address".to_owned(), bridge.to_string().into()), ("join_token_file".to_owned(), text(&token))]);
            table.insert("bridge".to_owned(), section.into());
        }
        table.entry("metrics").or_insert_with(|| toml::Table::from_iter([("listen".to_owned(), METRICS.into())]).into());
        let config = dir.join("agent.toml");
        write(&config, &table.to_string())?;
        let place = node.place().in_cgroup(&node.cgroup().join("agent"))?;
        let agent = Self { node: node.clone(), place, config, process: None, draining: Vec::new() };
        agent.set_workloads(&options.workloads)?;
        Ok(agent)
    }

    /// Replaces the file of static workloads, which the agent watches.
    pub fn set_workloads(&self, workloads: &[Workload]) -> Result<(), LabError> {
        #[derive(Serialize)]
        struct File<'a> {
            workload: &'a [Workload],
        }
        let text = toml::to_string(&File { workload: workloads }).map_err(|e| LabError::Malformed(format!("workloads do not fit into TOML: {e}")))?;
        let path = workloads_file(&self.node);
        // Renamed into place: a watcher never reads half of it.
        let next = path.with_extension("next");
        write(&next, &text)?;
        fs::rename(&next, &path).map_err(LabError::io("replace", &path))
    }

    /// Starts it (again) and waits until its admin socket answers.
    pub fn run(&mut self) -> Result<(), LabError> {
        self.spawn()?;
        self.answers()
    }

    fn answers(&mut self) -> Result<(), LabError> {
        let socket = self.socket();
        eventually(limits::START_DEADLINE, &format!("the agent of node {} on {}", self.node.name(), socket.display()), || {
            Ok::<_, LabError>(match self.process.as_mut().map(Proc::still_running) {
                Some(Err(ended)) => Err(ended),
                _ => Ok(UnixStream::connect(&socket).map(drop).map_err(LabError::io("connect to", &socket))?),
            })
        })?
    }

    /// `weft-agent guard` with this agent's configuration; what it printed.
    pub fn guard(&self) -> Result<String, LabError> {
        self.command("guard")
    }

    /// Back to a node that never had an agent: nothing in the kernel, nothing on disk.
    pub fn forget(&mut self) -> Result<(), LabError> {
        self.kill_all()?;
        self.command("uninstall").map(drop)
    }

    fn command(&self, name: &str) -> Result<String, LabError> {
        let (bin, config) = (bin("weft-agent")?.display().to_string(), self.config.display().to_string());
        self.place.check(&[bin.as_str(), name, "--config", &config], limits::START_DEADLINE)
    }

    /// Starts it without waiting.
    pub fn spawn(&mut self) -> Result<(), LabError> {
        self.start_program(&bin("weft-agent")?)
    }

    fn start_program(&mut self, program: &Path) -> Result<(), LabError> {
        let (program, config) = (program.display().to_string(), self.config.display().to_string());
        self.process = Some(self.place.spawn("agent", &[program.as_str(), "run", "--config", &config])?);
        Ok(())
    }

    /// An upgrade: SIGTERM, and as soon as it has let go of its socket `program` in its place, which answers when this returns. The old one drains
    /// meanwhile.
    pub fn replace(&mut self, program: &Path) -> Result<(), LabError> {
        let socket = self.socket();
        let mut old = self.process.take();
        if let Some(old) = &mut old {
            old.signal(Signal::TERM);
            let held = || if socket.exists() { Err("it is still there") } else { Ok(()) };
            eventually(limits::START_DEADLINE, &format!("{} to go", socket.display()), held)?;
        }
        self.draining.extend(old);
        self.start_program(program)?;
        self.answers()
    }

    /// The predecessor that [`Agent::replace`] told to end last.
    pub fn predecessor(&mut self) -> Option<&mut Proc> {
        self.draining.last_mut()
    }

    pub fn socket(&self) -> PathBuf {
        self.node.dir().join("run/agent.sock")
    }

    pub fn config(&self) -> &Path {
        &self.config
    }

    pub fn workloads_file(&self) -> PathBuf {
        workloads_file(&self.node)
    }

    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Where it runs: the node's namespace, the agent's own cgroup.
    pub fn place(&self) -> &Place {
        &self.place
    }

    pub fn process(&mut self) -> Option<&mut Proc> {
        self.process.as_mut()
    }

    /// kill -9 of the agent; its holder goes on.
    pub fn kill9(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill9();
        }
    }

    /// SIGTERM, then wait.
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.stop();
        }
    }

    /// kill -9 of agent and holder.
    pub fn kill_all(&mut self) -> Result<(), LabError> {
        self.kill9();
        self.place.kill_all()
    }

    /// What its metrics endpoint says.
    pub fn metrics(&self) -> Result<String, LabError> {
        self.node.place().http_get(METRICS, "/metrics")
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.place.dir().join("log/agent.log")).unwrap_or_default()
    }
}

/// What a bridge is started with.
#[derive(Clone, Debug)]
pub struct BridgeOptions {
    pub catalog: PathBuf,
    pub svid_ttl: String,
    pub extra: toml::Table,
}

/// `weft-iam-bridge` on a machine of its own.
#[derive(Debug)]
pub struct Bridge {
    machine: Machine,
    config: PathBuf,
    process: Option<Proc>,
}

impl Bridge {
    pub fn start(machine: &Machine, options: &BridgeOptions) -> Result<Self, LabError> {
        let dir = machine.place().dir();
        let state = dir.join("state");
        fs::create_dir_all(&state).map_err(LabError::io("create", &state))?;
        let mut table = toml::Table::new();
        let text = |p: &Path| toml::Value::String(p.display().to_string());
        table.insert("state_dir".to_owned(), text(&state));
        table.insert("catalog".to_owned(), text(&options.catalog));
        table.insert("listen".to_owned(), SocketAddr::from((machine.v4(), BRIDGE_PORT)).to_string().into());
        table.insert("admin_socket".to_owned(), text(&dir.join("bridge.sock")));
        table.insert("svid_ttl".to_owned(), options.svid_ttl.clone().into());
        table.extend(options.extra.clone());
        let config = dir.join("bridge.toml");
        write(&config, &table.to_string())?;
        let mut bridge = Self { machine: machine.clone(), config, process: None };
        bridge.run()?;
        Ok(bridge)
    }

    /// Starts it (again) and waits until its admin socket answers.
    pub fn run(&mut self) -> Result<(), LabError> {
        let (bin, config) = (bin("weft-iam-bridge")?.display().to_string(), self.config.display().to_string());
        let mut process = self.machine.place().spawn("bridge", &[bin.as_str(), "run", "--config", &config])?;
        let socket = self.socket();
        eventually(limits::START_DEADLINE, "the IAM bridge on its admin socket", || {
            Ok::<_, io::Error>(match process.still_running() {
                Err(ended) => Err(ended),
                Ok(()) => Ok(UnixStream::connect(&socket).map(drop)?),
            })
        })??;
        self.process = Some(process);
        Ok(())
    }

    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((self.machine.v4(), BRIDGE_PORT))
    }

    pub fn socket(&self) -> PathBuf {
        self.machine.place().dir().join("bridge.sock")
    }

    pub fn config(&self) -> &Path {
        &self.config
    }

    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// A join token for one node that names what it may run.
    pub fn token(&self, node: &str, may_run: &[&str]) -> Result<String, LabError> {
        let (bin, config) = (bin("weft-iam-bridge")?.display().to_string(), self.config.display().to_string());
        let mut argv = vec![bin.as_str(), "token", "create", "--config", &config, "--node", node];
        for service in may_run {
            argv.extend(["--may-run", service]);
        }
        let printed = self.machine.place().check(&argv, limits::START_DEADLINE)?;
        let token = printed.split_whitespace().find(|w| w.starts_with("weft-join-v1."));
        token.map(str::to_owned).ok_or_else(|| LabError::Malformed(format!("no join token in {printed:?}")))
    }

    pub fn kill9(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill9();
        }
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.machine.place().dir().join("log/bridge.log")).unwrap_or_default()
    }
}

fn workloads_file(node: &Node) -> PathBuf {
    node.dir().join("workloads.toml")
}

fn write(path: &Path, text: &str) -> Result<(), LabError> {
    fs::write(path, text).map_err(LabError::io("write", path))
}

fn write_private(path: &Path, text: &str) -> Result<(), LabError> {
    use std::{io::Write as _, os::unix::fs::OpenOptionsExt as _};
    let open = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    open.and_then(|mut f| f.write_all(text.as_bytes())).map_err(LabError::io("write", path))
}
