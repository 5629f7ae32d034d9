//! Bounds of this crate, with what happens at each. The bounds of the kernel's tables are `weft_ebpf_common::limits`.

use std::time::Duration;

/// Flow events taken from the ring by one call; the rest waits for the next.
pub const FLOW_DRAIN_MAX: usize = 4096;
/// Handshakes that wait in a listener while no agent accepts; the kernel drops further SYNs, which the client repeats.
pub const LISTEN_BACKLOG: u32 = 1024;
/// How long a slot just left is let alone where the kernel cannot tell us that no program reads it any more.
pub const SLOT_GRACE: Duration = Duration::from_millis(100);
/// Bytes of the verifier's log that an error carries, from its end.
pub const VERIFIER_LOG_TAIL_BYTES: usize = 2048;
/// Bytes that the state directory must have free at start.
pub const STATE_FREE_MIN_BYTES: u64 = 16 << 20;
/// Bytes of one answer of netlink; the kernel fits its answers to it.
pub const NETLINK_BUFFER_BYTES: usize = 64 << 10;
/// The kernel answers rtnetlink at once; past this the question has failed.
pub const NETLINK_DEADLINE: Duration = Duration::from_secs(5);
/// Addresses of one workload; further ones are refused.
pub const ADDRESSES_MAX: usize = 16;
/// Listening sockets of one shared namespace that are told apart; those of further ones are nobody's, and so refused.
pub const LISTENERS_MAX: usize = weft_ebpf_common::limits::LISTENING_MAX as usize / 2;
/// How long one answer may take where the listening sockets of a namespace are asked for.
pub const LISTENERS_TIMEOUT: Duration = Duration::from_secs(2);
/// Own sockets whose namespace is remembered, the last ones made, where only a kernel program can tell it; each is asked for at once.
pub const NOTES_MAX: u32 = 1024;
/// Addresses of the host that its workloads are known to speak from; to connections from further ones pods do not answer.
pub const HOST_ADDRESSES_MAX: usize = 256;
/// Sockets that one message orders to end, each acknowledged: what the receive buffer of a netlink socket holds.
pub const DESTROY_BATCH: usize = 128;
/// How long one answer of sock_diag may take.
pub const DIAG_TIMEOUT: Duration = Duration::from_secs(5);
