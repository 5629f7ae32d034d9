//! What the agent needs of the host, looked at without changing anything. Features are probed, versions never compared.

use std::{
    fs, io,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::OnceLock,
};

use aya::{
    maps::MapType,
    programs::{LsmAttachType, ProgramType},
    sys::{BpfHelper, is_helper_supported, is_map_supported, is_program_supported},
};

use crate::{
    KernelError, cgroup, diag,
    limits::STATE_FREE_MIN_BYTES,
    pins::{is_bpffs, is_empty},
    sys,
};

#[derive(Clone, Debug, Default)]
pub struct HostOptions {
    /// The node's cgroup; `None`: the hierarchy's root.
    pub cgroup_root: Option<PathBuf>,
    pub bpffs: PathBuf,
    /// `None`: nothing will be kept.
    pub state_dir: Option<PathBuf>,
    /// TCP addresses that the agent will listen on. Port 0 is always free.
    pub listen: Vec<SocketAddr>,
}

/// One thing looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub ok: bool,
    pub name: &'static str,
    /// What was found, or what is missing and how to get it.
    pub detail: String,
    /// What its absence costs.
    pub cost: &'static str,
    /// The agent does not start without it.
    pub fatal: bool,
}

const ENFORCEMENT: &str = "nothing can be enforced";
/// Capabilities by their number in capability.h.
const CAPABILITIES: [(&str, u32); 4] = [("CAP_NET_ADMIN", 12), ("CAP_SYS_ADMIN", 21), ("CAP_PERFMON", 38), ("CAP_BPF", 39)];

/// Everything that the agent needs, cheapest first. Changes nothing.
pub fn check(options: &HostOptions) -> Vec<Finding> {
    let mut findings = vec![privileges(), cgroups(options), bpffs(&options.bpffs), btf()];
    if findings[0].ok {
        findings.push(programs());
        findings.push(maps());
        findings.push(helpers());
        findings.push(retval());
        findings.push(sockets());
        findings.push(families());
    }
    findings.extend(options.state_dir.as_deref().map(space));
    findings.extend(options.listen.iter().map(|addr| port(*addr)));
    findings
}

fn finding(name: &'static str, cost: &'static str, result: Result<String, String>) -> Finding {
    let ok = result.is_ok();
    Finding { ok, name, detail: result.unwrap_or_else(|e| e), cost, fatal: true }
}

fn privileges() -> Finding {
    let found = check_privileges().map(|()| "root, or the capabilities it needs".to_owned()).map_err(|e| e.to_string());
    finding("privileges", ENFORCEMENT, found)
}

pub(crate) fn check_privileges() -> Result<(), KernelError> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let missing = missing_capabilities(effective(&status));
    if missing.is_empty() { Ok(()) } else { Err(KernelError::Privileges(missing.join(", "))) }
}

fn cgroups(options: &HostOptions) -> Finding {
    let found = cgroup::mount_point().map_err(|e| e.to_string()).and_then(|mount| match &options.cgroup_root {
        Some(root) if cgroup::levels_below(&mount, root).is_none() => Err(format!("{} is not below {}", root.display(), mount.display())),
        Some(root) => cgroup::id(root).map(|_| root.display().to_string()).map_err(|e| format!("{}: {e}", root.display())),
        None => Ok(mount.display().to_string()),
    });
    finding("cgroup v2", ENFORCEMENT, found)
}

fn bpffs(path: &Path) -> Finding {
    let at = path.ancestors().find(|a| a.exists()).unwrap_or(path);
    let result = match is_bpffs(at) {
        Ok(true) => Ok(format!("{} is on a bpf file system", at.display())),
        // /sys/fs/bpf without its mount lies on sysfs, where no directory can be made.
        Ok(false) if at == path && is_empty(path) => Ok(format!("will be mounted at {}", path.display())),
        Ok(false) if at != path && !at.starts_with("/sys") => Ok(format!("will be made and mounted at {}", path.display())),
        Ok(false) => Err(format!("{0} is not on a bpf file system: run `mount -t bpf bpf {0}`", at.display())),
        Err(e) => Err(format!("{}: {e}", at.display())),
    };
    finding("bpf file system", "enforcement would end with the agent", result)
}

fn btf() -> Finding {
    let path = "/sys/kernel/btf/vmlinux";
    let result = if Path::new(path).exists() { Ok(path.to_owned()) } else { Err(format!("{path} is missing: the kernel needs CONFIG_DEBUG_INFO_BTF")) };
    finding("kernel type information", ENFORCEMENT, result)
}

fn programs() -> Finding {
    let needed = [
        ("cgroup_sock_addr", ProgramType::CgroupSockAddr),
        ("cgroup_sock", ProgramType::CgroupSock),
        ("cgroup_skb", ProgramType::CgroupSkb),
        ("sock_ops", ProgramType::SockOps),
        ("sk_lookup", ProgramType::SkLookup),
        ("sched_cls", ProgramType::SchedClassifier),
    ];
    supported("kernel program types", needed.map(|(name, kind)| (name, is_program_supported(kind).map_err(|e| e.to_string()))))
}

fn maps() -> Finding {
    let needed = [
        ("hash", MapType::Hash),
        ("lpm_trie", MapType::LpmTrie),
        ("ring buffer", MapType::RingBuf),
        ("sockhash", MapType::SockHash),
        ("socket storage", MapType::SkStorage),
    ];
    supported("kernel table types", needed.map(|(name, kind)| (name, is_map_supported(kind).map_err(|e| e.to_string()))))
}

fn families() -> Finding {
    let found = offers_families().map(|()| "programs are asked when a socket is made".to_owned());
    let cost = "managed workloads can make packet, XDP, vsock and SMC sockets; what they send through a veth is judged there, vsock and SMC are not";
    Finding { fatal: false, ..finding("security hooks", cost, found) }
}

/// What distinguishes kernels within one program type: each is absent from some kernel that has the type.
fn helpers() -> Finding {
    let needed = [
        ("namespace cookie at connect", ProgramType::CgroupSockAddr, BpfHelper::BPF_FUNC_get_netns_cookie),
        ("namespace cookie at socket creation", ProgramType::CgroupSock, BpfHelper::BPF_FUNC_get_netns_cookie),
        ("task's ancestor cgroup", ProgramType::CgroupSockAddr, BpfHelper::BPF_FUNC_get_current_ancestor_cgroup_id),
        ("packet's ancestor cgroup", ProgramType::CgroupSkb, BpfHelper::BPF_FUNC_skb_ancestor_cgroup_id),
        ("socket storage at connect", ProgramType::CgroupSockAddr, BpfHelper::BPF_FUNC_sk_storage_get),
        ("socket storage at socket creation", ProgramType::CgroupSock, BpfHelper::BPF_FUNC_sk_storage_get),
    ];
    supported("kernel helpers", needed.map(|(name, kind, helper)| (name, is_helper_supported(kind, helper).map_err(|e| e.to_string()))))
}

/// Helpers that the programs do without where the kernel lacks them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offers {
    pub(crate) cookie_in_sock_ops: bool,
    pub(crate) set_retval: bool,
}

/// Probed once. What cannot be probed counts as absent: the substitute works everywhere.
pub(crate) fn offers() -> Offers {
    static OFFERS: OnceLock<Offers> = OnceLock::new();
    let has = |kind, helper| is_helper_supported(kind, helper).unwrap_or(false);
    *OFFERS.get_or_init(|| Offers {
        cookie_in_sock_ops: has(ProgramType::SockOps, BpfHelper::BPF_FUNC_get_netns_cookie),
        set_retval: has(ProgramType::CgroupSockAddr, BpfHelper::BPF_FUNC_set_retval),
    })
}

fn retval() -> Finding {
    let found = if offers().set_retval {
        Ok("a denied connect() fails as configured".to_owned())
    } else {
        Err("this kernel lets no program choose the error of connect() (Linux 5.18 does)".to_owned())
    };
    Finding {
        fatal: false,
        ..finding("error of a denied connect", "a denied connect() fails with EPERM, also where the configuration says denied = \"econnrefused\"", found)
    }
}

/// Not fatal: nothing opens without it, but what stands goes on.
fn sockets() -> Finding {
    let result = match diag::can_destroy() {
        Ok(true) => Ok("live connections can be ended".to_owned()),
        Ok(false) => Err("this kernel ends no sockets on request: it needs CONFIG_INET_DIAG_DESTROY".to_owned()),
        Err(e) => Err(format!("sock_diag cannot be asked: {e}")),
    };
    let cost = "a revoked grant leaves connections within this node open, and a workload that has open connections is not enrolled";
    Finding { fatal: false, ..finding("ending sockets", cost, result) }
}

fn supported<const N: usize>(name: &'static str, probes: [(&str, Result<bool, String>); N]) -> Finding {
    let missing: Vec<String> = probes
        .iter()
        .filter_map(|(what, result)| match result {
            Ok(true) => None,
            Ok(false) => Some((*what).to_owned()),
            Err(e) => Some(format!("{what} ({e})")),
        })
        .collect();
    let all = probes.map(|(what, _)| what).join(", ");
    finding(name, ENFORCEMENT, if missing.is_empty() { Ok(all) } else { Err(format!("this kernel lacks {}", missing.join(", "))) })
}

/// Whether a program can take part when a socket is made; else why not.
pub(crate) fn offers_families() -> Result<(), String> {
    lsm_asks_programs()?;
    match is_program_supported(ProgramType::Lsm(LsmAttachType::Mac)) {
        Ok(true) => Ok(()),
        Ok(false) => Err("the kernel lists bpf in lsm= and refuses such programs".to_owned()),
        Err(e) => Err(format!("the kernel lists bpf in lsm= and refuses such programs: {e}")),
    }
}

/// Whether the kernel asks programs in its security hooks: the parameter `lsm=` has to list `bpf`; else why not.
fn lsm_asks_programs() -> Result<(), String> {
    match sys::security_modules() {
        Ok(ids) if ids.contains(&sys::LSM_ID_BPF) => return Ok(()),
        Ok(_) => {}
        // Before 6.8 only a file tells.
        Err(_) => match fs::read_to_string("/sys/kernel/security/lsm") {
            Ok(list) if list.trim().split(',').any(|l| l == "bpf") => return Ok(()),
            Ok(_) => {}
            Err(e) => return Err(format!("/sys/kernel/security/lsm: {e}: `mount -t securityfs securityfs /sys/kernel/security`")),
        },
    }
    Err("the kernel was started without bpf in lsm=: add it to the parameter".to_owned())
}

fn space(dir: &Path) -> Finding {
    let at = dir.ancestors().find(|d| d.exists()).unwrap_or(Path::new("/"));
    let result = rustix::fs::statvfs(at).map_err(|e| format!("{}: {}", at.display(), io::Error::from(e))).and_then(|s| {
        let (free, min) = ((s.f_bavail.saturating_mul(s.f_frsize)) >> 20, STATE_FREE_MIN_BYTES >> 20);
        if free >= min { Ok(format!("{free} MiB free at {}", at.display())) } else { Err(format!("{free} MiB free at {}, needs {min}", at.display())) }
    });
    finding("space for state", "the last snapshot could not be kept for a restart", result)
}

fn port(addr: SocketAddr) -> Finding {
    let result = TcpListener::bind(addr).map(|_| format!("{addr} is free")).map_err(|e| format!("{addr} is held ({e}): `ss -ltnp` shows by whom"));
    finding("listening address", "the agent cannot listen there", result)
}

fn effective(status: &str) -> u64 {
    status.lines().find_map(|l| l.strip_prefix("CapEff:")).and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0)
}

/// CAP_SYS_ADMIN includes CAP_PERFMON and CAP_BPF for bpf(2), but it is needed for itself too: entering namespaces and mounting.
fn missing_capabilities(effective: u64) -> Vec<&'static str> {
    let has = |bit: u32| effective & (1 << bit) != 0;
    CAPABILITIES.iter().filter(|(_, bit)| !(has(*bit) || (*bit > 21 && has(21)))).map(|(name, _)| *name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_capabilities_are_named() {
        assert_eq!(effective("Name:\tx\nCapEff:\t000001ffffffffff\n"), 0x1ff_ffff_ffff);
        let all = 0x1ff_ffff_ffff;
        assert!(missing_capabilities(all).is_empty());
        assert_eq!(missing_capabilities(all & !(1 << 21) & !(1 << 39)), ["CAP_SYS_ADMIN", "CAP_BPF"]);
        assert_eq!(missing_capabilities(0).len(), 4);
    }

    #[test]
    fn a_held_port_is_found() {
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let found = port(held.local_addr().unwrap());
        assert!(!found.ok && found.fatal, "{found:?}");
        assert!(port("127.0.0.1:0".parse().unwrap()).ok);
    }

    #[test]
    fn a_directory_to_be_made_is_no_finding() {
        let dir = tempfile::tempdir().unwrap();
        assert!(bpffs(&dir.path().join("bpf")).ok);
        fs::write(dir.path().join("x"), "").unwrap();
        assert!(!bpffs(dir.path()).ok);
    }
}
