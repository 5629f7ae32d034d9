//! Nodes, their workloads, kernel programs and certificates.

use std::{collections::BTreeMap, path::PathBuf};

use serde::Serialize;

use super::Stamp;

/// One node, as its agent tells, or (without `agent`) as far as the bridge knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct NodeView {
    pub name: String,
    /// Socket of the agent that told; `null`: only the bridge knows the node.
    pub agent: Option<PathBuf>,
    pub version: String,
    pub trust_domain: String,
    /// Revision that the agent holds, or acknowledged to the bridge; 0: none.
    pub revision: u64,
    /// Read back from the kernel; `null`: nobody asked the kernel.
    pub kernel_revision: Option<u64>,
    pub bridge_connected: bool,
    pub bridge_error: String,
    pub bridge_last_seen: Option<Stamp>,
    pub fail_static_until: Option<Stamp>,
    pub holder_connected: Option<bool>,
    pub started_at: Option<Stamp>,
    /// What its join token lets it run; known to the bridge only.
    pub may_run: Vec<String>,
    pub programs: Vec<ProgramView>,
    pub counters: BTreeMap<String, u64>,
    pub host_warnings: Vec<String>,
    /// Where the kernel programs are attached, absolute.
    pub cgroup_root: String,
    /// Managed cgroup subtrees, absolute.
    pub managed: Vec<String>,
    pub workloads: Vec<WorkloadView>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct WorkloadView {
    pub node: String,
    pub uid: String,
    /// `null`: unidentified.
    pub service: Option<String>,
    pub identity: Option<String>,
    /// exempt, enrolled, unidentified; `reported` when only the bridge tells.
    pub class: String,
    pub mode: String,
    pub addresses: Vec<String>,
    pub cgroup: String,
    pub netns: String,
    /// Every kernel entry and link was read back; `null`: nobody asked the kernel.
    pub enrolled_in_kernel: Option<bool>,
    pub problem: String,
    pub svid_not_after: Option<Stamp>,
    /// `packets and sockets`, `sockets only`; `null`: not enrolled, or nobody asked the kernel.
    pub enforced: Option<String>,
    /// Why not the packets.
    pub enforced_why: Option<String>,
    /// TCP ports that anybody may connect to.
    pub public_ports: Vec<u32>,
    /// What the canaries found; `null`: nobody asked for them.
    pub proof: Option<ProofView>,
}

/// Whether a workload is shown, from inside and from outside, to be in the mesh.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ProofView {
    /// What leaves it is captured.
    pub outbound: CanaryView,
    /// What nobody attested is refused.
    pub inbound: CanaryView,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CanaryView {
    pub holds: bool,
    /// Why not; empty when it holds.
    pub problem: String,
}

impl CanaryView {
    /// Empty: it holds.
    pub fn new(problem: &str) -> Self {
        Self { holds: problem.is_empty(), problem: problem.to_owned() }
    }
}

impl NodeView {
    /// Every workload that is to be in the mesh gets a proof; one that no canary ran for has none that holds.
    pub fn take_proofs(&mut self, proofs: &BTreeMap<String, ProofView>) {
        for w in self.workloads.iter_mut().filter(|w| w.class != "exempt") {
            let none = || {
                let canary = CanaryView::new("it is not enrolled, so no canary ran");
                ProofView { outbound: canary.clone(), inbound: canary }
            };
            w.proof = Some(proofs.get(&w.uid).cloned().unwrap_or_else(none));
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProgramView {
    pub name: String,
    pub attached_to: String,
    pub attached: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BridgeView {
    pub version: String,
    pub mesh: String,
    pub trust_domain: String,
    pub revision: u64,
    pub catalog_errors: Vec<String>,
    pub catalog_warnings: Vec<String>,
    pub ca_fingerprint: String,
    pub ca_not_after: Option<Stamp>,
    /// Nodes whose last answer to a snapshot was a refusal, with their reason.
    pub refused_by: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CertView {
    pub node: String,
    pub spiffe_id: String,
    pub serial: String,
    pub not_before: Option<Stamp>,
    pub not_after: Option<Stamp>,
    pub renew_at: Option<Stamp>,
    /// The chain, never the key.
    pub pem: String,
}
