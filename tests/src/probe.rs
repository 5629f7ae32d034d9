//! Attempts as a workload would make them, observed as the workload and the server see them.

use std::{net::IpAddr, path::Path, time::Duration};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use weft_lab::{Place, Proc};

const PROBE: &str = include_str!("probe.py");
const SERVER: &str = include_str!("server.py");
/// Longer than a probe gets, which `WEFT_PROBE_SECONDS` says where everything is slower.
const PROBE_DEADLINE: Duration = Duration::from_secs(60);

/// What the client saw.
#[derive(Clone, Debug, Deserialize)]
pub struct Outcome {
    pub ok: bool,
    #[serde(default)]
    pub errno: i32,
    #[serde(default)]
    pub error: String,
    /// The server's answer: its name, the caller's address as it saw it, the marker.
    #[serde(default)]
    pub data: String,
    #[serde(default)]
    pub peer: String,
    #[serde(default)]
    pub own: String,
}

/// Ways to try to send something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    Tcp4,
    Tcp6,
    TcpMapped,
    Udp,
    UdpConnected,
    Raw,
    ChildCgroup,
    UnshareNet,
    PassedSocket,
}

impl Traffic {
    pub const ALL: [Self; 9] =
        [Self::Tcp4, Self::Tcp6, Self::TcpMapped, Self::Udp, Self::UdpConnected, Self::Raw, Self::ChildCgroup, Self::UnshareNet, Self::PassedSocket];

    /// Whether a grant is enough for it to work: enrolled workloads get no datagrams, and a namespace of one's own leads nowhere.
    pub fn works_when_granted(self) -> bool {
        matches!(self, Self::Tcp4 | Self::Tcp6 | Self::TcpMapped | Self::ChildCgroup | Self::PassedSocket)
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp4 => "tcp/v4",
            Self::Tcp6 => "tcp/v6",
            Self::TcpMapped => "tcp/mapped",
            Self::Udp => "udp",
            Self::UdpConnected => "udp/connected",
            Self::Raw => "raw",
            Self::ChildCgroup => "child cgroup",
            Self::UnshareNet => "unshare -n",
            Self::PassedSocket => "passed socket",
        }
    }

    /// Makes the attempt from `from` towards the addresses of one server.
    pub fn attempt(self, from: &Place, v4: IpAddr, v6: IpAddr, port: u16, marker: &str) -> Result<Outcome> {
        let IpAddr::V4(four) = v4 else { bail!("{v4} is no IPv4 address") };
        match self {
            Self::Tcp4 => probe(from, "tcp", &v4.to_string(), port, marker),
            Self::Tcp6 => probe(from, "tcp", &v6.to_string(), port, marker),
            Self::TcpMapped => probe(from, "tcp", &format!("::ffff:{four}"), port, marker),
            Self::Udp => probe(from, "udp", &v4.to_string(), port, marker),
            Self::UdpConnected => probe(from, "udp-connected", &v4.to_string(), port, marker),
            Self::Raw => probe(from, "raw", &v4.to_string(), port, marker),
            Self::ChildCgroup => {
                let child = from.in_cgroup(&from.cgroup().join("child"))?;
                let outcome = probe(&child, "tcp", &v4.to_string(), port, marker);
                std::fs::remove_dir(child.cgroup()).with_context(|| format!("remove {}", child.cgroup().display()))?;
                outcome
            }
            // A veth end of a namespace of one's own could be moved anywhere; here the attempt is to reach out at all.
            Self::UnshareNet => run(from, &["unshare", "-n", "python3", "-c", PROBE, "tcp", &v4.to_string(), &port.to_string(), marker]),
            Self::PassedSocket => passed(from, from, v4, port),
        }
    }
}

/// One attempt with one mode of the probe.
pub fn probe(from: &Place, mode: &str, address: &str, port: u16, marker: &str) -> Result<Outcome> {
    run(from, &["python3", "-c", PROBE, mode, address, &port.to_string(), marker])
}

/// `maker` makes the socket and passes it over a unix socket; `dialler` connects with it.
pub fn passed(maker: &Place, dialler: &Place, to: IpAddr, port: u16) -> Result<Outcome> {
    let path = dialler.dir().join("passed.sock");
    let _ = std::fs::remove_file(&path);
    let text = path.display().to_string();
    let mut giver = maker.spawn("giver", &["python3", "-c", PROBE, "give", &text, "0"])?;
    let outcome = run(dialler, &["python3", "-c", PROBE, "take", &text, &port.to_string(), &to.to_string()]);
    let log = giver.log();
    giver.stop();
    // A maker that may not even make a socket has been refused as well.
    if let Some(refused) = log.lines().find_map(|l| serde_json::from_str::<Outcome>(l).ok()).filter(|o| !o.ok) {
        return Ok(refused);
    }
    outcome
}

/// Listens on an address of a place's own network until this value goes.
pub fn hold_port(place: &Place, address: &str) -> Result<Proc> {
    let script =
        "import socket, sys, time; h, p = sys.argv[1].rsplit(':', 1); s = socket.create_server((h, int(p))); print('held', flush=True); time.sleep(600)";
    let mut holder = place.spawn("holder", &["python3", "-c", script, address])?;
    holder.wait_for_log("held", PROBE_DEADLINE)?;
    Ok(holder)
}

fn run(from: &Place, argv: &[&str]) -> Result<Outcome> {
    let out = from.output(argv, PROBE_DEADLINE)?;
    let text = String::from_utf8_lossy(&out.stdout);
    let line = text.lines().rev().find(|l| l.starts_with('{'));
    let line = line.with_context(|| format!("probe said {text:?} / {:?}", String::from_utf8_lossy(&out.stderr)))?;
    Ok(serde_json::from_str(line)?)
}

/// A server whose log shows all that reached it.
#[derive(Debug)]
pub struct Server {
    process: Proc,
}

impl Server {
    pub fn start(place: &Place, name: &str, port: u16) -> Result<Self> {
        let mut process = place.spawn(&format!("server-{name}"), &["python3", "-u", "-c", SERVER, name, &port.to_string()])?;
        process.wait_for_log("ready", PROBE_DEADLINE)?;
        Ok(Self { process })
    }

    pub fn stop(&mut self) {
        self.process.stop();
    }

    pub fn got(&self, marker: &str) -> bool {
        self.process.log().contains(marker)
    }

    pub fn log_path(&self) -> &Path {
        self.process.log_path()
    }
}
