//! Addresses in the contexts of hooks: four single loads or stores, since the verifier takes no wider ones.

use aya_ebpf::{bindings::bpf_sock_addr, programs::SockAddrContext};
use weft_ebpf_common::addr::Addr;

/// # Safety
/// `p` points at the four words of an IPv6 address in a context.
#[inline(always)]
pub unsafe fn read_ip6(p: *const u32) -> Addr {
    // SAFETY: by the contract.
    unsafe { Addr::from_v6_be([p.read_volatile(), p.add(1).read_volatile(), p.add(2).read_volatile(), p.add(3).read_volatile()]) }
}

#[inline(always)]
pub fn user_ip6(ctx: &SockAddrContext) -> Addr {
    // SAFETY: a field of the context.
    unsafe { read_ip6((&raw const (*ctx.sock_addr).user_ip6).cast()) }
}

/// # Safety
/// `sa` is the context of a hook that may write `user_ip6`.
#[inline(always)]
pub unsafe fn write_ip6(sa: *mut bpf_sock_addr, to: &Addr) {
    // SAFETY: by the contract.
    unsafe {
        let ip = (&raw mut (*sa).user_ip6).cast::<u32>();
        ip.write_volatile(to.words[0]);
        ip.add(1).write_volatile(to.words[1]);
        ip.add(2).write_volatile(to.words[2]);
        ip.add(3).write_volatile(to.words[3]);
    }
}
