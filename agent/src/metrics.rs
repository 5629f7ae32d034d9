//! What is counted. Every label is a closed set of words, or the name of a service that this node runs.

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};
use weft_types::{Path, Reason, Verdict};

use crate::{
    flows::Record,
    proxy::{End, Measure, Point},
};

type Labels<const N: usize> = [(&'static str, &'static str); N];
type Count<const N: usize> = Family<Labels<N>, Counter>;

/// Written as things happen.
#[derive(Default)]
pub struct Metrics {
    decisions: Count<4>,
    proxied: Count<1>,
    ended: Count<2>,
    refused: Count<2>,
    bytes: Count<2>,
    handshakes: Count<2>,
    pool: Count<1>,
    bounds: Count<1>,
    ring_events: Counter,
    sockets_ended: Count<1>,
    drift: Count<1>,
    snapshots: Count<2>,
    applied: Applied,
    svids: Count<1>,
    gateway_callers: Count<1>,
    gateway_flows: Count<1>,
}

/// What putting a revision in force costs.
struct Applied {
    seconds: Histogram,
    bytes: Gauge,
}

impl Default for Applied {
    fn default() -> Self {
        // From 4 ms to 4 s.
        Self { seconds: Histogram::new(exponential_buckets(0.004, 2.0, 11)), bytes: Gauge::default() }
    }
}

/// Read at each scrape.
#[derive(Default)]
pub struct Gauges {
    pub revision: Gauge,
    pub kernel_revision: Gauge,
    pub live: Gauge,
    pub descriptors: Family<Labels<1>, Gauge>,
    pub buffered: Gauge,
    pub small_buffers: Counter,
    pub flows_kept: Gauge,
    pub flows_forgotten: Counter,
    pub bridge_connected: Gauge,
    pub holder_connected: Gauge,
    pub warnings: Gauge,
    pub workloads: Family<Labels<1>, Gauge>,
    pub svid_seconds: Family<[(&'static str, String); 1], Gauge<f64, AtomicU64>>,
    pub kernel: Family<Labels<1>, Gauge>,
}

impl Metrics {
    pub fn register(&self, r: &mut Registry) {
        r.register("weft_decisions", "Decisions of the kernel programs, by where, verdict, reason and path", self.decisions.clone());
        r.register("weft_flow_events", "Events read from the kernel's flow ring", self.ring_events.clone());
        r.register("weft_proxy_opened", "Connections that the proxy began to carry", self.proxied.clone());
        r.register("weft_proxy_ended", "Connections that the proxy carried to their end, by how they ended", self.ended.clone());
        r.register("weft_proxy_refused", "Connections that the proxy refused, by reason", self.refused.clone());
        r.register_with_unit("weft_proxy_carried", "Bytes of applications that the proxy carried", Unit::Bytes, self.bytes.clone());
        r.register("weft_tunnel_handshakes", "TLS handshakes of tunnels", self.handshakes.clone());
        r.register("weft_tunnel_pool", "Connections that found a warm tunnel, and those that did not", self.pool.clone());
        r.register("weft_sockets_ended", "Live sockets of workloads that the agent ended in the kernel, by why", self.sockets_ended.clone());
        r.register("weft_drift", "Times that something was found to be otherwise than the agent had put it, by what", self.drift.clone());
        r.register("weft_proxy_bound", "Times that a table of the proxy was full, by which; docs/agent.md says what happens then", self.bounds.clone());
        r.register("weft_snapshots", "Snapshots received, by what became of them", self.snapshots.clone());
        r.register_with_unit("weft_snapshot_apply", "From a revision's arrival until the kernel judges by it", Unit::Seconds, self.applied.seconds.clone());
        r.register_with_unit("weft_snapshot", "Payload of the revision in force", Unit::Bytes, self.applied.bytes.clone());
        r.register("weft_svids", "Requests for SVIDs, by their outcome", self.svids.clone());
        r.register("weft_gateway_callers", "Connections to the gateway's socket, by what became of them", self.gateway_callers.clone());
        r.register("weft_gateway_flows", "Requests that gateways reported, by what became of them", self.gateway_flows.clone());
    }

    pub fn event(&self, record: &Record) {
        self.ring_events.inc();
        let labels = [
            ("point", record.point.as_str()),
            ("verdict", verdict(record.verdict)),
            ("reason", record.reason.as_str()),
            ("path", record.path.map_or("none", Path::as_str)),
        ];
        self.decisions.get_or_create(&labels).inc();
    }

    pub fn measure(&self, what: Measure) {
        match what {
            Measure::Opened(point) => drop(self.proxied.get_or_create(&[("point", point.as_str())]).inc()),
            Measure::Closed { point, bytes_out, bytes_in, end } => {
                self.ended.get_or_create(&[("point", point.as_str()), ("end", ending(end))]).inc();
                self.carried(point, "out", bytes_out);
                self.carried(point, "in", bytes_in);
            }
            Measure::Refused { point, reason } => self.count_refused(point, reason),
            Measure::Handshake { point, ok } => {
                self.handshakes.get_or_create(&[("point", point.as_str()), ("outcome", if ok { "ok" } else { "failed" })]).inc();
            }
            Measure::Bound(bound) => drop(self.bounds.get_or_create(&[("bound", bound.as_str())]).inc()),
            Measure::Pool { hit } => drop(self.pool.get_or_create(&[("outcome", if hit { "warm" } else { "cold" })]).inc()),
        }
    }

    pub fn drift(&self, what: &'static str) {
        self.drift.get_or_create(&[("what", what)]).inc();
    }

    pub fn socket_ended(&self, why: &'static str) {
        self.sockets_ended.get_or_create(&[("why", why)]).inc();
    }

    /// A refused change is asked for again as a whole snapshot.
    pub fn snapshot(&self, delta: bool, applied: bool) {
        let kind = if delta { "delta" } else { "whole" };
        self.snapshots.get_or_create(&[("kind", kind), ("outcome", if applied { "applied" } else { "refused" })]).inc();
    }

    /// A revision is in force in the kernel.
    pub fn applied(&self, after: std::time::Duration, bytes: usize) {
        self.applied.seconds.observe(after.as_secs_f64());
        self.applied.bytes.set(bytes as i64);
    }

    pub fn svid(&self, issued: bool) {
        self.svids.get_or_create(&[("outcome", if issued { "issued" } else { "failed" })]).inc();
    }

    pub fn gateway_caller(&self, outcome: &'static str) {
        self.gateway_callers.get_or_create(&[("outcome", outcome)]).inc();
    }

    pub fn gateway_flow(&self, outcome: &'static str) {
        self.gateway_flows.get_or_create(&[("outcome", outcome)]).inc();
    }

    fn carried(&self, point: Point, direction: &'static str, bytes: u64) {
        self.bytes.get_or_create(&[("point", point.as_str()), ("direction", direction)]).inc_by(bytes);
    }

    fn count_refused(&self, point: Point, reason: Reason) {
        self.refused.get_or_create(&[("point", point.as_str()), ("reason", reason.as_str())]).inc();
    }
}

impl Gauges {
    pub fn register(&self, r: &mut Registry) {
        r.register("weft_revision", "Revision that the agent holds; 0: none", self.revision.clone());
        r.register("weft_kernel_revision", "Revision in force, read back from the kernel", self.kernel_revision.clone());
        r.register("weft_proxy_live", "Connections that the proxy carries now", self.live.clone());
        r.register("weft_proxy_descriptors", "Descriptors that connections of the proxy hold, and those left for more", self.descriptors.clone());
        r.register_with_unit("weft_proxy_buffered", "Memory that bytes on their way hold in the proxy", Unit::Bytes, self.buffered.clone());
        r.register(
            "weft_proxy_small_buffers",
            "Times that a connection had a small buffer because its workload, or all, held too much",
            self.small_buffers.clone(),
        );
        r.register("weft_flows_kept", "Flow records in memory", self.flows_kept.clone());
        r.register("weft_flows_forgotten", "Flow records that made room for newer ones", self.flows_forgotten.clone());
        r.register("weft_bridge_connected", "1: the stream from the IAM bridge is up", self.bridge_connected.clone());
        r.register("weft_holder_connected", "1: a holder keeps the listeners", self.holder_connected.clone());
        r.register("weft_warnings", "Things that are not as they should be; see weft status", self.warnings.clone());
        r.register("weft_workloads", "Workloads of this node, by class", self.workloads.clone());
        r.register_with_unit("weft_svid_remaining", "Time until the SVID of a service ends", Unit::Seconds, self.svid_seconds.clone());
        r.register("weft_kernel_counter", "Counters of the kernel programs since their tables were made", self.kernel.clone());
    }
}

fn verdict(v: Verdict) -> &'static str {
    match v {
        Verdict::Allow => "allow",
        Verdict::Deny => "deny",
    }
}

fn ending(end: End) -> &'static str {
    match end {
        End::Finished => "finished",
        End::Reset => "reset",
        End::Revoked => "revoked",
        End::Shutdown => "shutdown",
        End::Broken => "broken",
    }
}
