//! Who listens in a namespace that several share: `bind()` tells the kernel's table at once, sock_diag tells the rest (what was bound
//! before, what has been closed, what two have bound), and this puts the two together.

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::unix::fs::MetadataExt as _,
    path::Path,
};

use socket2::{Domain, Protocol, Socket, Type};
use weft_ebpf_common::{Addr, LISTEN_DISPUTED, Listen, ListenKey, NETNS_SHARED};
use weft_types::ServiceId;

use crate::{Kernel, KernelError, limits, netns::Netns, sys, workloads::Enrolment};

const NETLINK_SOCK_DIAG: i32 = 4;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST_DUMP: u16 = 0x301;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLMSG_HEADER: usize = 16;
/// `struct inet_diag_msg`, before its attributes.
const DIAG_MSG: usize = 72;
/// Linux 5.9.
const INET_DIAG_CGROUP_ID: u16 = 21;
const TCP_LISTEN: u32 = 10;

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
        let sockets = netns.run(listeners_here).and_then(|r| r).map_err(|source| KernelError::SockDiag { path: netns.path().to_owned(), source })?;
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
struct Listener {
    addr: Addr,
    port: u16,
    cgroup: u64,
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

fn listeners_here() -> io::Result<Vec<Listener>> {
    let mut all = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        dump(family as u8, &mut all)?;
    }
    Ok(all)
}

fn dump(family: u8, all: &mut Vec<Listener>) -> io::Result<()> {
    let socket = Socket::new(Domain::from(libc::AF_NETLINK), Type::DGRAM, Some(Protocol::from(NETLINK_SOCK_DIAG)))?;
    socket.set_read_timeout(Some(limits::SOCK_DIAG_TIMEOUT))?;
    // struct nlmsghdr, then struct inet_diag_req_v2 with an empty socket id.
    let mut request = [0_u8; NLMSG_HEADER + 56];
    let length = request.len() as u32;
    request[..4].copy_from_slice(&length.to_ne_bytes());
    request[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    request[6..8].copy_from_slice(&NLM_F_REQUEST_DUMP.to_ne_bytes());
    request[16..18].copy_from_slice(&[family, libc::IPPROTO_TCP as u8]);
    request[20..24].copy_from_slice(&(1_u32 << TCP_LISTEN).to_ne_bytes());
    socket.send(&request)?;
    let mut buffer = vec![0_u8; limits::SOCK_DIAG_BUFFER_BYTES];
    loop {
        let read = io::Read::read(&mut &socket, &mut buffer)?;
        if read_messages(&buffer[..read], all)? {
            return Ok(());
        }
    }
}

/// True at the end of the dump.
fn read_messages(mut bytes: &[u8], all: &mut Vec<Listener>) -> io::Result<bool> {
    let bad = || io::Error::new(io::ErrorKind::InvalidData, "a message of sock_diag is cut off");
    while !bytes.is_empty() {
        let length = u32_at(bytes, 0).ok_or_else(bad)? as usize;
        let message = bytes.get(..length).filter(|m| m.len() >= NLMSG_HEADER).ok_or_else(bad)?;
        match u16_at(message, 4).ok_or_else(bad)? {
            NLMSG_DONE => return Ok(true),
            NLMSG_ERROR => return Err(io::Error::from_raw_os_error(u32_at(message, NLMSG_HEADER).map_or(libc::EIO, |e| -(e as i32)))),
            SOCK_DIAG_BY_FAMILY => all.push(listener(&message[NLMSG_HEADER..]).ok_or_else(bad)?),
            _ => {}
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

fn listener(message: &[u8]) -> Option<Listener> {
    let (family, port) = (i32::from(*message.first()?), u16::from_be_bytes(message.get(4..6)?.try_into().ok()?));
    let source = message.get(8..24)?;
    let ip = if family == libc::AF_INET {
        IpAddr::from(<[u8; 4]>::try_from(&source[..4]).map(Ipv4Addr::from).ok()?)
    } else {
        IpAddr::from(<[u8; 16]>::try_from(source).map(Ipv6Addr::from).ok()?)
    };
    let addr = if ip.is_unspecified() { Addr::UNSPECIFIED } else { ip.into() };
    let mut attributes = message.get(DIAG_MSG..)?;
    // Without the attribute (before Linux 5.9) it is nobody's, and so refused.
    let mut cgroup = 0;
    while let (Some(length), Some(kind)) = (u16_at(attributes, 0), u16_at(attributes, 2)) {
        if kind == INET_DIAG_CGROUP_ID {
            cgroup = u64::from_ne_bytes(attributes.get(4..12)?.try_into().ok()?);
        }
        attributes = attributes.get(usize::from(length.max(4)).next_multiple_of(4)..).unwrap_or_default();
    }
    Some(Listener { addr, port, cgroup })
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
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
        let at = |port, cgroup| Listener { addr: Addr::UNSPECIFIED, port, cgroup };
        let owners = HashMap::from([(10, 1), (11, 1), (20, 2)]);
        let sockets = [at(80, 10), at(80, 11), at(81, 10), at(81, 20), at(82, 10), at(82, 99), at(83, 99)];
        let mut got: Vec<_> = by_key(7, &sockets, &owners).into_iter().map(|(k, identity)| (k.port, identity)).collect();
        got.sort_unstable();
        assert_eq!(got, [(80, 1), (81, LISTEN_DISPUTED), (82, LISTEN_DISPUTED)]);
    }
}
