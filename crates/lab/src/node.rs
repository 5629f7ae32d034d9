//! Nodes, the pods on them, and machines outside the mesh.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
};

use crate::{LabError, limits, place::Place, shell};

/// The subtree of a node that its agent manages: whatever runs there unidentified is denied.
pub const MANAGED: &str = "weft.slice";

/// A node: a network namespace with a bridge for its pods, a cgroup subtree, a directory with a bpffs of its own.
#[derive(Clone, Debug)]
pub struct Node(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    run: String,
    number: u8,
    cgroup: PathBuf,
    place: Place,
    pods: AtomicU8,
}

impl Node {
    pub(crate) fn make(run: &str, name: &str, number: u8, base: &Path, work: &Path) -> Result<Self, LabError> {
        let (cgroup, dir) = (base.join(name), work.join(name));
        // Below the node's root are two branches: its own daemons and what they manage.
        let place = Place::make(run, name, &cgroup.join("host"), &dir)?;
        for sub in [cgroup.join("agent"), cgroup.join(MANAGED), dir.join("state"), dir.join("run"), dir.join("bpf")] {
            fs::create_dir_all(&sub).map_err(LabError::io("create", &sub))?;
        }
        let bpf = dir.join("bpf").display().to_string();
        shell::sh(&["mount", "-t", "bpf", "-o", "mode=0700", "weft-bpf", &bpf])?;
        let hosts = dir.join("run/hosts");
        fs::write(&hosts, "127.0.0.1 localhost\n::1 localhost\n").map_err(LabError::io("write", &hosts))?;
        let node = Self(Arc::new(Inner { run: run.to_owned(), number, cgroup, place, pods: AtomicU8::new(1) }));
        node.lay_bridge()?;
        Ok(node)
    }

    fn lay_bridge(&self) -> Result<(), LabError> {
        let n = self.0.number;
        let place = self.place();
        // With an address of its own: else it takes that of one of its ports, another one whenever pods come and go.
        place.ip(&format!("link add pods address 02:00:0a:4d:{n:02x}:01 type bridge"))?;
        place.ip(&format!("addr add 10.77.{n}.1/24 dev pods"))?;
        place.ip(&format!("-6 addr add {}/64 dev pods nodad", pod_v6(n, 1)))?;
        place.ip("link set pods up")?;
        for key in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            let script = format!("echo 1 >/proc/sys/net/{key}");
            place.check(&["sh", "-c", &script], limits::HELPER_DEADLINE)?;
        }
        Ok(())
    }

    pub fn name(&self) -> &str {
        self.0.place.name()
    }

    /// The node's own namespace, outside what the agent manages: for probes, `psql`, captures.
    pub fn place(&self) -> &Place {
        &self.0.place
    }

    /// Root of the node's cgroup subtree: the agent's `cgroup_root`.
    pub fn cgroup(&self) -> &Path {
        &self.0.cgroup
    }

    pub fn dir(&self) -> &Path {
        self.0.place.dir()
    }

    /// What the pods of this node read as /etc/hosts; the agent writes it in place.
    pub fn hosts(&self) -> PathBuf {
        self.dir().join("run/hosts")
    }

    pub fn uplink_v4(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 76, 0, self.0.number)
    }

    pub fn uplink_v6(&self) -> Ipv6Addr {
        Ipv6Addr::new(0xfd76, 0, 0, 0, 0, 0, 0, u16::from(self.0.number))
    }

    /// A pod inside the managed subtree.
    pub fn pod(&self, name: &str) -> Result<Pod, LabError> {
        self.pod_in(name, &self.0.cgroup.join(MANAGED).join(name))
    }

    /// A pod anywhere in the cgroup tree: in the managed subtree, or outside it, where the agent has no say.
    pub fn pod_in(&self, name: &str, cgroup: &Path) -> Result<Pod, LabError> {
        let last = self.0.pods.fetch_add(1, Ordering::Relaxed) + 1;
        if last > limits::PODS_PER_NODE_MAX {
            return Err(LabError::Precondition(format!("node {} already has {} pods", self.name(), limits::PODS_PER_NODE_MAX)));
        }
        self.pod_at(name, cgroup, last)
    }

    /// A pod with these addresses of the node's subnets, by their last part, which is the caller's to keep apart from those of other pods: for
    /// addresses that one pod takes over from another.
    pub fn pod_at(&self, name: &str, cgroup: &Path, last: u8) -> Result<Pod, LabError> {
        let n = self.0.number;
        let (v4, v6) = (Ipv4Addr::new(10, 77, n, last), pod_v6(n, last));
        let place = Place::make(&self.0.run, &format!("{}-{name}", self.name()), cgroup, &self.dir().join("pods").join(name))?.with_hosts(&self.hosts());
        self.place().ip(&format!("link add p{last} type veth peer name eth0 netns {}", place.netns_name()))?;
        self.place().ip(&format!("link set p{last} master pods up"))?;
        let pod = Pod { place: Arc::new(place), node: self.clone(), device: format!("p{last}"), v4, v6 };
        pod.address(v4, v6)?;
        Ok(pod)
    }

    pub(crate) fn route_to(&self, other: &Self) -> Result<(), LabError> {
        let n = other.0.number;
        self.place().ip(&format!("route replace 10.77.{n}.0/24 via {}", other.uplink_v4()))?;
        self.place().ip(&format!("-6 route replace {}/64 via {}", pod_v6(n, 0), other.uplink_v6())).map(drop)
    }
}

/// A workload's surroundings: namespace, cgroup, two addresses, and mesh names in /etc/hosts.
#[derive(Clone, Debug)]
pub struct Pod {
    place: Arc<Place>,
    node: Node,
    /// The node's end of its veth.
    device: String,
    v4: Ipv4Addr,
    v6: Ipv6Addr,
}

impl Pod {
    pub fn place(&self) -> &Place {
        &self.place
    }

    pub fn node(&self) -> &Node {
        &self.node
    }

    pub fn v4(&self) -> Ipv4Addr {
        self.v4
    }

    pub fn v6(&self) -> Ipv6Addr {
        self.v6
    }

    pub fn dir(&self) -> &Path {
        self.place.dir()
    }

    /// Its cgroup, relative to the node's root, as the agent's workloads file wants it.
    pub fn cgroup_below_node(&self) -> String {
        self.place.cgroup().strip_prefix(self.node.cgroup()).unwrap_or(self.place.cgroup()).display().to_string()
    }

    /// Takes other addresses (of this node's subnet), in place of those it has.
    pub fn readdress(&mut self, v4: Ipv4Addr, v6: Ipv6Addr) -> Result<(), LabError> {
        self.place.ip("addr flush dev eth0 scope global")?;
        self.address(v4, v6)?;
        (self.v4, self.v6) = (v4, v6);
        Ok(())
    }

    fn address(&self, v4: Ipv4Addr, v6: Ipv6Addr) -> Result<(), LabError> {
        let n = self.node.0.number;
        // Of the address too, so that neighbours find whoever has it now without being told.
        let [_, _, _, last] = v4.octets();
        self.place.ip(&format!("link set eth0 address 02:00:0a:4d:{n:02x}:{last:02x}"))?;
        self.place.ip(&format!("addr add {v4}/24 dev eth0"))?;
        self.place.ip(&format!("-6 addr add {v6}/64 dev eth0 nodad"))?;
        self.place.ip("link set eth0 up")?;
        self.place.ip(&format!("route replace default via 10.77.{n}.1"))?;
        self.place.ip(&format!("-6 route replace default via {}", pod_v6(n, 1))).map(drop)
    }

    /// Ends its programs and takes veth, namespace and cgroup away, as a runtime does with a container that stops. Whoever keeps the namespace
    /// alive keeps no address by that.
    pub fn remove(self) -> Result<(), LabError> {
        self.place.kill_all()?;
        self.node.place().ip(&format!("link delete {}", self.device))?;
        shell::ip(&format!("netns delete {}", self.place.netns_name()))?;
        fs::remove_dir(self.place.cgroup()).map_err(LabError::io("remove", self.place.cgroup()))
    }
}

/// A host on the wire that is no part of the mesh.
#[derive(Clone, Debug)]
pub struct Machine {
    pub(crate) place: Arc<Place>,
    pub(crate) v4: Ipv4Addr,
    pub(crate) v6: Ipv6Addr,
    pub(crate) extra: Vec<IpAddr>,
}

impl Machine {
    pub fn place(&self) -> &Place {
        &self.place
    }

    pub fn v4(&self) -> Ipv4Addr {
        self.v4
    }

    pub fn v6(&self) -> Ipv6Addr {
        self.v6
    }

    /// Routes both ways between this machine and a node with its pods.
    pub(crate) fn meet(&self, node: &Node) -> Result<(), LabError> {
        let n = node.0.number;
        self.place.ip(&format!("route replace 10.77.{n}.0/24 via {}", node.uplink_v4()))?;
        self.place.ip(&format!("-6 route replace {}/64 via {}", pod_v6(n, 0), node.uplink_v6()))?;
        for address in &self.extra {
            let (family, via): (_, IpAddr) = if address.is_ipv4() { ("-4", self.v4.into()) } else { ("-6", self.v6.into()) };
            node.place().ip(&format!("{family} route replace {address} via {via}"))?;
        }
        Ok(())
    }
}

fn pod_v6(node: u8, last: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd77, 0, 0, u16::from(node), 0, 0, 0, u16::from(last))
}
