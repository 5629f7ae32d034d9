//! The one place where wire types become ours. Empty and zero become "none" here and nowhere else.

use std::path::Path;

use prost::Message;
use weft_api::{agent::v1 as agent, bridge::v1 as wire};
use weft_snapshot::{HIGHEST_SCHEMA_VERSION, Snapshot};

use crate::view::{AskedView, BridgeView, CertView, FlowView, NodeView, ProgramView, Stamp, WorkloadView};

pub(super) fn node(s: agent::StatusResponse, socket: &Path) -> NodeView {
    NodeView {
        agent: Some(socket.to_owned()),
        version: s.version,
        trust_domain: s.trust_domain,
        revision: s.revision,
        kernel_revision: Some(s.kernel_revision),
        bridge_connected: s.bridge_connected,
        bridge_error: s.bridge_error,
        bridge_last_seen: Stamp::seconds(s.bridge_last_seen),
        fail_static_until: Stamp::seconds(s.fail_static_until),
        holder_connected: Some(s.holder_connected),
        started_at: Stamp::seconds(s.started_at),
        may_run: Vec::new(),
        programs: s.programs.into_iter().map(|p| ProgramView { name: p.name, attached_to: p.attached_to, attached: p.attached }).collect(),
        counters: s.counters.into_iter().collect(),
        host_warnings: s.host_warnings,
        cgroup_root: s.cgroup_root,
        managed: s.managed,
        workloads: s.workloads.into_iter().map(|w| workload(w, &s.node)).collect(),
        name: s.node,
    }
}

pub(super) fn workload(w: agent::Workload, node: &str) -> WorkloadView {
    WorkloadView {
        node: node.to_owned(),
        uid: w.uid,
        service: some(w.service),
        identity: some(w.spiffe_id),
        class: w.class,
        mode: w.mode,
        addresses: w.addresses,
        cgroup: w.cgroup,
        netns: w.netns,
        enrolled_in_kernel: Some(w.enrolled_in_kernel),
        problem: w.problem,
        svid_not_after: Stamp::seconds(w.svid_not_after),
        proof: None,
        enforced: some(w.enforced),
        enforced_why: some(w.enforced_why),
        public_ports: w.public_ports,
    }
}

pub(super) fn flow(f: agent::Flow) -> FlowView {
    FlowView {
        id: f.id,
        node: f.node,
        at: Stamp::millis(f.at_ms),
        point: f.point,
        verdict: f.verdict,
        reason: f.reason,
        revision: f.revision,
        rule: (f.rule != 0).then_some(f.rule),
        rule_declared_at: some(f.rule_declared_at),
        source: some(f.source),
        source_identity: some(f.source_identity),
        destination: some(f.destination),
        destination_identity: some(f.destination_identity),
        destination_owner: some(f.destination_owner),
        address: f.address,
        port: u16::try_from(f.port).unwrap_or(0),
        service_port: u16::try_from(f.service_port).ok().filter(|p| *p != 0),
        protocol: f.protocol,
        path: some(f.path),
        pid: (f.pid != 0).then_some(f.pid),
        command: some(f.command),
        workload: some(f.workload),
        bytes_out: f.bytes_out,
        bytes_in: f.bytes_in,
        duration_us: f.duration_us,
        detail: some(f.detail),
        key_exchange: some(f.key_exchange),
        request: f.request.map(|r| AskedView {
            user: some(r.user),
            groups: r.groups,
            method: r.method,
            host: r.host,
            path: r.path,
            status: u16::try_from(r.status).ok().filter(|s| *s != 0),
            missing: r.missing,
        }),
    }
}

pub(super) fn cert(c: agent::Cert, node: &str) -> CertView {
    CertView {
        node: node.to_owned(),
        spiffe_id: c.spiffe_id,
        serial: c.serial,
        not_before: Stamp::seconds(c.not_before),
        not_after: Stamp::seconds(c.not_after),
        renew_at: Stamp::seconds(c.renew_at),
        pem: c.pem,
    }
}

pub(super) fn bridge(s: wire::StatusResponse) -> BridgeView {
    BridgeView {
        version: s.version,
        mesh: s.mesh,
        trust_domain: s.trust_domain,
        revision: s.revision,
        catalog_errors: s.catalog_errors,
        catalog_warnings: s.catalog_warnings,
        ca_fingerprint: s.ca_fingerprint,
        ca_not_after: Stamp::seconds(s.ca_not_after),
        refused_by: Default::default(),
    }
}

/// A node as the bridge knows it: what it reported, nothing of its kernel.
pub(super) fn bridge_node(n: wire::NodeInfo) -> (NodeView, String) {
    let workloads = n.workloads.into_iter().map(|w| WorkloadView {
        node: n.name.clone(),
        uid: w.uid,
        service: some(w.service),
        class: "reported".to_owned(),
        addresses: w.addresses,
        ..WorkloadView::default()
    });
    let node = NodeView {
        workloads: workloads.collect(),
        name: n.name,
        version: n.agent_version,
        revision: n.acked_revision,
        bridge_connected: n.connected,
        bridge_last_seen: Stamp::seconds(n.last_seen),
        may_run: n.may_run,
        ..NodeView::default()
    };
    (node, n.error)
}

/// The snapshot inside an envelope; `None` when the envelope is empty.
pub fn snapshot_of(envelope: &wire::Envelope) -> Result<Option<Snapshot>, String> {
    if envelope.payload.is_empty() {
        return Ok(None);
    }
    if !weft_snapshot::is_whole(envelope.schema_version) {
        let theirs = envelope.schema_version;
        return Err(format!("its schema is version {theirs}, this weft reads up to {HIGHEST_SCHEMA_VERSION}: use the weft of the agent's version"));
    }
    weft_snapshot::decode(&envelope.payload).map(Some).map_err(|e| e.to_string())
}

pub(super) fn snapshot_of_bytes(envelope: &[u8]) -> Result<Option<Snapshot>, String> {
    if envelope.is_empty() {
        return Ok(None);
    }
    let envelope = wire::Envelope::decode(envelope).map_err(|e| format!("the envelope is damaged: {e}"))?;
    snapshot_of(&envelope)
}

fn some(s: String) -> Option<String> {
    (!s.is_empty()).then_some(s)
}
