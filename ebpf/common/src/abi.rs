//! Map keys, map values and events. A change of any layout raises [`ABI_VERSION`], which is part of the pin path.
//!
//! Ports are in host byte order everywhere; addresses are [`Addr`]. `slot` is the generation's parity: a program reads
//! [`State::slot`] once and looks everything of one connection up in that generation.

use crate::{
    addr::Addr,
    limits::{LOCAL_BACKENDS_MAX, PEERS_MAX},
};

/// Version of everything in this module.
pub const ABI_VERSION: u32 = 2;

/// Tables that hold what nobody could fill again, since it happened: handshakes under way and what is known of sockets. Each with the version that
/// last changed its layout: programs of two ABI versions share the tables on which they agree.
pub const CARRIED: [(&str, u32); 6] = [("ATTESTATIONS", 1), ("SOCKS", 1), ("OWNERS", 1), ("HOMES", 1), ("DATAGRAMS", 1), ("PEERS", 1)];

pub const PROTO_ICMP: u8 = 1;
pub const PROTO_TCP: u8 = 6;
pub const PROTO_UDP: u8 = 17;
pub const PROTO_ICMPV6: u8 = 58;

/// `STATE[0]`: what switches a generation, and the few facts about the node that are no table.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Generation in force: 0 or 1. Written last, so that no connection is judged by half of a revision.
    pub slot: u32,
    /// 1: a denied connect gets ECONNREFUSED; 0: EPERM.
    pub refuse: u32,
    /// Revision that each slot holds; 0 while there has been none. Written before `slot`, so a verdict never carries another one's number.
    pub revisions: [u64; 2],
    /// Cgroup id of the agent itself; 0 exempts nobody.
    pub exempt_cgroup: u64,
}

impl State {
    /// The revision in force.
    #[inline(always)]
    pub const fn revision(&self) -> u64 {
        if self.slot & 1 == 0 { self.revisions[0] } else { self.revisions[1] }
    }
}

/// `WORKLOADS[cgroup id]`: an enrolled workload, by its cgroup at the workload's level.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Workload {
    /// Service id, which is the identity. Never 0.
    pub identity: u32,
    /// The agent's number of this workload instance.
    pub workload: u32,
    /// Cookie of the workload's network namespace.
    pub netns: u64,
    /// Port of the agent's listener for what this workload dials, in that namespace.
    pub capture_port: u16,
    pub pad: [u8; 6],
}

/// `NETNS[namespace cookie]`: an enrolled namespace.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Netns {
    /// Identity of everybody in it; 0 where several live side by side ([`NETNS_SHARED`]).
    pub identity: u32,
    pub workload: u32,
    /// Port of a listener for captured connections inside this namespace, for a socket whose task is no workload of it; 0: there is none.
    pub capture_port: u16,
    /// `NETNS_*`.
    pub flags: u16,
    pub pad: [u8; 4],
    /// The namespace's own addresses, bound on captured sockets so that `getsockname` stays true; unspecified when absent.
    pub own_v4: Addr,
    pub own_v6: Addr,
}

/// Several identities live in it, so the namespace says nothing of who somebody is: callers are known by their cgroup, listeners by theirs.
pub const NETNS_SHARED: u16 = 1;
/// The host's own: there are processes in it that are none of the mesh's business. Always shared.
pub const NETNS_HOST: u16 = 2;
/// All that comes and goes there passes a watched veth, so datagrams may.
pub const NETNS_WATCHED: u16 = 4;

/// Key of `LISTENING`: a TCP port that a workload has bound in a shared namespace.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ListenKey {
    pub netns: u64,
    /// Unspecified: on every address, of either family.
    pub addr: Addr,
    pub port: u16,
    pub pad: [u8; 6],
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Listen {
    /// Whose it is, or [`LISTEN_DISPUTED`].
    pub identity: u32,
    pub pad: u32,
    /// `bpf_ktime_get_ns` of the bind.
    pub since_ns: u64,
}
/// Two identities have bound it, so it is nobody's.
pub const LISTEN_DISPUTED: u32 = u32::MAX;

/// Key of `DESTINATIONS`: a virtual IP or an endpoint's address.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct DestinationKey {
    pub slot: u32,
    pub addr: Addr,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Destination {
    pub service: u32,
    /// [`DEST_VIP`] or [`DEST_ENDPOINT`].
    pub kind: u32,
}
pub const DEST_VIP: u32 = 1;
pub const DEST_ENDPOINT: u32 = 2;
pub const DEST_EXTERNAL: u32 = 3;
/// Of `PORTS` only, where it is no destination's kind: anybody may connect to the service's workloads at this very port, whoever they are.
pub const DEST_PUBLIC: u32 = 4;

/// Data of an `EXTERNALS` prefix: `slot` in network order, then the address; the prefix length is 32 + the address's (v4: + 96).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ExternalKey {
    pub slot_be: u32,
    pub addr: Addr,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct External {
    pub service: u32,
}

/// Key of `PORTS`: the dialled port, as the destination's kind ([`DEST_VIP`]: service port, [`DEST_ENDPOINT`] and [`DEST_PUBLIC`]: target port) names it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PortKey {
    pub slot: u32,
    pub service: u32,
    pub kind: u32,
    pub port: u16,
    pub proto: u8,
    pub pad: u8,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Port {
    /// The port that policy speaks of.
    pub service_port: u16,
    /// The port that the endpoint listens on.
    pub target_port: u16,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct GrantKey {
    pub slot: u32,
    pub source: u32,
    pub destination: u32,
    /// Service port.
    pub port: u16,
    pub proto: u8,
    pub pad: u8,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Grant {
    pub rule: u32,
    /// [`GRANT_NEEDS_L7`] or 0.
    pub flags: u32,
}
/// The rule speaks of HTTP: no L4 path may satisfy it.
pub const GRANT_NEEDS_L7: u32 = 1;

/// `LOCAL[service]`: endpoints of a service that this agent holds itself. No slot: it is the agent's own observation, not policy.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LocalBackends {
    pub count: u32,
    /// Bit n: backend n lives in a shared namespace, where the address alone does not say who listens.
    pub shared: u32,
    pub backends: [LocalBackend; LOCAL_BACKENDS_MAX],
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LocalBackend {
    pub netns: u64,
    /// Unspecified when the workload has no address of that family.
    pub v4: Addr,
    pub v6: Addr,
}

/// `LOCAL_ADDRS[address]`: which namespace of this node holds an address.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LocalAddr {
    pub netns: u64,
    /// 0 in a shared namespace.
    pub service: u32,
    /// The namespace's `NETNS_*`.
    pub flags: u32,
}

/// `DEVICES[interface index]`: the host's end of an enrolled workload's veth. What it carries is the workload's, whatever it says of itself.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// Cookie and inode of the workload's namespace.
    pub netns: u64,
    pub inode: u64,
    /// The workload's end: its link-local address (unspecified: none) and hardware address.
    pub link_local: Addr,
    pub mac: [u8; 6],
    pub pad: u16,
    /// Written by the program: refusals told of since `told_since_ns`.
    pub told_since_ns: u64,
    pub told: u32,
    /// Number of the workload's namespace in the agent's; [`NO_NSID`]: none.
    pub nsid: u32,
}
pub const NO_NSID: u32 = u32::MAX;

/// Key of `ATTESTATIONS`: a connection whose handshake is under way, as the *destination* sees it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TupleKey {
    /// Destination's namespace: equal 4-tuples in two namespaces never meet.
    pub netns: u64,
    /// Who dials.
    pub remote: Addr,
    /// Who listens.
    pub local: Addr,
    pub remote_port: u16,
    pub local_port: u16,
    pub proto: u32,
}

/// What is known of one connection: in the client socket's storage, then in `ATTESTATIONS`, then in the accepted socket's storage.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attestation {
    /// Stable id of the flow.
    pub flow: u64,
    /// Revision that judged it.
    pub revision: u64,
    /// Destination's namespace cookie (the caller's own for a captured connection, and in `DATAGRAMS`, whose key has the destination's).
    pub netns: u64,
    /// `bpf_ktime_get_ns` of the verdict; in `DATAGRAMS` of the last datagram, there or back.
    pub since_ns: u64,
    /// Caller's service id; 0 for who came in at a public port.
    pub source: u32,
    /// Destination's service id; 0 for loopback and own address.
    pub destination: u32,
    pub rule: u32,
    /// One of `PATH_*`.
    pub path: u32,
    /// The address and port that the application dialled: what `getpeername` shows the client.
    pub dialled: Addr,
    /// The true caller, as `getpeername` and `accept` show it to the server; unspecified: what the socket says is already true.
    pub caller: Addr,
    pub dialled_port: u16,
    pub caller_port: u16,
    /// Service port that policy judged.
    pub service_port: u16,
    /// [`SIDE_CLIENT`] or [`SIDE_SERVER`]: whose socket this record is stored on.
    pub side: u16,
}
pub const SIDE_CLIENT: u16 = 1;
pub const SIDE_SERVER: u16 = 2;
/// To the agent's listener inside the caller's namespace.
pub const PATH_CAPTURED: u32 = 1;
/// Same-node fast path, straight to the endpoint.
pub const PATH_SAME_NODE: u32 = 2;
/// To a declared interface outside the mesh.
pub const PATH_INTERFACE: u32 = 3;
/// Within one namespace of one identity.
pub const PATH_LOCAL: u32 = 4;
/// The agent hands a tunnelled connection to the application.
pub const PATH_DELIVERED: u32 = 5;
/// To a resolver that the configuration names.
pub const PATH_RESOLVER: u32 = 6;
/// From anybody to a public port, straight to the application.
pub const PATH_PUBLIC: u32 = 7;

/// Storage of a datagram socket: whom it has dialled by another address than theirs, so that answers come from the address that was dialled.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peers {
    pub peers: [Peer; PEERS_MAX],
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// `bpf_ktime_get_ns` of the last time it was dialled; 0: an empty place; [`PEER_CONNECTED`]: the socket is connected to it.
    pub used_ns: u64,
    pub dialled: Addr,
    pub to: Addr,
    pub dialled_port: u16,
    pub to_port: u16,
    pub pad: u32,
}
pub const PEER_CONNECTED: u64 = u64::MAX;

/// Storage of every socket made inside the node's subtree: who made it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketOwner {
    /// Identity of the task or namespace that created it; 0: unmanaged then.
    pub identity: u32,
    /// One of `CLASS_*`.
    pub class: u32,
}

pub const CLASS_UNMANAGED: u32 = 0;
pub const CLASS_EXEMPT: u32 = 1;
pub const CLASS_ENROLLED: u32 = 2;
pub const CLASS_UNIDENTIFIED: u32 = 3;

/// Key of `RESOLVERS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ResolverKey {
    pub addr: Addr,
    pub port: u16,
    pub pad: u16,
}

/// One event of the flow ring.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowEvent {
    pub flow: u64,
    pub revision: u64,
    /// `bpf_ktime_get_ns`, monotonic.
    pub at_ns: u64,
    /// Caller's namespace cookie.
    pub netns: u64,
    /// Cgroup id of the calling task.
    pub cgroup: u64,
    pub source: u32,
    pub destination: u32,
    pub rule: u32,
    pub pid: u32,
    pub addr: Addr,
    pub port: u16,
    /// Service port, when one is known.
    pub service_port: u16,
    pub proto: u8,
    /// [`VERDICT_ALLOW`] or [`VERDICT_DENY`].
    pub verdict: u8,
    /// One of `REASON_*`.
    pub reason: u8,
    /// One of `PATH_*`, 0 when denied.
    pub path: u8,
    pub comm: [u8; 16],
}
pub const VERDICT_ALLOW: u8 = 1;
pub const VERDICT_DENY: u8 = 2;

/// A grant allows it.
pub const REASON_GRANT: u8 = 1;
/// Within one namespace of one identity.
pub const REASON_LOCAL: u8 = 2;
/// A resolver that the configuration names.
pub const REASON_RESOLVER: u8 = 3;
/// The port is open to everybody.
pub const REASON_PUBLIC: u8 = 4;
/// No grant for this source, destination and port.
pub const REASON_NO_GRANT: u8 = 10;
/// The address belongs to nothing that the catalog knows.
pub const REASON_UNKNOWN_DESTINATION: u8 = 11;
/// The destination declares no such port.
pub const REASON_UNKNOWN_PORT: u8 = 12;
/// The grant speaks of HTTP and this path has no L7 judge.
pub const REASON_NEEDS_L7: u8 = 13;
/// A managed workload without an identity yet.
pub const REASON_UNIDENTIFIED: u8 = 14;
/// Socket, task and namespace speak of different identities.
pub const REASON_MIXED_IDENTITY: u8 = 15;
/// A protocol that enrolled workloads do not get (UDP, raw, …).
pub const REASON_PROTOCOL: u8 = 16;
/// Nobody may dial the tunnel port.
pub const REASON_TUNNEL_PORT: u8 = 17;
/// The namespace has no listener of the agent yet.
pub const REASON_NO_CAPTURE: u8 = 18;
/// The node has no snapshot yet.
pub const REASON_NO_SNAPSHOT: u8 = 19;
/// Nobody attested this connection: it went around the mesh.
pub const REASON_UNATTESTED: u8 = 20;
/// The kernel refused a helper that the verdict depends on.
pub const REASON_INTERNAL: u8 = 21;
/// A source address, hardware address or claim that is not the workload's own.
pub const REASON_SPOOFED: u8 = 30;
/// A grant allows it, but not on this way: it went around the tunnel.
pub const REASON_BYPASS: u8 = 31;

/// Somebody translated the packet's destination after the verdict.
pub const REASON_TRANSLATED: u8 = 23;
/// Granted, but datagrams do not leave the node, nor go to or from what has no watched veth.
pub const REASON_OTHER_NODE: u8 = 24;

/// Indices of `COUNTERS` (per CPU).
pub const COUNT_FLOW_LOST: u32 = 0;
pub const COUNT_ATTESTATION_FULL: u32 = 1;
pub const COUNT_LOOKUP_REFUSED: u32 = 2;
pub const COUNT_LOOKUP_PASSED: u32 = 3;
pub const COUNT_EGRESS_REFUSED: u32 = 4;
pub const COUNT_GUARD_REFUSED: u32 = 5;
/// Frames refused at a workload's veth, and how many of those no event tells of.
pub const COUNT_PACKET_REFUSED: u32 = 6;
pub const COUNT_PACKET_UNTOLD: u32 = 7;
/// A packet to a workload in a shared namespace that belongs to no judged connection.
pub const COUNT_INGRESS_REFUSED: u32 = 8;
/// A flow of datagrams that the table, or its socket's storage, had no place for.
pub const COUNT_DATAGRAM_FULL: u32 = 9;
/// A datagram that came to a workload's veth and belongs to no flow.
pub const COUNT_DATAGRAM_REFUSED: u32 = 10;
pub const COUNTERS: u32 = 16;

/// The tunnel's port on every workload's address.
pub const TUNNEL_PORT: u16 = 15008;

/// Port of the canary: outbound on [`CANARY_V4`] or [`CANARY_V6`], which only a capture answers; inbound on a workload's own address, where
/// somebody who is not attested must be refused.
pub const CANARY_PORT: u16 = 15009;
/// The dummy address of RFC 7600: no packet to it is ever forwarded.
pub const CANARY_V4: Addr = Addr::from_v4_be(u32::from_ne_bytes([192, 0, 0, 8]));
/// Of the discard-only prefix of RFC 6666.
pub const CANARY_V6: Addr = Addr::from_v6_be([0x0100_0000_u32.to_be(), 0, 0, 8_u32.to_be()]);

macro_rules! layout {
    ($($t:ty = $size:literal),* $(,)?) => { $(
        const _: () = assert!(core::mem::size_of::<$t>() == $size);
        #[cfg(feature = "user")]
        impl crate::abi::sealed::Abi for $t {}
    )* };
}

#[cfg(feature = "user")]
pub mod sealed {
    //! Marks the types whose layout is asserted; the user side makes exactly those plain old data.
    pub trait Abi: Copy + 'static {}
}

layout! {
    Addr = 16,
    State = 32,
    Workload = 24,
    Netns = 48,
    ListenKey = 32,
    Listen = 16,
    DestinationKey = 20,
    Destination = 8,
    ExternalKey = 20,
    External = 4,
    PortKey = 16,
    Port = 4,
    GrantKey = 16,
    Grant = 8,
    LocalBackends = 328,
    LocalBackend = 40,
    LocalAddr = 16,
    Device = 56,
    TupleKey = 48,
    Attestation = 88,
    Peer = 48,
    Peers = 384,
    SocketOwner = 8,
    ResolverKey = 20,
    FlowEvent = 96,
}
