//! What the proxy needs from the agent around it, and what it tells it. No kernel, no bridge, no file is reached from the proxy but through [`Host`].

use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::BorrowedFd,
    sync::Arc,
    time::{Duration, SystemTime},
};

use socket2::{Domain, Socket};
use tokio::sync::watch;
use weft_ebpf_common::Attestation;
use weft_identity::{Svid, TrustBundle};
use weft_policy::{Index, Party};
use weft_types::{FlowId, Path, Protocol, Reason, Revision, RuleId, ServiceId, Verdict, WorkloadUid};

/// The agent, as the proxy sees it. Every call is quick: none waits for a peer.
pub trait Host: Send + Sync + 'static {
    /// The snapshot in force; `None` before the first.
    fn index(&self) -> Option<Arc<Index>>;
    /// The service's own SVID. The same document comes back as the same `Arc`: the proxy notices a renewal by that.
    fn svid(&self, service: ServiceId) -> Option<Arc<Svid>>;
    /// The roots in force; the same bundle comes back as the same `Arc`.
    fn trust_bundle(&self) -> Option<Arc<TrustBundle>>;
    /// Ticks whenever one of the three above may have changed.
    fn changes(&self) -> watch::Receiver<u64>;

    /// What the kernel wrote into the storage of an accepted socket.
    fn attestation(&self, socket: BorrowedFd<'_>) -> io::Result<Option<Attestation>>;
    /// Marks a socket that is not connected yet as the agent's own delivery into the namespace of a workload.
    fn set_delivery(&self, socket: BorrowedFd<'_>, delivery: &Attestation) -> io::Result<()>;
    /// Whether it is the workload's own service that listens there. Asked before a delivery, since a namespace may have several residents.
    fn is_listener(&self, workload: &LocalWorkload, to: SocketAddr) -> io::Result<bool>;
    /// How many segments have arrived on a connected socket, without or with data.
    fn segments(&self, socket: BorrowedFd<'_>) -> io::Result<u32>;
    /// A fresh, non-blocking, unconnected TCP socket inside the namespace of the workload.
    fn socket(&self, workload: &LocalWorkload, domain: Domain) -> io::Result<Socket>;

    /// Keeps a flow record. A second record of the same flow and point replaces the first: it is the same connection, finished.
    fn record(&self, flow: FlowRecord);
    /// Counts.
    fn measure(&self, what: Measure);
}

/// One workload that this agent holds, as the proxy's two listeners know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalWorkload {
    pub uid: WorkloadUid,
    pub service: ServiceId,
    /// The agent's number of this instance; never used twice by one agent process.
    pub number: u32,
    pub netns_cookie: u64,
    /// The addresses of its namespace.
    pub addresses: Vec<IpAddr>,
}

/// Which side of the tunnel speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Point {
    Out,
    In,
}

impl Point {
    /// As `weft.agent.v1.Flow.point` names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Out => "proxy-out",
            Self::In => "proxy-in",
        }
    }
}

/// One connection, as one side of the tunnel saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowRecord {
    pub id: FlowId,
    pub at: SystemTime,
    pub point: Point,
    pub verdict: Verdict,
    pub reason: Reason,
    pub revision: Revision,
    pub rule: RuleId,
    pub rule_declared_at: Option<String>,
    pub source: Option<Party>,
    pub destination: Option<Party>,
    /// What the application dialled.
    pub address: Option<SocketAddr>,
    pub service_port: u16,
    pub protocol: Protocol,
    /// `None` when denied.
    pub path: Option<Path>,
    /// The workload on this node.
    pub workload: WorkloadUid,
    /// From the caller to the called.
    pub bytes_out: u64,
    pub bytes_in: u64,
    /// `None` while the connection is open.
    pub duration: Option<Duration>,
    /// For people: what failed and the likely cause, how it ended. May be empty.
    pub detail: String,
    /// The negotiated key exchange group of the tunnel.
    pub key_exchange: Option<String>,
}

/// What is counted. Labels are these enums, nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// A connection was accepted by policy and is being carried.
    Opened(Point),
    /// It ended.
    Closed { point: Point, bytes_out: u64, bytes_in: u64, end: End },
    /// It was refused, or failed before a byte was carried.
    Refused { point: Point, reason: Reason },
    /// A TLS handshake came to its end.
    Handshake { point: Point, ok: bool },
    /// A captured connection found a warm tunnel (or did not).
    Pool { hit: bool },
    /// A table was full.
    Bound(Bound),
}

/// What was full, and what happened then. A connection is never ended for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bound {
    /// A finished tunnel was closed instead of kept warm.
    Pool,
    /// What idle endpoints were remembered by was forgotten.
    Endpoints,
    /// Kept TLS configurations were dropped; they are made again when they are needed.
    Configs,
    /// A handshake waited for others of the same address.
    Handshakes,
}

impl Bound {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pool => "pool",
            Self::Endpoints => "endpoints",
            Self::Configs => "tls-configs",
            Self::Handshakes => "handshakes",
        }
    }
}

/// How a carried connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// FIN both ways.
    Finished,
    /// One of the applications reset it.
    Reset,
    /// Its grant went away.
    Revoked,
    /// Its workload or its agent went away.
    Shutdown,
    /// The tunnel broke.
    Broken,
}
