//! Root, capabilities, cgroup2, space, ports.

use std::{
    fmt, fs, io,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
};

/// A prerequisite that is missing: what is missing and the way out, in one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmet(pub String);

impl fmt::Display for Unmet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unmet {}

/// What a step can need of its machine, the gravest first: without root the rest cannot be told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    Root,
    Capabilities,
    Cgroup2,
    /// [`DEMO_WINDOW`] and [`DEMO_DOOR`] are free.
    DemoWindow,
}

/// Where the demo's shop is served on the host.
pub const DEMO_WINDOW: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8480);
/// Where a browser on this machine comes to the demo's gateway.
pub const DEMO_DOOR: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8443);

/// Bits of `capabilities(7)` that loading programs and making namespaces take.
const CAPABILITIES: &[(u32, &str)] = &[(12, "CAP_NET_ADMIN"), (13, "CAP_NET_RAW"), (21, "CAP_SYS_ADMIN"), (38, "CAP_PERFMON"), (39, "CAP_BPF")];

/// Databases, captures and sockets of one laboratory.
const WORK_SPACE_MIB: u64 = 256;

/// Fails at the first need, in the order of [`Need`], that this machine does not meet.
pub fn require(needs: &[Need]) -> Result<(), Unmet> {
    let mut needs = needs.to_vec();
    needs.sort_unstable();
    for need in needs {
        match need {
            Need::Root if !is_root() => {
                return Err(Unmet("not root: namespaces, cgroups and kernel programs need it; run the same command as root".to_owned()));
            }
            Need::Capabilities => {
                let missing = missing_capabilities(&read("/proc/self/status"));
                if !missing.is_empty() {
                    return Err(Unmet(format!("root without {}: start it outside of the container or wrapper that took it away", missing.join(", "))));
                }
            }
            Need::Cgroup2 => drop(cgroup2()?),
            Need::DemoWindow => {
                for (port, what) in [(DEMO_WINDOW, "the window of the demo's shop"), (DEMO_DOOR, "the demo's gateway")] {
                    free(port).map_err(|e| Unmet(format!("{port}, {what}, is held ({e}): by the demo (`cargo xtask demo down`), or see `ss -ltnp`")))?;
                }
            }
            Need::Root => {}
        }
    }
    Ok(())
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Where the unified hierarchy is mounted.
pub fn cgroup2() -> Result<PathBuf, Unmet> {
    cgroup2_of(&read("/proc/self/mounts")).ok_or_else(|| {
        Unmet("no cgroup2 file system is mounted: `mount -t cgroup2 none /sys/fs/cgroup/unified` (or boot with systemd.unified_cgroup_hierarchy=1)".to_owned())
    })
}

/// Whether the file system of `dir`, which need not exist yet, has room for what is going to be written. `way_out`: what else can be done than to
/// free some.
pub fn space(dir: &Path, least_mib: u64, way_out: &str) -> Result<(), Unmet> {
    let fs = dir.ancestors().find_map(|dir| rustix::fs::statvfs(dir).ok());
    let free_mib = fs.map_or(0, |fs| fs.f_bavail.saturating_mul(fs.f_frsize) >> 20);
    if free_mib >= least_mib {
        return Ok(());
    }
    Err(Unmet(format!("{} has {free_mib} MiB free and {least_mib} are needed: free some, or {way_out}", dir.display())))
}

/// Where a laboratory keeps what belongs to one run: `WEFT_WORK_DIR`, else `/var/tmp`, which is on disk and short enough for unix sockets.
pub fn work_dir() -> PathBuf {
    std::env::var_os("WEFT_WORK_DIR").map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from)
}

/// As [`space`], for a directory that a laboratory writes to.
pub fn work_space(dir: &Path) -> Result<(), Unmet> {
    space(dir, WORK_SPACE_MIB, "set WEFT_WORK_DIR to a larger file system")
}

fn free(address: SocketAddr) -> io::Result<()> {
    TcpListener::bind(address).map(drop)
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// Those of [`CAPABILITIES`] that the effective set in `/proc/self/status` lacks.
fn missing_capabilities(status: &str) -> Vec<&'static str> {
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0);
    CAPABILITIES.iter().filter(|(bit, _)| effective & (1 << bit) == 0).map(|(_, name)| *name).collect()
}

fn cgroup2_of(mounts: &str) -> Option<PathBuf> {
    mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>()).find(|fields| fields.get(2) == Some(&"cgroup2")).map(|fields| PathBuf::from(fields[1]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_read_bit_by_bit() {
        let check = |status: &str, expect: &[&str]| assert_eq!(missing_capabilities(status), expect, "{status}");
        check("Name:\tx\nCapEff:\t000001ffffffffff\n", &[]);
        check("CapEff:\t000001ffffdfffff\n", &["CAP_SYS_ADMIN"]);
        check("CapEff:\t0000017fffdfffff\n", &["CAP_SYS_ADMIN", "CAP_BPF"]);
        check("", &["CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_SYS_ADMIN", "CAP_PERFMON", "CAP_BPF"]);
    }

    #[test]
    fn only_a_mount_of_type_cgroup2_counts() {
        let check = |mounts: &str, expect: Option<&str>| assert_eq!(cgroup2_of(mounts), expect.map(PathBuf::from), "{mounts}");
        check("none /sys/fs/cgroup/unified cgroup2 rw 0 0\n", Some("/sys/fs/cgroup/unified"));
        check("cgroup /sys/fs/cgroup/cpu cgroup rw 0 0\n", None);
        check("tmpfs /cgroup2 tmpfs rw 0 0\n", None);
    }

    #[test]
    fn a_folder_that_does_not_exist_yet_is_judged_by_its_parent() {
        assert_eq!(space(Path::new("/tmp/not/there/yet"), 1, ""), Ok(()));
        let said = space(Path::new("/tmp/not/there/yet"), u64::MAX, "set X").unwrap_err().0;
        assert!(said.starts_with("/tmp/not/there/yet has ") && said.ends_with("free some, or set X"), "{said}");
    }

    #[test]
    fn a_held_port_is_found_and_a_free_one_stays_free() {
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = held.local_addr().unwrap();
        assert_eq!(free(address).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(held);
        free(address).unwrap();
        TcpListener::bind(address).unwrap();
    }
}
