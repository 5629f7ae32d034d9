//! The configuration file, read once: raw TOML becomes a [`Config`] in which every field is checked.

use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;
use weft_config::{ConfigError, Fields};
use weft_telemetry::LogFormat;
use weft_types::NodeName;

use crate::limits;

/// What the agent runs on.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file itself, for messages.
    pub file: PathBuf,
    pub node: NodeName,
    /// Keys, certificates, the last snapshot and live workloads; outlives a reboot.
    pub state_dir: PathBuf,
    /// Sockets and the hosts file.
    pub run_dir: PathBuf,
    /// The cgroup that the kernel programs are attached to. `None`: the mount point of cgroup v2.
    pub cgroup_root: Option<PathBuf>,
    /// Subtrees in which a process without identity is denied; relative to `cgroup_root`.
    pub managed: Vec<PathBuf>,
    /// Where programs, links and maps are pinned.
    pub bpffs: PathBuf,
    /// The static workloads file.
    pub workloads: Option<PathBuf>,
    pub resolvers: Vec<SocketAddr>,
    /// Where other nodes reach workloads of the host's namespace; empty: where this node speaks with the bridge from.
    pub host_addresses: Vec<IpAddr>,
    pub denied: Denied,
    /// How long connections may go on after SIGTERM.
    pub drain: Duration,
    /// `None`: the node goes on with what it knows already.
    pub bridge: Option<Bridge>,
    pub metrics: Option<SocketAddr>,
    pub log_level: String,
    pub log_format: LogFormat,
}

/// What a denied `connect()` gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Denied {
    #[default]
    Eperm,
    Econnrefused,
}

#[derive(Clone, Debug)]
pub struct Bridge {
    /// `host:port`
    pub address: String,
    /// Needed until the node has joined.
    pub join_token_file: Option<PathBuf>,
}

impl Config {
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        let text = weft_config::read(file)?;
        // The holder is started from another directory.
        let file = std::path::absolute(file).map_err(|source| ConfigError::Read { file: file.to_owned(), source })?;
        Self::parse(&file, &text)
    }

    fn parse(file: &Path, text: &str) -> Result<Self, ConfigError> {
        weft_config::parse::<Raw>(file, text)?.validate(file)
    }

    pub fn agent_socket(&self) -> PathBuf {
        self.run_dir.join("agent.sock")
    }

    /// For the gateway, if one runs here.
    pub fn gateway_socket(&self) -> PathBuf {
        self.run_dir.join("gateway.sock")
    }

    pub fn holder_socket(&self) -> PathBuf {
        self.run_dir.join("holder.sock")
    }

    pub fn lock_file(&self) -> PathBuf {
        self.run_dir.join("agent.lock")
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    node: String,
    #[serde(default = "default_state_dir")]
    state_dir: PathBuf,
    #[serde(default = "default_run_dir")]
    run_dir: PathBuf,
    cgroup_root: Option<PathBuf>,
    #[serde(default = "default_managed")]
    managed: Vec<PathBuf>,
    #[serde(default = "default_bpffs")]
    bpffs: PathBuf,
    workloads: Option<PathBuf>,
    #[serde(default)]
    resolvers: Vec<String>,
    #[serde(default)]
    host_addresses: Vec<String>,
    #[serde(default)]
    denied: Denied,
    #[serde(default = "default_drain")]
    drain_seconds: u16,
    bridge: Option<RawBridge>,
    #[serde(default)]
    metrics: weft_config::Metrics,
    #[serde(default)]
    log: weft_config::Log,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawBridge {
    address: String,
    join_token_file: Option<PathBuf>,
}

fn default_state_dir() -> PathBuf {
    "/var/lib/weft-agent".into()
}

fn default_run_dir() -> PathBuf {
    "/run/weft".into()
}

fn default_managed() -> Vec<PathBuf> {
    vec!["weft.slice".into()]
}

fn default_bpffs() -> PathBuf {
    "/sys/fs/bpf/weft".into()
}

fn default_drain() -> u16 {
    10
}

impl Raw {
    fn validate(self, file: &Path) -> Result<Config, ConfigError> {
        let at = Fields { file };
        if self.managed.is_empty() || self.managed.len() > limits::MANAGED_MAX {
            return Err(at.wrong("managed", format!("names {} subtrees; from 1 to {} are possible", self.managed.len(), limits::MANAGED_MAX)));
        }
        if self.resolvers.len() > limits::RESOLVERS_MAX {
            return Err(at.wrong("resolvers", format!("names {} resolvers; at most {} are possible", self.resolvers.len(), limits::RESOLVERS_MAX)));
        }
        for (i, managed) in self.managed.iter().enumerate() {
            at.relative(&format!("managed[{i}]"), managed, "cgroup_root")?;
            if let Some(other) = self.managed[..i].iter().find(|o| o.starts_with(managed) || managed.starts_with(o)) {
                return Err(at.wrong(&format!("managed[{i}]"), format!("{} and {} lie within each other", managed.display(), other.display())));
            }
        }
        let host = |(i, a): (usize, &String)| at.parse(&format!("host_addresses[{i}]"), a, "an address");
        if self.host_addresses.len() > limits::HOST_ADDRESSES_MAX {
            let problem = format!("names {} addresses; at most {} are possible", self.host_addresses.len(), limits::HOST_ADDRESSES_MAX);
            return Err(at.wrong("host_addresses", problem));
        }
        let resolver = |(i, r): (usize, &String)| at.parse(&format!("resolvers[{i}]"), r, "an address with a port, as in \"10.0.0.2:53\"");
        Ok(Config {
            node: at.parse("node", &self.node, "a name of lower-case letters, digits and '-'")?,
            state_dir: at.absolute("state_dir", self.state_dir)?,
            run_dir: at.socket("run_dir", self.run_dir, limits::RUN_DIR_MAX_BYTES)?,
            cgroup_root: self.cgroup_root.map(|p| at.absolute("cgroup_root", p)).transpose()?,
            bpffs: at.absolute("bpffs", self.bpffs)?,
            workloads: self.workloads.map(|p| at.absolute("workloads", p)).transpose()?,
            resolvers: self.resolvers.iter().enumerate().map(resolver).collect::<Result<_, _>>()?,
            host_addresses: self.host_addresses.iter().enumerate().map(host).collect::<Result<_, _>>()?,
            drain: Duration::from_secs(self.drain_seconds.into()),
            bridge: self.bridge.map(|b| bridge(at, b)).transpose()?,
            metrics: self.metrics.listen(at)?,
            log_format: self.log.format(at)?,
            log_level: self.log.level(),
            denied: self.denied,
            managed: self.managed,
            file: file.to_owned(),
        })
    }
}

fn bridge(at: Fields<'_>, raw: RawBridge) -> Result<Bridge, ConfigError> {
    let join_token_file = raw.join_token_file.map(|p| at.absolute("bridge.join_token_file", p)).transpose()?;
    match raw.address.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok_and(|p| p != 0) => Ok(Bridge { address: raw.address, join_token_file }),
        _ => Err(at.wrong("bridge.address", format!("{:?} is not HOST:PORT", raw.address))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINIMAL: &str = "node = \"a\"\n[bridge]\naddress = \"10.0.0.1:15012\"\n";

    fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::parse(Path::new("/etc/weft/agent.toml"), text)
    }

    #[track_caller]
    fn check(text: &str, expect: &[&str]) {
        let error = parse(text).unwrap_err().to_string();
        for part in expect.iter().chain(&["/etc/weft/agent.toml"]) {
            assert!(error.contains(part), "{part:?} is not in {error:?}");
        }
    }

    #[test]
    fn the_smallest_file_gets_the_documented_defaults() {
        let c = parse(MINIMAL).unwrap();
        assert_eq!(c.node.as_str(), "a");
        assert_eq!(c.state_dir, Path::new("/var/lib/weft-agent"));
        assert_eq!(c.agent_socket(), Path::new("/run/weft/agent.sock"));
        assert_eq!(c.managed, [Path::new("weft.slice")]);
        assert_eq!(c.denied, Denied::Eperm);
        assert_eq!(c.metrics, None);
    }

    #[test]
    fn a_full_file_is_read() {
        let c = parse(
            "node = \"a\"\nstate_dir = \"/s\"\nrun_dir = \"/r\"\ncgroup_root = \"/c\"\nmanaged = [\"m\", \"k/p\"]\nbpffs = \"/b\"\nworkloads = \"/w\"\n\
             resolvers = [\"10.0.0.2:53\", \"[fd00::1]:53\"]\ndenied = \"econnrefused\"\ndrain_seconds = 3\n\
             [bridge]\naddress = \"bridge.example:1\"\njoin_token_file = \"/t\"\n[metrics]\nlisten = \"127.0.0.1:0\"\n[log]\nlevel = \"debug\"\nformat = \"json\"\n",
        )
        .unwrap();
        assert_eq!((c.denied, c.resolvers.len(), c.managed.len(), c.drain.as_secs()), (Denied::Econnrefused, 2, 2, 3));
    }

    #[test]
    fn each_wrong_value_names_file_and_field() {
        let with = |line: &str| format!("{line}\n{MINIMAL}");
        check(&with("colour = 1"), &["colour", "line 1"]);
        check(&with("denied = \"drop\""), &["denied", "eperm"]);
        check(&with("managed = []"), &["field managed"]);
        check(&with("managed = [\"a\", \"../x\"]"), &["field managed[1]"]);
        check(&with("managed = [\"/a\"]"), &["field managed[0]"]);
        check(&with("managed = [\"a\", \"a/b\"]"), &["field managed[1]", "within"]);
        check(&with("state_dir = \"state\""), &["field state_dir", "absolute"]);
        check(&with("state_dir = \"/\""), &["field state_dir"]);
        check(&with(&format!("run_dir = \"/{}\"", "x".repeat(90))), &["field run_dir", "socket"]);
        check(&with("resolvers = [\"10.0.0.2\"]"), &["field resolvers[0]"]);
        check("node = \"A\"\n[bridge]\naddress = \"x:1\"\n", &["field node"]);
        check("node = \"a\"\n[bridge]\naddress = \"x\"\n", &["field bridge.address", "HOST:PORT"]);
        check("node = \"a\"\n[bridge]\n", &["address"]);
        check(&format!("{MINIMAL}[metrics]\nlisten = \"9\"\n"), &["field metrics.listen"]);
        check(&format!("{MINIMAL}[log]\nformat = \"xml\"\n"), &["field log.format"]);
    }
}
