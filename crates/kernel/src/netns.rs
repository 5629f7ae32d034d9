//! Network namespaces: opening, naming by cookie, and running a piece of code inside one on the calling thread.

use std::{
    fmt,
    fs::File,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::MetadataExt as _,
    },
    path::{Path, PathBuf},
    ptr,
    sync::Arc,
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::cookie;

/// An open network namespace. The open file keeps the namespace alive: drop it when the workload goes.
#[derive(Clone)]
pub struct Netns {
    path: PathBuf,
    file: Arc<File>,
    cookie: u64,
    inode: u64,
}

impl Netns {
    /// Opens `/proc/<pid>/ns/net`, `/run/netns/<name>` or the like.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        let path = path.as_ref();
        let file = File::open(path)?;
        let inode = file.metadata()?.ino();
        let mut netns = Self { path: path.to_owned(), file: Arc::new(file), cookie: 0, inode };
        netns.cookie = netns.run(cookie::here)??;
        Ok(netns)
    }

    /// The calling thread's own.
    pub fn current() -> io::Result<Self> {
        let path = PathBuf::from("/proc/thread-self/ns/net");
        let file = File::open(&path)?;
        let inode = file.metadata()?.ino();
        Ok(Self { path, file: Arc::new(file), cookie: cookie::here()?, inode })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The kernel's number of this namespace, never used twice until reboot.
    pub fn cookie(&self) -> u64 {
        self.cookie
    }

    /// Inode of the namespace: equal for two paths to the same one, reused after it is gone.
    pub fn inode(&self) -> u64 {
        self.inode
    }

    /// Runs `f` inside the namespace, on this thread. Sockets made in `f` stay in the namespace. `f` must not await.
    ///
    /// Aborts the process if the thread cannot come back: nothing may go on in a namespace that it does not know of.
    pub fn run<T>(&self, f: impl FnOnce() -> T) -> io::Result<T> {
        let home = File::open("/proc/thread-self/ns/net")?;
        move_into_link_name_space(self.file.as_fd(), Some(LinkNameSpaceType::Network))?;
        let _back = Back(home);
        Ok(f())
    }

    /// Addresses of the namespace's interfaces that others can reach: neither loopback nor link-local.
    pub fn addresses(&self) -> io::Result<Vec<IpAddr>> {
        self.run(addresses_here)?
    }
}

impl fmt::Debug for Netns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Netns({}, cookie {})", self.path.display(), self.cookie)
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

struct Back(File);

impl Drop for Back {
    fn drop(&mut self) {
        if let Err(e) = move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::Network)) {
            eprintln!("a thread cannot return to its network namespace: {e}");
            std::process::abort();
        }
    }
}

fn addresses_here() -> io::Result<Vec<IpAddr>> {
    let mut list: *mut libc::ifaddrs = ptr::null_mut();
    // SAFETY: on success `list` is a list that is ours to free.
    if unsafe { libc::getifaddrs(&raw mut list) } < 0 {
        return Err(io::Error::last_os_error());
    }
    let mut found = Vec::new();
    let mut at = list;
    while !at.is_null() {
        // SAFETY: `at` is a node of the list, which is freed only after the loop; its address is null or points at a sockaddr of its family.
        unsafe {
            let node = &*at;
            if let Some(ip) = ip_of(node.ifa_addr)
                && is_reachable(ip)
                && !found.contains(&ip)
            {
                found.push(ip);
            }
            at = node.ifa_next;
        }
    }
    // SAFETY: from getifaddrs, freed once.
    unsafe { libc::freeifaddrs(list) };
    Ok(found)
}

/// # Safety
/// `addr` is null or points at a socket address as long as its family says.
unsafe fn ip_of(addr: *const libc::sockaddr) -> Option<IpAddr> {
    if addr.is_null() {
        return None;
    }
    // SAFETY: by the contract.
    unsafe {
        match i32::from((*addr).sa_family) {
            libc::AF_INET => Some(Ipv4Addr::from(u32::from_be((*addr.cast::<libc::sockaddr_in>()).sin_addr.s_addr)).into()),
            libc::AF_INET6 => Some(Ipv6Addr::from((*addr.cast::<libc::sockaddr_in6>()).sin6_addr.s6_addr).into()),
            _ => None,
        }
    }
}

fn is_reachable(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_link_local() && !v4.is_unspecified(),
        IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unicast_link_local() && !v6.is_unspecified(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_namespace_is_known_by_two_paths() {
        let (a, b) = (Netns::current().unwrap(), Netns::current().unwrap());
        assert_eq!((a.cookie(), a.inode()), (b.cookie(), b.inode()));
        assert_ne!(a.cookie(), 0);
    }

    #[test]
    fn only_addresses_that_others_can_reach_count() {
        let check = |ip: &str, expect: bool| assert_eq!(is_reachable(ip.parse().unwrap()), expect, "{ip}");
        check("10.0.0.1", true);
        check("2001:db8::1", true);
        check("fd00::1", true);
        check("127.0.0.1", false);
        check("169.254.1.1", false);
        check("fe80::1", false);
        check("::1", false);
    }
}
