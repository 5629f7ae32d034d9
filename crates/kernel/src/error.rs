//! What can go wrong between the agent and the kernel. Each message names the object and, where it is known, the way out.

use std::{io, path::PathBuf};

use thiserror::Error;

use crate::limits::VERIFIER_LOG_TAIL_BYTES;

#[derive(Debug, Error)]
pub enum KernelError {
    #[error("missing {0}: run it as root, outside of a container that takes them away")]
    Privileges(String),
    #[error("no cgroup v2 hierarchy is mounted: run `mount -t cgroup2 none /sys/fs/cgroup/unified`")]
    NoCgroup2,
    #[error("{0} is not a cgroup v2 directory")]
    NotCgroup2(PathBuf),
    #[error("{0} is a cgroup namespace's view, not the hierarchy's root: give the agent the host's cgroup mount")]
    CgroupNamespace(PathBuf),
    #[error("cgroup {path} is not below {root}")]
    OutsideRoot { path: PathBuf, root: PathBuf },
    #[error("cgroup {path} lies {level} levels below {root}; at most {max} are judged")]
    TooDeep { path: PathBuf, root: PathBuf, level: u32, max: u32 },
    #[error("the agent's own cgroup {own} lies inside the managed subtree {managed}: start it outside, for example in system.slice")]
    OwnCgroupManaged { own: PathBuf, managed: PathBuf },
    #[error("cgroup {path}")]
    Cgroup { path: PathBuf, source: io::Error },
    #[error("{0} is not on a bpf file system: run `mount -t bpf bpf {0}`")]
    NotBpffs(PathBuf),
    #[error("directory {path} for pinned programs")]
    Bpffs { path: PathBuf, source: io::Error },
    #[error("kernel program {name} was refused{}", log_tail(log))]
    Refused { name: &'static str, log: String, source: io::Error },
    #[error("the object of the kernel programs cannot be loaded{}: {reason}", permission_hint(reason))]
    Object { reason: String },
    #[error("the object of the kernel programs has no program {0}: run `cargo xtask ebpf`")]
    NoProgram(&'static str),
    #[error("kernel table {table}: cannot {operation}{}", hint(source))]
    Table { table: &'static str, operation: &'static str, source: io::Error },
    #[error(
        "the pinned kernel table {table} at {path} was made by another build ({found}, expected {expected}): stop the workloads, then remove its directory"
    )]
    TableShape { table: &'static str, path: PathBuf, found: String, expected: String },
    #[error("program {name} on {target}: cannot {operation}{}", hint(source))]
    Link { name: String, target: PathBuf, operation: &'static str, source: io::Error },
    #[error("{what}: {count} entries exceed the bound of {max} (revision refused, the one in force stays)")]
    Bound { what: &'static str, count: usize, max: usize },
    #[error("{table} would hold two different values for {key}: the snapshot contradicts itself")]
    Contradiction { table: &'static str, key: String },
    #[error("revision 0 stands for no snapshot and cannot be applied")]
    NoRevision,
    #[error("address {address} is already held by another workload of this node")]
    AddressTaken { address: std::net::IpAddr },
    #[error(
        "process {pid} in cgroup {cgroup} holds CAP_NET_RAW and could send packets that nothing judges, since {why}: drop the capability or give it a veth"
    )]
    RawCapability { pid: u32, cgroup: PathBuf, why: String },
    #[error("network namespace {path}")]
    Netns { path: PathBuf, source: io::Error },
    #[error("listeners of network namespace {path} cannot be read from sock_diag")]
    SockDiag { path: PathBuf, source: io::Error },
    #[error("service id 0 is nobody and cannot be enrolled")]
    NoIdentity,
    #[error("the listener for {path}")]
    Listener { path: PathBuf, source: io::Error },
    #[error("the sockets in network namespace {path}")]
    Sockets { path: PathBuf, source: io::Error },
    #[error("the flow ring has a reader already")]
    RingTaken,
    #[error("the flow ring")]
    Ring(#[source] io::Error),
}

impl KernelError {
    pub(crate) fn table(table: &'static str, operation: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Table { table, operation, source }
    }

    pub(crate) fn cgroup(path: &std::path::Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Cgroup { path: path.to_owned(), source }
    }
}

fn hint(e: &io::Error) -> &'static str {
    match e.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => " (needs root with CAP_BPF, CAP_NET_ADMIN and CAP_SYS_ADMIN)",
        Some(libc::E2BIG | libc::ENOSPC) => " (it is full)",
        Some(libc::ENOMEM) => " (no memory; also check `ulimit -l` on kernels before 5.11)",
        _ => "",
    }
}

fn permission_hint(reason: &str) -> &'static str {
    if reason.contains("Operation not permitted") || reason.contains("os error 1)") {
        " (needs root with CAP_BPF, CAP_NET_ADMIN and CAP_SYS_ADMIN)"
    } else {
        ""
    }
}

fn log_tail(log: &str) -> String {
    if log.trim().is_empty() {
        return " (no verifier log: needs root with CAP_BPF, CAP_NET_ADMIN and CAP_SYS_ADMIN, or the kernel lacks its type)".to_owned();
    }
    let mut from = log.len().saturating_sub(VERIFIER_LOG_TAIL_BYTES);
    while !log.is_char_boundary(from) {
        from += 1;
    }
    format!(" by the verifier: …{}", log[from..].trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_verifier_log_keeps_its_end() {
        let e =
            KernelError::Refused { name: "weft_connect4", log: format!("{}the reason", "é".repeat(4000)), source: io::Error::from_raw_os_error(libc::EACCES) };
        let text = e.to_string();
        assert!(text.ends_with("the reason") && text.len() < VERIFIER_LOG_TAIL_BYTES + 200, "{text}");
    }

    #[test]
    fn a_missing_privilege_is_named() {
        let e = KernelError::Table { table: "GRANTS", operation: "write", source: io::Error::from_raw_os_error(libc::EPERM) };
        assert!(e.to_string().contains("needs root"), "{e}");
    }
}
