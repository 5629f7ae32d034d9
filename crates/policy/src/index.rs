//! A snapshot, indexed for every question that is asked of it. Built once a revision, then only read.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    ops::Range,
    sync::Arc,
};

use weft_snapshot::{Endpoint, Grant, Pending, Port, Service, ServiceKind, Snapshot};
use weft_types::{PortRef, Protocol, ServiceId, ServiceRef, SpiffeId, builtin};

use crate::{
    Kind,
    address::{self, Claim, Prefixes},
    public,
    routes::Routes,
};

/// Whose an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resolved {
    pub service: ServiceId,
    pub kind: ResolvedKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResolvedKind {
    Vip,
    Endpoint,
    External,
}

#[derive(Clone, Debug)]
pub struct Index {
    snapshot: Arc<Snapshot>,
    by_id: HashMap<ServiceId, usize>,
    by_name: HashMap<ServiceRef, usize>,
    by_identity: HashMap<SpiffeId, usize>,
    claims: BTreeMap<IpAddr, Claim>,
    externals: Prefixes,
    /// Sorted by service; `endpoints_of` has the ranges.
    endpoints: Vec<Endpoint>,
    endpoints_of: HashMap<ServiceId, Range<usize>>,
    /// Indices into the snapshot's grants.
    grants: HashMap<(ServiceId, ServiceId, u16, Protocol), usize>,
    /// Destination, port and protocol to the grants that lead there, so that explaining a denial costs no walk over all of them.
    leading_to: HashMap<(ServiceId, u16, Protocol), Vec<usize>>,
    pending: HashMap<(ServiceId, ServiceId), Vec<usize>>,
    /// The gateway, and its ports that are open to everybody.
    pub(crate) public: Option<(ServiceId, Vec<u16>)>,
    /// Indices into the gateway's routes.
    pub(crate) routes: Routes,
}

impl Index {
    pub fn new(snapshot: Arc<Snapshot>) -> Self {
        let s = &*snapshot;
        let mut endpoints = s.endpoints.clone();
        endpoints.sort();
        let mut endpoints_of: HashMap<_, Range<usize>> = HashMap::new();
        for (i, endpoint) in endpoints.iter().enumerate() {
            endpoints_of.entry(endpoint.service).or_insert(i..i).end = i + 1;
        }
        let mut grants = HashMap::new();
        let mut leading_to: HashMap<_, Vec<_>> = HashMap::new();
        for (i, g) in s.grants.iter().enumerate() {
            grants.entry((g.source, g.destination, g.port, g.protocol)).or_insert(i);
            leading_to.entry((g.destination, g.port, g.protocol)).or_default().push(i);
        }
        let mut pending: HashMap<_, Vec<_>> = HashMap::new();
        for (i, p) in s.pending.iter().enumerate() {
            pending.entry((p.source, p.destination)).or_default().push(i);
        }
        Self {
            by_id: s.services.iter().enumerate().map(|(i, s)| (s.id, i)).collect(),
            by_name: s.services.iter().enumerate().map(|(i, s)| (s.name.clone(), i)).collect(),
            by_identity: s.services.iter().enumerate().map(|(i, s)| (s.identity.clone(), i)).collect(),
            claims: address::claims(s),
            externals: Prefixes::new(s.services.iter().flat_map(|s| s.externals.iter().map(|e| (e.cidr, s.id)))),
            endpoints,
            endpoints_of,
            grants,
            leading_to,
            pending,
            public: public::of(s),
            routes: s.gateway.as_ref().map(|g| Routes::new(&g.routes)).unwrap_or_default(),
            snapshot,
        }
    }

    pub fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    pub fn service(&self, id: ServiceId) -> Option<&Service> {
        self.by_id.get(&id).map(|&i| &self.snapshot.services[i])
    }

    pub fn by_ref(&self, name: &ServiceRef) -> Option<&Service> {
        self.by_name.get(name).map(|&i| &self.snapshot.services[i])
    }

    /// The service whose workloads carry this identity. Interfaces never match: nobody is issued theirs.
    pub fn by_identity(&self, identity: &SpiffeId) -> Option<&Service> {
        self.by_identity.get(identity).map(|&i| &self.snapshot.services[i]).filter(|s| s.kind != ServiceKind::Interface)
    }

    /// Whose an address is: virtual IP or endpoint exactly, else the interface with the longest prefix.
    pub fn resolve(&self, address: IpAddr) -> Option<Resolved> {
        let address = address.to_canonical();
        match self.claims.get(&address) {
            Some(Claim::One(service, Kind::Vip)) => Some(Resolved { service: *service, kind: ResolvedKind::Vip }),
            Some(Claim::One(service, Kind::Endpoint | Kind::Public)) => Some(Resolved { service: *service, kind: ResolvedKind::Endpoint }),
            // As in the kernel's table, where a disputed address has no entry.
            Some(Claim::Disputed(_)) | None => self.externals.longest(address).map(|service| Resolved { service, kind: ResolvedKind::External }),
        }
    }

    /// Every known workload instance of a service, sorted by node and uid.
    pub fn endpoints(&self, service: ServiceId) -> &[Endpoint] {
        self.endpoints_of.get(&service).map_or(&[], |range| &self.endpoints[range.clone()])
    }

    /// A declared port, by service port or name. TCP wins where a number stands for both protocols. Interfaces have no ports of this kind.
    pub fn port(&self, service: ServiceId, port: &PortRef) -> Option<&Port> {
        let fits = |p: &&Port| match port {
            PortRef::Number(n) => p.port == *n,
            PortRef::Name(n) => p.name == *n,
        };
        self.service(service)?.ports.iter().filter(fits).min_by_key(|p| p.protocol)
    }

    /// The declared port behind a service port.
    pub fn service_port(&self, service: ServiceId, port: u16, protocol: Protocol) -> Option<&Port> {
        self.service(service)?.ports.iter().find(|p| p.port == port && p.protocol == protocol)
    }

    /// The declared port whose endpoints listen on `target_port`.
    pub fn service_port_of_target(&self, service: ServiceId, target_port: u16, protocol: Protocol) -> Option<&Port> {
        self.service(service)?.ports.iter().find(|p| p.target_port == target_port && p.protocol == protocol)
    }

    /// Every service port, of interfaces those of their ranges; sorted, none twice.
    pub fn ports(&self, service: ServiceId) -> Vec<(u16, Protocol)> {
        let Some(s) = self.service(service) else { return Vec::new() };
        let own = s.ports.iter().map(|p| (p.port, p.protocol));
        let mut all: Vec<_> = own.chain(s.externals.iter().map(|e| (e.port, e.protocol))).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// The grant that lets `source` open an L4 connection. One that needs L7 is none; whether a service speaks with itself [`Index::decide`] says.
    pub fn granted(&self, source: ServiceId, destination: ServiceId, service_port: u16, protocol: Protocol) -> Option<&Grant> {
        self.declared(source, destination, service_port, protocol).filter(|g| !g.needs_l7)
    }

    pub(crate) fn declared(&self, source: ServiceId, destination: ServiceId, service_port: u16, protocol: Protocol) -> Option<&Grant> {
        self.grants.get(&(source, destination, service_port, protocol)).map(|&i| &self.snapshot.grants[i])
    }

    /// Everyone who may reach that port at L4, in the snapshot's order.
    pub(crate) fn admitted(&self, destination: ServiceId, service_port: u16, protocol: Protocol) -> impl Iterator<Item = &Service> {
        let grants = self.leading_to.get(&(destination, service_port, protocol)).into_iter().flatten();
        grants.map(|&i| &self.snapshot.grants[i]).filter(|g| !g.needs_l7).filter_map(|g| self.service(g.source))
    }

    /// Whether a grant is weft's own rule: that the gateway reaches what is exposed, and who vouches for people; and that the local provider reaches the gateway.
    pub fn is_builtin(&self, grant: &Grant) -> bool {
        self.service(grant.source).is_some_and(|s| builtin::is_builtin(&s.name))
    }

    pub(crate) fn pending(&self, source: ServiceId, destination: ServiceId) -> impl Iterator<Item = &Pending> {
        self.pending.get(&(source, destination)).into_iter().flatten().map(|&i| &self.snapshot.pending[i])
    }

    /// Services whose endpoints all claim this address, when more than one does.
    pub(crate) fn disputed(&self, address: IpAddr) -> &[ServiceId] {
        match self.claims.get(&address.to_canonical()) {
            Some(Claim::Disputed(all)) => all,
            _ => &[],
        }
    }
}
