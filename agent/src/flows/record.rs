//! One flow as this node knows it, and how what is learnt later is merged into it.

use std::net::IpAddr;

use weft_policy::Party;
use weft_types::{FlowId, Path, Protocol, Reason, Revision, RuleId, Verdict, WorkloadUid};

/// Who decided last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Point {
    /// At the caller's connect.
    KernelOut,
    /// At the destination's door.
    KernelIn,
    /// The caller's agent, on the way to the other node.
    ProxyOut,
    /// The destination's agent.
    ProxyIn,
}

/// What an id stands for on this node: the two ends of a connection, of which it may hold both, or a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Side {
    Out,
    In,
    Request,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub id: FlowId,
    /// Unix milliseconds of the first decision.
    pub at_ms: i64,
    pub point: Point,
    pub verdict: Verdict,
    pub reason: Reason,
    pub revision: Revision,
    pub rule: RuleId,
    pub rule_declared_at: Option<String>,
    /// What the snapshot says about the two ends; `None` where it says nothing.
    pub source: Option<Party>,
    pub destination: Option<Party>,
    pub address: Option<IpAddr>,
    pub port: u16,
    /// 0: none is known.
    pub service_port: u16,
    pub protocol: Protocol,
    /// `None` when denied.
    pub path: Option<Path>,
    /// Process that called, 0 when no task was behind it.
    pub pid: u32,
    pub command: String,
    /// The workload on this node.
    pub workload: Option<WorkloadUid>,
    pub bytes_out: u64,
    pub bytes_in: u64,
    /// 0 while the connection lives, and where no proxy carried it.
    pub duration_us: u64,
    pub detail: String,
    pub key_exchange: String,
}

impl Point {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::KernelOut => "kernel-out",
            Self::KernelIn => "kernel-in",
            Self::ProxyOut => "proxy-out",
            Self::ProxyIn => "proxy-in",
        }
    }

    pub fn side(self) -> Side {
        match self {
            Self::KernelOut | Self::ProxyOut => Side::Out,
            Self::KernelIn | Self::ProxyIn => Side::In,
        }
    }

    fn is_proxy(self) -> bool {
        matches!(self, Self::ProxyOut | Self::ProxyIn)
    }
}

impl Record {
    pub fn side(&self) -> Side {
        self.point.side()
    }

    /// Takes in what another point saw of the same side, in whatever order the two arrive. The kernel knows the process and decided first;
    /// a proxy knows how it ended, and its denial overrules the kernel's allow.
    pub fn merge(&mut self, other: Self) {
        let (kernel, proxy) = match (self.point.is_proxy(), other.point.is_proxy()) {
            (true, false) => (other, self.clone()),
            _ => (self.clone(), other),
        };
        let overruled = proxy.verdict == Verdict::Deny;
        let judge = if overruled { &proxy } else { &kernel };
        *self = Self {
            id: kernel.id,
            at_ms: kernel.at_ms.min(proxy.at_ms),
            point: judge.point,
            verdict: judge.verdict,
            reason: judge.reason,
            revision: judge.revision,
            rule: if judge.rule == RuleId(0) { kernel.rule } else { judge.rule },
            rule_declared_at: judge.rule_declared_at.clone().or(kernel.rule_declared_at),
            source: kernel.source.or(proxy.source),
            destination: kernel.destination.or(proxy.destination),
            address: kernel.address.or(proxy.address),
            port: first(kernel.port, proxy.port),
            service_port: first(kernel.service_port, proxy.service_port),
            protocol: kernel.protocol,
            path: if overruled { None } else { kernel.path.or(proxy.path) },
            pid: first(kernel.pid, proxy.pid),
            command: first(kernel.command, proxy.command),
            workload: kernel.workload.or(proxy.workload),
            bytes_out: kernel.bytes_out.max(proxy.bytes_out),
            bytes_in: kernel.bytes_in.max(proxy.bytes_in),
            duration_us: kernel.duration_us.max(proxy.duration_us),
            detail: first(proxy.detail, kernel.detail),
            key_exchange: first(proxy.key_exchange, kernel.key_exchange),
        };
    }
}

/// The one that says something; the first if both do.
fn first<T: Default + PartialEq>(a: T, b: T) -> T {
    if a == T::default() { b } else { a }
}
