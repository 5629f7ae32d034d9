//! Datagrams between workloads of one node: each is judged on its way out, and finds its flow or begins one.

use aya_ebpf::{bindings::bpf_sock, helpers::bpf_ktime_get_ns, programs::SkBuffContext};
use weft_ebpf_common::{
    abi::*,
    addr::Addr,
    datagram::{Ends, Flows, belongs, on_this_node},
    judge::judge,
};

use crate::{
    connect::is_resolver,
    emit::{self, Seen},
    maps::{self, DATAGRAMS, LOCAL_ADDRS, NETNS, Slot},
    who,
};

impl Flows for Slot {
    #[inline(always)]
    fn flow(&self, key: &TupleKey) -> Option<Attestation> {
        // SAFETY: the value is copied at once.
        unsafe { DATAGRAMS.get(key) }.copied()
    }

    #[inline(always)]
    fn watched(&self, netns: u64) -> u32 {
        // SAFETY: entries are replaced whole; read within this run.
        match unsafe { NETNS.get(&netns) } {
            Some(n) if n.flags & NETNS_WATCHED != 0 => n.identity,
            _ => 0,
        }
    }
}

#[inline(always)]
pub fn local(addr: &Addr) -> Option<&'static LocalAddr> {
    // SAFETY: entries are replaced whole; read within this run.
    unsafe { LOCAL_ADDRS.get(addr) }
}

#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: helper without preconditions.
    unsafe { bpf_ktime_get_ns() }
}

/// Whether a datagram may come to a socket of the namespace `receiver`: it belongs to a flow. The veth has judged it by who sent it.
#[inline(always)]
pub fn is_expected(receiver: u64, d: &Ends) -> bool {
    let sender = local(&d.from).map_or(0, |l| l.netns);
    belongs(&Slot(who::generation().0), sender, receiver, d, now()).is_some()
}

/// The verdict on a datagram as it leaves the socket of the workload `identity` in the namespace `home`.
#[inline(always)]
pub fn may_leave(ctx: &SkBuffContext, sk: *mut bpf_sock, identity: u32, home: u64, from: &Addr, to: &Addr, header: usize) -> bool {
    let (Ok(from_port), Ok(to_port)) = (ctx.load::<u16>(header), ctx.load::<u16>(header + 2)) else { return false };
    let d = Ends { from: *from, to: *to, from_port: u16::from_be(from_port), to_port: u16::from_be(to_port) };
    if is_resolver(to, d.to_port) || (to.is_loopback() && is_of_one(home)) {
        return true;
    }
    let (slot, revision) = who::generation();
    let (slot, there, now) = (Slot(slot), local(to), now());
    let receiver = there.map_or(0, |l| l.netns);
    if let Some(key) = belongs(&slot, home, receiver, &d, now)
        && let Some(flow) = DATAGRAMS.get_ptr_mut(&key)
    {
        // SAFETY: a live entry; CPUs that race write times that hardly differ.
        unsafe { (&raw mut (*flow).since_ns).write_volatile(now) };
        return true;
    }
    let j = on_this_node(&slot, home, there, judge(&slot, identity, to, d.to_port, PROTO_UDP));
    let flow = match maps::record(sk, false) {
        Some(r) if r.path == PATH_SAME_NODE && r.side == SIDE_CLIENT && r.destination == j.service => r.flow,
        _ => emit::flow_id(),
    };
    let path = if j.allows() { PATH_SAME_NODE } else { 0 };
    let seen = Seen { flow, netns: home, source: identity, revision, addr: to, port: d.to_port, proto: PROTO_UDP, path, with_task: false };
    emit::flow(&seen, &j);
    if !j.allows() {
        return false;
    }
    let record = Attestation {
        flow,
        revision,
        netns: home,
        since_ns: now,
        source: identity,
        destination: j.service,
        rule: j.rule,
        path,
        dialled: *to,
        caller: Addr::UNSPECIFIED,
        dialled_port: d.to_port,
        caller_port: 0,
        service_port: j.service_port,
        side: SIDE_SERVER,
    };
    let kept = DATAGRAMS.insert(&d.asked(receiver), &record, 0).is_ok();
    if !kept {
        emit::count(COUNT_DATAGRAM_FULL);
    }
    kept
}

/// A namespace in which there is nobody else.
#[inline(always)]
pub fn is_of_one(netns: u64) -> bool {
    // SAFETY: entries are replaced whole; read within this run.
    unsafe { NETNS.get(&netns) }.is_some_and(|n| n.flags & NETNS_SHARED == 0)
}
