//! The holder process: one thread, one loop, no timer.

use std::{
    collections::BTreeMap,
    io,
    ops::Bound,
    os::fd::{AsFd as _, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    net::sockopt::{socket_acceptconn, socket_peercred},
    process::{Resource, Rlimit, getrlimit, getuid, setrlimit},
};
use socket2::{Domain, SockAddr, Socket, Type};
use thiserror::Error;
use tracing::{info, warn};

use super::wire::{self, ABSENT, DROP, GET, LIST, Message, OK, PUT, REFUSED, STOP};
use crate::{
    files::{self, Lock},
    limits,
};

#[derive(Debug, Error)]
pub enum HoldError {
    #[error("another holder has {0}")]
    Held(PathBuf),
    #[error("cannot make the holder's socket {path}")]
    Socket { path: PathBuf, source: io::Error },
    #[error("the holder's loop failed")]
    Poll(#[from] rustix::io::Errno),
}

/// Runs a holder at `path` until an agent tells it to stop, or a signal ends it; the kernel then closes what it held.
pub fn hold(path: &Path) -> Result<(), HoldError> {
    let fail = |source| HoldError::Socket { path: path.to_owned(), source };
    // A session of its own: what ends the agent's terminal or process group does not reach it. It may be a leader already.
    let _ = rustix::process::setsid();
    let _lock = Lock::take(&path.with_extension("lock")).map_err(fail)?.ok_or_else(|| HoldError::Held(path.to_owned()))?;
    raise_descriptor_limit();
    let listener = files::bind_private(path, bind).map_err(fail)?;
    info!(socket = %path.display(), "holder is ready");
    let served = serve(&listener);
    let _ = std::fs::remove_file(path);
    served
}

fn bind(path: &Path) -> io::Result<Socket> {
    let listener = Socket::new(Domain::UNIX, Type::SEQPACKET, None)?;
    listener.bind(&SockAddr::unix(path)?)?;
    listener.listen(limits::HOLDER_PEERS_MAX as i32)?;
    Ok(listener)
}

fn serve(listener: &Socket) -> Result<(), HoldError> {
    let mut held = Held::default();
    let mut peers: Vec<Socket> = Vec::new();
    loop {
        let (new, ready) = wait(listener, &peers)?;
        // From the back, so that removal moves no index that is still to come.
        for i in ready.into_iter().rev() {
            match held.serve(&peers[i]) {
                Next::Stay => {}
                Next::Close => drop(peers.swap_remove(i)),
                Next::Stop => return Ok(()),
            }
        }
        if new {
            peers.extend(admit(listener, peers.len()));
        }
    }
}

fn wait(listener: &Socket, peers: &[Socket]) -> Result<(bool, Vec<usize>), HoldError> {
    let mut fds: Vec<PollFd<'_>> = peers.iter().chain([listener]).map(|s| PollFd::new(s, PollFlags::IN)).collect();
    match poll(&mut fds, None) {
        Ok(_) => {}
        Err(rustix::io::Errno::INTR) => return Ok((false, Vec::new())),
        Err(e) => return Err(e.into()),
    }
    let due = |fd: &PollFd<'_>| !fd.revents().is_empty();
    Ok((due(&fds[peers.len()]), (0..peers.len()).filter(|i| due(&fds[*i])).collect()))
}

fn admit(listener: &Socket, peers: usize) -> Option<Socket> {
    let (peer, _) = listener.accept().ok()?;
    let credentials = socket_peercred(&peer).ok()?;
    if credentials.uid != getuid() {
        warn!(uid = credentials.uid.as_raw(), pid = credentials.pid.as_raw_nonzero().get(), "a process of another user is refused");
        return None;
    }
    if peers >= limits::HOLDER_PEERS_MAX {
        warn!(peers, "too many agents at once: the newest is closed");
        return None;
    }
    peer.set_nonblocking(true).ok()?;
    Some(peer)
}

fn raise_descriptor_limit() {
    let wanted = limits::HELD_MAX as u64 + 64;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_some_and(|c| c < wanted) {
        let current = Some(maximum.map_or(wanted, |m| wanted.min(m)));
        if setrlimit(Resource::Nofile, Rlimit { current, maximum }).is_err() {
            warn!(wanted, "the limit of open descriptors cannot be raised");
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Stay,
    Close,
    Stop,
}

/// What a holder holds, and how it answers. Keys mean nothing to it.
#[derive(Debug, Default)]
pub(super) struct Held {
    listeners: BTreeMap<String, OwnedFd>,
}

impl Held {
    /// Answers one request. A peer that does not read its answers is closed rather than waited for.
    pub(super) fn serve(&mut self, peer: &Socket) -> Next {
        let request = match wire::receive(peer) {
            Ok(Some(request)) => request,
            Ok(None) => return Next::Close,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Next::Stay,
            Err(error) => {
                let _ = wire::send(peer, REFUSED, &error.to_string(), None);
                return Next::Close;
            }
        };
        let stop = request.code == STOP;
        let answer = self.answer(request);
        let sent = wire::send(peer, answer.code, &answer.text, answer.fd.as_ref().map(|fd| fd.as_fd()));
        match (stop, sent) {
            (true, _) => Next::Stop,
            (false, Ok(())) => Next::Stay,
            (false, Err(_)) => Next::Close,
        }
    }

    fn answer(&mut self, request: Message) -> Message {
        match request.code {
            PUT => self.put(request.text, request.fd),
            GET => match self.listeners.get(&request.text).map(OwnedFd::try_clone) {
                Some(Ok(fd)) => Message { fd: Some(fd), ..Message::new(OK, "") },
                Some(Err(error)) => Message::new(REFUSED, format!("cannot duplicate {}: {error}", request.text)),
                None => Message::new(ABSENT, ""),
            },
            DROP => Message::new(if self.listeners.remove(&request.text).is_some() { OK } else { ABSENT }, ""),
            LIST => {
                let behind = (Bound::Excluded(request.text.as_str()), Bound::Unbounded);
                let page: Vec<&str> = self.listeners.range::<str, _>(behind).take(wire::PAGE_KEYS).map(|(k, _)| k.as_str()).collect();
                Message::new(OK, page.join("\n"))
            }
            STOP => {
                info!(listeners = self.listeners.len(), "holder is told to stop");
                Message::new(OK, "")
            }
            other => Message::new(REFUSED, format!("request {other} is not known")),
        }
    }

    fn put(&mut self, key: String, fd: Option<OwnedFd>) -> Message {
        let Some(fd) = fd else { return Message::new(REFUSED, "no descriptor came with the key") };
        if key.is_empty() || key.len() > limits::KEY_MAX_BYTES || !key.bytes().all(|b| b.is_ascii_graphic()) {
            return Message::new(REFUSED, "the key is no short printable text");
        }
        if !socket_acceptconn(&fd).unwrap_or(false) {
            return Message::new(REFUSED, "the descriptor is no listening socket");
        }
        if self.listeners.len() >= limits::HELD_MAX && !self.listeners.contains_key(&key) {
            return Message::new(REFUSED, format!("the holder keeps {} listeners and takes no more", limits::HELD_MAX));
        }
        self.listeners.insert(key, fd);
        Message::new(OK, "")
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::holder::{Client, HolderError, Key, Role};

    const CAPTURE: Key = Key { role: Role::Capture, netns: 7, cgroup: 9 };
    const TUNNEL: Key = Key { role: Role::Tunnel, netns: 7, cgroup: 0 };

    /// A holder on one end of a socket pair, its client on the other.
    fn pair() -> (Client, std::thread::JoinHandle<Next>) {
        let (ours, theirs) = Socket::pair(Domain::UNIX, Type::SEQPACKET, None).unwrap();
        let served = std::thread::spawn(move || {
            let mut held = Held::default();
            loop {
                match held.serve(&theirs) {
                    Next::Stay => {}
                    end => return end,
                }
            }
        });
        (Client::over(ours).unwrap(), served)
    }

    #[test]
    fn a_listener_outlives_its_first_owner() {
        let (client, served) = pair();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        client.put(CAPTURE, listener.as_fd()).unwrap();
        drop(listener);
        // Nobody accepts, and yet the handshake completes and waits.
        let _waiting = std::net::TcpStream::connect(addr).unwrap();
        let back = TcpListener::from(client.get(CAPTURE).unwrap().unwrap());
        assert_eq!(back.local_addr().unwrap(), addr);
        back.accept().unwrap();
        assert!(client.get(TUNNEL).unwrap().is_none());
        drop(back);
        assert!(client.drop_key(CAPTURE).unwrap());
        assert!(!client.drop_key(CAPTURE).unwrap());
        std::net::TcpStream::connect(addr).unwrap_err();
        drop(client);
        assert_eq!(served.join().unwrap(), Next::Close);
    }

    #[test]
    fn all_pages_of_keys_are_listed() {
        let (client, _served) = pair();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let keys: Vec<Key> = (0..600).map(|netns| Key { role: Role::Tunnel, netns, cgroup: 0 }).collect();
        for key in &keys {
            client.put(*key, listener.as_fd()).unwrap();
        }
        assert_eq!(client.list().unwrap(), keys);
    }

    #[test]
    fn only_listeners_are_kept() {
        let (client, served) = pair();
        let (a, _b) = std::os::unix::net::UnixStream::pair().unwrap();
        let error = client.put(CAPTURE, a.as_fd()).unwrap_err();
        assert!(matches!(&error, HolderError::Refused(why) if why.contains("no listening socket")), "{error}");
        client.stop().unwrap();
        assert_eq!(served.join().unwrap(), Next::Stop);
    }

    #[test]
    fn another_protocol_version_is_refused_with_both_numbers() {
        let (ours, theirs) = Socket::pair(Domain::UNIX, Type::SEQPACKET, None).unwrap();
        ours.send(&[9, PUT, b'x']).unwrap();
        assert_eq!(Held::default().serve(&theirs), Next::Close);
        let answer = wire::receive(&ours).unwrap().unwrap();
        assert!(answer.text.contains('9') && answer.text.contains('1'), "{}", answer.text);
    }

    #[test]
    fn a_second_holder_is_refused_and_a_stale_socket_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("holder.sock");
        drop(files::bind_private(&path, bind).unwrap());
        let at = path.clone();
        let first = std::thread::spawn(move || hold(&at));
        let deadline = std::time::Instant::now() + limits::HOLDER_TIMEOUT;
        let client = loop {
            match Client::connect(&path) {
                Ok(client) => break client,
                Err(e) if std::time::Instant::now() > deadline => panic!("{e}"),
                Err(_) => std::thread::yield_now(),
            }
        };
        assert!(matches!(hold(&path), Err(HoldError::Held(_))));
        client.stop().unwrap();
        first.join().unwrap().unwrap();
        assert!(!path.exists());
    }
}
