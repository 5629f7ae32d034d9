//! What the bridge counts.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

#[derive(Debug, Default)]
pub(crate) struct Metrics {
    pub(crate) revision: Gauge,
    pub(crate) connected: Gauge,
    pub(crate) catalog_errors: Gauge,
    pub(crate) reports: Counter,
    pub(crate) nacks: Counter,
    pub(crate) handshake_failures: Counter,
    joins: Family<Outcome, Counter>,
    svids: Family<Outcome, Counter>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    /// "granted" or "refused".
    outcome: &'static str,
}

impl Metrics {
    pub(crate) fn registry(&self) -> Registry {
        let mut registry = Registry::with_prefix("weft_bridge");
        registry.register("snapshot_revision", "Revision of the snapshot in force", self.revision.clone());
        registry.register("nodes_connected", "Nodes with an open stream", self.connected.clone());
        registry.register("catalog_errors", "Errors in the catalog directory now; the former catalog stays in force", self.catalog_errors.clone());
        registry.register("workload_reports", "Workload reports read", self.reports.clone());
        registry.register("snapshot_nacks", "Snapshots that a node refused", self.nacks.clone());
        registry.register("tls_handshake_failures", "Connections of nodes that failed in their TLS handshake", self.handshake_failures.clone());
        registry.register("joins", "Nodes that asked to join", self.joins.clone());
        registry.register("svid_requests", "SVIDs that nodes asked for", self.svids.clone());
        registry
    }

    pub(crate) fn joined(&self, granted: bool) {
        self.joins.get_or_create(&outcome(granted)).inc();
    }

    pub(crate) fn svid(&self, granted: bool) {
        self.svids.get_or_create(&outcome(granted)).inc();
    }
}

fn outcome(granted: bool) -> Outcome {
    Outcome { outcome: if granted { "granted" } else { "refused" } }
}
