//! Ports that anybody may connect to, enrolled or not: those of the gateway, and of nobody else.
//!
//! Whose they are is a part of the generation. A handshake is let in by that alone, so that who only knocks leaves nothing behind; the connection gets its
//! record when it is established, judged anew. One that a revision has shut out meanwhile gets none, and sends nothing.

use aya_ebpf::{bindings::bpf_sock, helpers::bpf_ktime_get_ns};
use weft_ebpf_common::{
    abi::*,
    addr::Addr,
    judge::{Judgement, is_public},
};

use crate::{
    emit::{self, Seen},
    listen::listener,
    maps::{self, NETNS, Slot},
    who,
};

/// What the port's generation says.
pub struct Open {
    pub service: u32,
    pub revision: u64,
}

/// Whether who listens there has opened that port to everybody. In a namespace of one identity that is whoever lives there, in a shared one whose
/// cgroup has bound it.
#[inline(always)]
pub fn open(netns: u64, local: &Addr, remote: &Addr, port: u16) -> Option<Open> {
    // SAFETY: entries are replaced whole; read within this run.
    let home = unsafe { NETNS.get(&netns) }?;
    let shared = home.flags & NETNS_SHARED != 0;
    // What stays within one identity is nobody's business.
    if !shared && local.is_loopback() && remote.is_loopback() {
        return None;
    }
    let service = if shared { listener(netns, local, port) } else { home.identity };
    let (slot, revision) = who::generation();
    is_public(&Slot(slot), service, port).then_some(Open { service, revision })
}

/// The record of an established connection that nobody has attested, if it came in at a public port.
#[inline(always)]
pub fn welcome(sk: *mut bpf_sock, netns: u64, at: &TupleKey) {
    let Some(open) = open(netns, &at.local, &at.remote, at.local_port) else { return };
    let Some(record) = maps::record(sk, true) else { return };
    let flow = emit::flow_id();
    *record = Attestation {
        flow,
        revision: open.revision,
        netns,
        // SAFETY: helper without preconditions.
        since_ns: unsafe { bpf_ktime_get_ns() },
        source: 0,
        destination: open.service,
        rule: 0,
        path: PATH_PUBLIC,
        dialled: at.local,
        caller: Addr::UNSPECIFIED,
        dialled_port: at.local_port,
        caller_port: 0,
        service_port: at.local_port,
        side: SIDE_SERVER,
    };
    let j = Judgement { reason: u32::from(REASON_PUBLIC), kind: DEST_PUBLIC, service: open.service, service_port: at.local_port, ..Judgement::default() };
    let seen =
        Seen { flow, netns, source: 0, revision: open.revision, addr: &at.remote, port: at.local_port, proto: PROTO_TCP, path: PATH_PUBLIC, with_task: false };
    emit::flow(&seen, &j);
}
