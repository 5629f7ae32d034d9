//! What the kernel knows of one connection, through its descriptor.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
    time::Duration,
};

use weft_ebpf_common::{Attestation, PATH_DELIVERED, SIDE_CLIENT, TupleKey, limits::DATAGRAM_IDLE_NS};

use crate::{Kernel, KernelError, sys, table::Table};

/// Where `struct tcp_info` (linux/tcp.h) has `tcpi_segs_in`, since 4.2.
const SEGMENTS_IN_AT: usize = 140;

/// How many segments have arrived on a TCP socket, with data and without.
pub fn segments(socket: BorrowedFd<'_>) -> io::Result<u32> {
    let mut info = [0_u8; SEGMENTS_IN_AT + 4];
    let mut len = info.len() as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes to `info`.
    let ret = unsafe { libc::getsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, info.as_mut_ptr().cast(), &raw mut len) };
    if ret < 0 {
        return Err(io::Error::last_os_error());
    }
    let [.., a, b, c, d] = info;
    Ok(u32::from_ne_bytes([a, b, c, d]))
}

impl Kernel {
    /// The record of a connected socket: who dialled, what, and by which rule. `None`: nobody attested it.
    pub fn attestation(&self, socket: BorrowedFd<'_>) -> io::Result<Option<Attestation>> {
        self.tables.socks.lookup(&(socket.as_raw_fd() as u32))
    }

    /// Before `connect()`: marks the agent's own socket as the delivery of a tunnelled connection to a workload of this node.
    ///
    /// `netns` must be the destination's cookie; side and path are set here.
    pub fn set_delivery(&self, socket: BorrowedFd<'_>, record: &Attestation) -> io::Result<()> {
        let record = Attestation { path: PATH_DELIVERED, side: SIDE_CLIENT, since_ns: sys::monotonic_ns(), ..*record };
        self.tables.socks.update(&(socket.as_raw_fd() as u32), &record)
    }

    /// Removes records of handshakes that nobody ended, oldest first to go; returns how many.
    pub fn sweep_attestations(&self, older_than: Duration) -> Result<usize, KernelError> {
        let horizon = sys::monotonic_ns().saturating_sub(u64::try_from(older_than.as_nanos()).unwrap_or(u64::MAX));
        sweep(&self.tables.attestations, horizon)
    }

    /// Removes the flows of datagrams that have been idle for too long to stand; the programs have not followed them since. Returns how many.
    pub fn sweep_datagrams(&self) -> Result<usize, KernelError> {
        sweep(&self.tables.datagrams, sys::monotonic_ns().saturating_sub(DATAGRAM_IDLE_NS))
    }
}

/// Removes what is older than `horizon_ns`. One that is used again in that very moment has to begin anew.
fn sweep(table: &Table<TupleKey, Attestation>, horizon_ns: u64) -> Result<usize, KernelError> {
    let mut swept = 0;
    for key in table.keys()? {
        if table.get(&key)?.is_some_and(|r| r.since_ns < horizon_ns) && table.remove(&key)? {
            swept += 1;
        }
    }
    Ok(swept)
}
