//! `getpeername()` and `accept()`: the client sees the address it dialled, the server its true caller.

use aya_ebpf::{macros::cgroup_sock_addr, programs::SockAddrContext};
use weft_ebpf_common::{abi::*, addr::Addr};

use crate::{ctx::write_ip6, maps};

const PASS: i32 = 1;

#[cgroup_sock_addr(getpeername4)]
pub fn weft_getpeername4(ctx: SockAddrContext) -> i32 {
    if let Some((addr, port)) = peer(&ctx) {
        // SAFETY: fields of the context that this hook may write.
        unsafe {
            (*ctx.sock_addr).user_ip4 = addr.words[3];
            (*ctx.sock_addr).user_port = u32::from(port.to_be());
        }
    }
    PASS
}

#[cgroup_sock_addr(getpeername6)]
pub fn weft_getpeername6(ctx: SockAddrContext) -> i32 {
    if let Some((addr, port)) = peer(&ctx) {
        // SAFETY: as above.
        unsafe {
            write_ip6(ctx.sock_addr, &addr);
            (*ctx.sock_addr).user_port = u32::from(port.to_be());
        }
    }
    PASS
}

#[inline(always)]
fn peer(ctx: &SockAddrContext) -> Option<(Addr, u16)> {
    // SAFETY: the context's socket.
    let sk = unsafe { (*ctx.sock_addr).__bindgen_anon_1.sk };
    let r = maps::record(sk, false)?;
    if r.side == SIDE_SERVER {
        (!r.caller.is_unspecified()).then_some((r.caller, r.caller_port))
    } else {
        (r.path == PATH_CAPTURED || r.path == PATH_SAME_NODE).then_some((r.dialled, r.dialled_port))
    }
}
