//! The catalog compiled: declared dependencies, with the provider's consent, become grants.

use std::{collections::BTreeMap, net::Ipv4Addr};

use ipnet::Ipv4Net;
use weft_catalog::{Catalog, Dependency};
use weft_snapshot::{External, Gateway, Grant, Pending, Port, Service, ServiceKind, Team};
use weft_types::{PortRef, Protocol, RuleId, ServiceId, ServiceRef, SpiffeId, TrustDomain};

use crate::expose::{self, Numbers, Opened};

/// Source, destination, service port, protocol.
pub(crate) type GrantKey = (ServiceId, ServiceId, u16, Protocol);

/// Gives numbers to names; the IAM bridge persists them. The same name gets the same number, and no number comes back for another name.
pub trait Ids {
    fn service_id(&mut self, service: &ServiceRef) -> ServiceId;
    /// `None`: the range is used up.
    fn vip(&mut self, service: &ServiceRef, range: Ipv4Net) -> Option<Ipv4Addr>;
    fn rule_id(&mut self, key: &str) -> RuleId;
}

/// Everything of a snapshot that follows from the catalog alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compiled {
    /// Sorted by id.
    pub services: Vec<Service>,
    /// Sorted by source, destination, port, protocol.
    pub grants: Vec<Grant>,
    /// Sorted by source, destination, port.
    pub pending: Vec<Pending>,
    /// Sorted by name.
    pub teams: Vec<Team>,
    /// `None`: nothing is exposed.
    pub gateway: Option<Gateway>,
    /// Services for which the range had no virtual IP left; nobody can name them, so such a result should not be published.
    pub without_vip: Vec<ServiceRef>,
}

/// Compiles a catalog that has no errors. A dependency on what the catalog does not hold compiles to nothing.
pub fn compile(catalog: &Catalog, ids: &mut dyn Ids) -> Compiled {
    let mut compiled = Compiled::default();
    let mut numbers: Numbers<'_> = BTreeMap::new();
    for declared in &catalog.services {
        let id = ids.service_id(&declared.name);
        numbers.insert(&declared.name, (id, declared));
        let service = service(declared, id, &catalog.mesh.trust_domain, |name| ids.vip(name, catalog.mesh.service_range));
        if service.vip.is_none() && service.kind != ServiceKind::Interface {
            compiled.without_vip.push(service.name.clone());
        }
        compiled.services.push(service);
    }
    let mut grants: BTreeMap<GrantKey, Grant> = BTreeMap::new();
    for &(source, consumer) in numbers.values() {
        for dependency in &consumer.depends_on {
            let Some(&(destination, provider)) = numbers.get(&dependency.target) else { continue };
            let meant = provider.ports_meant(dependency.port.as_ref());
            if !provider.consents_to(&consumer.name) {
                // A port that the provider does not declare is an error of the catalog; it must not become every port here.
                compiled.pending.extend((!meant.is_empty()).then(|| pending(source, destination, &meant, dependency)));
                continue;
            }
            for (port, protocol) in meant {
                let rule = ids.rule_id(&rule_key(&consumer.name, dependency, port, protocol));
                let declared_at = dependency.at.to_string();
                let grant = Grant { rule, source, destination, port, protocol, needs_l7: dependency.http, declared_at };
                // Of two declarations for one port the stricter holds.
                let kept = grants.entry((source, destination, port, protocol)).or_insert_with(|| grant.clone());
                if grant.needs_l7 && !kept.needs_l7 {
                    *kept = grant;
                }
            }
        }
    }
    if let Some(Opened { services, gateway }) = expose::open(catalog, &numbers, ids, &mut grants) {
        compiled.without_vip.extend(services.iter().filter(|s| s.vip.is_none()).map(|s| s.name.clone()));
        compiled.services.extend(services);
        compiled.gateway = Some(gateway);
    }
    compiled.grants = grants.into_values().collect();
    let exposed = compiled.gateway.is_some();
    compiled.teams = catalog.teams.iter().map(|t| team(t, exposed)).collect();
    compiled.services.sort_by_key(|s| s.id);
    compiled.pending.sort_by_key(|p| (p.source, p.destination, p.port));
    compiled
}

fn service(declared: &weft_catalog::Service, id: ServiceId, trust_domain: &TrustDomain, vip: impl FnOnce(&ServiceRef) -> Option<Ipv4Addr>) -> Service {
    let kind = match declared.kind {
        weft_catalog::ServiceKind::Application => ServiceKind::Application,
        weft_catalog::ServiceKind::Resource => ServiceKind::Resource,
        weft_catalog::ServiceKind::Interface => ServiceKind::Interface,
    };
    let port = |p: &weft_catalog::Port| Port { name: p.name.clone(), port: p.port, target_port: p.target_port, protocol: p.protocol };
    let external = |e: &weft_catalog::External| External { cidr: e.cidr.trunc(), port: e.port, protocol: e.protocol };
    Service {
        id,
        name: declared.name.clone(),
        kind,
        title: declared.title.clone(),
        owner: declared.owner.clone(),
        capability: declared.capability.clone(),
        lifecycle: declared.lifecycle.as_str().to_owned(),
        identity: SpiffeId::Workload {
            trust_domain: trust_domain.clone(),
            namespace: declared.name.namespace.clone(),
            service_account: declared.service_account.clone(),
        },
        vip: if kind == ServiceKind::Interface { None } else { vip(&declared.name) },
        ports: declared.ports.iter().map(port).collect(),
        externals: declared.external.iter().map(external).collect(),
        consumers: declared.consumers.clone(),
        declared_at: declared.at.to_string(),
    }
}

/// Groups are asked about where people come in.
fn team(t: &weft_catalog::Team, exposed: bool) -> Team {
    let groups = if exposed { t.groups.clone() } else { vec![] };
    Team { name: t.name.clone(), lead: t.lead.clone(), contact: t.contact.clone(), groups }
}

fn pending(source: ServiceId, destination: ServiceId, meant: &[(u16, Protocol)], dependency: &Dependency) -> Pending {
    let port = dependency.port.as_ref().map(|port| match port {
        PortRef::Number(n) => *n,
        PortRef::Name(_) => meant.first().map_or(0, |(n, _)| *n),
    });
    Pending { source, destination, port, declared_at: dependency.at.to_string() }
}

/// What makes a rule the same rule: who, whom, which port, and whether it speaks of HTTP. Not where it is written.
fn rule_key(consumer: &ServiceRef, dependency: &Dependency, port: u16, protocol: Protocol) -> String {
    let http = if dependency.http { " http" } else { "" };
    format!("{consumer} -> {}:{port}/{protocol}{http}", dependency.target)
}
