//! The host's end of a workload's veth: found, watched by `weft_veth` and `weft_arrival`, read back, let go.
//!
//! Where a workload has another way out, it is enrolled with its sockets only, and that is said; then nothing in it may hold CAP_NET_RAW.

use std::{
    collections::BTreeSet,
    fs, io,
    os::{fd::AsFd as _, unix::fs::MetadataExt as _},
    path::{Path, PathBuf},
    sync::PoisonError,
};

use weft_ebpf_common::{Addr, Device, NO_NSID};

use crate::{
    Kernel, KernelError,
    cgroup::processes,
    links::{self, Target},
    netns::Netns,
    object::{ARRIVAL, Spec, VETH},
    rtnl::{self, Link},
    sys,
    workloads::Enrolment,
};

/// Why the packets of such a workload are not judged.
const HOST: &str = "it lives in the host's namespace";
/// Bit of CAP_NET_RAW in capability sets.
const CAP_NET_RAW: u32 = 13;

/// A program on one side of a device: how its pinned link is named, and where a classifier of it hangs.
pub(crate) struct Side {
    spec: Spec,
    link: &'static str,
    pub(crate) classifier: u32,
}

/// What the workload sends, and what comes to it.
pub(crate) const SIDES: [Side; 2] =
    [Side { spec: VETH, link: "veth-", classifier: rtnl::CLSACT_INGRESS }, Side { spec: ARRIVAL, link: "arrival-", classifier: rtnl::CLSACT_EGRESS }];

/// A host's end, and what the program has to know of it.
#[derive(Clone, Debug)]
struct End {
    index: u32,
    name: PathBuf,
    device: Device,
}

impl Kernel {
    /// Whether what the workload in this namespace sends is judged as packets too; else why not.
    pub fn packets(&self, cookie: u64) -> Result<(), String> {
        let known = self.veths.lock().unwrap_or_else(PoisonError::into_inner).get(&cookie).cloned();
        match known {
            None => Err("it is not enrolled".to_owned()),
            Some(Err(why)) => Err(why),
            Some(Ok(indexes)) => indexes.into_iter().try_for_each(|index| {
                let entry = self.tables.devices.get(&index).map_err(|e| e.to_string())?;
                if entry.is_some_and(|d| d.netns == cookie) && (self.is_waiting() || self.are_attached(index)) {
                    Ok(())
                } else {
                    Err(format!("no program is attached to interface {index}"))
                }
            }),
        }
    }

    /// Stands at every way out of the namespace. The device's entry comes first: the program refuses a device that it does not know.
    pub(crate) fn watch(&self, e: &Enrolment<'_>) -> Result<(), KernelError> {
        let cookie = e.netns.cookie();
        if cookie == self.own_netns {
            // What the host itself sends is no workload's veth's business, and who is root there needs no packet socket.
            self.veths.lock().unwrap_or_else(PoisonError::into_inner).insert(cookie, Err(HOST.to_owned()));
            return Ok(());
        }
        let ends = ends(e.netns).map_err(|source| KernelError::Netns { path: e.netns.path().to_owned(), source })?;
        let found = match ends {
            Err(why) => Err(why),
            Ok(ends) => {
                for end in &ends {
                    if !self.holds(end)? {
                        self.tables.devices.put(&end.index, &end.device)?;
                    }
                    // Now, or with the rest at the take-over.
                    match &mut *self.waiting() {
                        Some(waiting) => waiting.devices.push((end.index, end.name.clone())),
                        None => self.attach_device(end.index, &end.name)?,
                    }
                }
                Ok(ends.iter().map(|end| end.index).collect::<Vec<_>>())
            }
        };
        if let Err(why) = &found
            && let Some(pid) = raw_holder(&e.cgroup)
        {
            return Err(KernelError::RawCapability { pid, cgroup: e.cgroup.clone(), why: why.clone() });
        }
        self.veths.lock().unwrap_or_else(PoisonError::into_inner).insert(cookie, found);
        Ok(())
    }

    /// What is missing of what [`Self::watch`] did, looking anew at the namespace's interfaces.
    pub(crate) fn watched(&self, e: &Enrolment<'_>) -> Result<(), String> {
        if e.netns.cookie() == self.own_netns {
            return Ok(());
        }
        match ends(e.netns).map_err(|err| format!("network namespace {}: interfaces: {err}", e.netns.path().display()))? {
            Ok(ends) => ends.iter().try_for_each(|end| {
                if !self.holds(end).map_err(|err| err.to_string())? {
                    return Err(format!("interface {} is not in DEVICES as it is", end.name.display()));
                }
                self.packets(e.netns.cookie())
            }),
            Err(why) if self.packets(e.netns.cookie()).as_ref().err() != Some(&why) => Err(why),
            Err(why) => match raw_holder(&e.cgroup) {
                Some(pid) => Err(KernelError::RawCapability { pid, cgroup: e.cgroup.clone(), why }.to_string()),
                None => Ok(()),
            },
        }
    }

    /// Lets go of a namespace's devices. While something of a managed subtree lives in it, its program stays and, knowing of no workload, refuses all.
    pub(crate) fn unwatch(&self, cookie: u64) -> Result<(), KernelError> {
        self.veths.lock().unwrap_or_else(PoisonError::into_inner).remove(&cookie);
        self.sweep_devices()
    }

    /// Swaps the programs of an earlier agent for this one's, and drops those whose device or reason is gone.
    pub(crate) fn adopt_devices(&self) -> Result<(), KernelError> {
        for index in self.tables.devices.keys()? {
            if self.holds_device(index) {
                self.attach_device(index, Path::new("veth"))?;
            }
        }
        self.sweep_devices()
    }

    /// By a pinned tcx link, or by a classifier where the kernel has no tcx (before 6.6).
    pub(crate) fn attach_device(&self, index: u32, name: &Path) -> Result<(), KernelError> {
        SIDES.iter().zip(&self.sides).try_for_each(|(side, program)| {
            let (spec, program) = (&side.spec, program.as_fd());
            match links::establish(&self.pins, &side.link_name(index), spec, program, &Target::Device { path: name, index }) {
                Err(KernelError::Link { source, .. }) if matches!(source.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP)) => {
                    let fail = |source| KernelError::Link { name: spec.name.to_owned(), target: name.to_owned(), operation: "attach by clsact", source };
                    rtnl::set_classifier(index, side.classifier, program, spec.name).map_err(fail)
                }
                other => other,
            }
        })
    }

    /// Whether this agent's programs stand at a device.
    fn are_attached(&self, index: u32) -> bool {
        SIDES.iter().zip(&self.sides).all(|(side, program)| {
            let Ok(own) = sys::program_id(program.as_fd()) else { return false };
            links::info(&self.pins, &side.link_name(index)).is_some_and(|i| i.device() == index && i.prog_id == own)
                || rtnl::classifier(index, side.classifier).is_ok_and(|id| id == Some(own))
        })
    }

    /// Whether a program of ours, or of an agent before, judges what it carries.
    fn holds_device(&self, index: u32) -> bool {
        let target = Target::Device { path: Path::new("veth"), index };
        SIDES.iter().any(|side| {
            links::is_attached(&self.pins, &side.link_name(index), &target) || rtnl::classifier(index, side.classifier).is_ok_and(|id| id.is_some())
        })
    }

    fn sweep_devices(&self) -> Result<(), KernelError> {
        let mut inhabited = None;
        for (index, device) in self.tables.devices.entries()? {
            if self.holds_device(index) {
                if self.tables.netns.get(&device.netns)?.is_some() {
                    continue;
                }
                let inhabited = inhabited.get_or_insert_with(|| inhabited_namespaces(&self.options.managed));
                if inhabited.contains(&device.inode) {
                    continue;
                }
            }
            for side in &SIDES {
                self.pins.remove_link(&side.link_name(index))?;
            }
            // One that cannot be taken off knows its device no more, and refuses all.
            let taken_off = remove_classifiers(index);
            self.tables.devices.remove(&index)?;
            taken_off.map_err(|source| KernelError::Link { name: VETH.name.to_owned(), target: "veth".into(), operation: "detach", source })?;
        }
        for name in self.pins.links()? {
            if let Some(index) = index_of_link(&name)
                && self.tables.devices.get(&index)?.is_none()
            {
                self.pins.remove_link(&name)?;
            }
        }
        Ok(())
    }

    /// Whether the table says of the device what is so; what the program writes itself does not count.
    fn holds(&self, end: &End) -> Result<bool, KernelError> {
        Ok(self.tables.devices.get(&end.index)?.is_some_and(|d| Device { told: 0, told_since_ns: 0, ..d } == end.device))
    }
}

impl Side {
    /// Name of the pinned link on a device.
    fn link_name(&self, index: u32) -> String {
        format!("{}{index}", self.link)
    }
}

pub(crate) fn index_of_link(name: &str) -> Option<u32> {
    SIDES.iter().find_map(|side| name.strip_prefix(side.link))?.parse().ok()
}

/// Takes both classifiers off a device, where there are any.
fn remove_classifiers(index: u32) -> io::Result<()> {
    SIDES.iter().try_for_each(|side| rtnl::remove_classifier(index, side.classifier))
}

/// The host's ends of the veths of a namespace; in words, why its interfaces are not all behind such ends.
fn ends(netns: &Netns) -> io::Result<Result<Vec<End>, String>> {
    let host = Netns::current()?;
    let (links, host_nsid) = netns.run(|| io::Result::Ok((rtnl::links()?, rtnl::nsid_of(host.as_fd())?)))??;
    let ways = match ways_out(&links, host_nsid) {
        Ok(ways) => ways,
        Err(why) => return Ok(Err(why)),
    };
    let mut ends = Vec::new();
    for (inner, index) in ways {
        let outer = rtnl::link_by_index(index)?;
        if outer.kind != "veth" || outer.below != Some(inner.index) {
            return Ok(Err(format!("interface {index} of the host is not the other end of {}", inner.name)));
        }
        let link_local = netns.run(|| rtnl::link_local(inner.index))??;
        let device = Device {
            netns: netns.cookie(),
            inode: netns.inode(),
            link_local: link_local.map_or(Addr::UNSPECIFIED, |ip| std::net::IpAddr::V6(ip).into()),
            mac: inner.mac,
            nsid: outer.below_nsid.unwrap_or(NO_NSID),
            ..Device::default()
        };
        ends.push(End { index, name: outer.name.into(), device });
    }
    Ok(Ok(ends))
}

/// Which interfaces lead to the host, and to which of its interfaces. Pure.
fn ways_out(links: &[Link], host_nsid: Option<u32>) -> Result<Vec<(&Link, u32)>, String> {
    let mut ways = Vec::new();
    for link in links.iter().filter(|l| !l.loopback) {
        match (link.kind.as_str(), link.below_nsid) {
            ("veth", Some(nsid)) if Some(nsid) == host_nsid => ways.extend(link.below.map(|index| (link, index))),
            // To a namespace inside the workload, or stacked on an interface that is looked at itself.
            ("veth", _) | (_, None) if !link.kind.is_empty() && link.kind != "tun" => {}
            ("", _) => return Err(format!("interface {} is a device of its own", link.name)),
            ("tun", _) => return Err(format!("interface {} (tun) sends through whoever holds it", link.name)),
            (kind, _) => return Err(format!("interface {} ({kind}) leads out without a veth", link.name)),
        }
    }
    if ways.is_empty() { Err("it has no veth whose other end is in the agent's namespace".to_owned()) } else { Ok(ways) }
}

/// A process in the cgroup, or below, that may make packet sockets.
fn raw_holder(cgroup: &Path) -> Option<u32> {
    processes(cgroup).into_iter().find(|pid| {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        tasks.filter_map(|t| fs::read_to_string(t.path().join("status")).ok()).any(|status| may_be_raw(&status))
    })
}

fn may_be_raw(status: &str) -> bool {
    let set = |name| status.lines().find_map(|l| l.strip_prefix(name)).and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0);
    (set("CapPrm:") | set("CapEff:")) & (1 << CAP_NET_RAW) != 0
}

/// Inodes of the network namespaces that processes of these subtrees live in.
fn inhabited_namespaces(managed: &[PathBuf]) -> BTreeSet<u64> {
    let pids = managed.iter().flat_map(|dir| processes(dir));
    pids.filter_map(|pid| fs::metadata(format!("/proc/{pid}/ns/net")).ok()).map(|m| m.ino()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(name: &str, kind: &str, below: Option<u32>, below_nsid: Option<u32>) -> Link {
        Link { index: 2, name: name.to_owned(), kind: kind.to_owned(), below, below_nsid, ..Link::default() }
    }

    #[test]
    fn every_way_out_is_a_veth_to_the_host_or_is_named() {
        let (eth0, lo) = (link("eth0", "veth", Some(7), Some(0)), Link { loopback: true, ..link("lo", "", None, None) });
        let check = |links: &[Link], expect: Result<usize, &str>| match (ways_out(links, Some(0)), expect) {
            (Ok(ways), Ok(n)) => assert_eq!(ways.iter().filter(|w| w.1 == 7).count(), n, "{links:?}"),
            (Err(why), Err(part)) => assert!(why.contains(part), "{why}"),
            (got, expect) => panic!("{got:?}, expected {expect:?}"),
        };
        let all = |more: &[Link]| [&[lo.clone(), eth0.clone()], more].concat();
        check(&all(&[]), Ok(1));
        check(&all(&[link("inner", "veth", Some(3), Some(1)), link("br0", "bridge", None, None), link("v5", "vlan", Some(2), None)]), Ok(1));
        check(&all(&[link("net1", "macvlan", Some(4), Some(0))]), Err("net1 (macvlan)"));
        check(&all(&[link("eth1", "", None, None)]), Err("eth1 is a device"));
        check(&all(&[link("tap0", "tun", None, None)]), Err("tap0 (tun)"));
        check(&[lo.clone(), link("eth0", "veth", Some(7), Some(1))], Err("no veth"));
        check(std::slice::from_ref(&lo), Err("no veth"));
        assert!(ways_out(&[eth0], None).is_err());
    }

    #[test]
    fn both_sets_of_capabilities_count() {
        assert!(may_be_raw("CapPrm:\t0000000000002000\nCapEff:\t0000000000000000\n"));
        assert!(may_be_raw("CapPrm:\t0000000000000000\nCapEff:\t000001ffffffffff\n"));
        assert!(!may_be_raw("CapPrm:\t0000000000001000\nCapEff:\t0000000000001000\nCapBnd:\t000001ffffffffff\n"));
    }

    #[test]
    fn a_link_tells_its_interface() {
        assert!(SIDES.iter().all(|side| index_of_link(&side.link_name(12)) == Some(12)));
        assert_eq!(index_of_link("lookup-12"), None);
    }
}
