//! What a laboratory needs of its machine, looked at before anything is changed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{LabError, limits};

const TOOLS: &[(&str, &str)] =
    &[("ip", "iproute2"), ("nsenter", "util-linux"), ("unshare", "util-linux"), ("mount", "mount"), ("tcpdump", "tcpdump"), ("bash", "bash")];
/// Bits of the capability mask (linux/capability.h).
const CAPABILITIES: &[(u32, &str)] = &[(12, "CAP_NET_ADMIN"), (21, "CAP_SYS_ADMIN"), (39, "CAP_BPF")];

/// One line for each thing that is missing, the gravest first; empty: go ahead.
pub fn check(work_parent: &Path) -> Vec<String> {
    let mut missing = machine(work_parent);
    missing.extend(tools().into_iter().map(|(tool, package)| format!("`{tool}` is not installed; apt-get install {package}")));
    missing
}

/// What no package can bring.
pub fn machine(work_parent: &Path) -> Vec<String> {
    let mut missing = Vec::new();
    if !rustix::process::geteuid().is_root() {
        // The rest could not be told apart from this.
        return vec!["not root: namespaces, cgroups and eBPF programs need it; run with sudo".to_owned()];
    }
    missing.extend(capabilities());
    if let Err(e) = cgroup2() {
        missing.push(e.to_string());
    }
    missing.extend(work_dir(work_parent));
    missing
}

/// The helpers that are not there, each with the Debian package that brings it.
pub fn tools() -> Vec<(&'static str, &'static str)> {
    let absent = |tool: &str| !Command::new("sh").args(["-c", &format!("command -v {tool} >/dev/null")]).status().is_ok_and(|s| s.success());
    TOOLS.iter().copied().filter(|(tool, _)| absent(tool)).collect()
}

/// Where the unified hierarchy is mounted.
pub fn cgroup2() -> Result<PathBuf, LabError> {
    let mounts = fs::read_to_string("/proc/mounts").map_err(LabError::io("read", "/proc/mounts"))?;
    let found = mounts.lines().map(|l| l.split(' ').collect::<Vec<_>>()).find(|f| f.get(2) == Some(&"cgroup2"));
    let path = found.and_then(|f| f.get(1).map(PathBuf::from));
    path.ok_or_else(|| LabError::Precondition("no cgroup2 file system is mounted; mount -t cgroup2 none /sys/fs/cgroup/unified".to_owned()))
}

fn capabilities() -> Option<String> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|l| l.strip_prefix("CapEff:")).and_then(|v| u64::from_str_radix(v.trim(), 16).ok()).unwrap_or(0);
    let absent: Vec<&str> = CAPABILITIES.iter().filter(|(bit, _)| mask & (1 << bit) == 0).map(|(_, name)| *name).collect();
    (!absent.is_empty()).then(|| format!("missing {}: this process is root without it; is it in a container or under setpriv?", absent.join(", ")))
}

fn work_dir(parent: &Path) -> Option<String> {
    let shown = parent.display();
    if parent.to_str().is_none_or(|p| !p.starts_with('/') || p.contains(['\'', '\n', ' '])) {
        return Some(format!("work directory {shown} must be an absolute path without blanks or quotes"));
    }
    // Sockets lie up to 60 characters below it, and a socket's path ends at 107.
    if parent.as_os_str().len() > 40 {
        return Some(format!("work directory {shown} is too long a path for unix sockets; set WEFT_WORK_DIR to a shorter one"));
    }
    let Ok(fs) = rustix::fs::statvfs(parent) else {
        return Some(format!("work directory {shown} does not exist"));
    };
    let free = fs.f_bavail.saturating_mul(fs.f_frsize);
    (free < limits::WORK_DIR_MIN_BYTES).then(|| {
        format!("work directory {shown} has {} MiB free of the {} MiB needed; set WEFT_WORK_DIR to a larger one", free >> 20, limits::WORK_DIR_MIN_BYTES >> 20)
    })
}
