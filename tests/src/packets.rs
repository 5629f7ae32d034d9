//! Frames that no socket made, sent as a workload could: by a packet socket from before its enrolment, or out of a namespace inside it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};
use weft_lab::{Capture, Node, Place, Pod, Proc};

const FRAMES: &str = include_str!("frames.py");
const PING_PONG: &str = include_str!("ping_pong.py");
const DEADLINE: Duration = Duration::from_secs(60);

/// Kind of frame → the mark it carries, and the error number of sending it.
pub type Sent = BTreeMap<String, (String, i32)>;

/// Where a pod's frames are aimed.
pub struct Aim<'a> {
    /// Hardware address of the next hop.
    pub mac: String,
    pub pod: &'a Pod,
}

impl<'a> Aim<'a> {
    /// A pod on the same node.
    pub fn at(pod: &'a Pod) -> Result<Self> {
        Ok(Self { mac: mac(pod.place(), "eth0")?, pod })
    }

    /// A pod on another node, by the bridge of `from`.
    pub fn through(from: &Node, pod: &'a Pod) -> Result<Self> {
        Ok(Self { mac: mac(from.place(), "pods")?, pod })
    }
}

/// Every kind of frame, twice, from a socket made outside; sent from inside the pod's cgroup when `inside`.
pub fn send_frames(from: &Pod, inside: bool, tag: &str, aim: &Aim<'_>) -> Result<Sent> {
    let place = from.place().in_cgroup(&from.node().cgroup().join("outside/frames"))?;
    let cgroup = if inside { from.place().cgroup().display().to_string() } else { "-".to_owned() };
    let (peer4, peer6, own4, own6) = (aim.pod.v4().to_string(), aim.pod.v6().to_string(), from.v4().to_string(), from.v6().to_string());
    let said = place.check(&["python3", "-c", FRAMES, &cgroup, "eth0", tag, &aim.mac, &peer4, &peer6, &own4, &own6], DEADLINE)?;
    serde_json::from_str(said.trim()).with_context(|| format!("frames.py said {said:?}"))
}

/// The host's end of a pod's veth, as the lab names it.
pub fn host_end(pod: &Pod) -> String {
    format!("p{}", pod.v4().octets()[3])
}

/// What comes to a pod, looked at on the host's end: the pod's own tcpdump would be one of its programs.
pub fn capture_at(pod: &Pod, name: &str) -> Result<Capture> {
    Ok(Capture::start(pod.node().place(), name, &host_end(pod), "")?)
}

/// Kinds whose mark arrived.
pub fn arrived(sent: &Sent, capture: &weft_lab::Captured) -> Vec<String> {
    sent.iter().filter(|(_, (mark, _))| capture.contains(mark.as_bytes())).map(|(kind, _)| kind.clone()).collect()
}

/// Round trips of one byte over one TCP connection: median and 99th percentile in microseconds.
pub fn ping_pong(server: &Place, client: &Place, address: &str, port: u16, count: u32) -> Result<(f64, f64)> {
    let mut echo: Proc = server.spawn("echo", &["python3", "-u", "-c", PING_PONG, "serve", &port.to_string()])?;
    echo.wait_for_log("ready", DEADLINE)?;
    let said = client.check(&["python3", "-c", PING_PONG, "dial", address, &port.to_string(), &count.to_string()], DEADLINE)?;
    echo.stop();
    serde_json::from_str(said.trim()).with_context(|| format!("ping_pong.py said {said:?}"))
}

fn mac(place: &Place, interface: &str) -> Result<String> {
    let shown = place.ip(&format!("-o link show dev {interface}"))?;
    let mut words = shown.split_whitespace().skip_while(|w| *w != "link/ether");
    words.nth(1).map(str::to_owned).with_context(|| format!("no hardware address in {shown:?}"))
}

/// A namespace inside a pod, whose packets the pod forwards. Its processes are in no cgroup that anybody manages.
pub struct Nested {
    place: Place,
    holder: Proc,
}

impl Nested {
    /// Lays a veth to a new namespace into the pod, with `subnet`.2 inside and a route out.
    pub fn make(pod: &Pod, subnet: &str) -> Result<Self> {
        let place = pod.place().in_cgroup(&pod.node().cgroup().join("outside/nested"))?;
        let mut holder = place.spawn("nested", &["unshare", "--net", "sh", "-c", "echo made; exec sleep 600"])?;
        holder.wait_for_log("made", DEADLINE)?;
        let nested = Self { place, holder };
        let pid = nested.holder.pid();
        pod.place().ip(&format!("link add in0 type veth peer name out0 netns {pid}"))?;
        pod.place().ip(&format!("addr add {subnet}.1/24 dev in0"))?;
        pod.place().ip("link set in0 up")?;
        for line in [format!("addr add {subnet}.2/24 dev out0"), "link set out0 up".to_owned(), format!("route add default via {subnet}.1")] {
            nested.run(&["sh", "-c", &format!("ip {line}")])?;
        }
        let forward = pod.place().in_cgroup(nested.place.cgroup())?;
        forward.check(&["sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward"], DEADLINE)?;
        Ok(nested)
    }

    pub fn run(&self, argv: &[&str]) -> Result<String> {
        let pid = self.holder.pid().to_string();
        let all: Vec<&str> = ["nsenter", "--net", "--target", &pid].into_iter().chain(argv.iter().copied()).collect();
        Ok(self.place.check(&all, DEADLINE)?)
    }

    /// One datagram.
    pub fn datagram(&self, to: &str, port: u16, mark: &str) -> Result<()> {
        let script = "import socket, sys; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(sys.argv[3].encode(), (sys.argv[1], int(sys.argv[2])))";
        self.run(&["python3", "-c", script, to, &port.to_string(), mark]).map(drop)
    }
}

/// What judges the frames of one of a node's workloads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Watcher {
    /// A pinned link.
    Link(PathBuf),
    /// A classifier of that device, where the kernel has no tcx.
    Classifier(String),
}

/// All of a node's, whose links are pinned in the directory `links`.
pub fn watchers(node: &Node, links: &Path) -> Result<Vec<Watcher>> {
    let entries = fs::read_dir(links).into_iter().flatten().flatten().map(|e| e.path());
    let mut all: Vec<_> = entries.filter(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with("veth-"))).map(Watcher::Link).collect();
    let listed = node.place().check(&["ip", "-o", "link", "show", "type", "veth"], DEADLINE)?;
    for name in listed.lines().filter_map(|line| line.split(": ").nth(1)?.split('@').next()) {
        let filters = node.place().check(&["tc", "filter", "show", "dev", name, "ingress"], DEADLINE)?;
        all.extend(filters.contains("weft_veth").then(|| Watcher::Classifier(name.to_owned())));
    }
    Ok(all)
}

impl Watcher {
    pub fn take_off(&self, node: &Node) -> Result<()> {
        match self {
            Self::Link(path) => Ok(fs::remove_file(path)?),
            Self::Classifier(device) => Ok(node.place().check(&["tc", "filter", "del", "dev", device, "ingress"], DEADLINE).map(drop)?),
        }
    }
}
