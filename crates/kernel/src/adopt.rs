//! Sockets from before the enrolment: one whose connection is granted all the same gets the record that the hook at its connect would have
//! written, and one that listens is told its namespace where the kernel's programs cannot ask for it.

use std::{
    fs, io,
    os::fd::{AsRawFd as _, OwnedFd},
    path::Path,
};

use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use weft_ebpf_common::Attestation;

use crate::{
    Kernel, KernelError, cgroup::processes, host::offers, limits::LISTENERS_MAX, listening::listeners, sockets::LiveSocket, sys, workloads::Enrolment,
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
        for fd in listeners(e.netns)?.iter().take(LISTENERS_MAX).filter_map(|l| descriptor(&e.cgroup, l.inode)) {
            self.tables.homes.put(&(fd.as_raw_fd() as u32), &e.netns.cookie())?;
        }
        Ok(())
    }
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
        let taken = Pid::from_raw(pid.cast_signed()).and_then(|pid| pidfd_getfd(pidfd_open(pid, PidfdFlags::empty()).ok()?, fd, PidfdGetfdFlags::empty()).ok());
        // Between the look and the duplicate the number may have come to name something else.
        if let Some(taken) = taken.filter(|t| rustix::fs::fstat(t).is_ok_and(|s| s.st_ino == u64::from(inode))) {
            return Some(taken);
        }
    }
    None
}
