//! The little of rtnetlink that is needed: links and link-local addresses of a namespace, numbers of namespaces, classifiers on a device.
//!
//! Every question is asked on a socket of its own, in the calling thread's namespace. Layouts are the kernel's (`include/uapi/linux/rtnetlink.h`).

use std::{
    io::{self, Read as _},
    net::Ipv6Addr,
    os::fd::{AsRawFd as _, BorrowedFd},
};

use socket2::{Domain, Protocol, Socket, Type};

use crate::{
    limits::{NETLINK_BUFFER_BYTES, NETLINK_DEADLINE},
    netlink::{self, DONE, DUMP, ERROR, WANT_ACK, attribute, put, word},
};

const RTM_GETLINK: u16 = 18;
const RTM_GETADDR: u16 = 22;
const RTM_NEWQDISC: u16 = 36;
const RTM_NEWTFILTER: u16 = 44;
const RTM_DELTFILTER: u16 = 45;
const RTM_GETTFILTER: u16 = 46;
const RTM_GETNSID: u16 = 90;
const CREATE: u16 = 0x400;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_LINK: u16 = 5;
const IFLA_LINKINFO: u16 = 18;
const IFLA_LINK_NETNSID: u16 = 37;
const IFLA_INFO_KIND: u16 = 1;
const IFA_ADDRESS: u16 = 1;
const SCOPE_LINK: u8 = 253;
const NETNSA_NSID: u16 = 1;
const NETNSA_FD: u16 = 3;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_BPF_FD: u16 = 6;
const TCA_BPF_NAME: u16 = 7;
const TCA_BPF_FLAGS: u16 = 8;
const TCA_BPF_ID: u16 = 11;
const TCA_BPF_FLAG_ACT_DIRECT: u32 = 1;
const CLSACT: u32 = 0xffff_fff1;
const CLSACT_HANDLE: u32 = 0xffff_0000;
/// What an interface takes in, and what it gives out.
pub(crate) const CLSACT_INGRESS: u32 = 0xffff_fff2;
pub(crate) const CLSACT_EGRESS: u32 = 0xffff_fff3;
/// Ours: first priority and every protocol, as others take them too, under a handle that nobody else takes; the newest of one priority runs first.
const FILTER_INFO: u32 = (1 << 16) | (libc::ETH_P_ALL as u16).to_be() as u32;
const FILTER_HANDLE: u32 = u32::from_be_bytes(*b"weft");

/// An interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    /// `veth`, `macvlan`, …; empty for devices that are no software.
    pub(crate) kind: String,
    pub(crate) loopback: bool,
    pub(crate) mac: [u8; 6],
    /// The other end or the device below, and the number of its namespace here; no number: it is in the same one.
    pub(crate) below: Option<u32>,
    pub(crate) below_nsid: Option<u32>,
}

/// All interfaces of the calling thread's namespace.
pub(crate) fn links() -> io::Result<Vec<Link>> {
    Ok(ask(RTM_GETLINK, DUMP, &[0; 16])?.iter().filter_map(|m| link(m)).collect())
}

/// One interface of the calling thread's namespace.
pub(crate) fn link_by_index(index: u32) -> io::Result<Link> {
    let mut body = [0; 16];
    body[4..8].copy_from_slice(&index.to_ne_bytes());
    ask(RTM_GETLINK, 0, &body)?.iter().find_map(|m| link(m)).ok_or_else(|| io::Error::from_raw_os_error(libc::ENODEV))
}

/// The first link-local IPv6 address of an interface.
pub(crate) fn link_local(index: u32) -> io::Result<Option<Ipv6Addr>> {
    let mut body = [0; 8];
    body[0] = libc::AF_INET6 as u8;
    let found = ask(RTM_GETADDR, DUMP, &body)?;
    Ok(found.iter().find_map(|m| {
        let of_this = m.len() >= 8 && m[3] == SCOPE_LINK && word(m, 4)? == index;
        let octets: [u8; 16] = attribute(m.get(8..)?, IFA_ADDRESS)?.try_into().ok()?;
        of_this.then(|| octets.into())
    }))
}

/// By which number the calling thread's namespace knows another; `None`: by none.
pub(crate) fn nsid_of(netns: BorrowedFd<'_>) -> io::Result<Option<u32>> {
    let mut body = vec![0; 4];
    put(&mut body, NETNSA_FD, &(netns.as_raw_fd() as u32).to_ne_bytes());
    let found = ask(RTM_GETNSID, 0, &body)?;
    let nsid = found.iter().find_map(|m| word(attribute(m.get(4..)?, NETNSA_NSID)?, 0));
    Ok(nsid.filter(|n| *n <= i32::MAX as u32))
}

/// Puts a classifier at the head of one side of a device, in place of the one that was put there before.
pub(crate) fn set_classifier(index: u32, side: u32, program: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    let mut qdisc = traffic(index, CLSACT_HANDLE, CLSACT, 0);
    put(&mut qdisc, TCA_KIND, b"clsact\0");
    match ask(RTM_NEWQDISC, WANT_ACK | CREATE, &qdisc) {
        Err(e) if e.raw_os_error() != Some(libc::EEXIST) => return Err(e),
        _ => {}
    }
    let mut options = Vec::new();
    put(&mut options, TCA_BPF_FD, &(program.as_raw_fd() as u32).to_ne_bytes());
    put(&mut options, TCA_BPF_NAME, &[name.as_bytes(), b"\0"].concat());
    put(&mut options, TCA_BPF_FLAGS, &TCA_BPF_FLAG_ACT_DIRECT.to_ne_bytes());
    let mut filter = traffic(index, FILTER_HANDLE, side, FILTER_INFO);
    put(&mut filter, TCA_KIND, b"bpf\0");
    put(&mut filter, TCA_OPTIONS, &options);
    ask(RTM_NEWTFILTER, WANT_ACK | CREATE, &filter).map(drop)
}

/// Kernel's id of the program that [`set_classifier`] put there.
pub(crate) fn classifier(index: u32, side: u32) -> io::Result<Option<u32>> {
    let mut filter = traffic(index, FILTER_HANDLE, side, FILTER_INFO);
    put(&mut filter, TCA_KIND, b"bpf\0");
    let found = match ask(RTM_GETTFILTER, 0, &filter) {
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::EINVAL | libc::ENODEV)) => return Ok(None),
        other => other?,
    };
    Ok(found.iter().find_map(|m| word(attribute(attribute(m.get(20..)?, TCA_OPTIONS)?, TCA_BPF_ID)?, 0)))
}

/// Takes it away; none there is no error.
pub(crate) fn remove_classifier(index: u32, side: u32) -> io::Result<()> {
    let mut filter = traffic(index, FILTER_HANDLE, side, FILTER_INFO);
    put(&mut filter, TCA_KIND, b"bpf\0");
    match ask(RTM_DELTFILTER, WANT_ACK, &filter) {
        Err(e) if !matches!(e.raw_os_error(), Some(libc::ENOENT | libc::EINVAL | libc::ENODEV)) => Err(e),
        _ => Ok(()),
    }
}

/// `struct tcmsg`
fn traffic(index: u32, handle: u32, parent: u32, info: u32) -> Vec<u8> {
    [0, index, handle, parent, info].iter().flat_map(|w| w.to_ne_bytes()).collect()
}

fn link(m: &[u8]) -> Option<Link> {
    let (kind, index, attributes) = (u16::from_ne_bytes([*m.get(2)?, *m.get(3)?]), word(m, 4)?, m.get(16..)?);
    let text = |b: &[u8]| String::from_utf8_lossy(b).trim_end_matches('\0').to_owned();
    Some(Link {
        index,
        name: attribute(attributes, IFLA_IFNAME).map(text).unwrap_or_default(),
        kind: attribute(attributes, IFLA_LINKINFO).and_then(|i| attribute(i, IFLA_INFO_KIND)).map(text).unwrap_or_default(),
        loopback: kind == libc::ARPHRD_LOOPBACK,
        mac: attribute(attributes, IFLA_ADDRESS).and_then(|b| b.try_into().ok()).unwrap_or_default(),
        below: attribute(attributes, IFLA_LINK).and_then(|b| word(b, 0)),
        below_nsid: attribute(attributes, IFLA_LINK_NETNSID).and_then(|b| word(b, 0)),
    })
}

/// Sends one request and gathers the bodies of what answers it.
fn ask(kind: u16, flags: u16, body: &[u8]) -> io::Result<Vec<Vec<u8>>> {
    let socket = Socket::new(Domain::from(libc::AF_NETLINK), Type::RAW.cloexec(), Some(Protocol::from(libc::NETLINK_ROUTE)))?;
    socket.set_read_timeout(Some(NETLINK_DEADLINE))?;
    socket.send(&netlink::request(kind, flags, body))?;
    let (mut found, mut buffer) = (Vec::new(), vec![0; NETLINK_BUFFER_BYTES]);
    loop {
        let n = (&socket).read(&mut buffer)?;
        for (kind, body) in netlink::messages(&buffer[..n]) {
            match kind {
                DONE => return Ok(found),
                ERROR => return netlink::errno(body).map_or(Ok(found), |code| Err(io::Error::from_raw_os_error(code))),
                _ => found.push(body.to_vec()),
            }
        }
        if flags & (DUMP | WANT_ACK) == 0 {
            return Ok(found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_namespace_has_a_loopback() {
        let lo = links().unwrap().into_iter().find(|l| l.loopback).unwrap();
        assert_eq!((lo.name.as_str(), lo.mac), ("lo", [0; 6]));
        assert_eq!(link_by_index(lo.index).unwrap(), lo);
        assert_eq!(link_by_index(u32::MAX >> 1).unwrap_err().raw_os_error(), Some(libc::ENODEV));
    }
}
