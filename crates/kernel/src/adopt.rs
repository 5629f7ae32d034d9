//! Sockets from before the enrolment: one whose connection is granted all the same gets the record that the hook at its connect would have
//! written, and one that listens is told its namespace where the kernel's programs cannot ask for it.

use std::{
    fs, io,
    os::fd::{AsRawFd as _, OwnedFd},
    path::Path,
};

use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use weft_ebpf_common::{Attestation, PROTO_TCP};

use crate::{
    Kernel, KernelError,
    diag::{self, Diag},
    host::offers,
    limits::{LISTENERS_MAX, LISTENERS_TIMEOUT},
    sockets::LiveSocket,
    sys,
    workloads::Enrolment,
};

impl Kernel {
    /// Writes the record into the storage of a workload's own socket. False: no process of the cgroup holds it, or this kernel gives no descriptor of
    /// another process (`pidfd_getfd`, Linux 5.6).
    pub fn adopt(&self, cgroup: &Path, socket: &LiveSocket, record: &Attestation) -> io::Result<bool> {
        let Some(fd) = descriptor(cgroup, socket.inode) else { return Ok(false) };
        let record = Attestation { since_ns: sys::monotonic_ns(), ..*record };
        self.tables.socks.update(&(fd.as_raw_fd() as u32), &record).map(|()| true)
    }

    /// What `socket()` notes for every socket, for those that listened before there was a program: `HOMES`, where `sock_ops` relies on it. A
    /// listener that no process of the cgroup holds stays without, and every connection to it is refused.
    pub(crate) fn settle_listeners(&self, e: &Enrolment<'_>) -> Result<(), KernelError> {
        if offers().cookie_in_sock_ops {
            return Ok(());
        }
        let inodes = e.netns.run(listening).and_then(|r| r).map_err(|source| KernelError::SockDiag { path: e.netns.path().to_owned(), source })?;
        for fd in inodes.into_iter().filter_map(|inode| descriptor(&e.cgroup, inode)) {
            self.tables.homes.put(&(fd.as_raw_fd() as u32), &e.netns.cookie())?;
        }
        Ok(())
    }
}

fn listening() -> io::Result<Vec<u32>> {
    let (mut diag, mut inodes) = (Diag::open_here(LISTENERS_TIMEOUT)?, Vec::new());
    for family in [libc::AF_INET, libc::AF_INET6] {
        diag.list(family as u8, PROTO_TCP, 1 << diag::LISTEN, &[], |s| inodes.push(s.inode))?;
    }
    inodes.truncate(LISTENERS_MAX);
    Ok(inodes)
}

/// A duplicate of the socket, from whichever process below the cgroup has it open.
fn descriptor(cgroup: &Path, inode: u32) -> Option<OwnedFd> {
    let name = format!("socket:[{inode}]");
    for pid in processes(cgroup) {
        let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        let Some(fd) =
            open.filter(|e| fs::read_link(e.path()).is_ok_and(|to| to.as_os_str() == name.as_str())).find_map(|e| e.file_name().to_str()?.parse().ok())
        else {
            continue;
        };
        let taken = Pid::from_raw(pid).and_then(|pid| pidfd_getfd(pidfd_open(pid, PidfdFlags::empty()).ok()?, fd, PidfdGetfdFlags::empty()).ok());
        // Between the look and the duplicate the number may have come to name something else.
        if let Some(taken) = taken.filter(|t| rustix::fs::fstat(t).is_ok_and(|s| s.st_ino == u64::from(inode))) {
            return Some(taken);
        }
    }
    None
}

fn processes(cgroup: &Path) -> Vec<i32> {
    let mut found = Vec::new();
    let mut open = vec![cgroup.to_owned()];
    while let Some(dir) = open.pop() {
        let listed = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
        found.extend(listed.lines().filter_map(|l| l.parse::<i32>().ok()));
        open.extend(fs::read_dir(&dir).into_iter().flatten().flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()));
    }
    found
}
