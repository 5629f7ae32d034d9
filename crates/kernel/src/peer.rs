//! Who connected to a unix socket, in a way that no reuse of process numbers can falsify.

use std::{
    io, mem,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
};

/// The process (its thread group) that connected, as a descriptor that stands for it and no other. `None`: this kernel keeps none (before 6.5).
///
/// # Errors
/// When it has gone already, or the socket is no connected unix socket.
pub fn pidfd(socket: BorrowedFd<'_>) -> io::Result<Option<OwnedFd>> {
    let mut fd: RawFd = -1;
    let mut size = mem::size_of::<RawFd>() as libc::socklen_t;
    // SAFETY: the kernel writes one int of that size, into one of that size.
    let got = unsafe { libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_PEERPIDFD, (&raw mut fd).cast(), &raw mut size) };
    if got == 0 && fd >= 0 {
        // SAFETY: the kernel has just opened it for this process, and nobody else knows its number.
        return Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) }));
    }
    match io::Error::last_os_error() {
        e if e.raw_os_error() == Some(libc::ENOPROTOOPT) => Ok(None),
        e => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use std::os::{fd::AsFd as _, unix::net::UnixStream};

    use super::*;

    #[test]
    fn the_descriptor_is_of_who_connected() {
        let (one, _other) = UnixStream::pair().unwrap();
        let Some(fd) = pidfd(one.as_fd()).unwrap() else { return };
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).unwrap();
        assert!(info.contains(&format!("Pid:\t{}\n", std::process::id())), "{info}");
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(pidfd(file.as_fd()).is_err());
    }
}
