//! The attestation's way: from the client socket's storage to a record, before the SYN leaves; from the record to the accepted
//! socket's storage, where the agent and `getpeername` read it. A record dies there, or at the client's close. Who comes in at a public port has
//! none until the handshake is over: a flood of SYNs fills no table.

use aya_ebpf::{
    EbpfContext as _,
    bindings::{bpf_sock, bpf_sock_ops},
    helpers::generated::bpf_get_netns_cookie,
    macros::sock_ops,
    programs::SockOpsContext,
};
use aya_log_ebpf::warn;
use weft_ebpf_common::{abi::*, addr::Addr};

use crate::{
    ctx::read_ip6,
    emit,
    maps::{self, ATTESTATIONS},
    offers, public,
};

const TCP_CONNECT: u32 = 3;
const ACTIVE_ESTABLISHED: u32 = 4;
const PASSIVE_ESTABLISHED: u32 = 5;
const STATE_CHANGE: u32 = 10;
const STATE_CHANGE_FLAG: i32 = 4;
const TCP_CLOSE: u32 = 7;
const AF_INET: u32 = 2;

#[sock_ops]
pub fn weft_sockops(ctx: SockOpsContext) -> u32 {
    match ctx.op() {
        TCP_CONNECT => attest(&ctx),
        PASSIVE_ESTABLISHED => accept(&ctx),
        ACTIVE_ESTABLISHED => established(&ctx),
        STATE_CHANGE if ctx.arg(1) == TCP_CLOSE => forget(&ctx),
        _ => {}
    }
    1
}

#[inline(always)]
fn attest(ctx: &SockOpsContext) {
    let Some(r) = maps::record(socket(ctx), false) else { return };
    if !leads_inside(r) {
        return;
    }
    if ATTESTATIONS.insert(&as_destination(ctx, r.netns), &*r, 0).is_err() {
        // The destination will find no record and reset: refusal at the bound.
        emit::count(COUNT_ATTESTATION_FULL);
        warn!(ctx, "attestation table refuses flow {:x}", r.flow);
        return;
    }
    let _ = ctx.set_cb_flags(STATE_CHANGE_FLAG);
}

#[inline(always)]
fn accept(ctx: &SockOpsContext) {
    let Some(netns) = netns(ctx) else { return };
    let (local, remote) = addresses(ctx);
    let key = TupleKey { netns, remote, local, remote_port: remote_port(ctx), local_port: ctx.local_port() as u16, proto: u32::from(PROTO_TCP) };
    // SAFETY: copied into the socket's storage within this run.
    let Some(found) = (unsafe { ATTESTATIONS.get(&key) }) else { return public::welcome(socket(ctx), netns, &key) };
    if let Some(r) = maps::record(socket(ctx), true) {
        *r = *found;
        r.side = SIDE_SERVER;
    }
    let _ = ATTESTATIONS.remove(&key);
}

#[inline(always)]
fn netns(ctx: &SockOpsContext) -> Option<u64> {
    if offers::cookie_in_sock_ops() {
        // SAFETY: the helper takes this hook's context.
        return Some(unsafe { bpf_get_netns_cookie(ctx.as_ptr()) });
    }
    maps::home(socket(ctx), false).map(|home| *home)
}

/// The server has answered, so its side will take the record: no more state changes are of interest.
#[inline(always)]
fn established(ctx: &SockOpsContext) {
    if maps::record(socket(ctx), false).is_some() {
        let _ = ctx.set_cb_flags(0);
    }
}

#[inline(always)]
fn forget(ctx: &SockOpsContext) {
    let Some(r) = maps::record(socket(ctx), false) else { return };
    if r.side == SIDE_CLIENT && leads_inside(r) {
        let _ = ATTESTATIONS.remove(&as_destination(ctx, r.netns));
    }
}

#[inline(always)]
fn leads_inside(r: &Attestation) -> bool {
    matches!(r.path, PATH_CAPTURED | PATH_SAME_NODE | PATH_LOCAL | PATH_DELIVERED)
}

/// The client's tuple as the destination will see it.
#[inline(always)]
fn as_destination(ctx: &SockOpsContext, netns: u64) -> TupleKey {
    let (local, remote) = addresses(ctx);
    TupleKey { netns, remote: local, local: remote, remote_port: ctx.local_port() as u16, local_port: remote_port(ctx), proto: u32::from(PROTO_TCP) }
}

#[inline(always)]
fn remote_port(ctx: &SockOpsContext) -> u16 {
    u32::from_be(ctx.remote_port()) as u16
}

#[inline(always)]
fn addresses(ctx: &SockOpsContext) -> (Addr, Addr) {
    if ctx.family() == AF_INET {
        return (Addr::from_v4_be(ctx.local_ip4()), Addr::from_v4_be(ctx.remote_ip4()));
    }
    // SAFETY: fields of the context.
    unsafe { (read_ip6((&raw const (*ctx.ops).local_ip6).cast()), read_ip6((&raw const (*ctx.ops).remote_ip6).cast())) }
}

#[inline(always)]
fn socket(ctx: &SockOpsContext) -> *mut bpf_sock {
    let ops: *mut bpf_sock_ops = ctx.ops;
    // SAFETY: a field of the context; null is checked by `maps`.
    unsafe { (*ops).__bindgen_anon_2.sk }
}
