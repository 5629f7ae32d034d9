//! `sk_lookup` in every enrolled namespace: what nobody attested for *this* namespace is refused, whatever port it aims at but the public ones; the
//! tunnel's port is steered to the agent's listener, so nothing binds it.

use aya_ebpf::{
    bindings::{
        bpf_sk_lookup,
        sk_action::{SK_DROP, SK_PASS},
    },
    macros::sk_lookup,
    programs::SkLookupContext,
};
use weft_ebpf_common::{abi::*, addr::Addr, datagram::Ends};

use crate::{
    connect::is_resolver,
    ctx::read_ip6,
    emit::{self, Seen},
    maps::{ATTESTATIONS, LISTENERS},
    public,
    udp::is_expected,
    who,
};

const AF_INET: u32 = 2;

/// Cookie of the namespace this instance is attached to; set when the program is loaded, since this hook may not ask for it.
#[unsafe(no_mangle)]
static NETNS_COOKIE: u64 = 0;

/// 1 in the host's own namespace, where this program only steers the tunnel's port: what comes in for a workload there is judged at its socket.
#[unsafe(no_mangle)]
static HOST: u32 = 0;

#[sk_lookup]
pub fn weft_lookup(ctx: SkLookupContext) -> u32 {
    // SAFETY: a constant of the object that the loader writes before the program exists.
    let (netns, host) = unsafe { (core::ptr::read_volatile(&raw const NETNS_COOKIE), core::ptr::read_volatile(&raw const HOST)) };
    if host != 0 {
        steer_tunnel(&ctx, netns);
        return SK_PASS;
    }
    if admitted(&ctx, netns) {
        emit::count(COUNT_LOOKUP_PASSED);
        SK_PASS
    } else {
        emit::count(COUNT_LOOKUP_REFUSED);
        SK_DROP
    }
}

#[inline(always)]
fn steer_tunnel(ctx: &SkLookupContext, netns: u64) {
    // SAFETY: fields of the context.
    let (proto, port) = unsafe { ((*ctx.lookup).protocol as u8, (*ctx.lookup).local_port as u16) };
    if proto == PROTO_TCP && port == TUNNEL_PORT {
        let _ = LISTENERS.redirect_sk_lookup(ctx, netns, 0);
    }
}

#[inline(always)]
fn admitted(ctx: &SkLookupContext, netns: u64) -> bool {
    let c = ctx.lookup;
    // SAFETY: fields of the context.
    let (proto, remote_port, local_port) = unsafe { ((*c).protocol as u8, u16::from_be((*c).remote_port), (*c).local_port as u16) };
    let (local, remote) = addresses(c);
    if proto == PROTO_UDP {
        // To a socket that is not connected: answers of a resolver, what stays in the namespace, and what belongs to a flow.
        let d = Ends { from: remote, to: local, from_port: remote_port, to_port: local_port };
        return is_resolver(&remote, remote_port) || (local.is_loopback() && remote.is_loopback()) || is_expected(netns, &d);
    }
    if proto != PROTO_TCP {
        return false;
    }
    if local.is_loopback() && remote.is_loopback() {
        return true;
    }
    let key = TupleKey { netns, remote, local, remote_port, local_port, proto: u32::from(PROTO_TCP) };
    // SAFETY: only presence is asked.
    if unsafe { ATTESTATIONS.get(&key) }.is_some() {
        return true;
    }
    if local_port == TUNNEL_PORT && LISTENERS.redirect_sk_lookup(ctx, netns, 0).is_ok() {
        return true;
    }
    if public::open(netns, &local, &remote, local_port).is_some() {
        return true;
    }
    let seen =
        Seen { flow: emit::flow_id(), netns, source: 0, revision: who::generation().1, addr: &remote, port: local_port, proto, path: 0, with_task: false };
    emit::denied(&seen, REASON_UNATTESTED);
    false
}

#[inline(always)]
fn addresses(c: *mut bpf_sk_lookup) -> (Addr, Addr) {
    // SAFETY: fields of the context, in single loads.
    unsafe {
        if (*c).family == AF_INET {
            return (Addr::from_v4_be((*c).local_ip4), Addr::from_v4_be((*c).remote_ip4));
        }
        (read_ip6((&raw const (*c).local_ip6).cast()), read_ip6((&raw const (*c).remote_ip6).cast()))
    }
}
