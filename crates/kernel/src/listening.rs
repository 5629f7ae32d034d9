//! Who listens in a namespace that several share: `bind()` tells the kernel's table at once, sock_diag tells the rest (what was bound
//! before, what has been closed, what two have bound), and this puts the two together.

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    net::SocketAddr,
    os::unix::fs::MetadataExt as _,
    path::Path,
};

use weft_ebpf_common::{Addr, LISTEN_DISPUTED, Listen, ListenKey, NETNS_SHARED, PROTO_TCP};
use weft_types::ServiceId;

use crate::{
    Kernel, KernelError,
    diag::{self, Diag},
    limits,
    netns::Netns,
    sys,
    workloads::Enrolment,
};

impl Kernel {
    /// Brings `LISTENING` in line with the sockets of a shared namespace; `residents` are all workloads enrolled in it. Nothing is done in
    /// a namespace of one identity.
    pub fn sync_listeners(&self, netns: &Netns, residents: &[&Enrolment<'_>]) -> Result<(), KernelError> {
        let (t, cookie) = (&self.tables, netns.cookie());
        if t.netns.get(&cookie)?.is_none_or(|n| n.flags & NETNS_SHARED == 0) {
            return Ok(());
        }
        let owners: HashMap<u64, u32> = residents.iter().flat_map(|e| ids_below(&e.cgroup).into_iter().map(|id| (id, e.identity.0))).collect();
        let began = sys::monotonic_ns();
        let sockets = listeners(netns)?;
        let want = by_key(cookie, &sockets, &owners);
        let _changing = self.change();
        for (key, held) in t.listening.entries()?.into_iter().filter(|(k, l)| k.netns == cookie && l.since_ns < began) {
            match want.get(&key) {
                Some(identity) if *identity == held.identity => {}
                Some(identity) => t.listening.put(&key, &Listen { identity: *identity, ..held })?,
                None => drop(t.listening.remove(&key)?),
            }
        }
        for (key, identity) in want {
            if t.listening.get(&key)?.is_none() {
                t.listening.put(&key, &Listen { identity, pad: 0, since_ns: began })?;
            }
        }
        Ok(())
    }

    /// Whether that service listens there, as far as it can be told: in a namespace of one identity whoever listens is that one.
    pub fn is_listener(&self, cookie: u64, service: ServiceId, to: SocketAddr) -> Result<bool, KernelError> {
        let t = &self.tables;
        if t.netns.get(&cookie)?.is_none_or(|n| n.flags & NETNS_SHARED == 0) {
            return Ok(true);
        }
        let key = |addr| ListenKey { netns: cookie, addr, port: to.port(), pad: [0; 6] };
        let found = match t.listening.get(&key(to.ip().into()))? {
            Some(found) => Some(found),
            None => t.listening.get(&key(Addr::UNSPECIFIED))?,
        };
        Ok(found.is_some_and(|l| l.identity == service.0))
    }

    pub(crate) fn forget_listeners(&self, cookie: u64, which: impl Fn(&Listen) -> bool) -> Result<(), KernelError> {
        for (key, held) in self.tables.listening.entries()? {
            if key.netns == cookie && which(&held) {
                self.tables.listening.remove(&key)?;
            }
        }
        Ok(())
    }
}

/// A listening TCP socket and the cgroup that made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Listener {
    addr: Addr,
    port: u16,
    cgroup: u64,
    pub(crate) inode: u32,
}

/// What belongs to a workload, and what more than one has. Ports of others alone are left out: there is no end to them.
fn by_key(cookie: u64, sockets: &[Listener], owners: &HashMap<u64, u32>) -> HashMap<ListenKey, u32> {
    let mut want: HashMap<ListenKey, HashSet<u32>> = HashMap::new();
    for s in sockets {
        let key = ListenKey { netns: cookie, addr: s.addr, port: s.port, pad: [0; 6] };
        want.entry(key).or_default().insert(owners.get(&s.cgroup).copied().unwrap_or_default());
    }
    let decide = |all: &HashSet<u32>| if all.len() == 1 { all.iter().next().copied().unwrap_or_default() } else { LISTEN_DISPUTED };
    want.into_iter().map(|(key, all)| (key, decide(&all))).filter(|(_, identity)| *identity != 0).take(limits::LISTENERS_MAX).collect()
}

/// Ids of a cgroup and of everything below it.
pub(crate) fn ids_below(dir: &Path) -> Vec<u64> {
    let Ok(own) = fs::metadata(dir) else { return Vec::new() };
    let below = fs::read_dir(dir).into_iter().flatten().flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir()));
    std::iter::once(own.ino()).chain(below.flat_map(|e| ids_below(&e.path()))).collect()
}

pub(crate) fn listeners(netns: &Netns) -> Result<Vec<Listener>, KernelError> {
    netns.run(listeners_here).and_then(|r| r).map_err(|source| KernelError::SockDiag { path: netns.path().to_owned(), source })
}

fn listeners_here() -> io::Result<Vec<Listener>> {
    let mut diag = Diag::open_here(limits::LISTENERS_TIMEOUT)?;
    let mut all = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        diag.list(family as u8, PROTO_TCP, 1 << diag::LISTEN, &[], |s| {
            let local = s.local();
            let addr = if local.ip().is_unspecified() { Addr::UNSPECIFIED } else { local.ip().into() };
            // Without a cgroup (before Linux 5.9) it is nobody's, and so refused.
            all.push(Listener { addr, port: local.port(), cgroup: s.cgroup, inode: s.inode });
        })?;
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    #[test]
    fn sock_diag_tells_listeners_and_their_cgroup() {
        let made = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = made.local_addr().unwrap().port();
        let found = listeners_here().unwrap().into_iter().find(|l| l.port == port).unwrap();
        assert_eq!(found.addr, IpAddr::from([127, 0, 0, 1]).into());
        assert_ne!(found.cgroup, 0);
    }

    #[test]
    fn a_port_of_two_is_nobodys() {
        let at = |port, cgroup| Listener { addr: Addr::UNSPECIFIED, port, cgroup, inode: 0 };
        let owners = HashMap::from([(10, 1), (11, 1), (20, 2)]);
        let sockets = [at(80, 10), at(80, 11), at(81, 10), at(81, 20), at(82, 10), at(82, 99), at(83, 99)];
        let mut got: Vec<_> = by_key(7, &sockets, &owners).into_iter().map(|(k, identity)| (k.port, identity)).collect();
        got.sort_unstable();
        assert_eq!(got, [(80, 1), (81, LISTEN_DISPUTED), (82, LISTEN_DISPUTED)]);
    }
}
