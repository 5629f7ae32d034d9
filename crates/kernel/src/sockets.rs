//! The sockets of an enrolled namespace with what the programs know of each, and ending those that may not go on.
//!
//! Whose a socket is comes from its storage and its cgroup; addresses are shown, and name destinations, as everywhere.

use std::{
    io,
    mem::size_of,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::fd::BorrowedFd,
    path::Path,
    ptr,
    sync::OnceLock,
};

use weft_ebpf_common::{Attestation, CLASS_EXEMPT, NETNS_SHARED, PATH_CAPTURED, PROTO_TCP, PROTO_UDP, SIDE_SERVER, SocketOwner, TupleKey};

use crate::{
    Kernel, KernelError,
    diag::{self, Diag, Fate, Listed},
    limits::DIAG_TIMEOUT,
    listening::ids_below,
    netns::Netns,
    sys,
    table::Plain,
};

/// One socket that lives in a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveSocket {
    pub local: SocketAddr,
    /// Unspecified: it is connected to nobody.
    pub remote: SocketAddr,
    /// IP protocol number.
    pub protocol: u8,
    pub inode: u32,
    pub listening: bool,
    /// A handshake that the other side has begun and that no accept has seen.
    pub arriving: bool,
    /// weft's own: made by the agent or its holder, or accepted by them.
    pub exempt: bool,
    /// On the loopback of a namespace of one identity: nobody else is there, and nothing is judged. Where several live, loopback is an address like any other.
    pub within: bool,
    /// What the programs attested; `None`: nobody judged it.
    pub record: Option<Attestation>,
}

/// What became of the sockets that were to end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// They are no more.
    pub ended: Vec<LiveSocket>,
    /// They are still there, and why.
    pub left: Vec<(LiveSocket, String)>,
}

impl Ended {
    pub fn extend(&mut self, other: Self) {
        self.ended.extend(other.ended);
        self.left.extend(other.left);
    }
}

impl LiveSocket {
    pub fn is_connected(&self) -> bool {
        !self.remote.ip().is_unspecified()
    }
}

/// Whether this kernel ends sockets on request; probed, each time anew.
pub fn can_end_sockets() -> io::Result<bool> {
    diag::can_destroy()
}

/// Whether this kernel tells of a socket in which cgroup it was made; probed once, with a listener of our own.
pub fn tells_cgroups() -> io::Result<bool> {
    static TOLD: OnceLock<bool> = OnceLock::new();
    if let Some(told) = TOLD.get() {
        return Ok(*told);
    }
    let own = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let at = own.local_addr()?;
    let mut told = false;
    Diag::open_here(DIAG_TIMEOUT)?.list(libc::AF_INET as u8, PROTO_TCP, 1 << diag::LISTEN, &[], |s| told |= s.local() == at && s.cgroup != 0)?;
    Ok(*TOLD.get_or_init(|| told))
}

impl Kernel {
    /// Looks at every TCP and UDP socket of the namespace once and ends those that `ends` names.
    ///
    /// Enters the namespace on the calling thread for a moment; blocks for some milliseconds, and some more for each thousand sockets.
    /// Where others live in the namespace too, as on the host, only the sockets that were made in `cgroup` are its workload's, and `ends` is asked of no
    /// others. A kernel that does not tell of a socket's cgroup is an error there: the sockets would be taken for nobody's.
    pub fn end_sockets(&self, netns: &Netns, cgroup: &Path, mut ends: impl FnMut(&LiveSocket) -> bool) -> Result<Ended, KernelError> {
        let fail = |source| KernelError::Sockets { path: netns.path().to_owned(), source };
        let mut diag = Diag::open(netns).map_err(fail)?;
        let own = ids_below(cgroup);
        let others = self.tables.workloads.entries()?.iter().any(|(id, w)| w.netns == netns.cookie() && !own.contains(id));
        let shared = netns.cookie() == self.own_netns || others;
        if shared && !tells_cgroups().map_err(fail)? {
            return Err(fail(io::Error::new(io::ErrorKind::Unsupported, "this kernel does not tell which cgroup made a socket (Linux 5.9)")));
        }
        let mut found = Vec::new();
        self.each_socket(&mut diag, netns.cookie(), |listed, socket| {
            if (!shared || own.contains(&listed.cgroup)) && ends(&socket) {
                found.push((listed, socket));
            }
        })
        .map_err(fail)?;
        let fates = diag.destroy(&found.iter().map(|(listed, _)| listed).collect::<Vec<_>>()).map_err(fail)?;
        let mut out = Ended::default();
        for ((_, socket), fate) in found.into_iter().zip(fates) {
            match fate {
                Fate::Ended | Fate::Gone => out.ended.push(socket),
                Fate::Unsupported => out.left.push((socket, "this kernel ends no sockets (CONFIG_INET_DIAG_DESTROY)".to_owned())),
                Fate::Failed(errno) => out.left.push((socket, io::Error::from_raw_os_error(errno).to_string())),
            }
        }
        Ok(out)
    }

    fn each_socket(&self, diag: &mut Diag, cookie: u64, mut each: impl FnMut(Listed, LiveSocket)) -> io::Result<()> {
        let t = &self.tables;
        let storages: [BorrowedFd<'_>; 2] = [t.socks.fd(), t.owners.fd()];
        let (socks, owners) = (sys::map_info(storages[0])?.id, sys::map_info(storages[1])?.id);
        let exempt = t.state().map_err(io::Error::other)?.exempt_cgroup;
        let judged_within = cookie == self.own_netns || t.netns.get(&cookie).map_err(io::Error::other)?.is_some_and(|n| n.flags & NETNS_SHARED != 0);
        for protocol in [PROTO_TCP, PROTO_UDP] {
            for family in [libc::AF_INET as u8, libc::AF_INET6 as u8] {
                let listing = diag.list(family, protocol, diag::LIVING, &storages, |listed| {
                    let mut record: Option<Attestation> = stored(&listed, socks);
                    let owner: Option<SocketOwner> = stored(&listed, owners);
                    let arriving = protocol == PROTO_TCP && listed.state == diag::SYN_RECV;
                    if arriving && record.is_none() {
                        // As the accepted socket will have it.
                        let found = t.attestations.get(&arriving_as(&listed, cookie)).ok().flatten();
                        record = found.map(|r| Attestation { side: SIDE_SERVER, ..r });
                    }
                    if protocol == PROTO_UDP && record.is_none() {
                        // A connected server's socket: what it answers has been judged.
                        record = t.datagrams.get(&arriving_as(&listed, cookie)).ok().flatten();
                    }
                    let accepted_by_agent = record.is_some_and(|r| r.path == PATH_CAPTURED && r.side == SIDE_SERVER);
                    let exempt = (exempt != 0 && listed.cgroup == exempt) || owner.is_some_and(|o| o.class == CLASS_EXEMPT) || accepted_by_agent;
                    let listening = protocol == PROTO_TCP && listed.state == diag::LISTEN;
                    let (local, remote) = (listed.local(), listed.remote());
                    let within = !judged_within && local.ip().is_loopback() && remote.ip().is_loopback();
                    let socket = LiveSocket { local, remote, protocol, inode: listed.inode, listening, arriving, exempt, within, record };
                    each(listed, socket);
                });
                match listing {
                    // IPv6 is not compiled in.
                    Err(e) if family == libc::AF_INET6 as u8 && e.raw_os_error() == Some(libc::ENOENT) => {}
                    other => other?,
                }
            }
        }
        Ok(())
    }
}

/// Where the programs keep the attestation of a connection that nobody has accepted yet, and of a flow of datagrams.
fn arriving_as(s: &Listed, netns: u64) -> TupleKey {
    let (local, remote) = (s.local(), s.remote());
    TupleKey { netns, remote: remote.ip().into(), local: local.ip().into(), remote_port: remote.port(), local_port: local.port(), proto: u32::from(s.protocol) }
}

fn stored<T: Plain>(s: &Listed, map: u32) -> Option<T> {
    let (_, bytes) = s.storages.iter().find(|(id, bytes)| *id == map && bytes.len() == size_of::<T>())?;
    // SAFETY: the sizes are equal, and any bytes make a value of plain old data.
    Some(unsafe { ptr::read_unaligned(bytes.as_ptr().cast()) })
}
