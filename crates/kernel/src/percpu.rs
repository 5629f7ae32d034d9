//! Per-CPU counters: the kernel hands out one value for every possible CPU.

use std::{io, os::fd::BorrowedFd, ptr};

use crate::sys;

/// Sum over all CPUs of `index` in a per-CPU array of u64.
pub(crate) fn sum(map: BorrowedFd<'_>, index: u32) -> io::Result<u64> {
    let cpus = aya::util::nr_cpus().map_err(|(_, e)| e)?;
    let mut values = vec![0_u64; cpus];
    // SAFETY: the key is a u32, and the buffer holds eight bytes for each possible CPU, which is how the kernel counts.
    unsafe { sys::lookup(map, ptr::from_ref(&index).cast(), values.as_mut_ptr().cast()) }?;
    Ok(values.iter().sum())
}
