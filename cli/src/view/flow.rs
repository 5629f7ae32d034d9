//! One record of one decision.

use serde::Serialize;

use super::Stamp;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FlowView {
    pub id: String,
    pub node: String,
    pub at: Option<Stamp>,
    /// Where it was decided: kernel-out, kernel-in, proxy-out, proxy-in.
    pub point: String,
    pub verdict: String,
    pub reason: String,
    pub revision: u64,
    /// `null`: no rule matched.
    pub rule: Option<u32>,
    pub rule_declared_at: Option<String>,
    pub source: Option<String>,
    pub source_identity: Option<String>,
    pub destination: Option<String>,
    pub destination_identity: Option<String>,
    pub destination_owner: Option<String>,
    /// As the program dialled it.
    pub address: String,
    pub port: u16,
    /// `null`: the destination declares no such port.
    pub service_port: Option<u16>,
    pub protocol: String,
    pub path: Option<String>,
    pub pid: Option<u32>,
    pub command: Option<String>,
    pub workload: Option<String>,
    pub bytes_out: u64,
    pub bytes_in: u64,
    pub duration_us: u64,
    pub detail: Option<String>,
    pub key_exchange: Option<String>,
}

impl FlowView {
    pub fn denied(&self) -> bool {
        self.verdict != "allow"
    }

    /// Which end of the connection this record is about, on its node; a record may change while the connection lives.
    pub fn end(&self) -> (&str, &str, &str) {
        (&self.id, &self.node, self.point.rsplit('-').next().unwrap_or_default())
    }

    /// Order of time over all nodes; the rest only makes it one order.
    pub fn order(&self) -> (Option<Stamp>, &str, &str, &str) {
        (self.at, &self.id, &self.node, &self.point)
    }

    /// `shop/orders:80`, or the address when it belongs to nobody.
    pub fn to(&self) -> String {
        match (&self.destination, self.service_port) {
            (Some(name), Some(port)) => format!("{name}:{port}"),
            (Some(name), None) => format!("{name}:{}", self.port),
            (None, _) if self.address.contains(':') => format!("[{}]:{}", self.address, self.port),
            (None, _) => format!("{}:{}", self.address, self.port),
        }
    }
}
