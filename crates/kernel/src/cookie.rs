//! The cookie of the calling thread's network namespace. `SO_NETNS_COOKIE` tells it (Linux 5.14). Before, only kernel programs are told it,
//! so a small one, attached to this process's own cgroup for as long as the process lives, notes it for every socket that is made.

use std::{
    fs::File,
    io,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    sync::OnceLock,
};

use rustix::process::{Resource, Rlimit, setrlimit};
use socket2::{Domain, Socket, Type};

use crate::{cgroup, limits::NOTES_MAX, object::SOCK_CREATE, sys};

/// Both missing in libc for some targets, and the same on all that we build for.
const SO_NETNS_COOKIE: libc::c_int = 71;
const SO_COOKIE: libc::c_int = 57;

pub(crate) fn here() -> io::Result<u64> {
    match option(&Socket::new(Domain::UNIX, Type::DGRAM, None)?, SO_NETNS_COOKIE) {
        Err(e) if e.raw_os_error() == Some(libc::ENOPROTOOPT) => Notes::of_this_process()?.here(),
        other => other,
    }
}

fn option(socket: &Socket, name: libc::c_int) -> io::Result<u64> {
    let mut value = 0_u64;
    let mut len = size_of::<u64>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes to `value`.
    let ret = unsafe { libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, name, (&raw mut value).cast(), &raw mut len) };
    if ret < 0 { Err(io::Error::last_os_error()) } else { Ok(value) }
}

/// Socket cookie → namespace cookie, of the sockets made last.
struct Notes {
    map: OwnedFd,
    /// Detaches the program with the process.
    _link: OwnedFd,
}

impl Notes {
    fn of_this_process() -> io::Result<&'static Self> {
        static NOTES: OnceLock<Notes> = OnceLock::new();
        if let Some(notes) = NOTES.get() {
            return Ok(notes);
        }
        // Two that are made at once are one too many, and the second detaches again.
        let made = Self::attach()?;
        Ok(NOTES.get_or_init(|| made))
    }

    fn attach() -> io::Result<Self> {
        // Before 5.11 tables are counted as locked memory, of which a process may have 64 KiB by default.
        let _ = setrlimit(Resource::Memlock, Rlimit { current: None, maximum: None });
        let own = cgroup::of_pid(std::process::id()).map_err(io::Error::other)?;
        let map = sys::map_create(sys::LRU_HASH, size_of::<u64>() as u32, size_of::<u64>() as u32, NOTES_MAX)?;
        let program = sys::program_load(sys::CGROUP_SOCK, SOCK_CREATE, &program(map.as_raw_fd()))?;
        let link = sys::link_create(program.as_fd(), File::open(own)?.as_fd(), SOCK_CREATE)?;
        Ok(Self { map, _link: link })
    }

    fn here(&self) -> io::Result<u64> {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
        let (key, mut cookie) = (option(&socket, SO_COOKIE)?, 0_u64);
        // SAFETY: key and value of the map are eight bytes each.
        let noted = unsafe { sys::lookup(self.map.as_fd(), (&raw const key).cast(), (&raw mut cookie).cast())? };
        if noted { Ok(cookie) } else { Err(io::Error::other("the kernel did not note the namespace of a new socket")) }
    }
}

/// `map[bpf_get_socket_cookie(ctx)] = bpf_get_netns_cookie(ctx); return 1`
fn program(map: i32) -> [u64; 16] {
    const GET_SOCKET_COOKIE: i32 = 46;
    const GET_NETNS_COOKIE: i32 = 122;
    const MAP_UPDATE_ELEM: i32 = 2;
    let op = |code: u64, dst: u64, src: u64, off: i16, imm: i32| code | dst << 8 | src << 12 | u64::from(off as u16) << 16 | u64::from(imm as u32) << 32;
    let mov = |dst, src| op(0xbf, dst, src, 0, 0);
    let set = |dst, imm| op(0xb7, dst, 0, 0, imm);
    let add = |dst, imm| op(0x07, dst, 0, 0, imm);
    let store = |off, src| op(0x7b, 10, src, off, 0);
    let call = |helper| op(0x85, 0, 0, 0, helper);
    [
        mov(6, 1),
        call(GET_NETNS_COOKIE),
        store(-8, 0),
        mov(1, 6),
        call(GET_SOCKET_COOKIE),
        store(-16, 0),
        // A map's address: two words, told from a number by the source register 1.
        op(0x18, 1, 1, 0, map),
        0,
        mov(2, 10),
        add(2, -16),
        mov(3, 10),
        add(3, -8),
        set(4, 0),
        call(MAP_UPDATE_ELEM),
        set(0, 1),
        op(0x95, 0, 0, 0, 0),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_tell_the_same() {
        let told = here().unwrap();
        // Without the privilege there is nothing to compare; the privileged tests run on kernels that have one way only.
        if let Ok(notes) = Notes::attach() {
            assert_eq!(notes.here().unwrap(), told);
        }
        assert_ne!(told, 0);
    }
}
