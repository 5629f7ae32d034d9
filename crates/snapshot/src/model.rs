//! One revision of everything an agent or gateway needs, as the domain sees it. `wire` turns it into bytes and back.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use serde::Serialize;
use weft_types::{Consumer, NodeName, PortName, Protocol, Revision, RuleId, ServiceId, ServiceRef, SpiffeId, TeamName, TrustDomain, WorkloadUid};

use crate::Gateway;

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Snapshot {
    pub revision: Revision,
    pub mesh: String,
    pub trust_domain: TrustDomain,
    /// Sorted by id.
    pub services: Vec<Service>,
    /// Sorted by service, node, uid.
    pub endpoints: Vec<Endpoint>,
    /// Sorted by source, destination, port, protocol.
    pub grants: Vec<Grant>,
    /// Sorted by source, destination, port.
    pub pending: Vec<Pending>,
    /// Sorted by name.
    pub teams: Vec<Team>,
    /// What only a gateway needs; `None`: nothing is exposed.
    pub gateway: Option<Gateway>,
}

impl Snapshot {
    /// Whether every list is in its documented order.
    pub fn is_sorted(&self) -> bool {
        self.services.is_sorted_by_key(|s| s.id)
            && self.endpoints.is_sorted()
            && self.grants.is_sorted_by_key(|g| (g.source, g.destination, g.port, g.protocol, g.rule))
            && self.pending.is_sorted_by(|a, b| (a.source, a.destination, a.port, &a.declared_at) <= (b.source, b.destination, b.port, &b.declared_at))
            && self.teams.is_sorted_by(|a, b| a.name <= b.name)
            && self.gateway.as_ref().is_none_or(Gateway::is_sorted)
    }

    /// Brings every list into its documented order.
    pub fn sorted(mut self) -> Self {
        if self.is_sorted() {
            return self;
        }
        self.services.sort_by_key(|s| s.id);
        self.endpoints.sort();
        self.grants.sort_by_key(|g| (g.source, g.destination, g.port, g.protocol, g.rule));
        self.pending.sort_by(|a, b| (a.source, a.destination, a.port, &a.declared_at).cmp(&(b.source, b.destination, b.port, &b.declared_at)));
        self.teams.sort_by(|a, b| a.name.cmp(&b.name));
        if let Some(gateway) = &mut self.gateway {
            gateway.sort();
        }
        self
    }

    /// The same for readers of before there was a gateway: every connection is judged by it as by the whole, because a gateway's grants are grants.
    pub fn without_gateway(&self) -> Self {
        let teams = self.teams.iter().map(|t| Team { groups: vec![], ..t.clone() }).collect();
        Self { teams, gateway: None, ..self.clone() }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ServiceKind {
    Application,
    Resource,
    Interface,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Service {
    pub id: ServiceId,
    pub name: ServiceRef,
    pub kind: ServiceKind,
    pub title: String,
    pub owner: TeamName,
    pub capability: String,
    pub lifecycle: String,
    /// Always the workload shape. Interfaces have one too, which nobody is ever issued.
    pub identity: SpiffeId,
    /// `None` for interfaces.
    pub vip: Option<Ipv4Addr>,
    pub ports: Vec<Port>,
    /// Of interfaces only.
    pub externals: Vec<External>,
    /// Who may declare a dependency on it, beyond its own namespace.
    pub consumers: Vec<Consumer>,
    /// `file:line` of the document.
    pub declared_at: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Port {
    pub name: PortName,
    pub port: u16,
    pub target_port: u16,
    pub protocol: Protocol,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct External {
    pub cidr: IpNet,
    pub port: u16,
    pub protocol: Protocol,
}

/// One workload instance, where its agent says it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Endpoint {
    pub service: ServiceId,
    pub node: NodeName,
    pub uid: WorkloadUid,
    pub addresses: Vec<IpAddr>,
}

/// Source may reach one port of destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Grant {
    pub rule: RuleId,
    pub source: ServiceId,
    pub destination: ServiceId,
    /// Service port, not target port.
    pub port: u16,
    pub protocol: Protocol,
    /// The rule speaks of HTTP, so no L4 path satisfies it.
    pub needs_l7: bool,
    /// `file:line` of the dependency.
    pub declared_at: String,
}

/// A dependency without the provider's consent: denied, and shown to both teams.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Pending {
    pub source: ServiceId,
    pub destination: ServiceId,
    /// `None`: every declared port.
    pub port: Option<u16>,
    pub declared_at: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Team {
    pub name: TeamName,
    pub lead: String,
    pub contact: String,
    /// Of the identity provider: whom to ask for one of them. Empty where there is no gateway.
    pub groups: Vec<String>,
}
