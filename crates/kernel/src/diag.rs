//! sock_diag(7): lists the sockets of one network namespace with what the kernel programs keep of each, and ends single ones.
//!
//! Every socket is told apart by the kernel's cookie, so that none is ended that took the place of another. Reads are bounded: one buffer at a time.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
    time::Duration,
};

use crate::{
    limits::{DESTROY_BATCH, DIAG_TIMEOUT, NETLINK_BUFFER_BYTES},
    netlink::{self, DONE, DUMP, ERROR, WANT_ACK, attributes, messages, put},
    netns::Netns,
};

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
/// Attribute of the request: which socket storages to show.
const REQ_STORAGES: u16 = 2;
const REQ_STORAGE_FD: u16 = 1;
/// Attributes of the answer.
const STORAGES: u16 = 20;
const CGROUP_ID: u16 = 21;
const STORAGE: u16 = 1;
const STORAGE_MAP_ID: u16 = 2;
const STORAGE_VALUE: u16 = 3;

const MESSAGE: usize = 72;
const ID: usize = 48;

pub(crate) const SYN_RECV: u8 = 3;
const TIME_WAIT: u8 = 6;
const CLOSE: u8 = 7;
pub(crate) const LISTEN: u8 = 10;
/// States, as bits. Everything that lives: neither what only waits for its port's quarantine nor what is closed. Connected datagram sockets count as established.
pub(crate) const LIVING: u32 = !((1 << TIME_WAIT) | (1 << CLOSE));

/// A socket as the kernel lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) family: u8,
    pub(crate) protocol: u8,
    pub(crate) state: u8,
    /// Ports, addresses, device and cookie: what names the socket to the kernel.
    pub(crate) id: [u8; ID],
    pub(crate) inode: u32,
    /// Of the cgroup that it was made in; 0 where the kernel does not say.
    pub(crate) cgroup: u64,
    /// (map id, value) of each storage that was asked for and that the socket has.
    pub(crate) storages: Vec<(u32, Vec<u8>)>,
}

impl Listed {
    pub(crate) fn local(&self) -> SocketAddr {
        self.end(0, 4)
    }

    pub(crate) fn remote(&self) -> SocketAddr {
        self.end(2, 20)
    }

    fn end(&self, port: usize, address: usize) -> SocketAddr {
        let octets: [u8; 16] = self.id[address..address + 16].try_into().unwrap_or_default();
        let ip = match i32::from(self.family) {
            libc::AF_INET => IpAddr::V4(Ipv4Addr::new(octets[0], octets[1], octets[2], octets[3])),
            _ => IpAddr::V6(Ipv6Addr::from(octets)).to_canonical(),
        };
        SocketAddr::new(ip, u16::from_be_bytes([self.id[port], self.id[port + 1]]))
    }
}

/// What became of one order to end a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Ended,
    /// It had ended by itself.
    Gone,
    /// This kernel cannot (`CONFIG_INET_DIAG_DESTROY`), or not this kind.
    Unsupported,
    Failed(i32),
}

/// A netlink socket inside one namespace; it stays there, whoever holds it.
pub(crate) struct Diag {
    socket: OwnedFd,
    buffer: Vec<u8>,
}

impl Diag {
    pub(crate) fn open(netns: &Netns) -> io::Result<Self> {
        netns.run(|| Self::open_here(DIAG_TIMEOUT))?
    }

    /// In the calling thread's namespace. `patience`: how long one answer may take.
    pub(crate) fn open_here(patience: Duration) -> io::Result<Self> {
        // SAFETY: takes no pointer; a success is a new descriptor of ours.
        let socket = unsafe {
            let fd = libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_SOCK_DIAG);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(fd)
        };
        socket2::SockRef::from(&socket).set_read_timeout(Some(patience))?;
        Ok(Self { socket, buffer: vec![0; NETLINK_BUFFER_BYTES] })
    }

    /// Hands every socket of one family and protocol that is in one of `states` (bits) to `each`. An answer that is cut off is an error.
    pub(crate) fn list(&mut self, family: u8, protocol: u8, states: u32, storages: &[BorrowedFd<'_>], mut each: impl FnMut(Listed)) -> io::Result<()> {
        let mut request = message(SOCK_DIAG_BY_FAMILY, DUMP, family, protocol, states, &[0; ID]);
        if !storages.is_empty() {
            let mut maps = Vec::new();
            storages.iter().for_each(|fd| put(&mut maps, REQ_STORAGE_FD, &(fd.as_raw_fd() as u32).to_ne_bytes()));
            put(&mut request, REQ_STORAGES, &maps);
        }
        self.send(&netlink::seal(request))?;
        let bad = || io::Error::new(io::ErrorKind::InvalidData, "a message of sock_diag is cut off");
        loop {
            let read = self.receive()?;
            for (kind, body) in messages(&self.buffer[..read]) {
                match kind {
                    DONE => return Ok(()),
                    ERROR => return Err(netlink::errno(body).map_or_else(|| io::ErrorKind::InvalidData.into(), io::Error::from_raw_os_error)),
                    SOCK_DIAG_BY_FAMILY => each(listed(body, protocol).ok_or_else(bad)?),
                    _ => {}
                }
            }
            if !netlink::is_whole(&self.buffer[..read]) {
                return Err(bad());
            }
        }
    }

    /// Ends each of `sockets`, in their order. Its owner's next call fails with ECONNABORTED, its peer is sent a reset.
    pub(crate) fn destroy(&mut self, sockets: &[&Listed]) -> io::Result<Vec<Fate>> {
        let mut fates = Vec::with_capacity(sockets.len());
        for batch in sockets.chunks(DESTROY_BATCH) {
            let orders: Vec<u8> = batch.iter().flat_map(|s| message(SOCK_DESTROY, WANT_ACK, s.family, s.protocol, u32::MAX, &s.id)).collect();
            self.send(&orders)?;
            let end = fates.len() + batch.len();
            while fates.len() < end {
                let read = self.receive()?;
                fates.extend(messages(&self.buffer[..read]).filter(|(kind, _)| *kind == ERROR).map(|(_, body)| match netlink::errno(body) {
                    None => Fate::Ended,
                    Some(libc::ENOENT | libc::ESTALE) => Fate::Gone,
                    Some(libc::EOPNOTSUPP) => Fate::Unsupported,
                    Some(other) => Fate::Failed(other),
                }));
            }
        }
        Ok(fates)
    }

    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        // SAFETY: the buffer is as long as stated.
        let sent = unsafe { libc::send(self.socket.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0) };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    fn receive(&mut self) -> io::Result<usize> {
        // SAFETY: the kernel writes at most as many bytes as the buffer has. With MSG_TRUNC it returns how many there were.
        let read = unsafe { libc::recv(self.socket.as_raw_fd(), self.buffer.as_mut_ptr().cast(), self.buffer.len(), libc::MSG_TRUNC) };
        match usize::try_from(read) {
            Err(_) => Err(io::Error::last_os_error()),
            Ok(read) if read > self.buffer.len() => Err(io::Error::new(io::ErrorKind::InvalidData, "a message of sock_diag exceeds the buffer")),
            Ok(read) => Ok(read),
        }
    }
}

/// Whether this kernel ends sockets on request: a socket that cannot exist is asked for.
pub(crate) fn can_destroy() -> io::Result<bool> {
    let nobody = Listed { family: libc::AF_INET as u8, protocol: libc::IPPROTO_TCP as u8, state: 0, id: [0; ID], inode: 0, cgroup: 0, storages: Vec::new() };
    match Diag::open_here(DIAG_TIMEOUT)?.destroy(&[&nobody])?.as_slice() {
        [Fate::Unsupported] => Ok(false),
        [Fate::Failed(e)] => Err(io::Error::from_raw_os_error(*e)),
        _ => Ok(true),
    }
}

/// `struct inet_diag_req_v2` in a message.
fn message(kind: u16, flags: u16, family: u8, protocol: u8, states: u32, id: &[u8; ID]) -> Vec<u8> {
    netlink::request(kind, flags, &[&[family, protocol, 0, 0][..], &states.to_ne_bytes(), id].concat())
}

fn listed(body: &[u8], protocol: u8) -> Option<Listed> {
    let head = body.get(..MESSAGE)?;
    let mut out = Listed {
        family: head[0],
        protocol,
        state: head[1],
        id: head[4..4 + ID].try_into().ok()?,
        inode: u32::from_ne_bytes(head[68..72].try_into().ok()?),
        cgroup: 0,
        storages: Vec::new(),
    };
    for (kind, value) in attributes(&body[MESSAGE..]) {
        match kind {
            CGROUP_ID => out.cgroup = u64::from_ne_bytes(value.try_into().ok()?),
            STORAGES => out.storages.extend(attributes(value).filter(|(k, _)| *k == STORAGE).filter_map(|(_, one)| storage(one))),
            _ => {}
        }
    }
    Some(out)
}

fn storage(one: &[u8]) -> Option<(u32, Vec<u8>)> {
    let (mut id, mut value) = (None, None);
    for (kind, bytes) in attributes(one) {
        match kind {
            STORAGE_MAP_ID => id = Some(u32::from_ne_bytes(bytes.try_into().ok()?)),
            STORAGE_VALUE => value = Some(bytes.to_vec()),
            _ => {}
        }
    }
    Some((id?, value?))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn the_own_connection_is_listed_with_both_ends() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let mut seen = Vec::new();
        Diag::open_here(DIAG_TIMEOUT).unwrap().list(libc::AF_INET as u8, libc::IPPROTO_TCP as u8, LIVING, &[], |s| seen.push(s)).unwrap();
        let mine = seen.iter().find(|s| s.local() == client.local_addr().unwrap()).expect("the client's socket");
        assert_eq!((mine.remote(), mine.state), (listener.local_addr().unwrap(), 1));
        assert!(seen.iter().any(|s| s.state == LISTEN && s.local() == listener.local_addr().unwrap()));
    }
}
