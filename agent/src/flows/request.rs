//! A request that a gateway of this node decided on. Who sent it is the gateway's word, as the identity provider gave it.

use std::net::IpAddr;

use weft_policy::Party;
use weft_types::{FlowId, Revision, RuleId, Verdict, WorkloadUid};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestRecord {
    pub id: FlowId,
    /// Unix milliseconds.
    pub at_ms: i64,
    pub verdict: Verdict,
    /// The word of `weft_policy::AccessReason`, or of a gateway that knows more of them.
    pub reason: String,
    pub revision: Revision,
    /// 0: no route took it.
    pub rule: RuleId,
    pub rule_declared_at: Option<String>,
    /// The application, as the snapshot has it; `None`: no route took it, or the gateway itself did.
    pub destination: Option<Party>,
    /// Whom it came from.
    pub address: Option<IpAddr>,
    pub port: u16,
    /// 0: none is known.
    pub service_port: u16,
    /// The gateway on this node.
    pub workload: WorkloadUid,
    pub bytes_out: u64,
    pub bytes_in: u64,
    pub duration_us: u64,
    pub detail: String,
    /// `None`: nobody who is known.
    pub user: Option<String>,
    pub groups: Vec<String>,
    pub method: String,
    pub host: String,
    /// Without the query.
    pub path: String,
    /// What was answered; 0: nothing yet, or nothing at all.
    pub status: u16,
    /// Any one of these groups would have let it in.
    pub missing: Vec<String>,
}
