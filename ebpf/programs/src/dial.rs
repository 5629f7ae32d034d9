//! Where a datagram socket's datagrams go: `connect()` and `sendmsg()` aim at an endpoint of this node what is granted, and `recvmsg()` says that an
//! answer comes from the address that was dialled. Nothing is allowed here: each datagram is judged on its way out.

use aya_ebpf::{
    EbpfContext as _,
    bindings::bpf_sock,
    helpers::generated::{bpf_get_netns_cookie, bpf_get_prandom_u32, bpf_sk_storage_delete},
    macros::cgroup_sock_addr,
    programs::SockAddrContext,
};
use weft_ebpf_common::{
    abi::*,
    addr::Addr,
    datagram::{Flows as _, on_this_node},
    judge::{Class, Judgement, judge},
    limits::{DATAGRAM_IDLE_NS, PEERS_MAX},
};

use crate::{
    connect::{is_resolver, rewrite},
    ctx::{user_ip6, write_ip6},
    emit,
    maps::{self, LOCAL, Slot},
    udp::{local, now},
    who,
};

const PASS: i32 = 1;

#[cgroup_sock_addr(connect4)]
pub fn weft_dial4(ctx: SockAddrContext) -> i32 {
    // SAFETY: a field of the context.
    let addr = Addr::from_v4_be(unsafe { (*ctx.sock_addr).user_ip4 });
    dial(&ctx, &addr, false)
}

#[cgroup_sock_addr(connect6)]
pub fn weft_dial6(ctx: SockAddrContext) -> i32 {
    dial(&ctx, &user_ip6(&ctx), true)
}

/// A granted datagram socket is connected to an endpoint of this node, and remembers what it dialled; any other to what it asked for.
#[inline(always)]
fn dial(ctx: &SockAddrContext, dialled: &Addr, family6: bool) -> i32 {
    let sa = ctx.sock_addr;
    // SAFETY: fields of the context, and a helper that takes it.
    let (sk, proto, port, cookie) =
        unsafe { ((*sa).__bindgen_anon_1.sk, (*sa).protocol as u8, u16::from_be((*sa).user_port as u16), bpf_get_netns_cookie(ctx.as_ptr())) };
    if proto != PROTO_UDP {
        return PASS;
    }
    let Class::Enrolled(source) = who::caller(sk, cookie) else { return PASS };
    forget(sk);
    if is_resolver(dialled, port) {
        return PASS;
    }
    let Aim::To(to, to_port, j) = aim(sk, source, cookie, dialled, port) else { return PASS };
    if !remember(sk, dialled, port, &to, to_port, true) {
        emit::count(COUNT_DATAGRAM_FULL);
        return PASS;
    }
    let Some(r) = maps::record(sk, true) else { return PASS };
    r.flow = emit::flow_id();
    r.revision = who::generation().1;
    r.netns = local(&to).map_or(0, |l| l.netns);
    r.since_ns = now();
    (r.source, r.destination, r.rule, r.path) = (source, j.service, j.rule, PATH_SAME_NODE);
    (r.dialled, r.dialled_port, r.service_port) = (*dialled, port, j.service_port);
    (r.caller, r.caller_port, r.side) = (Addr::UNSPECIFIED, 0, SIDE_CLIENT);
    rewrite(sa, &to, to_port, family6);
    PASS
}

/// What the workload `source` dials, before there is a datagram.
pub enum Aim {
    /// As it is: the datagrams are judged on their way out.
    Leave,
    To(Addr, u16, Judgement),
    Refused(Judgement),
}

/// A virtual IP becomes an endpoint of this node, always the same one of a socket. An address that may be a caller's is left to the datagram, which
/// alone shows what it answers.
#[inline(always)]
pub fn aim(sk: *mut bpf_sock, source: u32, home: u64, dialled: &Addr, port: u16) -> Aim {
    let slot = Slot(who::generation().0);
    let mut j = judge(&slot, source, dialled, port, PROTO_UDP);
    if j.kind != DEST_VIP || !j.allows() {
        let there = local(dialled);
        let j = on_this_node(&slot, home, there, j);
        return match (j.allows(), there) {
            (true, _) => Aim::To(*dialled, port, j),
            (false, Some(_)) => Aim::Leave,
            (false, None) => Aim::Refused(j),
        };
    }
    let to = match known(sk, dialled, port, |p| p.to_port == j.target_port && local(&p.to).is_some_and(|l| slot.watched(l.netns) == j.service)) {
        Some(to) => Some(to),
        None if slot.watched(home) == 0 => None,
        None => backend(&slot, &j, dialled.is_v4()),
    };
    match to {
        Some(to) => Aim::To(to, j.target_port, j),
        None => {
            j.reason = u32::from(REASON_OTHER_NODE);
            Aim::Refused(j)
        }
    }
}

/// An endpoint on this node, the first that datagrams reach from a random one on.
#[inline(always)]
fn backend(slot: &Slot, j: &Judgement, v4: bool) -> Option<Addr> {
    // SAFETY: entries are replaced whole; read within this run.
    let backends = unsafe { LOCAL.get(&j.service) }?;
    let count = backends.count;
    if count == 0 {
        return None;
    }
    // SAFETY: helper without preconditions.
    let first = unsafe { bpf_get_prandom_u32() } % count;
    let mut i = 0;
    while i < 8 {
        let b = &backends.backends[(((first + i) % count) & 7) as usize];
        let addr = if v4 { &b.v4 } else { &b.v6 };
        if !addr.is_unspecified() && slot.watched(b.netns) == j.service {
            return Some(*addr);
        }
        i += 1;
    }
    None
}

/// The endpoint that this socket has dialled under that address before.
#[inline(always)]
fn known(sk: *mut bpf_sock, dialled: &Addr, port: u16, still: impl Fn(&Peer) -> bool) -> Option<Addr> {
    let peers = maps::peers(sk, false)?;
    let mut i = 0;
    while i < PEERS_MAX {
        let p = &peers.peers[i];
        if p.used_ns != 0 && p.dialled_port == port && p.dialled == *dialled && still(p) {
            return Some(p.to);
        }
        i += 1;
    }
    None
}

/// Keeps under which address the peer was dialled. False: the socket has too many such peers.
#[inline(always)]
pub fn remember(sk: *mut bpf_sock, dialled: &Addr, dialled_port: u16, to: &Addr, to_port: u16, connected: bool) -> bool {
    if dialled == to && dialled_port == to_port && maps::peers(sk, false).is_none() {
        return true;
    }
    let Some(peers) = maps::peers(sk, true) else { return false };
    let now = now();
    let used_ns = if connected { PEER_CONNECTED } else { now };
    let mut free = PEERS_MAX;
    let mut i = 0;
    while i < PEERS_MAX {
        let p = &mut peers.peers[i];
        if p.used_ns != 0 && p.to_port == to_port && p.to == *to {
            // The last name that it was dialled by, as there is no telling which one an answer is to; but for the one that the socket is connected by:
            // a mapped address comes through `sendmsg()` too, as the endpoint's.
            if connected || p.used_ns != PEER_CONNECTED {
                (p.dialled, p.dialled_port, p.used_ns) = (*dialled, dialled_port, used_ns);
            }
            return true;
        }
        if free == PEERS_MAX && p.used_ns != PEER_CONNECTED && (p.used_ns == 0 || now.saturating_sub(p.used_ns) >= DATAGRAM_IDLE_NS) {
            free = i;
        }
        i += 1;
    }
    if free >= PEERS_MAX {
        return false;
    }
    peers.peers[free & (PEERS_MAX - 1)] = Peer { used_ns, dialled: *dialled, to: *to, dialled_port, to_port, pad: 0 };
    true
}

/// What an earlier `connect()` left on the socket.
#[inline(always)]
pub fn forget(sk: *mut bpf_sock) {
    if sk.is_null() {
        return;
    }
    // SAFETY: the context's socket, checked above; a socket without storage is no error.
    unsafe { bpf_sk_storage_delete(core::ptr::addr_of!(maps::SOCKS).cast_mut().cast(), sk.cast()) };
    if let Some(peers) = maps::peers(sk, false) {
        let mut i = 0;
        while i < PEERS_MAX {
            if peers.peers[i].used_ns == PEER_CONNECTED {
                peers.peers[i].used_ns = 0;
            }
            i += 1;
        }
    }
}

#[cgroup_sock_addr(recvmsg4)]
pub fn weft_recvmsg4(ctx: SockAddrContext) -> i32 {
    // SAFETY: a field of the context.
    let from = Addr::from_v4_be(unsafe { (*ctx.sock_addr).user_ip4 });
    if let Some((addr, port)) = dialled_as(&ctx, &from) {
        // SAFETY: fields of the context that this hook may write.
        unsafe {
            (*ctx.sock_addr).user_ip4 = addr.words[3];
            (*ctx.sock_addr).user_port = u32::from(port.to_be());
        }
    }
    PASS
}

#[cgroup_sock_addr(recvmsg6)]
pub fn weft_recvmsg6(ctx: SockAddrContext) -> i32 {
    let from = user_ip6(&ctx);
    if let Some((addr, port)) = dialled_as(&ctx, &from) {
        // SAFETY: as above.
        unsafe {
            write_ip6(ctx.sock_addr, &addr);
            (*ctx.sock_addr).user_port = u32::from(port.to_be());
        }
    }
    PASS
}

#[inline(always)]
fn dialled_as(ctx: &SockAddrContext, from: &Addr) -> Option<(Addr, u16)> {
    // SAFETY: fields of the context.
    let (sk, port) = unsafe { ((*ctx.sock_addr).__bindgen_anon_1.sk, u16::from_be((*ctx.sock_addr).user_port as u16)) };
    let peers = maps::peers(sk, false)?;
    let mut i = 0;
    while i < PEERS_MAX {
        let p = &peers.peers[i];
        if p.used_ns != 0 && p.to_port == port && p.to == *from {
            return Some((p.dialled, p.dialled_port));
        }
        i += 1;
    }
    None
}
