//! What the bridge counts.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};

#[derive(Debug, Default)]
pub(crate) struct Metrics {
    pub(crate) revision: Gauge,
    pub(crate) connected: Gauge,
    pub(crate) catalog_errors: Gauge,
    pub(crate) reports: Counter,
    pub(crate) nacks: Counter,
    pub(crate) handshake_failures: Counter,
    pub(crate) delta_fallbacks: Counter,
    sent: Family<Kind, Counter>,
    sent_bytes: Family<Kind, Counter>,
    joins: Family<Outcome, Counter>,
    svids: Family<Outcome, Counter>,
    logins: Family<Outcome, Counter>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    /// "granted" or "refused"; of logins also "limited".
    outcome: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    /// "whole" or "delta".
    kind: &'static str,
}

impl Metrics {
    pub(crate) fn registry(&self) -> Registry {
        let mut registry = Registry::with_prefix("weft_bridge");
        registry.register("snapshot_revision", "Revision of the snapshot in force", self.revision.clone());
        registry.register("nodes_connected", "Nodes with an open stream", self.connected.clone());
        registry.register("catalog_errors", "Errors in the catalog directory now; the former catalog stays in force", self.catalog_errors.clone());
        registry.register("workload_reports", "Workload reports read", self.reports.clone());
        registry.register("snapshot_nacks", "Snapshots that a node refused", self.nacks.clone());
        registry.register("snapshot_sent", "Snapshots sent to nodes: whole, or as the change from the one before", self.sent.clone());
        registry.register_with_unit("snapshot_sent", "Payloads of what was sent to nodes", Unit::Bytes, self.sent_bytes.clone());
        registry.register("snapshot_delta_fallbacks", "Nodes that could not use a change and got a whole snapshot for it", self.delta_fallbacks.clone());
        registry.register("tls_handshake_failures", "Connections of nodes that failed in their TLS handshake", self.handshake_failures.clone());
        registry.register("joins", "Nodes that asked to join", self.joins.clone());
        registry.register("logins", "Logins of people at the local provider", self.logins.clone());
        registry.register("svid_requests", "SVIDs that nodes asked for", self.svids.clone());
        registry
    }

    pub(crate) fn joined(&self, granted: bool) {
        self.joins.get_or_create(&outcome(granted)).inc();
    }

    pub(crate) fn sent(&self, whole: bool, bytes: usize) {
        let kind = Kind { kind: if whole { "whole" } else { "delta" } };
        self.sent.get_or_create(&kind).inc();
        self.sent_bytes.get_or_create(&kind).inc_by(bytes as u64);
    }

    /// `None`: too many had failed before.
    pub(crate) fn login(&self, granted: Option<bool>) {
        let outcome = granted.map_or(Outcome { outcome: "limited" }, outcome);
        self.logins.get_or_create(&outcome).inc();
    }

    pub(crate) fn svid(&self, granted: bool) {
        self.svids.get_or_create(&outcome(granted)).inc();
    }
}

fn outcome(granted: bool) -> Outcome {
    Outcome { outcome: if granted { "granted" } else { "refused" } }
}
