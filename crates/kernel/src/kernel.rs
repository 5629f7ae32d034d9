//! The node's kernel side as one object: opened once, it loads or adopts what is pinned and keeps it attached.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs::File,
    net::SocketAddr,
    os::fd::{AsFd as _, OwnedFd},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use aya::{
    Ebpf,
    maps::{Map, MapData, RingBuf},
};
use weft_ebpf_common::{
    Addr, Attestation, COUNT_ATTESTATION_FULL, COUNT_DATAGRAM_FULL, COUNT_DATAGRAM_REFUSED, COUNT_EGRESS_REFUSED, COUNT_FLOW_LOST, COUNT_GUARD_REFUSED,
    COUNT_INGRESS_REFUSED, COUNT_LOOKUP_PASSED, COUNT_LOOKUP_REFUSED, COUNT_PACKET_REFUSED, COUNT_PACKET_UNTOLD, Destination, DestinationKey, Device, External,
    Grant, GrantKey, Listen, ListenKey, LocalAddr, LocalBackends, Netns as NetnsEntry, Port, PortKey, ResolverKey, SocketOwner, State, TupleKey, Workload,
    limits::{LEVELS_MAX, MANAGED_MAX, RESOLVERS_MAX},
};

use crate::{
    Diagnostics, FlowRing, KernelError, cgroup,
    drift::Given,
    host,
    known::Known,
    links::{self, Target},
    netns::Netns,
    object::{self, ARRIVAL, FAMILIES, GUARDS, NODE_PROGRAMS, Spec, VETH},
    percpu,
    pins::{self, Pins},
    table::{LpmKey, Table},
    takeover::{Programs, Waiting},
};

/// What a node is, seen from the kernel.
#[derive(Clone, Debug)]
pub struct NodeOptions {
    /// Absolute directory of the cgroup subtree that is this node. The agent itself lives in it.
    pub cgroup_root: PathBuf,
    /// Absolute directories below `cgroup_root` in which nothing talks without an identity. Made if absent.
    pub managed: Vec<PathBuf>,
    /// Directory on a bpf file system, this agent's own. An empty directory elsewhere gets one mounted; in a private mount namespace that
    /// mount, and so enforcement, would end with the agent.
    pub bpffs: PathBuf,
    /// A denied connect gets ECONNREFUSED instead of EPERM.
    pub refuse: bool,
    /// Resolvers that enrolled workloads may ask.
    pub resolvers: Vec<SocketAddr>,
}

/// One of the kernel programs and whether the kernel says that it is attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramInfo {
    pub name: String,
    /// Cgroup directory, or `netns <cookie>`.
    pub attached_to: String,
    pub attached: bool,
}

/// The kernel side of one node. What it pins stays in force when it is dropped, or killed.
pub struct Kernel {
    pub(crate) pins: Pins,
    pub(crate) tables: Tables,
    pub(crate) cgroup_root: PathBuf,
    pub(crate) base_level: u32,
    pub(crate) own_netns: u64,
    /// Cookies of the namespaces whose program is this process's.
    pub(crate) guarded: Mutex<HashSet<u64>>,
    pub(crate) options: NodeOptions,
    /// Cgroup id of the agent itself.
    pub(crate) exempt: u64,
    pub(crate) given: Given,
    /// The programs of [`crate::veth::SIDES`], loaded once for all devices.
    pub(crate) sides: [OwnedFd; 2],
    /// By namespace cookie: the host's ends that are watched, or why there are none.
    pub(crate) veths: Mutex<HashMap<u64, Result<Vec<u32>, String>>>,
    /// Whether the kernel asks our program about families of sockets; where it does not, the check of the host says so.
    families: AtomicBool,
    /// Held by whoever changes tables or links.
    changing: Mutex<()>,
    /// Taken after `changing`.
    known: Mutex<Known>,
    ring_taken: Arc<AtomicBool>,
    pub(crate) waiting: Mutex<Option<Waiting>>,
}

pub(crate) struct Tables {
    pub(crate) state: Table<u32, State>,
    pub(crate) workloads: Table<u64, Workload>,
    pub(crate) managed: Table<u64, u32>,
    pub(crate) netns: Table<u64, NetnsEntry>,
    pub(crate) destinations: Table<DestinationKey, Destination>,
    pub(crate) externals: Table<LpmKey, External>,
    pub(crate) ports: Table<PortKey, Port>,
    pub(crate) grants: Table<GrantKey, Grant>,
    pub(crate) local: Table<u32, LocalBackends>,
    pub(crate) local_addrs: Table<Addr, LocalAddr>,
    pub(crate) devices: Table<u32, Device>,
    pub(crate) attestations: Table<TupleKey, Attestation>,
    pub(crate) datagrams: Table<TupleKey, Attestation>,
    pub(crate) socks: Table<u32, Attestation>,
    pub(crate) owners: Table<u32, SocketOwner>,
    pub(crate) homes: Table<u32, u64>,
    pub(crate) resolvers: Table<ResolverKey, u32>,
    pub(crate) listeners: Table<u64, u32>,
    pub(crate) listening: Table<ListenKey, Listen>,
    pub(crate) counters: Table<u32, u64>,
}

impl Kernel {
    /// Loads the programs, or adopts what an earlier agent pinned and swaps the programs in place: enforcement has no gap. Where programs of
    /// another ABI version are in force they stay so until [`Kernel::take_over`].
    ///
    /// Blocks for some hundred milliseconds.
    pub fn open(options: &NodeOptions) -> Result<Self, KernelError> {
        let Ground { node, pins, former, mut object, tables } = Ground::lay(options)?;
        let own_netns = Netns::current().map_err(|source| KernelError::Netns { path: "/proc/thread-self/ns/net".into(), source })?.cookie();
        let mut side = |spec| object::load(&mut object, spec)?.try_clone_to_owned().map_err(|e| KernelError::Object { reason: e.to_string() });
        let sides = [side(&VETH)?, side(&ARRIVAL)?];
        let kernel = Self {
            pins,
            tables,
            cgroup_root: options.cgroup_root.clone(),
            base_level: node.base_level,
            own_netns,
            guarded: Mutex::default(),
            options: options.clone(),
            exempt: node.own,
            given: Given::default(),
            sides,
            veths: Mutex::default(),
            families: AtomicBool::new(false),
            changing: Mutex::new(()),
            known: Mutex::default(),
            ring_taken: Arc::default(),
            waiting: Mutex::default(),
        };
        kernel.set_node(&node)?;
        let programs = Programs::load(&mut object)?;
        match former {
            None => kernel.attach(&programs)?,
            Some(former) => *kernel.waiting() = Some(Waiting::new(former, programs)),
        }
        Ok(kernel)
    }

    /// Cookie of the namespace that the agent lives in: the node's own.
    pub fn own_netns(&self) -> u64 {
        self.own_netns
    }

    /// Puts back whatever [`Kernel::survey`] misses; what is there is swapped in place, without a gap.
    pub fn repair(&self) -> Result<(), KernelError> {
        let node = Node::check(&self.options)?;
        let _changing = self.change();
        self.set_node(&node)?;
        let mut object = object::open(&self.pins, node.base_level, 0, false)?;
        self.attach(&Programs::load(&mut object)?)
    }

    /// What the programs ask of the node, before there are programs.
    fn set_node(&self, node: &Node) -> Result<(), KernelError> {
        let (t, options) = (&self.tables, &self.options);
        t.set_managed(&node.managed)?;
        t.set_resolvers(&options.resolvers)?;
        let state = t.state()?;
        t.state.put(&0, &State { refuse: u32::from(options.refuse), exempt_cgroup: self.exempt, ..state })
    }

    /// Beside a running agent: guards every managed subtree that has no guard, because it was made anew and so is another cgroup, and says how many
    /// programs that took. Everything else is the agent's, also when it is of another ABI version.
    pub fn guard_beside(options: &NodeOptions) -> Result<usize, KernelError> {
        let Ground { node, pins, former, mut object, tables } = Ground::lay(options)?;
        tables.set_managed(&node.managed)?;
        let mut attached = 0;
        for spec in &GUARDS {
            for dir in &options.managed {
                let (file, link) = (File::open(dir).map_err(KernelError::cgroup(dir))?, guard_link(spec, dir)?);
                let target = Target::Cgroup { path: dir, fd: file.as_fd(), id: cgroup::id(dir).map_err(KernelError::cgroup(dir))? };
                if ![Some(&pins), former.as_ref()].into_iter().flatten().any(|pins| links::is_attached(pins, &link, &target)) {
                    links::establish(&pins, &link, spec, object::load(&mut object, spec)?, &target)?;
                    attached += 1;
                }
            }
        }
        Ok(attached)
    }

    /// What is in force, as the kernel holds it.
    pub fn state(&self) -> Result<State, KernelError> {
        self.tables.state()
    }

    /// Every program that should be attached, and whether it is, read back from the kernel.
    pub fn programs(&self) -> Vec<ProgramInfo> {
        let mut list = self.node_programs();
        if self.families.load(Ordering::Relaxed) {
            let attached = links::is_attached(&self.pins, FAMILIES.name, &Target::Hook);
            list.push(ProgramInfo { name: FAMILIES.name.to_owned(), attached_to: "socket_create".to_owned(), attached });
        }
        for name in self.pins.links().unwrap_or_default() {
            if let Some(cookie) = pins::cookie_of_link(&name) {
                let attached = links::info(&self.pins, &name).is_some_and(|i| i.netns_inode() != 0);
                list.push(ProgramInfo { name: object::LOOKUP.name.to_owned(), attached_to: format!("netns {cookie}"), attached });
            }
        }
        list
    }

    /// Those of [`Self::programs`] that every workload relies on.
    pub(crate) fn node_programs(&self) -> Vec<ProgramInfo> {
        let node = NODE_PROGRAMS.iter().map(|spec| self.cgroup_program(spec, &self.cgroup_root, Some(spec.name.to_owned())));
        let guards = self.options.managed.iter().flat_map(|dir| GUARDS.iter().map(|spec| self.cgroup_program(spec, dir, guard_link(spec, dir).ok())));
        node.chain(guards).collect()
    }

    /// Sums over all CPUs since the tables were made. Empty when they cannot be read.
    pub fn counters(&self) -> BTreeMap<&'static str, u64> {
        let named = [
            ("flow_lost", COUNT_FLOW_LOST),
            ("attestation_full", COUNT_ATTESTATION_FULL),
            ("lookup_refused", COUNT_LOOKUP_REFUSED),
            ("lookup_passed", COUNT_LOOKUP_PASSED),
            ("egress_refused", COUNT_EGRESS_REFUSED),
            ("guard_refused", COUNT_GUARD_REFUSED),
            ("ingress_refused", COUNT_INGRESS_REFUSED),
            ("packet_refused", COUNT_PACKET_REFUSED),
            ("packet_untold", COUNT_PACKET_UNTOLD),
            ("datagram_full", COUNT_DATAGRAM_FULL),
            ("datagram_refused", COUNT_DATAGRAM_REFUSED),
        ];
        named.into_iter().filter_map(|(name, index)| Some((name, percpu::sum(self.tables.counters.fd(), index).ok()?))).collect()
    }

    /// The reading end of the flow ring; one at a time. Call it within a tokio runtime.
    pub fn flow_ring(&self) -> Result<FlowRing, KernelError> {
        let ring = || -> Result<RingBuf<MapData>, aya::maps::MapError> { RingBuf::try_from(Map::from_map_data(MapData::from_pin(self.pins.map("FLOWS"))?)?) };
        FlowRing::new(ring().map_err(|e| KernelError::Ring(std::io::Error::other(e)))?, &self.ring_taken)
    }

    /// The reading end of the kernel programs' own log. Call it within a tokio runtime.
    pub fn diagnostics(&self) -> Result<Diagnostics, KernelError> {
        Diagnostics::open(&self.pins)
    }

    /// Whether a deny program covers the cgroup already.
    pub(crate) fn is_managed(&self, cgroup: &Path) -> bool {
        self.options.managed.iter().any(|dir| cgroup.starts_with(dir))
    }

    pub(crate) fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn change(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn attach(&self, programs: &Programs) -> Result<(), KernelError> {
        for (spec, program) in &programs.guards {
            for dir in &self.options.managed {
                self.establish(spec, program.as_fd(), dir, &guard_link(spec, dir)?)?;
            }
        }
        for (spec, program) in &programs.node {
            self.establish(spec, program.as_fd(), &self.cgroup_root, spec.name)?;
        }
        // A kernel that offers the hook and refuses the program does not keep the rest from being enforced; the status shows it as not attached.
        if let Some(loaded) = &programs.families {
            self.families.store(true, Ordering::Relaxed);
            match loaded {
                Ok(program) => links::establish(&self.pins, FAMILIES.name, &FAMILIES, program.as_fd(), &Target::Hook)?,
                Err(error) => tracing::warn!(%error, "packet, vsock and other sockets are not refused where they are made"),
            }
        }
        self.adopt_devices()?;
        self.drop_stale()
    }

    fn establish(&self, spec: &Spec, program: std::os::fd::BorrowedFd<'_>, dir: &Path, name: &str) -> Result<(), KernelError> {
        let file = File::open(dir).map_err(KernelError::cgroup(dir))?;
        let id = cgroup::id(dir).map_err(KernelError::cgroup(dir))?;
        links::establish(&self.pins, name, spec, program, &Target::Cgroup { path: dir, fd: file.as_fd(), id })?;
        self.given.note(&self.pins, name);
        Ok(())
    }

    fn cgroup_program(&self, spec: &Spec, dir: &Path, link: Option<String>) -> ProgramInfo {
        let attached = || -> Option<bool> {
            let file = File::open(dir).ok()?;
            let id = cgroup::id(dir).ok()?;
            Some(self.given.holds(&self.pins, &link?, &Target::Cgroup { path: dir, fd: file.as_fd(), id }))
        };
        ProgramInfo { name: spec.name.to_owned(), attached_to: dir.display().to_string(), attached: attached().unwrap_or(false) }
    }

    /// Guards and table entries of subtrees that the configuration no longer names, or that were made anew.
    fn drop_stale(&self) -> Result<(), KernelError> {
        let id = |dir: &PathBuf| cgroup::id(dir).map_err(KernelError::cgroup(dir));
        let managed = self.options.managed.iter().map(id).collect::<Result<Vec<_>, _>>()?;
        for name in self.pins.links()? {
            if let Some(id) = name.strip_prefix("guard_").and_then(|n| n.rsplit_once('-')).and_then(|(_, id)| id.parse().ok())
                && !managed.contains(&id)
            {
                self.pins.remove_link(&name)?;
            }
        }
        for id in self.tables.managed.keys()? {
            if !managed.contains(&id) {
                self.tables.managed.remove(&id)?;
            }
        }
        Ok(())
    }
}

impl Tables {
    pub(crate) fn open(pins: &Pins) -> Result<Self, KernelError> {
        Ok(Self {
            state: Table::open(pins, "STATE")?,
            workloads: Table::open(pins, "WORKLOADS")?,
            managed: Table::open(pins, "MANAGED")?,
            netns: Table::open(pins, "NETNS")?,
            destinations: Table::open(pins, "DESTINATIONS")?,
            externals: Table::open(pins, "EXTERNALS")?,
            ports: Table::open(pins, "PORTS")?,
            grants: Table::open(pins, "GRANTS")?,
            local: Table::open(pins, "LOCAL")?,
            local_addrs: Table::open(pins, "LOCAL_ADDRS")?,
            devices: Table::open(pins, "DEVICES")?,
            attestations: Table::open(pins, "ATTESTATIONS")?,
            datagrams: Table::open(pins, "DATAGRAMS")?,
            socks: Table::open(pins, "SOCKS")?,
            owners: Table::open(pins, "OWNERS")?,
            homes: Table::open(pins, "HOMES")?,
            resolvers: Table::open(pins, "RESOLVERS")?,
            listeners: Table::open(pins, "LISTENERS")?,
            listening: Table::open(pins, "LISTENING")?,
            counters: Table::open(pins, "COUNTERS")?,
        })
    }

    pub(crate) fn state(&self) -> Result<State, KernelError> {
        Ok(self.state.get(&0)?.unwrap_or_default())
    }

    fn set_managed(&self, ids: &[u64]) -> Result<(), KernelError> {
        bounded("managed subtrees", ids.len(), MANAGED_MAX)?;
        ids.iter().try_for_each(|id| self.managed.put(id, &1))
    }

    fn set_resolvers(&self, resolvers: &[SocketAddr]) -> Result<(), KernelError> {
        bounded("resolvers", resolvers.len(), RESOLVERS_MAX)?;
        let wanted: Vec<_> = resolvers.iter().map(|r| ResolverKey { addr: r.ip().into(), port: r.port(), pad: 0 }).collect();
        for key in self.resolvers.keys()? {
            if !wanted.contains(&key) {
                self.resolvers.remove(&key)?;
            }
        }
        wanted.iter().try_for_each(|key| self.resolvers.put(key, &1))
    }
}

/// The options checked, the tables made or adopted, the programs prepared: what everything that attaches starts from.
struct Ground {
    node: Node,
    pins: Pins,
    /// Of another ABI version, whose programs are in force.
    former: Option<Pins>,
    object: Ebpf,
    tables: Tables,
}

impl Ground {
    fn lay(options: &NodeOptions) -> Result<Self, KernelError> {
        let node = Node::check(options)?;
        let pins = Pins::create(&options.bpffs)?;
        let former = pins.former()?;
        if let Some(former) = &former {
            pins.carry(former)?;
        }
        let object = object::open(&pins, node.base_level, 0, false)?;
        let tables = Tables::open(&pins)?;
        Ok(Self { node, pins, former, object, tables })
    }
}

/// The options, held against the host before anything is changed.
struct Node {
    base_level: u32,
    /// Cgroup id of the agent itself.
    own: u64,
    /// Cgroup ids of the managed subtrees.
    managed: Vec<u64>,
}

impl Node {
    fn check(options: &NodeOptions) -> Result<Self, KernelError> {
        host::check_privileges()?;
        let (mount, root) = (cgroup::mount_point()?, &options.cgroup_root);
        let outside = |path: &Path, root: &Path| KernelError::OutsideRoot { path: path.to_owned(), root: root.to_owned() };
        if !cgroup::is_cgroup2(root).map_err(KernelError::cgroup(root))? {
            return Err(KernelError::NotCgroup2(root.clone()));
        }
        let base_level = cgroup::levels_below(&mount, root).ok_or_else(|| outside(root, &mount))?;
        let own = cgroup::of_pid(std::process::id())?;
        cgroup::levels_below(root, &own).ok_or_else(|| outside(&own, root))?;
        bounded("managed subtrees", options.managed.len(), MANAGED_MAX)?;
        for dir in &options.managed {
            match cgroup::levels_below(root, dir) {
                None | Some(0) => return Err(outside(dir, root)),
                Some(level) if level > LEVELS_MAX => {
                    return Err(KernelError::TooDeep { path: dir.clone(), root: root.clone(), level, max: LEVELS_MAX });
                }
                Some(_) => {}
            }
            if own.starts_with(dir) {
                return Err(KernelError::OwnCgroupManaged { own, managed: dir.clone() });
            }
        }
        let mut managed = Vec::new();
        for dir in &options.managed {
            cgroup::create(dir).map_err(KernelError::cgroup(dir))?;
            managed.push(cgroup::id(dir).map_err(KernelError::cgroup(dir))?);
        }
        let own_id = cgroup::id(&own).map_err(KernelError::cgroup(&own))?;
        Ok(Self { base_level, own: own_id, managed })
    }
}

pub(crate) fn bounded(what: &'static str, count: usize, max: u32) -> Result<(), KernelError> {
    let max = max as usize;
    if count > max { Err(KernelError::Bound { what, count, max }) } else { Ok(()) }
}

/// A guard's link carries the subtree's id: one made anew under the same name is another.
fn guard_link(spec: &Spec, dir: &Path) -> Result<String, KernelError> {
    Ok(format!("{}-{}", spec.name, cgroup::id(dir).map_err(KernelError::cgroup(dir))?))
}
