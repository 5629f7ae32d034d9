//! The deny programs of managed subtrees, attached to the subtree itself: whoever is in there and is not enrolled gets no
//! network, whatever the other programs and tables hold. Its only table is the one of the enrolled, where a miss denies.

use aya_ebpf::{
    helpers::generated::{bpf_get_current_ancestor_cgroup_id, bpf_skb_ancestor_cgroup_id},
    macros::{cgroup_skb, cgroup_sock, cgroup_sock_addr},
    programs::{SkBuffContext, SockAddrContext, SockContext},
};
use weft_ebpf_common::{abi::COUNT_GUARD_REFUSED, judge::Signs};

use crate::{emit, who};

macro_rules! guards {
    ($($attr:meta, $name:ident, $ctx:ty;)*) => { $(
        #[cgroup_sock_addr($attr)]
        pub fn $name(_: $ctx) -> i32 {
            by_task()
        }
    )* };
}

guards! {
    connect4, guard_connect4, SockAddrContext;
    connect6, guard_connect6, SockAddrContext;
    sendmsg4, guard_sendmsg4, SockAddrContext;
    sendmsg6, guard_sendmsg6, SockAddrContext;
}

#[cgroup_sock(sock_create)]
pub fn guard_sock_create(_: SockContext) -> i32 {
    by_task()
}

#[cgroup_skb]
pub fn guard_egress(ctx: SkBuffContext) -> i32 {
    let mut signs = Signs::default();
    // SAFETY: the helper takes this hook's context.
    who::by_ancestors(&mut signs, |level| unsafe { bpf_skb_ancestor_cgroup_id(ctx.skb.skb, level as i32) });
    verdict(&signs)
}

/// The hook is chosen by the socket's cgroup, so a socket of this subtree in the hands of a task outside it is judged by the main programs.
#[inline(always)]
fn by_task() -> i32 {
    let mut signs = Signs::default();
    // SAFETY: helper without preconditions.
    who::by_ancestors(&mut signs, |level| unsafe { bpf_get_current_ancestor_cgroup_id(level as i32) });
    if signs.managed { verdict(&signs) } else { 1 }
}

#[inline(always)]
fn verdict(signs: &Signs) -> i32 {
    if signs.task != 0 {
        return 1;
    }
    emit::count(COUNT_GUARD_REFUSED);
    0
}
