//! The configuration file, read once: raw TOML becomes a [`Config`] in which every field is checked.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    path::{Component, Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;
use thiserror::Error;
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

#[derive(Debug, Error)]
pub enum ConfigError {
    #[error("cannot read configuration {file}: is it there, and may this user read it?")]
    Read { file: PathBuf, source: std::io::Error },
    #[error("configuration {file} is larger than {} bytes", limits::CONFIG_MAX_BYTES)]
    TooLarge { file: PathBuf },
    #[error("configuration {file}: {message}")]
    Syntax { file: PathBuf, message: String },
    #[error("configuration {file}: field {field}: {problem}")]
    Field { file: PathBuf, field: String, problem: String },
}

impl Config {
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        let text = read_bounded(file)?;
        // The holder is started from another directory.
        let file = std::path::absolute(file).map_err(|source| ConfigError::Read { file: file.to_owned(), source })?;
        Self::parse(&file, &text)
    }

    fn parse(file: &Path, text: &str) -> Result<Self, ConfigError> {
        let raw: Raw = toml::from_str(text).map_err(|e| ConfigError::Syntax { file: file.to_owned(), message: one_line(text, &e) })?;
        raw.validate(file)
    }

    pub fn agent_socket(&self) -> PathBuf {
        self.run_dir.join("agent.sock")
    }

    pub fn holder_socket(&self) -> PathBuf {
        self.run_dir.join("holder.sock")
    }

    pub fn lock_file(&self) -> PathBuf {
        self.run_dir.join("agent.lock")
    }
}

/// A parser's error as one line that says where.
pub fn one_line(text: &str, e: &toml::de::Error) -> String {
    let message = e.message().replace('\n', " ");
    let Some(span) = e.span() else { return message };
    let before = &text[..text.floor_char_boundary(span.start.min(text.len()))];
    let number = before.matches('\n').count();
    let line: String = text.lines().nth(number).unwrap_or_default().trim().chars().take(80).collect();
    format!("line {} ({line}): {message}", number + 1)
}

/// Reads a text file of bounded size.
pub fn read_bounded(file: &Path) -> Result<String, ConfigError> {
    let fail = |source| ConfigError::Read { file: file.to_owned(), source };
    if std::fs::metadata(file).map_err(fail)?.len() > limits::CONFIG_MAX_BYTES {
        return Err(ConfigError::TooLarge { file: file.to_owned() });
    }
    std::fs::read_to_string(file).map_err(fail)
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
    metrics: RawMetrics,
    #[serde(default)]
    log: RawLog,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawBridge {
    address: String,
    join_token_file: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMetrics {
    listen: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLog {
    level: Option<String>,
    format: Option<String>,
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
            at.relative(&format!("managed[{i}]"), managed)?;
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
            run_dir: at.socket_dir("run_dir", self.run_dir)?,
            cgroup_root: self.cgroup_root.map(|p| at.absolute("cgroup_root", p)).transpose()?,
            bpffs: at.absolute("bpffs", self.bpffs)?,
            workloads: self.workloads.map(|p| at.absolute("workloads", p)).transpose()?,
            resolvers: self.resolvers.iter().enumerate().map(resolver).collect::<Result<_, _>>()?,
            host_addresses: self.host_addresses.iter().enumerate().map(host).collect::<Result<_, _>>()?,
            drain: Duration::from_secs(self.drain_seconds.into()),
            bridge: self.bridge.map(|b| at.bridge(b)).transpose()?,
            metrics: self.metrics.listen.map(|l| at.parse("metrics.listen", &l, "an address with a port, as in \"127.0.0.1:15020\"")).transpose()?,
            log_format: self.log.format.map_or(Ok(LogFormat::default()), |f| at.parse("log.format", &f, "\"text\" or \"json\""))?,
            log_level: self.log.level.unwrap_or_else(|| "info".to_owned()),
            denied: self.denied,
            managed: self.managed,
            file: file.to_owned(),
        })
    }
}

/// Turns a wrong value into an error that names file and field.
struct Fields<'a> {
    file: &'a Path,
}

impl Fields<'_> {
    fn wrong(&self, field: &str, problem: String) -> ConfigError {
        ConfigError::Field { file: self.file.to_owned(), field: field.to_owned(), problem }
    }

    fn parse<T: std::str::FromStr>(&self, field: &str, value: &str, wanted: &str) -> Result<T, ConfigError>
    where
        T::Err: fmt::Display,
    {
        value.parse().map_err(|e| self.wrong(field, format!("{value:?} is not {wanted} ({e})")))
    }

    fn absolute(&self, field: &str, path: PathBuf) -> Result<PathBuf, ConfigError> {
        let plain = path.components().all(|c| matches!(c, Component::RootDir | Component::Normal(_)));
        if path.is_absolute() && plain && path.parent().is_some() {
            return Ok(path);
        }
        Err(self.wrong(field, format!("{} must be an absolute path without '..'", path.display())))
    }

    fn relative(&self, field: &str, path: &Path) -> Result<(), ConfigError> {
        if path.components().next().is_some() && path.components().all(|c| matches!(c, Component::Normal(_))) {
            return Ok(());
        }
        Err(self.wrong(field, format!("{:?} must be a path below cgroup_root, without a leading '/' and without '..'", path.display().to_string())))
    }

    /// The kernel's bound for a socket's path is 108 bytes.
    fn socket_dir(&self, field: &str, path: PathBuf) -> Result<PathBuf, ConfigError> {
        let path = self.absolute(field, path)?;
        if path.as_os_str().len() > 80 {
            return Err(self.wrong(field, format!("{} is longer than 80 bytes, too long for a socket", path.display())));
        }
        Ok(path)
    }

    fn bridge(&self, raw: RawBridge) -> Result<Bridge, ConfigError> {
        let address = self.host_port("bridge.address", raw.address)?;
        let join_token_file = raw.join_token_file.map(|p| self.absolute("bridge.join_token_file", p)).transpose()?;
        Ok(Bridge { address, join_token_file })
    }

    fn host_port(&self, field: &str, value: String) -> Result<String, ConfigError> {
        match value.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok_and(|p| p != 0) => Ok(value),
            _ => Err(self.wrong(field, format!("{value:?} is not HOST:PORT"))),
        }
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
