//! What this machine must have before anything is started: each check reads, and none changes anything.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Result;

use crate::process;

/// A prerequisite that is missing: what is missing and the way out, in one line. Ends xtask with exit code 2.
#[derive(Debug)]
pub(crate) struct Unmet(pub(crate) String);

impl std::fmt::Display for Unmet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unmet {}

/// What a step can need of its machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Need {
    Root,
    Capabilities,
    Cgroup2,
    Space,
}

/// Bits of `capabilities(7)` that loading programs and making namespaces take.
const CAPABILITIES: &[(u32, &str)] = &[(12, "net_admin"), (13, "net_raw"), (21, "sys_admin"), (38, "perfmon"), (39, "bpf")];

/// A cold build of the workspace with its tests takes about 4 GiB, a warm one next to nothing.
const BUILD_SPACE_MIB: u64 = 256;
/// Databases, captures and sockets of one laboratory; weft-lab asks for the same.
const WORK_SPACE_MIB: u64 = 256;

/// Fails with [`Unmet`] at the first need that this machine does not meet.
pub(crate) fn require(needs: &[Need]) -> Result<()> {
    let mut needs = needs.to_vec();
    needs.sort_unstable();
    needs.dedup();
    for need in needs {
        let missing = match need {
            Need::Root => (!is_root()).then(|| "not root: namespaces, cgroups and kernel programs need it; run the same command as root".to_owned()),
            Need::Capabilities => missing_capability(&read("/proc/self/status"))
                .map(|name| format!("capability {name} is missing although this is root: start it outside of the container or wrapper that took it away")),
            Need::Cgroup2 => (!has_cgroup2(&read("/proc/self/mounts"))).then(|| {
                "no cgroup2 file system is mounted: `mount -t cgroup2 none /sys/fs/cgroup/unified` (or boot with systemd.unified_cgroup_hierarchy=1)".to_owned()
            }),
            Need::Space => too_small(&process::target_dir(), BUILD_SPACE_MIB).or_else(|| too_small(&work_dir(), WORK_SPACE_MIB)),
        };
        if let Some(missing) = missing {
            return Err(Unmet(missing).into());
        }
    }
    Ok(())
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Where weft-lab keeps what belongs to one run.
fn work_dir() -> PathBuf {
    std::env::var_os("WEFT_WORK_DIR").map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from)
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The first capability of [`CAPABILITIES`] that the effective set in `/proc/self/status` lacks.
fn missing_capability(status: &str) -> Option<&'static str> {
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0);
    CAPABILITIES.iter().find(|(bit, _)| effective & (1 << bit) == 0).map(|(_, name)| *name)
}

fn has_cgroup2(mounts: &str) -> bool {
    mounts.lines().any(|line| line.split(' ').nth(2) == Some("cgroup2"))
}

pub(crate) fn too_small(dir: &Path, least_mib: u64) -> Option<String> {
    let existing: PathBuf = dir.ancestors().find(|dir| dir.exists())?.to_path_buf();
    let free_mib = rustix::fs::statvfs(&existing).ok().map(|fs| fs.f_bavail * fs.f_frsize / (1 << 20))?;
    (free_mib < least_mib).then(|| {
        format!("{} has {free_mib} MiB free and {least_mib} are needed: free some, or set CARGO_TARGET_DIR (builds) or WEFT_WORK_DIR (laboratories) to a larger file system", dir.display())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_read_bit_by_bit() {
        let check = |status: &str, expect| assert_eq!(missing_capability(status), expect, "{status}");
        check("Name:\tx\nCapEff:\t000001ffffffffff\n", None);
        check("CapEff:\t000001ffffdfffff\n", Some("sys_admin"));
        check("CapEff:\t0000017fffffffff\n", Some("bpf"));
        check("CapEff:\t0000000000000000\n", Some("net_admin"));
        check("", Some("net_admin"));
    }

    #[test]
    fn only_a_mount_of_type_cgroup2_counts() {
        let check = |mounts: &str, expect| assert_eq!(has_cgroup2(mounts), expect, "{mounts}");
        check("none /sys/fs/cgroup/unified cgroup2 rw 0 0\n", true);
        check("cgroup /sys/fs/cgroup/cpu cgroup rw 0 0\n", false);
        check("tmpfs /cgroup2 tmpfs rw 0 0\n", false);
    }

    #[test]
    fn a_folder_that_does_not_exist_yet_is_judged_by_its_parent() {
        assert_eq!(too_small(Path::new("/tmp/not/there/yet"), 1), None);
        let said = too_small(Path::new("/tmp/not/there/yet"), u64::MAX).unwrap();
        assert!(said.starts_with("/tmp/not/there/yet has "), "{said}");
    }
}
