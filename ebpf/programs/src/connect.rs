//! `connect()`: one verdict, then the destination is rewritten to the endpoint itself (same node) or to the agent's listener
//! inside the caller's own namespace. No iptables, no conntrack, no route.

use aya_ebpf::{
    EbpfContext as _,
    bindings::{bpf_sock, bpf_sock_addr, sockaddr},
    helpers::{
        bpf_ktime_get_ns,
        generated::{bpf_bind, bpf_get_netns_cookie, bpf_get_prandom_u32, bpf_set_retval, bpf_setsockopt},
    },
    macros::cgroup_sock_addr,
    programs::SockAddrContext,
};
use weft_ebpf_common::{
    abi::*,
    addr::Addr,
    judge::{Class, Judgement, judge, judge_listener},
};

use crate::{
    ctx::{user_ip6, write_ip6},
    emit::{self, Seen},
    listen,
    maps::{self, LOCAL, LOCAL_ADDRS, RESOLVERS, Slot},
    offers, who,
};

const REFUSE: i32 = 0;
const PASS: i32 = 1;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
const ECONNREFUSED: i32 = 111;
const SOL_SOCKET: i32 = 1;
const SO_BINDTODEVICE: i32 = 25;
const LOOPBACK_V4: Addr = Addr::from_v4_be(u32::from_ne_bytes([127, 0, 0, 1]));
const LOOPBACK_V6: Addr = Addr::from_v6_be([0, 0, 0, 1_u32.to_be()]);

#[cgroup_sock_addr(connect4)]
pub fn weft_connect4(ctx: SockAddrContext) -> i32 {
    // SAFETY: fields of the context, which the verifier lets this hook read.
    let addr = Addr::from_v4_be(unsafe { (*ctx.sock_addr).user_ip4 });
    connect(&ctx, addr, false)
}

#[cgroup_sock_addr(connect6)]
pub fn weft_connect6(ctx: SockAddrContext) -> i32 {
    connect(&ctx, user_ip6(&ctx), true)
}

/// Where a granted connection goes.
struct Way {
    path: u32,
    netns: u64,
    to: Addr,
    port: u16,
}

#[inline(always)]
fn connect(ctx: &SockAddrContext, dialled: Addr, family6: bool) -> i32 {
    let sa = ctx.sock_addr;
    // SAFETY: as above.
    let (sk, proto, port) = unsafe { ((*sa).__bindgen_anon_1.sk, (*sa).protocol as u8, u16::from_be((*sa).user_port as u16)) };
    // SAFETY: the helper takes this hook's context.
    let cookie = unsafe { bpf_get_netns_cookie(ctx.as_ptr()) };
    let (class, netns, capture_port) = who::caller_in(sk, cookie);
    let (slot, revision) = who::generation();
    let mut seen = Seen { flow: 0, netns: cookie, source: 0, revision, addr: &dialled, port, proto, path: 0, with_task: true };
    let source = match class {
        Class::Unmanaged | Class::Exempt => return PASS,
        Class::Unidentified => return refuse(&mut seen, REASON_UNIDENTIFIED),
        Class::Mixed => return refuse(&mut seen, REASON_MIXED_IDENTITY),
        Class::Enrolled(id) => id,
    };
    seen.source = source;
    if matches!(proto, PROTO_UDP | PROTO_ICMP | PROTO_ICMPV6) {
        // Resolvers sort addresses by connecting and asking for the own name: let it, the packets are judged on their way out.
        return PASS;
    }
    if proto != PROTO_TCP {
        return refuse(&mut seen, REASON_PROTOCOL);
    }
    let Some(netns) = netns else { return refuse(&mut seen, REASON_NO_CAPTURE) };
    let shared = netns.flags & NETNS_SHARED != 0;
    let loopback = dialled.is_loopback() || dialled.is_unspecified();
    let canary = port == CANARY_PORT && (dialled == CANARY_V4 || dialled == CANARY_V6);
    if loopback && !shared {
        return PASS;
    }
    let mut j = Judgement { service_port: port, target_port: port, ..Judgement::default() };
    let way = if shared && port != TUNNEL_PORT && !is_resolver(&dialled, port) && (loopback || is_held(&dialled, cookie)) {
        j = judge_listener(&Slot(slot), source, listen::listener(cookie, &there(&dialled), port), port, proto);
        if !j.allows() {
            return refuse_judged(&mut seen, &j);
        }
        Way { path: PATH_LOCAL, netns: cookie, to: dialled, port }
    } else if port != TUNNEL_PORT && (dialled == netns.own_v4 || dialled == netns.own_v6) {
        j.reason = u32::from(REASON_LOCAL);
        Way { path: PATH_LOCAL, netns: cookie, to: dialled, port }
    } else if is_resolver(&dialled, port) {
        j.reason = u32::from(REASON_RESOLVER);
        Way { path: PATH_RESOLVER, netns: 0, to: dialled, port }
    } else if canary && capture_port != 0 {
        j.reason = u32::from(REASON_LOCAL);
        captured(&dialled, cookie, capture_port)
    } else {
        if revision == 0 {
            return refuse(&mut seen, REASON_NO_SNAPSHOT);
        }
        j = judge(&Slot(slot), source, &dialled, port, proto);
        if !j.allows() {
            return refuse_judged(&mut seen, &j);
        }
        match way(&j, &dialled, cookie, capture_port) {
            Some(w) => w,
            None => return refuse(&mut seen, REASON_NO_CAPTURE),
        }
    };
    seen.flow = emit::flow_id();
    let Some(record) = maps::record(sk, true) else { return refuse(&mut seen, REASON_INTERNAL) };
    *record = Attestation {
        flow: seen.flow,
        revision,
        netns: way.netns,
        // SAFETY: helper without preconditions.
        since_ns: unsafe { bpf_ktime_get_ns() },
        source,
        destination: j.service,
        rule: j.rule,
        path: way.path,
        dialled,
        caller: Addr::UNSPECIFIED,
        dialled_port: port,
        caller_port: 0,
        service_port: j.service_port,
        side: SIDE_CLIENT,
    };
    if way.path == PATH_CAPTURED {
        keep_source(ctx, sk, if dialled.is_v4() { &netns.own_v4 } else { &netns.own_v6 }, family6);
    }
    if way.path == PATH_CAPTURED || way.path == PATH_SAME_NODE {
        rewrite(sa, &way, family6);
    }
    // A canary is no flow of the workload.
    if !canary {
        seen.path = way.path;
        emit::flow(&seen, &j);
    }
    PASS
}

/// Same node if this agent holds an endpoint of the dialled family, else the agent's listener in the caller's namespace.
#[inline(always)]
fn way(j: &Judgement, dialled: &Addr, cookie: u64, capture_port: u16) -> Option<Way> {
    if j.kind == DEST_EXTERNAL {
        return Some(Way { path: PATH_INTERFACE, netns: 0, to: *dialled, port: j.target_port });
    }
    if j.kind == DEST_ENDPOINT {
        // Only where the agent's observation and the snapshot agree on whose address it is; else the tunnel asks for the identity.
        // SAFETY: the value is copied at once.
        if let Some(l) = unsafe { LOCAL_ADDRS.get(dialled) }
            && (l.service == j.service || (l.flags & u32::from(NETNS_SHARED) != 0 && listen::listener(l.netns, dialled, j.target_port) == j.service))
        {
            return Some(Way { path: PATH_SAME_NODE, netns: l.netns, to: *dialled, port: j.target_port });
        }
    } else if let Some(b) = local_backend(j, dialled.is_v4()) {
        return Some(Way { path: PATH_SAME_NODE, netns: b.netns, to: if dialled.is_v4() { b.v4 } else { b.v6 }, port: j.target_port });
    }
    if capture_port == 0 {
        return None;
    }
    Some(captured(dialled, cookie, capture_port))
}

/// To the agent's listener in the caller's namespace, whose port must be known.
#[inline(always)]
fn captured(dialled: &Addr, cookie: u64, capture_port: u16) -> Way {
    let to = if dialled.is_v4() { LOOPBACK_V4 } else { LOOPBACK_V6 };
    Way { path: PATH_CAPTURED, netns: cookie, to, port: capture_port }
}

#[inline(always)]
fn local_backend(j: &Judgement, v4: bool) -> Option<&'static LocalBackend> {
    // SAFETY: entries are replaced whole; read within this run.
    let local = unsafe { LOCAL.get(&j.service) }?;
    let count = local.count;
    if count == 0 {
        return None;
    }
    // SAFETY: helper without preconditions.
    let pick = unsafe { bpf_get_prandom_u32() } % count;
    let backend = local.backends.get((pick & 7) as usize)?;
    let addr = if v4 { &backend.v4 } else { &backend.v6 };
    if addr.is_unspecified() || (local.shared >> (pick & 7) & 1 != 0 && listen::listener(backend.netns, addr, j.target_port) != j.service) {
        return None;
    }
    Some(backend)
}

/// Whether that is an address of this very namespace, as far as the agent has told.
#[inline(always)]
fn is_held(addr: &Addr, cookie: u64) -> bool {
    // SAFETY: the value is copied at once.
    unsafe { LOCAL_ADDRS.get(addr) }.is_some_and(|l| l.netns == cookie)
}

/// Where a connection to the unspecified address goes.
#[inline(always)]
fn there(dialled: &Addr) -> Addr {
    match (dialled.is_unspecified(), dialled.is_v4()) {
        (false, _) => *dialled,
        (true, true) => LOOPBACK_V4,
        (true, false) => LOOPBACK_V6,
    }
}

#[inline(always)]
pub fn is_resolver(addr: &Addr, port: u16) -> bool {
    // SAFETY: only presence is asked.
    unsafe { RESOLVERS.get(&ResolverKey { addr: *addr, port, pad: 0 }) }.is_some()
}

#[inline(always)]
fn refuse(seen: &mut Seen<'_>, reason: u8) -> i32 {
    let port = seen.port;
    refuse_judged(seen, &Judgement { reason: u32::from(reason), service_port: port, ..Judgement::default() })
}

#[inline(always)]
fn refuse_judged(seen: &mut Seen<'_>, j: &Judgement) -> i32 {
    seen.flow = emit::flow_id();
    emit::flow(seen, j);
    if offers::set_retval() && who::state().is_some_and(|s| s.refuse != 0) {
        // SAFETY: helper without preconditions.
        unsafe { bpf_set_retval(-ECONNREFUSED) };
    }
    REFUSE
}

/// Binds the namespace's own address, so that `getsockname` stays true although the packet goes to loopback, and lifts a device binding.
#[inline(always)]
fn keep_source(ctx: &SockAddrContext, sk: *mut bpf_sock, own: &Addr, family6: bool) {
    if sk.is_null() || own.is_unspecified() {
        return;
    }
    // SAFETY: `sk` is the context's socket, checked above; both helpers take this hook's context and memory of the stated length.
    // A failure leaves the socket as it was: the connection still works, only its own name is less true.
    unsafe {
        if (*sk).bound_dev_if != 0 {
            // To no device, not to `lo`: the answer to an own address counts as arriving on that address's device.
            let mut none = [0_u8; 4];
            bpf_setsockopt(ctx.as_ptr(), SOL_SOCKET, SO_BINDTODEVICE, none.as_mut_ptr().cast(), 4);
        }
        if family6 {
            let mut to = SockaddrIn6 { family: AF_INET6, port: 0, flow: 0, addr: own.words, scope: 0 };
            bpf_bind(ctx.sock_addr, (&raw mut to).cast::<sockaddr>(), size_of::<SockaddrIn6>() as i32);
        } else if (*sk).src_ip4 == 0 {
            let mut to = SockaddrIn { family: AF_INET, port: 0, addr: own.words[3], zero: [0; 8] };
            bpf_bind(ctx.sock_addr, (&raw mut to).cast::<sockaddr>(), size_of::<SockaddrIn>() as i32);
        }
    }
}

#[repr(C)]
struct SockaddrIn {
    family: u16,
    port: u16,
    addr: u32,
    zero: [u8; 8],
}

#[repr(C)]
struct SockaddrIn6 {
    family: u16,
    port: u16,
    flow: u32,
    addr: [u32; 4],
    scope: u32,
}

#[inline(always)]
fn rewrite(sa: *mut bpf_sock_addr, way: &Way, family6: bool) {
    // SAFETY: fields of the context that this hook may write.
    unsafe {
        if family6 {
            write_ip6(sa, &way.to);
        } else {
            (*sa).user_ip4 = way.to.words[3];
        }
        (*sa).user_port = u32::from(way.port.to_be());
    }
}
