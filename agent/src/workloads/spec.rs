//! What a workload is told to be: by the static file, by a live command, or by what was saved of one.

use std::{
    collections::HashMap,
    io,
    path::{Component, Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use thiserror::Error;
use weft_types::{NameError, ServiceRef, WorkloadUid};

use crate::{files, limits, mesh::Chain};

/// The agent's own namespace, which is the node's: where host-network containers and most systemd units live.
pub const HOST_NETNS: &str = "/proc/self/ns/net";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    pub uid: WorkloadUid,
    pub service: ServiceRef,
    /// Absolute, below a managed subtree.
    pub cgroup: PathBuf,
    /// [`HOST_NETNS`] for one that has no namespace of its own.
    pub netns: PathBuf,
    pub origin: Origin,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The file names it: it is waited for when it is not there.
    Static,
    /// Somebody added it: it is forgotten when it goes.
    Live,
}

#[derive(Debug, Error)]
pub enum SpecError {
    #[error(transparent)]
    Read(#[from] weft_config::ConfigError),
    #[error("workloads file {file}: {message}")]
    Syntax { file: PathBuf, message: String },
    #[error("workloads file {file}: workload {number}")]
    Entry { file: PathBuf, number: usize, source: FieldError },
    #[error("workloads file {file} names {count} workloads; a node has at most {}", limits::WORKLOADS_MAX)]
    TooMany { file: PathBuf, count: usize },
}

#[derive(Debug, Error, PartialEq, Eq)]
pub enum FieldError {
    #[error("field service")]
    Service(#[from] weft_types::RefError),
    #[error("field uid")]
    Uid(#[from] NameError),
    #[error("field uid: {0} is taken by another workload")]
    UidTaken(WorkloadUid),
    #[error("field cgroup: {path} lies below no managed subtree of this node ({managed})")]
    Unmanaged { path: PathBuf, managed: String },
    #[error("field cgroup: {path} {problem} the cgroup of workload {other}")]
    Overlap { path: PathBuf, problem: &'static str, other: WorkloadUid },
    #[error("field netns: {0} is no absolute path; leave it out for a workload in the host's namespace")]
    Netns(PathBuf),
}

/// Where workloads may live.
#[derive(Clone, Debug)]
pub struct Places {
    /// Mount point of cgroup v2.
    pub mount: PathBuf,
    pub cgroup_root: PathBuf,
    /// Absolute.
    pub managed: Vec<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    #[serde(default)]
    workload: Vec<RawSpec>,
}

/// As written, in the file and in the state directory.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSpec {
    uid: Option<String>,
    service: String,
    cgroup: PathBuf,
    /// Left out, or "host": the host's.
    #[serde(default)]
    netns: PathBuf,
}

impl Spec {
    /// Checks what was written. The cgroup is absolute, or relative to the node's root or to the mount; it must lie in a managed subtree.
    pub fn new(places: &Places, origin: Origin, uid: Option<&str>, service: &str, cgroup: &Path, netns: &Path) -> Result<Self, FieldError> {
        let service = service.parse()?;
        let cgroup = places.resolve(cgroup)?;
        let uid = match uid {
            Some(uid) => uid.parse()?,
            None => uid_of(&cgroup).parse()?,
        };
        let host = netns.as_os_str().is_empty() || netns == Path::new("host");
        let netns = if host { Path::new(HOST_NETNS) } else { netns };
        if !netns.is_absolute() {
            return Err(FieldError::Netns(netns.to_owned()));
        }
        Ok(Self { uid, service, cgroup, netns: netns.to_owned(), origin })
    }

    /// Whether both can live on one node.
    pub fn agrees_with(&self, other: &Self) -> Result<(), FieldError> {
        let overlap = |problem| FieldError::Overlap { path: self.cgroup.clone(), problem, other: other.uid.clone() };
        if self.uid == other.uid {
            return Err(FieldError::UidTaken(self.uid.clone()));
        }
        if self.cgroup == other.cgroup {
            return Err(overlap("is"));
        }
        if self.cgroup.starts_with(&other.cgroup) {
            return Err(overlap("lies inside"));
        }
        if other.cgroup.starts_with(&self.cgroup) {
            return Err(overlap("contains"));
        }
        Ok(())
    }

    /// The same workload at the same place, whoever said so.
    pub fn same_as(&self, other: &Self) -> bool {
        (&self.uid, &self.service, &self.cgroup, &self.netns) == (&other.uid, &other.service, &other.cgroup, &other.netns)
    }
}

impl Places {
    fn resolve(&self, written: &Path) -> Result<PathBuf, FieldError> {
        let plain = written.components().all(|c| matches!(c, Component::RootDir | Component::Normal(_)));
        let below = written.strip_prefix("/").unwrap_or(written);
        let candidates = [written.to_owned(), self.cgroup_root.join(below), self.mount.join(below)];
        let managed = |c: &&PathBuf| self.managed.iter().any(|m| c.starts_with(m) && *c != m);
        let found = if plain { candidates.iter().find(managed) } else { None };
        found.cloned().ok_or_else(|| FieldError::Unmanaged {
            path: written.to_owned(),
            managed: self.managed.iter().map(|m| m.display().to_string()).collect::<Vec<_>>().join(", "),
        })
    }
}

/// The static file's workloads; all of them or none.
pub fn read_static(file: &Path, places: &Places) -> Result<Vec<Spec>, SpecError> {
    parse_static(file, &weft_config::read(file)?, places)
}

fn parse_static(file: &Path, text: &str, places: &Places) -> Result<Vec<Spec>, SpecError> {
    let raw: RawFile = toml::from_str(text).map_err(|e| SpecError::Syntax { file: file.to_owned(), message: weft_config::one_line(text, &e) })?;
    if raw.workload.len() > limits::WORKLOADS_MAX {
        return Err(SpecError::TooMany { file: file.to_owned(), count: raw.workload.len() });
    }
    let mut specs: Vec<Spec> = Vec::new();
    for (i, w) in raw.workload.iter().enumerate() {
        let entry = |source| SpecError::Entry { file: file.to_owned(), number: i + 1, source };
        let spec = Spec::new(places, Origin::Static, w.uid.as_deref(), &w.service, &w.cgroup, &w.netns).map_err(entry)?;
        specs.iter().try_for_each(|other| spec.agrees_with(other)).map_err(entry)?;
        specs.push(spec);
    }
    Ok(specs)
}

/// Live workloads across a restart of the agent.
pub fn save_live<'a>(file: &Path, specs: impl Iterator<Item = &'a Spec>) -> io::Result<()> {
    let raw: HashMap<&str, Vec<RawSpec>> = HashMap::from([(
        "workload",
        specs
            .filter(|s| s.origin == Origin::Live)
            .map(|s| RawSpec { uid: Some(s.uid.to_string()), service: s.service.to_string(), cgroup: s.cgroup.clone(), netns: s.netns.clone() })
            .collect(),
    )]);
    files::write_atomic(file, &serde_json::to_vec_pretty(&raw)?, 0o600)
}

/// What [`save_live`] left. An entry that does not fit this configuration any more is returned as a message instead.
pub fn load_live(file: &Path, places: &Places) -> io::Result<(Vec<Spec>, Vec<String>)> {
    let text = match std::fs::read(file) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), Vec::new())),
        other => other?,
    };
    let raw: RawFile = serde_json::from_slice(&text)?;
    let (mut specs, mut refused) = (Vec::new(), Vec::new());
    for w in raw.workload {
        match Spec::new(places, Origin::Live, w.uid.as_deref(), &w.service, &w.cgroup, &w.netns) {
            Ok(spec) => specs.push(spec),
            Err(e) => refused.push(format!("saved workload {}: {}", w.uid.unwrap_or_default(), Chain(&e))),
        }
    }
    Ok((specs, refused))
}

/// A name from the cgroup's: its last part, with what a uid may not hold replaced.
fn uid_of(cgroup: &Path) -> String {
    let name = cgroup.file_name().unwrap_or_default().to_string_lossy();
    name.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':') { c } else { '_' }).take(128).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places() -> Places {
        Places { mount: "/cg".into(), cgroup_root: "/cg/node".into(), managed: vec!["/cg/node/weft.slice".into()] }
    }

    const TWO: &str = "[[workload]]\nservice = \"shop/orders\"\ncgroup = \"weft.slice/orders\"\nnetns = \"/run/netns/o\"\n\
                       [[workload]]\nuid = \"w\"\nservice = \"shop/web\"\ncgroup = \"/cg/node/weft.slice/x/web\"\nnetns = \"/run/netns/w\"\n";

    fn parse(text: &str) -> Result<Vec<Spec>, SpecError> {
        parse_static(Path::new("/etc/w.toml"), text, &places())
    }

    #[test]
    fn the_static_file_is_read() {
        let specs = parse(TWO).unwrap();
        assert_eq!((specs[0].uid.as_str(), specs[1].uid.as_str()), ("orders", "w"));
        assert_eq!(specs[0].cgroup, Path::new("/cg/node/weft.slice/orders"));
        assert!(parse("").unwrap().is_empty());
    }

    #[test]
    fn a_cgroup_is_found_from_root_mount_or_as_it_is_and_nowhere_else() {
        let check = |written: &str, expect: Option<&str>| assert_eq!(places().resolve(Path::new(written)).ok(), expect.map(PathBuf::from), "{written}");
        check("weft.slice/a", Some("/cg/node/weft.slice/a"));
        check("node/weft.slice/a", Some("/cg/node/weft.slice/a"));
        check("/node/weft.slice/a", Some("/cg/node/weft.slice/a"));
        check("/cg/node/weft.slice/a", Some("/cg/node/weft.slice/a"));
        check("/cg/node/weft.slice", None);
        check("weft.slice", None);
        check("weft.slice/../a", None);
        check("other/a", None);
    }

    #[test]
    fn what_does_not_fit_names_entry_and_field() {
        let check = |text: &str, expect: &str| {
            let e = Chain(&parse(text).unwrap_err()).to_string();
            assert!(e.contains(expect) && e.contains("/etc/w.toml"), "{e}");
        };
        check(&TWO.replace("weft.slice/orders", "other/orders"), "workload 1: field cgroup");
        check(&TWO.replace("shop/web", "web"), "workload 2: field service");
        check(&TWO.replace("/run/netns/w", "w"), "workload 2: field netns");
        check(&TWO.replace("weft.slice/x/web", "weft.slice/orders/web"), "workload 2: field cgroup: /cg/node/weft.slice/orders/web lies inside");
        check(&TWO.replace("uid = \"w\"", "uid = \"orders\""), "workload 2: field uid");
        check(&TWO.replace("uid", "id"), "unknown field");
    }

    #[test]
    fn several_may_live_in_one_namespace_and_without_one_it_is_the_hosts() {
        assert_eq!(parse(&TWO.replace("/run/netns/w", "/run/netns/o")).unwrap()[1].netns, Path::new("/run/netns/o"));
        for netns in ["", "netns = \"host\""] {
            assert_eq!(parse(&TWO.replace("netns = \"/run/netns/w\"", netns)).unwrap()[1].netns, Path::new(HOST_NETNS));
        }
    }

    #[test]
    fn live_workloads_survive_and_static_ones_are_not_saved() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("workloads.json");
        assert!(load_live(&file, &places()).unwrap().0.is_empty());
        let mut specs = parse(TWO).unwrap();
        specs[1].origin = Origin::Live;
        save_live(&file, specs.iter()).unwrap();
        assert_eq!(load_live(&file, &places()).unwrap().0, specs[1..]);
        let elsewhere = Places { managed: vec!["/cg/node/other".into()], ..places() };
        let (fit, refused) = load_live(&file, &elsewhere).unwrap();
        assert!(fit.is_empty() && refused[0].contains("managed"), "{refused:?}");
    }
}
