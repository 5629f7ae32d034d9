//! The embedded object: which programs it holds, what each attaches to, and loading them past the verifier.

use std::os::fd::{AsFd as _, BorrowedFd};

use aya::{
    Btf, Ebpf, EbpfLoader,
    programs::{Program, ProgramError},
};

use crate::{KernelError, host::offers, pins::Pins};

/// The kept object, or the one that `WEFT_BPF_OBJECT` named when this crate was built.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/weft.bpf.o"));

/// A program and its `enum bpf_attach_type`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spec {
    pub(crate) name: &'static str,
    pub(crate) attach_type: u32,
}

const INET_INGRESS: u32 = 0;
const INET_EGRESS: u32 = 1;
pub(crate) const SOCK_CREATE: u32 = 2;
const SOCK_OPS: u32 = 3;
const CONNECT4: u32 = 10;
const CONNECT6: u32 = 11;
const POST_BIND4: u32 = 12;
const POST_BIND6: u32 = 13;
const SENDMSG4: u32 = 14;
const SENDMSG6: u32 = 15;
const GETPEERNAME4: u32 = 29;
const GETPEERNAME6: u32 = 30;
const LSM_MAC: u32 = 27;
const LOOKUP_TYPE: u32 = 36;
const TCX_INGRESS: u32 = 46;

/// On the node's cgroup. Those that deny come last, so that a half-attached set never refuses what it could not yet attest.
pub(crate) const NODE_PROGRAMS: [Spec; 11] = [
    Spec { name: "weft_sock_create", attach_type: SOCK_CREATE },
    Spec { name: "weft_post_bind4", attach_type: POST_BIND4 },
    Spec { name: "weft_post_bind6", attach_type: POST_BIND6 },
    Spec { name: "weft_sockops", attach_type: SOCK_OPS },
    Spec { name: "weft_getpeername4", attach_type: GETPEERNAME4 },
    Spec { name: "weft_getpeername6", attach_type: GETPEERNAME6 },
    Spec { name: "weft_sendmsg4", attach_type: SENDMSG4 },
    Spec { name: "weft_sendmsg6", attach_type: SENDMSG6 },
    Spec { name: "weft_connect4", attach_type: CONNECT4 },
    Spec { name: "weft_connect6", attach_type: CONNECT6 },
    Spec { name: "weft_egress", attach_type: INET_EGRESS },
];

/// On every managed subtree.
pub(crate) const GUARDS: [Spec; 7] = [
    Spec { name: "guard_sock_create", attach_type: SOCK_CREATE },
    Spec { name: "guard_connect4", attach_type: CONNECT4 },
    Spec { name: "guard_connect6", attach_type: CONNECT6 },
    Spec { name: "guard_sendmsg4", attach_type: SENDMSG4 },
    Spec { name: "guard_sendmsg6", attach_type: SENDMSG6 },
    Spec { name: "guard_egress", attach_type: INET_EGRESS },
    Spec { name: "guard_ingress", attach_type: INET_INGRESS },
];

/// In every enrolled namespace, an instance of its own.
pub(crate) const LOOKUP: Spec = Spec { name: "weft_lookup", attach_type: LOOKUP_TYPE };

/// On the host's end of every enrolled workload's veth.
pub(crate) const VETH: Spec = Spec { name: "weft_veth", attach_type: TCX_INGRESS };

/// Where the kernel lets programs take part in its security hooks.
pub(crate) const FAMILIES: Spec = Spec { name: "weft_families", attach_type: LSM_MAC };

/// Every table that all instances share; `.rodata` is each instance's own.
const SHARED: [&str; 21] = [
    "STATE",
    "WORKLOADS",
    "MANAGED",
    "NETNS",
    "DESTINATIONS",
    "EXTERNALS",
    "PORTS",
    "GRANTS",
    "LOCAL",
    "LOCAL_ADDRS",
    "DEVICES",
    "ATTESTATIONS",
    "SOCKS",
    "OWNERS",
    "HOMES",
    "FLOWS",
    "RESOLVERS",
    "COUNTERS",
    "LISTENERS",
    "LISTENING",
    "AYA_LOGS",
];

/// Creates or opens the pinned tables and prepares the programs; none is in the kernel yet.
pub(crate) fn open(pins: &Pins, base_level: u32, netns_cookie: u64, host: bool) -> Result<Ebpf, KernelError> {
    let mut loader = EbpfLoader::new();
    loader.override_global("BASE_LEVEL", &base_level, true).override_global("NETNS_COOKIE", &netns_cookie, true);
    let host = u32::from(host);
    loader.override_global("HOST", &host, true);
    let offers = offers();
    let (cookie_in_sock_ops, set_retval) = (u32::from(offers.cookie_in_sock_ops), u32::from(offers.set_retval));
    loader.override_global("COOKIE_IN_SOCK_OPS", &cookie_in_sock_ops, true).override_global("SET_RETVAL", &set_retval, true);
    for table in SHARED {
        loader.map_pin_path(table, pins.map(table));
    }
    loader.load(OBJECT).map_err(|e| KernelError::Object { reason: chain(&e) })
}

/// Brings one program into the kernel; its descriptor lives as long as `object`.
pub(crate) fn load<'a>(object: &'a mut Ebpf, spec: &Spec) -> Result<BorrowedFd<'a>, KernelError> {
    let program = object.program_mut(spec.name).ok_or(KernelError::NoProgram(spec.name))?;
    let result = match program {
        Program::CgroupSockAddr(p) => p.load(),
        Program::CgroupSock(p) => p.load(),
        Program::CgroupSkb(p) => p.load(),
        Program::SockOps(p) => p.load(),
        Program::SkLookup(p) => p.load(),
        Program::SchedClassifier(p) => p.load(),
        Program::Lsm(p) => Btf::from_sys_fs().map_err(ProgramError::from).and_then(|btf| p.load("socket_create", &btf)),
        _ => return Err(KernelError::NoProgram(spec.name)),
    };
    result.map_err(|e| refused(spec.name, e))?;
    Ok(program.fd().map_err(|e| refused(spec.name, e))?.as_fd())
}

fn refused(name: &'static str, e: ProgramError) -> KernelError {
    match e {
        ProgramError::LoadError { io_error, verifier_log } => KernelError::Refused { name, log: verifier_log.to_string(), source: io_error },
        other => KernelError::Object { reason: format!("program {name}: {}", chain(&other)) },
    }
}

/// aya's errors keep the cause in their sources.
fn chain(e: &dyn std::error::Error) -> String {
    let mut text = e.to_string();
    let mut at = e.source();
    while let Some(cause) = at {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        at = cause.source();
    }
    text
}
