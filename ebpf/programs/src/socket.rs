//! `socket()`: remembers who made it, and refuses what enrolled workloads do not get (raw, SCTP, MPTCP, …).

use aya_ebpf::{EbpfContext as _, bindings::bpf_sock, helpers::generated::bpf_get_netns_cookie, macros::cgroup_sock, programs::SockContext};
use weft_ebpf_common::{abi::*, addr::Addr, judge::Class};

use crate::{
    emit::{self, Seen},
    maps, offers, who,
};

const REFUSE: i32 = 0;
const PASS: i32 = 1;
const SOCK_STREAM: u32 = 1;
const SOCK_DGRAM: u32 = 2;

#[cgroup_sock(sock_create)]
pub fn weft_sock_create(ctx: SockContext) -> i32 {
    // SAFETY: fields of the context, and a helper that takes it.
    let (kind, protocol, cookie) = unsafe { ((*ctx.sock).type_, (*ctx.sock).protocol, bpf_get_netns_cookie(ctx.as_ptr())) };
    let class = who::caller(core::ptr::null_mut(), cookie);
    let settled = offers::cookie_in_sock_ops() || settle(ctx.sock, cookie);
    let (identity, class, reason) = match class {
        Class::Unmanaged => return PASS,
        Class::Exempt => (0, CLASS_EXEMPT, 0),
        Class::Enrolled(id) if is_plain(kind, protocol) => (id, CLASS_ENROLLED, 0),
        Class::Enrolled(id) => (id, CLASS_ENROLLED, REASON_PROTOCOL),
        Class::Unidentified => (0, CLASS_UNIDENTIFIED, REASON_UNIDENTIFIED),
        Class::Mixed => (0, CLASS_UNIDENTIFIED, REASON_MIXED_IDENTITY),
    };
    if reason != 0 {
        let addr = Addr::UNSPECIFIED;
        let seen = Seen {
            flow: emit::flow_id(),
            netns: cookie,
            source: identity,
            revision: who::generation().1,
            addr: &addr,
            port: 0,
            proto: protocol as u8,
            path: 0,
            with_task: true,
        };
        emit::denied(&seen, reason);
        return REFUSE;
    }
    match maps::owner(ctx.sock, true) {
        Some(o) if settled => {
            *o = SocketOwner { identity, class };
            PASS
        }
        // Without the mark a socket passed to another workload would be that one's.
        _ => REFUSE,
    }
}

/// Notes the socket's namespace, also for who is not managed yet: a server may be enrolled while it listens.
#[inline(always)]
fn settle(sk: *mut bpf_sock, cookie: u64) -> bool {
    match maps::home(sk, true) {
        Some(home) => {
            *home = cookie;
            true
        }
        None => false,
    }
}

#[inline(always)]
fn is_plain(kind: u32, protocol: u32) -> bool {
    let datagram = [PROTO_UDP, PROTO_ICMP, PROTO_ICMPV6];
    (kind == SOCK_STREAM && protocol == u32::from(PROTO_TCP)) || (kind == SOCK_DGRAM && datagram.iter().any(|p| protocol == u32::from(*p)))
}
