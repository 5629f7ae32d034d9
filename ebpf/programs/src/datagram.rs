//! Packets without a connection: enrolled workloads may ask the named resolvers, and nothing else leaves that is no judged TCP.

use aya_ebpf::{
    EbpfContext as _,
    bindings::bpf_sock,
    helpers::generated::{bpf_get_netns_cookie, bpf_sk_fullsock, bpf_skb_ancestor_cgroup_id, bpf_skb_cgroup_id},
    macros::{cgroup_skb, cgroup_sock_addr},
    programs::{SkBuffContext, SockAddrContext},
};
use weft_ebpf_common::{
    abi::*,
    addr::Addr,
    judge::{Class, Signs, classify},
};

use crate::{
    connect::is_resolver,
    ctx::user_ip6,
    emit::{self, Seen},
    listen::is_shared,
    maps, who,
};

const REFUSE: i32 = 0;
const PASS: i32 = 1;
const SOCK_STREAM: u32 = 1;
pub const TCP_LISTEN: u32 = 10;
const ETH_P_IP: u32 = 0x0800;
const ETH_P_IPV6: u32 = 0x86dd;

#[cgroup_sock_addr(sendmsg4)]
pub fn weft_sendmsg4(ctx: SockAddrContext) -> i32 {
    // SAFETY: a field of the context.
    let addr = Addr::from_v4_be(unsafe { (*ctx.sock_addr).user_ip4 });
    sendmsg(&ctx, addr)
}

#[cgroup_sock_addr(sendmsg6)]
pub fn weft_sendmsg6(ctx: SockAddrContext) -> i32 {
    sendmsg(&ctx, user_ip6(&ctx))
}

#[inline(always)]
fn sendmsg(ctx: &SockAddrContext, addr: Addr) -> i32 {
    let sa = ctx.sock_addr;
    // SAFETY: fields of the context, and a helper that takes it.
    let (sk, proto, port, cookie) =
        unsafe { ((*sa).__bindgen_anon_1.sk, (*sa).protocol as u8, u16::from_be((*sa).user_port as u16), bpf_get_netns_cookie(ctx.as_ptr())) };
    let class = who::caller(sk, cookie);
    let (source, reason) = match class {
        Class::Unmanaged | Class::Exempt => return PASS,
        Class::Enrolled(_) if proto == PROTO_UDP && is_resolver(&addr, port) => return PASS,
        Class::Enrolled(id) => (id, REASON_PROTOCOL),
        Class::Unidentified => (0, REASON_UNIDENTIFIED),
        Class::Mixed => (0, REASON_MIXED_IDENTITY),
    };
    emit::denied(
        &Seen { flow: emit::flow_id(), netns: cookie, source, revision: who::generation().1, addr: &addr, port, proto, path: 0, with_task: true },
        reason,
    );
    REFUSE
}

#[cgroup_skb]
pub fn weft_egress(ctx: SkBuffContext) -> i32 {
    let mut signs = Signs::default();
    // SAFETY: helpers that take this hook's context; the socket pointer is checked before use.
    let sk = unsafe {
        signs.exempt = who::is_exempt(bpf_skb_cgroup_id(ctx.skb.skb));
        who::by_ancestors(&mut signs, |level| bpf_skb_ancestor_cgroup_id(ctx.skb.skb, level as i32));
        full_socket(&ctx)
    };
    if let Some(o) = maps::owner(sk, false) {
        signs.owner = *o;
        // A socket that weft made is weft's, whichever namespace it lives in.
        signs.exempt |= signs.task == 0 && !signs.managed && o.class == CLASS_EXEMPT;
    }
    match classify(&signs) {
        Class::Unmanaged | Class::Exempt => PASS,
        Class::Enrolled(_) if may_leave(&ctx, sk, signs.home) => PASS,
        _ => {
            emit::count(COUNT_EGRESS_REFUSED);
            REFUSE
        }
    }
}

/// # Safety
/// `ctx` is a cgroup_skb context.
#[inline(always)]
pub unsafe fn full_socket(ctx: &SkBuffContext) -> *mut bpf_sock {
    // SAFETY: the helper takes the context's socket, which may be null only after this check.
    unsafe {
        let sk = (*ctx.skb.skb).__bindgen_anon_2.sk;
        if sk.is_null() { sk } else { bpf_sk_fullsock(sk) }
    }
}

/// A packet of an enrolled workload: TCP of a judged socket, or a question to a resolver.
#[inline(always)]
fn may_leave(ctx: &SkBuffContext, sk: *mut bpf_sock, home: u64) -> bool {
    let Some((proto, to, header)) = destination(ctx) else { return false };
    if proto == PROTO_TCP {
        if sk.is_null() {
            return false;
        }
        // SAFETY: a full socket, checked above.
        let (kind, protocol, state) = unsafe { ((*sk).type_, (*sk).protocol, (*sk).state) };
        if kind != SOCK_STREAM || protocol != u32::from(PROTO_TCP) {
            return false;
        }
        // A listener answers a SYN that was let in; everything else needs the record of a verdict, but for loopback where it is one identity's own.
        return state == TCP_LISTEN || maps::record(sk, false).is_some() || (to.is_loopback() && !is_shared(home));
    }
    if proto != PROTO_UDP {
        return false;
    }
    match ctx.load::<u16>(header + 2) {
        Ok(port) => is_resolver(&to, u16::from_be(port)),
        Err(_) => false,
    }
}

#[inline(always)]
fn destination(ctx: &SkBuffContext) -> Option<(u8, Addr, usize)> {
    header(ctx, true)
}

/// Transport protocol, destination or source, and where the transport header starts. IPv6 extension headers are no judged TCP.
#[inline(always)]
pub fn header(ctx: &SkBuffContext, destination: bool) -> Option<(u8, Addr, usize)> {
    // SAFETY: a field of the context.
    let ethertype = u32::from(u16::from_be(unsafe { (*ctx.skb.skb).protocol } as u16));
    if ethertype == ETH_P_IP {
        let first = ctx.load::<u8>(0).ok()?;
        let proto = ctx.load::<u8>(9).ok()?;
        let to = ctx.load::<u32>(if destination { 16 } else { 12 }).ok()?;
        return Some((proto, Addr::from_v4_be(to), usize::from(first & 0x0f) * 4));
    }
    if ethertype == ETH_P_IPV6 {
        let proto = ctx.load::<u8>(6).ok()?;
        let to = ctx.load::<[u32; 4]>(if destination { 24 } else { 8 }).ok()?;
        return Some((proto, Addr::from_v6_be(to), 40));
    }
    None
}
