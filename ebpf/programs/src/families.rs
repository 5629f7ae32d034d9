//! `socket()` of every family, by the kernel's security hooks where it offers them to programs: packet, XDP, vsock, SMC and other sockets that no
//! cgroup hook sees are refused to managed workloads.

use aya_ebpf::{macros::lsm, programs::LsmContext};
use weft_ebpf_common::{abi::*, addr::Addr, judge::Signs};

use crate::{
    emit::{self, Seen},
    who,
};

const PASS: i32 = 0;
const EPERM: i32 = 1;
const AF_UNIX: i32 = 1;
const AF_INET: i32 = 2;
const AF_INET6: i32 = 10;
const AF_NETLINK: i32 = 16;
/// The kernel's cryptography: it leads nowhere.
const AF_ALG: i32 = 38;

#[lsm(hook = "socket_create")]
pub fn weft_families(ctx: LsmContext) -> i32 {
    let (family, kernel, before): (i32, i32, i32) = (ctx.arg(0), ctx.arg(3), ctx.arg(4));
    if before != 0 {
        return before;
    }
    if kernel != 0 || matches!(family, AF_UNIX | AF_INET | AF_INET6 | AF_NETLINK | AF_ALG) {
        return PASS;
    }
    let mut signs = Signs::default();
    who::task(&mut signs);
    if signs.exempt || (signs.task == 0 && !signs.managed) {
        return PASS;
    }
    let seen = Seen {
        flow: emit::flow_id(),
        netns: 0,
        source: signs.task,
        revision: who::generation().1,
        addr: &Addr::UNSPECIFIED,
        port: 0,
        proto: 0,
        path: 0,
        with_task: true,
    };
    emit::denied(&seen, if signs.task == 0 { REASON_UNIDENTIFIED } else { REASON_PROTOCOL });
    -EPERM
}
