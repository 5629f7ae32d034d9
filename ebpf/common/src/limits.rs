//! Bounds of every kernel table, in entries unless the name says otherwise, and what happens at the bound.

/// Workloads on one node. At the bound enrolment is refused, so the workload stays unidentified and denied.
pub const WORKLOADS_MAX: u32 = 4096;
/// Managed subtrees (kubepods, `weft.slice`, …) of one node. At the bound the agent refuses its configuration.
pub const MANAGED_MAX: u32 = 16;
/// Virtual IPs and endpoint addresses, both generations together. At the bound the agent refuses the revision.
pub const DESTINATIONS_MAX: u32 = 65_536;
/// Prefixes of declared interfaces, both generations together.
pub const EXTERNALS_MAX: u32 = 8_192;
/// Ports of services, both generations together.
pub const PORTS_MAX: u32 = 65_536;
/// Grants (source, destination, port, protocol), and one for the echo of each pair, both generations together.
pub const GRANTS_MAX: u32 = 524_288;
/// Services with a workload on this node.
pub const LOCAL_MAX: u32 = 4096;
/// Endpoints of one service that the same-node path chooses among; further ones are reached by their own address.
pub const LOCAL_BACKENDS_MAX: usize = 8;
/// Connections whose handshake is under way. A full table refuses: the destination finds no record and resets.
pub const ATTESTATIONS_MAX: u32 = 65_536;
/// Flows of datagrams between workloads of this node. At the bound a datagram that would begin one is refused to its sender, and counted.
pub const DATAGRAMS_MAX: u32 = 65_536;
/// How long a flow of datagrams stands without one, there or back. Then the caller has to begin anew, which its next datagram does.
pub const DATAGRAM_IDLE_NS: u64 = 60_000_000_000;
/// Addresses other than their own that one socket has dialled peers by, within [`DATAGRAM_IDLE_NS`]. At the bound a further one is refused, and counted.
pub const PEERS_MAX: usize = 8;
/// TCP ports that workloads have bound in shared namespaces. At the bound a bind is refused.
pub const LISTENING_MAX: u32 = 16_384;
/// Resolvers that enrolled workloads may ask.
pub const RESOLVERS_MAX: u32 = 64;
/// Bytes of the flow event ring. A full ring loses events, counts them, and opens nothing.
pub const FLOW_RING_BYTES: u32 = 1 << 20;
/// Host ends of workloads' veths. A full table refuses enrolment.
pub const DEVICES_MAX: u32 = WORKLOADS_MAX * 2;
/// Refused frames of one device that an event tells of within [`TOLD_WINDOW_NS`]; further ones are only counted.
pub const TOLD_MAX: u32 = 16;
pub const TOLD_WINDOW_NS: u64 = 1_000_000_000;
/// Cgroup levels below the node's root at which a workload, or a managed subtree, may live.
pub const LEVELS_MAX: u32 = 8;
