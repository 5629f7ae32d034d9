//! Who is calling: task, socket and namespace, each by a fact that the workload cannot set.

use aya_ebpf::{
    bindings::bpf_sock,
    helpers::generated::{bpf_get_current_ancestor_cgroup_id, bpf_get_current_cgroup_id},
};
use weft_ebpf_common::{
    abi::*,
    judge::{Class, Signs, classify},
    limits::LEVELS_MAX,
};

use crate::maps::{self, MANAGED, NETNS, STATE, WORKLOADS};

/// Level of the node's cgroup in the hierarchy (its root is 0); set when the program is loaded.
#[unsafe(no_mangle)]
static BASE_LEVEL: u32 = 0;

#[inline(always)]
pub fn base_level() -> u32 {
    // SAFETY: a constant of the object that the loader writes before the program exists.
    unsafe { core::ptr::read_volatile(&raw const BASE_LEVEL) }
}

#[inline(always)]
pub fn state() -> Option<&'static State> {
    STATE.get(0)
}

/// Slot in force and the revision it holds, by one read of the generation word.
#[inline(always)]
pub fn generation() -> (u32, u64) {
    let Some(state) = state() else { return (0, 0) };
    // SAFETY: a live map value; the word may change at any time, so it is read once.
    let slot = unsafe { core::ptr::read_volatile(&raw const state.slot) } & 1;
    (slot, if slot == 0 { state.revisions[0] } else { state.revisions[1] })
}

/// Identity and managed subtree of the calling task.
#[inline(always)]
pub fn task(signs: &mut Signs) {
    // SAFETY: helper without preconditions.
    let own = unsafe { bpf_get_current_cgroup_id() };
    signs.exempt = is_exempt(own);
    // SAFETY: as above.
    by_ancestors(signs, |level| unsafe { bpf_get_current_ancestor_cgroup_id(level as i32) });
}

#[inline(always)]
pub fn is_exempt(cgroup: u64) -> bool {
    match state() {
        Some(s) => s.exempt_cgroup != 0 && s.exempt_cgroup == cgroup,
        None => false,
    }
}

/// Walks from the node's root towards the leaf: the first enrolled ancestor is the workload, so children inherit.
#[inline(always)]
pub fn by_ancestors(signs: &mut Signs, ancestor: impl Fn(u32) -> u64) {
    let base = base_level();
    let mut level = 1;
    while level <= LEVELS_MAX {
        let id = ancestor(base + level);
        if id == 0 {
            return;
        }
        // SAFETY: the value is copied at once.
        if let Some(w) = unsafe { WORKLOADS.get(&id) } {
            signs.task = w.identity;
            signs.home = w.netns;
            signs.capture_port = w.capture_port;
            return;
        }
        // SAFETY: as above.
        if let Some(entry) = unsafe { MANAGED.get(&id) } {
            // SAFETY: a live entry. The load keeps the compiler from turning the null check into pointer arithmetic, which the verifier refuses.
            unsafe { core::ptr::read_volatile(entry) };
            signs.managed = true;
        }
        level += 1;
    }
}

/// The class of a call on a socket.
#[inline(always)]
pub fn caller(sk: *mut bpf_sock, cookie: u64) -> Class {
    caller_in(sk, cookie).0
}

/// As [`caller`], with the namespace's entry if it is enrolled, and the port of the agent's listener there for this caller, or 0.
#[inline(always)]
pub fn caller_in(sk: *mut bpf_sock, cookie: u64) -> (Class, Option<&'static Netns>, u16) {
    let mut signs = Signs::default();
    task(&mut signs);
    if let Some(o) = maps::owner(sk, false) {
        signs.owner = *o;
    }
    // SAFETY: entries are replaced whole; read within this run.
    let netns = unsafe { NETNS.get(&cookie) };
    if let Some(n) = netns {
        signs.netns = n.identity;
        signs.closed = n.flags & NETNS_HOST == 0;
    }
    let class = classify(&signs);
    let at_home = signs.home == cookie;
    match netns {
        // In a shared namespace only who was enrolled there is at home.
        Some(n) if n.flags & NETNS_SHARED != 0 && signs.task != 0 && !at_home && !signs.exempt => (Class::Mixed, netns, 0),
        Some(n) => (class, netns, if at_home { signs.capture_port } else { n.capture_port }),
        None => (class, netns, 0),
    }
}
