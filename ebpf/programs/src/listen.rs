//! Who listens where, in namespaces that several share: there an address says nothing of whose it is, so the one who has bound the port
//! does. Known at `bind()`, whoever binds; what was bound before, the agent adds from sock_diag, and takes away what has been closed.

use aya_ebpf::{
    EbpfContext as _,
    helpers::{bpf_ktime_get_ns, generated::bpf_get_netns_cookie},
    macros::cgroup_sock,
    programs::SockContext,
};
use weft_ebpf_common::{abi::*, addr::Addr, judge::Signs};

use crate::{
    ctx::read_ip6,
    maps::{LISTENING, NETNS},
    who,
};

const REFUSE: i32 = 0;
const PASS: i32 = 1;
const SOCK_STREAM: u32 = 1;

#[cgroup_sock(post_bind4)]
pub fn weft_post_bind4(ctx: SockContext) -> i32 {
    // SAFETY: a field of the context.
    let addr = Addr::from_v4_be(unsafe { (*ctx.sock).src_ip4 });
    bound(&ctx, addr)
}

#[cgroup_sock(post_bind6)]
pub fn weft_post_bind6(ctx: SockContext) -> i32 {
    // SAFETY: a field of the context.
    let addr = unsafe { read_ip6((&raw const (*ctx.sock).src_ip6).cast()) };
    bound(&ctx, addr)
}

#[inline(always)]
fn bound(ctx: &SockContext, addr: Addr) -> i32 {
    // SAFETY: fields of the context, and a helper that takes it.
    let (kind, protocol, port, netns) = unsafe { ((*ctx.sock).type_, (*ctx.sock).protocol, (*ctx.sock).src_port as u16, bpf_get_netns_cookie(ctx.as_ptr())) };
    if kind != SOCK_STREAM || protocol != u32::from(PROTO_TCP) || !is_shared(netns) {
        return PASS;
    }
    let mut signs = Signs::default();
    who::task(&mut signs);
    let key = key(netns, &addr, port);
    // SAFETY: the value is copied at once.
    let held = unsafe { LISTENING.get(&key) }.map_or(0, |l| l.identity);
    if held == signs.task {
        return PASS;
    }
    // A second one on the same port (SO_REUSEPORT, or one family each) makes it nobody's; whose it is in the end, the agent finds out.
    let identity = if held == 0 { signs.task } else { LISTEN_DISPUTED };
    // SAFETY: helper without preconditions.
    let since_ns = unsafe { bpf_ktime_get_ns() };
    if LISTENING.insert(&key, &Listen { identity, pad: 0, since_ns }, 0).is_ok() { PASS } else { REFUSE }
}

#[inline(always)]
pub fn is_shared(netns: u64) -> bool {
    // SAFETY: entries are replaced whole; read within this run.
    unsafe { NETNS.get(&netns) }.is_some_and(|n| n.flags & NETNS_SHARED != 0)
}

/// Identity of the workload that listens there; 0: nobody that is known.
#[inline(always)]
pub fn listener(netns: u64, addr: &Addr, port: u16) -> u32 {
    // SAFETY: the value is copied at once.
    if let Some(l) = unsafe { LISTENING.get(&key(netns, addr, port)) } {
        return l.identity;
    }
    // SAFETY: as above.
    unsafe { LISTENING.get(&key(netns, &Addr::UNSPECIFIED, port)) }.map_or(0, |l| l.identity)
}

#[inline(always)]
fn key(netns: u64, addr: &Addr, port: u16) -> ListenKey {
    ListenKey { netns, addr: if addr.is_unspecified() { Addr::UNSPECIFIED } else { *addr }, port, pad: [0; 6] }
}
