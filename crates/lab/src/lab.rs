//! One run: its name, its lock, its work directory, its place in the cgroup tree, and how all of it goes away again.
//!
//! Taking down is one script (`down.sh`) run by one child, the reaper, that waits for the end of a pipe. Dropping the lab closes the pipe and waits; a
//! panic, Ctrl-C or kill -9 closes it too. So there is one way down, and it does not need the process that went up.

use std::{
    fs::{self, File},
    io::Read as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::{Inventory, LabError, Machine, Node, eventually, limits, place::Place, precondition};

/// Where runs leave a note of what they made, so that a later run can take down what a crash left.
pub const STATE_DIR: &str = "/run/weft-lab";
pub const LOCK_FILE: &str = "/run/lock/weft-lab.lock";
const DOWN: &str = include_str!("down.sh");

/// How a lab is set up; `Lab::new` takes the defaults.
#[derive(Clone, Debug)]
pub struct LabOptions {
    /// Directory below which the work directory is made.
    pub work_parent: PathBuf,
    /// How long to wait for another lab on this machine.
    pub lock_deadline: Duration,
    /// Keep the work directory (logs, captures) when the lab goes.
    pub keep_work: bool,
    /// A further directory that goes with the lab: where its owner tells others of it.
    pub notice: Option<PathBuf>,
}

impl Default for LabOptions {
    fn default() -> Self {
        Self { work_parent: weft_host::work_dir(), lock_deadline: limits::LOCK_DEADLINE, keep_work: std::env::var_os("WEFT_LAB_KEEP").is_some(), notice: None }
    }
}

pub struct Lab {
    run: String,
    base: PathBuf,
    work: PathBuf,
    wire: Arc<Place>,
    before: Inventory,
    reaper: Child,
    nodes: Vec<Node>,
    machines: Vec<Machine>,
    /// Held until the last: the reaper holds a duplicate of the same lock.
    _lock: File,
    keep_work: bool,
}

impl Lab {
    /// Takes the machine's lock, clears what a crashed run left, and lays the wire that nodes and machines are joined to.
    pub fn new(tag: &str) -> Result<Self, LabError> {
        Self::with(tag, &LabOptions::default())
    }

    pub fn with(tag: &str, options: &LabOptions) -> Result<Self, LabError> {
        precondition::check(&options.work_parent)?;
        let lock = lock(tag, options.lock_deadline)?;
        sweep(&lock)?;
        let before = Inventory::take();
        let run = format!("weft-{tag}-{}", suffix());
        let base = weft_host::cgroup2()?.join(&run);
        let work = options.work_parent.join(&run);
        let state = write_state(&run, &base, &work, options)?;
        let reaper = start_reaper(&state, &lock)?;

        fs::create_dir_all(&base).map_err(LabError::io("create", &base))?;
        fs::create_dir_all(&work).map_err(LabError::io("create", &work))?;
        // PostgreSQL and nginx run as other users below it.
        fs::set_permissions(&work, fs::Permissions::from_mode(0o755)).map_err(LabError::io("open up", &work))?;
        let wire = Place::make(&run, "wire", &base.join("wire"), &work.join("wire"))?;
        for line in ["link add wire type bridge", "link set wire up"] {
            wire.ip(line)?;
        }
        Ok(Self { run, base, work, wire: Arc::new(wire), before, reaper, nodes: Vec::new(), machines: Vec::new(), _lock: lock, keep_work: options.keep_work })
    }

    /// Stands in every name: namespaces, cgroups, directories.
    pub fn run(&self) -> &str {
        &self.run
    }

    pub fn work(&self) -> &Path {
        &self.work
    }

    /// The cgroup that everything of this run lives below.
    pub fn cgroup(&self) -> &Path {
        &self.base
    }

    /// What was on this machine when this lab had its lock and had made nothing yet: what must be there again when it has gone.
    pub fn before(&self) -> &Inventory {
        &self.before
    }

    /// Keeps other labs waiting after this one has gone, for as long as the file is open: for a look at what it left.
    pub fn hold(&self) -> Result<File, LabError> {
        self._lock.try_clone().map_err(LabError::io("hold", Path::new(LOCK_FILE)))
    }

    /// The namespace in the middle: a capture on its interface `wire` sees all that goes between nodes and machines.
    pub fn wire(&self) -> &Place {
        &self.wire
    }

    /// A further node, joined to the wire, with routes from and to the pods of every other.
    pub fn node(&mut self, name: &str) -> Result<Node, LabError> {
        let number = u8::try_from(self.nodes.len() + 1).ok().filter(|n| *n <= limits::NODES_MAX);
        let number = number.ok_or_else(|| LabError::Precondition(format!("a lab has at most {} nodes", limits::NODES_MAX)))?;
        let node = Node::make(&self.run, name, number, &self.base, &self.work)?;
        self.plug(node.place(), node.uplink_v4(), node.uplink_v6())?;
        for other in &self.nodes {
            other.route_to(&node)?;
            node.route_to(other)?;
        }
        for machine in &self.machines {
            machine.meet(&node)?;
        }
        self.nodes.push(node.clone());
        Ok(node)
    }

    /// A machine on the wire that knows nothing of the mesh. `extra` addresses are its own too; nodes reach them through it.
    pub fn machine(&mut self, name: &str, extra: &[IpAddr]) -> Result<Machine, LabError> {
        let number = u8::try_from(self.machines.len() + 1).ok().filter(|n| *n <= limits::NODES_MAX);
        let number = number.ok_or_else(|| LabError::Precondition(format!("a lab has at most {} machines", limits::NODES_MAX)))?;
        let place = Place::make(&self.run, name, &self.base.join("machines").join(name), &self.work.join(name))?;
        let (v4, v6) = (Ipv4Addr::new(10, 76, 0, 200 + number), Ipv6Addr::new(0xfd76, 0, 0, 0, 0, 0, 1, u16::from(number)));
        self.plug(&place, v4, v6)?;
        for address in extra {
            place.ip(&format!("addr add {address} dev lo"))?;
        }
        let machine = Machine { place: Arc::new(place), v4, v6, extra: extra.to_vec() };
        for node in &self.nodes {
            machine.meet(node)?;
        }
        self.machines.push(machine.clone());
        Ok(machine)
    }

    /// One end in the place (`uplink`), the other on the wire.
    fn plug(&self, place: &Place, v4: Ipv4Addr, v6: Ipv6Addr) -> Result<(), LabError> {
        let port = format!("w{}", v4.octets()[3]);
        self.wire.ip(&format!("link add {port} type veth peer name uplink netns {}", place.netns_name()))?;
        self.wire.ip(&format!("link set {port} master wire up"))?;
        place.ip(&format!("addr add {v4}/24 dev uplink"))?;
        place.ip(&format!("-6 addr add {v6}/64 dev uplink nodad"))?;
        place.ip("link set uplink up")?;
        Ok(())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        drop(self.reaper.stdin.take());
        let outcome = self.reaper.wait();
        if self.base.exists() || (self.work.exists() && !self.keep_work) {
            eprintln!("lab {}: something is left in {} or {} ({outcome:?})", self.run, self.base.display(), self.work.display());
        }
        // The kernel lets go of programs on devices later, on a queue of its own.
        let _ = eventually(limits::PROGRAMS_GONE_DEADLINE, "no program of this run", || match Inventory::take().programs_since(&self.before) {
            0 => Ok(()),
            left => Err(format!("{left} are left")),
        });
    }
}

/// On the cgroup tree itself: who has another `/run` (a chroot, a container) shares it all the same. The file only says who holds it.
fn lock(tag: &str, deadline: Duration) -> Result<File, LabError> {
    let (tree, note) = (weft_host::cgroup2()?, PathBuf::from(LOCK_FILE));
    let lock = File::open(&tree).map_err(LabError::io("open", &tree))?;
    let mut told = false;
    let taken = eventually(deadline, "the lock", || {
        let outcome = lock.try_lock();
        if outcome.is_err() && !told && !deadline.is_zero() {
            told = true;
            eprintln!("waiting for another lab on this machine ({})", holder(&note));
        }
        outcome
    });
    if taken.is_err() {
        return Err(LabError::Locked { holder: holder(&note), lock: tree });
    }
    let _ = fs::create_dir_all("/run/lock").and_then(|()| fs::write(&note, format!("{tag}, pid {}\n", std::process::id())));
    Ok(lock)
}

fn holder(lock: &Path) -> String {
    let mut text = String::new();
    let _ = File::open(lock).and_then(|mut f| f.read_to_string(&mut text));
    if text.trim().is_empty() { "unknown".to_owned() } else { text.trim().to_owned() }
}

/// With the lock in hand, whatever is still noted belongs to nobody.
fn sweep(lock: &File) -> Result<(), LabError> {
    let Ok(entries) = fs::read_dir(STATE_DIR) else { return Ok(()) };
    for entry in entries.flatten() {
        let out = lock.try_clone().map_err(LabError::io("duplicate", LOCK_FILE))?;
        let _ = Command::new("sh").args(["-c", DOWN, "down"]).arg(entry.path()).arg("now").stdout(Stdio::from(out)).status();
    }
    Ok(())
}

/// Takes down what a crashed run left. While a run is alive there is nothing of the kind: it swept when it began.
pub fn down_leftovers() -> Result<(), LabError> {
    match lock("down", Duration::ZERO) {
        Ok(lock) => sweep(&lock),
        Err(LabError::Locked { .. }) => Ok(()),
        Err(e) => Err(e),
    }
}

fn write_state(run: &str, base: &Path, work: &Path, options: &LabOptions) -> Result<PathBuf, LabError> {
    fs::create_dir_all(STATE_DIR).map_err(LabError::io("create", STATE_DIR))?;
    let state = Path::new(STATE_DIR).join(run);
    let netns_ours = u8::from(!Path::new("/run/netns").exists());
    let notice = options.notice.as_deref().unwrap_or(Path::new("")).display().to_string();
    let (base, work, keep) = (base.display(), work.display(), u8::from(options.keep_work));
    let text = format!("RUN='{run}'\nBASE='{base}'\nWORK='{work}'\nNETNS_OURS={netns_ours}\nKEEP={keep}\nNOTICE='{notice}'\n");
    fs::write(&state, text).map_err(LabError::io("write", &state))?;
    Ok(state)
}

fn start_reaper(state: &Path, lock: &File) -> Result<Child, LabError> {
    let out = lock.try_clone().map_err(LabError::io("duplicate", LOCK_FILE))?;
    let mut command = Command::new("sh");
    command.args(["-c", DOWN, "down"]).arg(state).stdin(Stdio::piped()).stdout(Stdio::from(out)).stderr(Stdio::null());
    // A group of its own: Ctrl-C at the terminal must reach the lab, not the one who tidies up after it.
    command.process_group(0).spawn().map_err(LabError::io("start the reaper of", state))
}

/// Short, and not the same twice: names of interfaces and sockets are bounded.
fn suffix() -> String {
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.subsec_nanos());
    format!("{:04x}", (nanos >> 8 ^ std::process::id()) & 0xffff)
}
