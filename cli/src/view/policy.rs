//! Services and the policy between them, as a snapshot holds them.

use serde::Serialize;
use weft_snapshot::{Service, ServiceKind, Snapshot};

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ServiceView {
    pub service: String,
    /// application, resource, interface
    pub kind: String,
    pub title: String,
    pub owner: String,
    pub capability: String,
    pub lifecycle: String,
    pub identity: String,
    /// Virtual IP; `null` for interfaces, and when read from a catalog.
    pub vip: Option<String>,
    pub ports: Vec<PortView>,
    /// Of interfaces: where they are outside the mesh.
    pub externals: Vec<String>,
    /// Addresses of the running workloads, with their node.
    pub endpoints: Vec<String>,
    pub declared_at: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PortView {
    pub name: String,
    pub port: u16,
    pub target_port: u16,
    pub protocol: String,
}

/// A grant, or (`granted: false`) a dependency that the provider has not consented to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PolicyView {
    pub granted: bool,
    pub rule: Option<u32>,
    pub source: String,
    pub destination: String,
    /// Service port; `null`: every declared one.
    pub port: Option<u16>,
    pub protocol: Option<String>,
    pub needs_l7: bool,
    /// Nobody declared it: it follows from what is exposed.
    pub builtin: bool,
    pub declared_at: String,
}

impl ServiceView {
    pub fn all(snapshot: &Snapshot) -> Vec<Self> {
        let mut all: Vec<Self> = snapshot.services.iter().map(|s| Self::one(snapshot, s)).collect();
        all.sort_by(|a, b| a.service.cmp(&b.service));
        all
    }

    fn one(snapshot: &Snapshot, s: &Service) -> Self {
        let endpoints = snapshot.endpoints.iter().filter(|e| e.service == s.id);
        let kind = match s.kind {
            ServiceKind::Application => "application",
            ServiceKind::Resource => "resource",
            ServiceKind::Interface => "interface",
        };
        Self {
            service: s.name.to_string(),
            kind: kind.to_owned(),
            title: s.title.clone(),
            owner: s.owner.to_string(),
            capability: s.capability.clone(),
            lifecycle: s.lifecycle.clone(),
            identity: s.identity.to_string(),
            vip: s.vip.map(|ip| ip.to_string()),
            ports: s
                .ports
                .iter()
                .map(|p| PortView { name: p.name.to_string(), port: p.port, target_port: p.target_port, protocol: p.protocol.to_string() })
                .collect(),
            externals: s.externals.iter().map(|e| format!("{}:{}/{}", e.cidr, e.port, e.protocol)).collect(),
            endpoints: endpoints
                .map(|e| {
                    let addresses: Vec<_> = e.addresses.iter().map(ToString::to_string).collect();
                    format!("{} on {}", addresses.join(", "), e.node)
                })
                .collect(),
            declared_at: s.declared_at.clone(),
        }
    }
}

impl PolicyView {
    pub fn all(snapshot: &Snapshot) -> Vec<Self> {
        let name = |id| snapshot.services.iter().find(|s| s.id == id).map_or_else(|| format!("service {id}"), |s| s.name.to_string());
        let grants = snapshot.grants.iter().map(|g| Self {
            granted: true,
            rule: Some(g.rule.0),
            source: name(g.source),
            destination: name(g.destination),
            port: Some(g.port),
            protocol: Some(g.protocol.to_string()),
            needs_l7: g.needs_l7,
            builtin: snapshot.services.iter().any(|s| s.id == g.source && weft_types::builtin::is_builtin(&s.name)),
            declared_at: g.declared_at.clone(),
        });
        let pending = snapshot.pending.iter().map(|p| Self {
            granted: false,
            rule: None,
            source: name(p.source),
            destination: name(p.destination),
            port: p.port,
            protocol: None,
            needs_l7: false,
            builtin: false,
            declared_at: p.declared_at.clone(),
        });
        let mut all: Vec<Self> = grants.chain(pending).collect();
        all.sort_by(|a, b| (&a.source, &a.destination, a.port, &a.protocol).cmp(&(&b.source, &b.destination, b.port, &b.protocol)));
        all
    }
}
