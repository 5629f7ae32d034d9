//! Packets without a connection: enrolled workloads may ask the named resolvers, and for an echo of who a grant names; datagrams to workloads of this
//! node are `udp`'s; nothing else leaves that is no judged TCP.

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
    judge::{Class, Judgement, Signs, classify},
    packet::asks,
};

use crate::{
    connect::{self, is_resolver},
    ctx::{read_ip6, user_ip6},
    dial::{self, Aim},
    emit::{self, Seen},
    listen::is_shared,
    maps::{self, Slot},
    udp, who,
};

const REFUSE: i32 = 0;
const PASS: i32 = 1;
const SOCK_STREAM: u32 = 1;
pub const TCP_LISTEN: u32 = 10;
const ETH_P_IP: u32 = 0x0800;
const ETH_P_IPV6: u32 = 0x86dd;
const IPPROTO_HOPOPTS: u8 = 0;
/// Behind the next header: no further eight bytes, the option's type, its length.
const JUMBO_OPTION: [u8; 3] = [0, 0xc2, 4];

#[cgroup_sock_addr(sendmsg4)]
pub fn weft_sendmsg4(ctx: SockAddrContext) -> i32 {
    // SAFETY: a field of the context.
    let addr = Addr::from_v4_be(unsafe { (*ctx.sock_addr).user_ip4 });
    sendmsg(&ctx, addr, false)
}

#[cgroup_sock_addr(sendmsg6)]
pub fn weft_sendmsg6(ctx: SockAddrContext) -> i32 {
    sendmsg(&ctx, user_ip6(&ctx), true)
}

#[inline(always)]
fn sendmsg(ctx: &SockAddrContext, addr: Addr, family6: bool) -> i32 {
    let sa = ctx.sock_addr;
    // SAFETY: fields of the context, and a helper that takes it.
    let (sk, proto, port, cookie) =
        unsafe { ((*sa).__bindgen_anon_1.sk, (*sa).protocol as u8, u16::from_be((*sa).user_port as u16), bpf_get_netns_cookie(ctx.as_ptr())) };
    let because = |reason| Judgement { reason: u32::from(reason), service_port: port, ..Judgement::default() };
    let (source, j) = match who::caller(sk, cookie) {
        Class::Unmanaged | Class::Exempt => return PASS,
        Class::Enrolled(id) if proto == PROTO_UDP => {
            // Without an address (control messages on a connected socket), and where the packet itself shows all: judged on its way out.
            if port == 0 || is_resolver(&addr, port) || (addr.is_loopback() && udp::is_of_one(cookie)) {
                return PASS;
            }
            match dial::aim(sk, id, cookie, &addr, port) {
                Aim::Leave => return PASS,
                Aim::Refused(j) => (id, j),
                Aim::To(to, to_port, _) if dial::remember(sk, &addr, port, &to, to_port, false) => {
                    // A mapped address is left as it is: this hook may not write one.
                    if to != addr || to_port != port {
                        connect::rewrite(sa, &to, to_port, family6);
                    }
                    return PASS;
                }
                Aim::To(..) => {
                    emit::count(COUNT_DATAGRAM_FULL);
                    (id, because(REASON_INTERNAL))
                }
            }
        }
        Class::Enrolled(id) => (id, because(REASON_PROTOCOL)),
        Class::Unidentified => (0, because(REASON_UNIDENTIFIED)),
        Class::Mixed => (0, because(REASON_MIXED_IDENTITY)),
    };
    let seen = Seen { flow: emit::flow_id(), netns: cookie, source, revision: who::generation().1, addr: &addr, port, proto, path: 0, with_task: true };
    emit::flow(&seen, &j);
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
        Class::Enrolled(id) if may_leave(&ctx, sk, id, signs.home) => PASS,
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

/// A packet of an enrolled workload: TCP of a judged socket, a question to a resolver, or an echo request that a grant covers.
#[inline(always)]
fn may_leave(ctx: &SkBuffContext, sk: *mut bpf_sock, identity: u32, home: u64) -> bool {
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
        // A listener answers a SYN that sk_lookup has let in; everything else needs the record of a verdict.
        return (to.is_loopback() && !is_shared(home)) || state == TCP_LISTEN || maps::record(sk, false).is_some_and(|r| !translated(ctx, sk, r, &to, header));
    }
    if proto == PROTO_ICMP || proto == PROTO_ICMPV6 {
        let request = if proto == PROTO_ICMP { [8, 0] } else { [128, 0] };
        let asked = matches!(ctx.load::<[u8; 2]>(header), Ok(kind) if kind == request);
        return asked && asks(&Slot(who::generation().0), identity, &to, true, false) < REASON_NO_GRANT;
    }
    match self::header(ctx, false) {
        Some((PROTO_UDP, from, _)) => udp::may_leave(ctx, sk, identity, home, &from, &to, header),
        _ => false,
    }
}

/// Whether the packet goes elsewhere than its socket is connected to: nothing that the workload dials may be led away after the verdict.
#[inline(always)]
fn translated(ctx: &SkBuffContext, sk: *mut bpf_sock, r: &Attestation, to: &Addr, header: usize) -> bool {
    if r.side != SIDE_CLIENT {
        return false;
    }
    let port = u16::from_be(ctx.load::<u16>(header + 2).unwrap_or(0));
    // SAFETY: fields of a full socket, in single loads.
    let same = unsafe {
        let there = if to.is_v4() { Addr::from_v4_be((*sk).dst_ip4) } else { read_ip6((&raw const (*sk).dst_ip6).cast()) };
        // Before Linux 5.18 the port could be loaded as a whole word only; the word is zero behind it ever since.
        there == *to && u16::from_be((&raw const (*sk).dst_port).cast::<u32>().read_volatile() as u16) == port
    };
    if !same {
        let seen = Seen { flow: r.flow, netns: 0, source: r.source, revision: r.revision, addr: to, port, proto: PROTO_TCP, path: 0, with_task: false };
        emit::denied(&seen, REASON_TRANSLATED);
    }
    !same
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
        let to = Addr::from_v6_be(ctx.load::<[u32; 4]>(if destination { 24 } else { 8 }).ok()?);
        // The stack itself puts a jumbo option (RFC 2675) in front of TCP's header when it hands a device more than 65,535 bytes at once.
        if proto == IPPROTO_HOPOPTS && ctx.load::<[u8; 3]>(41).ok()? == JUMBO_OPTION {
            return Some((ctx.load::<u8>(40).ok()?, to, 48));
        }
        return Some((proto, to, 40));
    }
    None
}
