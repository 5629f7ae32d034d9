//! sock_diag(7): lists the sockets of one network namespace with what the kernel programs keep of each, and ends single ones.
//!
//! Every socket is told apart by the kernel's cookie, so that none is ended that took the place of another. Reads are bounded: one buffer at a time.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
};

use crate::{
    limits::{DESTROY_BATCH, DIAG_BUFFER_BYTES, DIAG_TIMEOUT},
    netns::Netns,
};

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;
/// Attribute of the request: which socket storages to show.
const REQ_STORAGES: u16 = 2;
const REQ_STORAGE_FD: u16 = 1;
/// Attributes of the answer.
const STORAGES: u16 = 20;
const CGROUP_ID: u16 = 21;
const STORAGE: u16 = 1;
const STORAGE_MAP_ID: u16 = 2;
const STORAGE_VALUE: u16 = 3;
const NLA_TYPE_MASK: u16 = 0x3fff;

const HEADER: usize = 16;
const REQUEST: usize = 56;
const MESSAGE: usize = 72;
const ID: usize = 48;

pub(crate) const SYN_RECV: u8 = 3;
const TIME_WAIT: u8 = 6;
const CLOSE: u8 = 7;
pub(crate) const LISTEN: u8 = 10;
/// Everything that lives: neither what only waits for its port's quarantine nor what is closed. Connected datagram sockets count as established.
const LIVING: u32 = !((1 << TIME_WAIT) | (1 << CLOSE));

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
        netns.run(Self::open_here)?
    }

    pub(crate) fn open_here() -> io::Result<Self> {
        // SAFETY: takes no pointer; a success is a new descriptor of ours.
        let socket = unsafe {
            let fd = libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_SOCK_DIAG);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(fd)
        };
        socket2::SockRef::from(&socket).set_read_timeout(Some(DIAG_TIMEOUT))?;
        Ok(Self { socket, buffer: vec![0; DIAG_BUFFER_BYTES] })
    }

    /// Hands every living socket of one family and protocol to `each`.
    pub(crate) fn list(&mut self, family: u8, protocol: u8, storages: &[BorrowedFd<'_>], mut each: impl FnMut(Listed)) -> io::Result<()> {
        let mut request = message(SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST | NLM_F_DUMP, family, protocol, LIVING, &[0; ID]);
        if !storages.is_empty() {
            let maps: Vec<u8> = storages.iter().flat_map(|fd| attribute(REQ_STORAGE_FD, &(fd.as_raw_fd() as u32).to_ne_bytes())).collect();
            request.extend(attribute(REQ_STORAGES, &maps));
            let length = request.len() as u32;
            request[..4].copy_from_slice(&length.to_ne_bytes());
        }
        self.send(&request)?;
        loop {
            let read = self.receive()?;
            for (kind, body) in messages(&self.buffer[..read]) {
                match kind {
                    NLMSG_DONE => return Ok(()),
                    NLMSG_ERROR => return Err(error_of(body).map_or_else(|| io::ErrorKind::InvalidData.into(), io::Error::from_raw_os_error)),
                    SOCK_DIAG_BY_FAMILY => {
                        if let Some(listed) = listed(body, protocol) {
                            each(listed);
                        }
                    }
                    _ => {}
                }
            }
        }
    }

    /// Ends each of `sockets`, in their order. Its owner's next call fails with ECONNABORTED, its peer is sent a reset.
    pub(crate) fn destroy(&mut self, sockets: &[&Listed]) -> io::Result<Vec<Fate>> {
        let mut fates = Vec::with_capacity(sockets.len());
        for batch in sockets.chunks(DESTROY_BATCH) {
            let orders: Vec<u8> = batch.iter().flat_map(|s| message(SOCK_DESTROY, NLM_F_REQUEST | NLM_F_ACK, s.family, s.protocol, u32::MAX, &s.id)).collect();
            self.send(&orders)?;
            let end = fates.len() + batch.len();
            while fates.len() < end {
                let read = self.receive()?;
                fates.extend(messages(&self.buffer[..read]).filter(|(kind, _)| *kind == NLMSG_ERROR).map(|(_, body)| match error_of(body) {
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
    match Diag::open_here()?.destroy(&[&nobody])?.as_slice() {
        [Fate::Unsupported] => Ok(false),
        [Fate::Failed(e)] => Err(io::Error::from_raw_os_error(*e)),
        _ => Ok(true),
    }
}

fn message(kind: u16, flags: u16, family: u8, protocol: u8, states: u32, id: &[u8; ID]) -> Vec<u8> {
    let mut m = Vec::with_capacity(HEADER + REQUEST + 64);
    m.extend(((HEADER + REQUEST) as u32).to_ne_bytes());
    m.extend(kind.to_ne_bytes());
    m.extend(flags.to_ne_bytes());
    m.extend([0; 8]);
    m.extend([family, protocol, 0, 0]);
    m.extend(states.to_ne_bytes());
    m.extend(id);
    m
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut a = Vec::with_capacity(4 + value.len());
    a.extend((4 + value.len() as u16).to_ne_bytes());
    a.extend(kind.to_ne_bytes());
    a.extend(value);
    a.resize(a.len().next_multiple_of(4), 0);
    a
}

/// (type, body) of each message; stops at one that is cut off.
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
        let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
        let body = bytes.get(HEADER..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, body))
    })
}

/// (type, value) of each attribute.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(bytes.get(2..4)?.try_into().ok()?) & NLA_TYPE_MASK;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The errno of an answer; `None`: it is an acknowledgement.
fn error_of(body: &[u8]) -> Option<i32> {
    let code = i32::from_ne_bytes(body.get(..4)?.try_into().ok()?);
    (code != 0).then_some(-code)
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
        Diag::open_here().unwrap().list(libc::AF_INET as u8, libc::IPPROTO_TCP as u8, &[], |s| seen.push(s)).unwrap();
        let mine = seen.iter().find(|s| s.local() == client.local_addr().unwrap()).expect("the client's socket");
        assert_eq!((mine.remote(), mine.state), (listener.local_addr().unwrap(), 1));
        assert!(seen.iter().any(|s| s.state == LISTEN && s.local() == listener.local_addr().unwrap()));
    }

    #[test]
    fn a_cut_off_answer_ends_the_walk() {
        let whole = message(SOCK_DIAG_BY_FAMILY, 0, 2, 6, 0, &[0; ID]);
        assert_eq!(messages(&whole).count(), 1);
        assert_eq!(messages(&whole[..whole.len() - 1]).count(), 0);
        assert_eq!(attributes(&attribute(3, &[1, 2, 3])).collect::<Vec<_>>(), [(3, &[1_u8, 2, 3][..])]);
        assert_eq!(attributes(&[9, 0, 1, 0, 5]).count(), 0);
    }
}
