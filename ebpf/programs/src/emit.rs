//! Flow events and counters. Losing one never opens anything.

use aya_ebpf::helpers::{bpf_get_current_cgroup_id, bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_ktime_get_ns, generated::bpf_get_prandom_u32};
use weft_ebpf_common::{abi::*, addr::Addr, judge::Judgement};

use crate::maps::{COUNTERS, FLOWS};

/// What an event says beside the verdict.
pub struct Seen<'a> {
    pub flow: u64,
    pub netns: u64,
    pub source: u32,
    /// The one that the verdict was read from.
    pub revision: u64,
    pub addr: &'a Addr,
    pub port: u16,
    pub proto: u8,
    pub path: u32,
    /// False where no task is behind the packet.
    pub with_task: bool,
}

#[inline(always)]
pub fn flow_id() -> u64 {
    // SAFETY: helper without preconditions.
    unsafe { (u64::from(bpf_get_prandom_u32()) << 32) | u64::from(bpf_get_prandom_u32()) }
}

#[inline(always)]
pub fn flow(seen: &Seen<'_>, j: &Judgement) {
    let Some(mut slot) = FLOWS.reserve::<FlowEvent>(0) else {
        count(COUNT_FLOW_LOST);
        return;
    };
    let e = slot.as_mut_ptr();
    // SAFETY: `e` is the reserved entry; every field is written before it is submitted.
    unsafe {
        (*e).flow = seen.flow;
        (*e).revision = seen.revision;
        (*e).at_ns = bpf_ktime_get_ns();
        (*e).netns = seen.netns;
        (*e).source = seen.source;
        (*e).destination = j.service;
        (*e).rule = j.rule;
        (*e).addr = *seen.addr;
        (*e).port = seen.port;
        (*e).service_port = if j.kind == 0 { 0 } else { j.service_port };
        (*e).proto = seen.proto;
        (*e).verdict = if j.allows() { VERDICT_ALLOW } else { VERDICT_DENY };
        (*e).reason = j.reason as u8;
        (*e).path = seen.path as u8;
        if seen.with_task {
            (*e).cgroup = bpf_get_current_cgroup_id();
            (*e).pid = (bpf_get_current_pid_tgid() >> 32) as u32;
            (*e).comm = bpf_get_current_comm().unwrap_or([0; 16]);
        } else {
            (*e).cgroup = 0;
            (*e).pid = 0;
            (*e).comm = [0; 16];
        }
    }
    slot.submit(0);
}

/// A denial that no table was asked for.
#[inline(always)]
pub fn denied(seen: &Seen<'_>, reason: u8) {
    flow(seen, &Judgement { reason: u32::from(reason), ..Judgement::default() });
}

#[inline(always)]
pub fn count(index: u32) {
    if let Some(c) = COUNTERS.get_ptr_mut(index) {
        // SAFETY: a per-CPU value of this run.
        unsafe { *c += 1 };
    }
}
