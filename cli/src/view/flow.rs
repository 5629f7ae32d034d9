//! One record of one decision.

use serde::Serialize;

use super::{PersonView, Stamp};

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FlowView {
    pub id: String,
    pub node: String,
    pub at: Option<Stamp>,
    /// Where it was decided: kernel-out, kernel-in, proxy-out, proxy-in; gateway, of a request.
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
    /// `null`: it is a connection.
    pub request: Option<AskedView>,
}

/// A request that a gateway judged, as it came.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AskedView {
    /// `null`: nobody who is known.
    pub user: Option<String>,
    pub groups: Vec<String>,
    pub method: String,
    pub host: String,
    /// Without the query.
    pub path: String,
    /// What was answered; `null`: nothing.
    pub status: Option<u16>,
    /// Any one of these groups would have let it in.
    pub missing: Vec<String>,
}

impl AskedView {
    pub fn person(&self) -> PersonView {
        PersonView { user: self.user.clone(), groups: if self.user.is_some() { self.groups.clone() } else { vec![] } }
    }

    pub fn address(&self) -> String {
        format!("{}{}", self.host, self.path)
    }
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

    /// `shop/orders:80`, or the address when it belongs to nobody; of a request what was asked for.
    pub fn to(&self) -> String {
        if let Some(asked) = &self.request {
            return format!("{} {}", asked.method, asked.address());
        }
        match (&self.destination, self.service_port) {
            (Some(name), Some(port)) => format!("{name}:{port}"),
            (Some(name), None) => format!("{name}:{}", self.port),
            (None, _) if self.address.contains(':') => format!("[{}]:{}", self.address, self.port),
            (None, _) => format!("{}:{}", self.address, self.port),
        }
    }
}
