//! Inbound where a namespace is shared (the host's, or a pod of several identities): `sk_lookup` sees no listener there, so the packet is
//! judged at the socket, by the cgroup that made it. Attached to every managed subtree, so that a workload that comes needs no program of
//! its own and one that goes leaves none.

use aya_ebpf::{helpers::generated::bpf_skb_ancestor_cgroup_id, macros::cgroup_skb, programs::SkBuffContext};
use weft_ebpf_common::{
    abi::*,
    judge::{Judgement, Signs},
};

use crate::{
    connect::is_resolver,
    datagram::{TCP_LISTEN, full_socket, header},
    emit::{self, Seen},
    listen::is_shared,
    maps::{self, ATTESTATIONS},
    public, who,
};

const REFUSE: i32 = 0;
const PASS: i32 = 1;

#[cgroup_skb]
pub fn guard_ingress(ctx: SkBuffContext) -> i32 {
    // SAFETY: the context's socket.
    let sk = unsafe { full_socket(&ctx) };
    // The usual packet: of a connection that was judged when it began.
    if maps::record(sk, false).is_some() {
        return PASS;
    }
    let mut signs = Signs::default();
    // SAFETY: the helper takes this hook's context.
    who::by_ancestors(&mut signs, |level| unsafe { bpf_skb_ancestor_cgroup_id(ctx.skb.skb, level as i32) });
    if signs.task == 0 {
        emit::count(COUNT_GUARD_REFUSED);
        return REFUSE;
    }
    if !is_shared(signs.home) {
        return PASS;
    }
    // SAFETY: a full socket, if it is not null.
    let listens = !sk.is_null() && unsafe { (*sk).state } == TCP_LISTEN;
    if admitted(&ctx, &signs, listens) {
        return PASS;
    }
    emit::count(COUNT_INGRESS_REFUSED);
    REFUSE
}

/// A packet without a record: the answer of a resolver, or a handshake that was attested to this very workload or leads to a public port of its own.
#[inline(always)]
fn admitted(ctx: &SkBuffContext, signs: &Signs, listens: bool) -> bool {
    let (Some((proto, local, at)), Some((_, remote, _))) = (header(ctx, true), header(ctx, false)) else { return false };
    let (Ok(remote_port), Ok(local_port)) = (ctx.load::<u16>(at), ctx.load::<u16>(at + 2)) else { return false };
    let (remote_port, local_port) = (u16::from_be(remote_port), u16::from_be(local_port));
    if proto == PROTO_UDP {
        return is_resolver(&remote, remote_port);
    }
    if proto != PROTO_TCP || !listens {
        return false;
    }
    let key = TupleKey { netns: signs.home, remote, local, remote_port, local_port, proto: u32::from(PROTO_TCP) };
    // SAFETY: the value is copied at once.
    if unsafe { ATTESTATIONS.get(&key) }.is_some_and(|r| r.destination == signs.task) {
        return true;
    }
    if public::open(signs.home, &local, &remote, local_port).is_some_and(|open| open.service == signs.task) {
        return true;
    }
    let seen = Seen {
        flow: emit::flow_id(),
        netns: signs.home,
        source: 0,
        revision: who::generation().1,
        addr: &remote,
        port: local_port,
        proto,
        path: 0,
        with_task: false,
    };
    emit::flow(&seen, &Judgement { reason: u32::from(REASON_UNATTESTED), service: signs.task, ..Judgement::default() });
    false
}
