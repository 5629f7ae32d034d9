//! The one deciding function. The order of its checks is the kernel's (`ebpf/common`, `judge`), so that both give the same reason.

use std::net::IpAddr;

use weft_snapshot::{Grant, Service};
use weft_types::{Protocol, Reason, Revision, RuleId, ServiceId};

use crate::{
    Decision, Destination, Index, Party, Query, Resolved, ResolvedKind,
    address::stays_inside,
    explain::{self, Explanation},
};

/// No workload may dial the tunnel's port (`ebpf/common`, `TUNNEL_PORT`).
pub(crate) const TUNNEL_PORT: u16 = 15008;

/// A verdict with what it was found on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Judgement<'a> {
    pub(crate) reason: Reason,
    pub(crate) resolved: Option<Resolved>,
    /// Service port where one is known, else the dialled one.
    pub(crate) port: u16,
    pub(crate) grant: Option<&'a Grant>,
}

impl Index {
    /// Decides and explains. Pure; answers every question, also one about ids that do not exist.
    pub fn decide(&self, query: &Query) -> Decision {
        let judgement = self.judge(query);
        let Explanation { nearest_miss, patch } = explain::explain(self, query, &judgement);
        Decision {
            verdict: judgement.reason.verdict(),
            reason: judgement.reason,
            revision: self.snapshot().revision,
            rule: judgement.grant.map_or(RuleId(0), |g| g.rule),
            rule_declared_at: judgement.grant.map(|g| g.declared_at.clone()),
            builtin: judgement.grant.is_some_and(|g| self.is_builtin(g)),
            source: self.service(query.source).map(party),
            destination: judgement.resolved.and_then(|r| self.service(r.service)).map(party),
            port: judgement.port,
            protocol: query.protocol,
            nearest_miss,
            patch,
        }
    }

    fn judge(&self, query: &Query) -> Judgement<'_> {
        let (dialled, resolved, port) = match query.destination {
            Destination::Service { id, port } => (None, self.named(id), port),
            Destination::Address { addr, port } => (Some(addr.to_canonical()), self.resolve(addr), port),
        };
        let service_port = resolved.and_then(|r| self.service_port_behind(r, port, query.protocol));
        let found = Judgement { reason: Reason::NoGrant, resolved, port: service_port.unwrap_or(port), grant: None };
        if let Some(reason) = self.before_lookup(dialled.as_ref(), port) {
            return Judgement { reason, ..found };
        }
        let Some(resolved) = resolved else { return Judgement { reason: Reason::UnknownDestination, ..found } };
        if resolved.kind == ResolvedKind::External && query.protocol != Protocol::Tcp {
            return Judgement { reason: Reason::Protocol, ..found };
        }
        let Some(service_port) = service_port else { return Judgement { reason: Reason::UnknownPort, ..found } };
        if resolved.kind != ResolvedKind::External && resolved.service == query.source {
            return Judgement { reason: Reason::Local, ..found };
        }
        if query.protocol == Protocol::Udp && !self.shares_a_node(query.source, resolved.service, dialled) {
            let grant = self.granted(query.source, resolved.service, service_port, query.protocol);
            if grant.is_some() {
                return Judgement { reason: Reason::OtherNode, grant, ..found };
            }
        }
        match self.declared(query.source, resolved.service, service_port, query.protocol) {
            Some(grant) if grant.needs_l7 => Judgement { reason: Reason::NeedsL7, grant: Some(grant), ..found },
            Some(grant) => Judgement { reason: Reason::Grant, grant: Some(grant), ..found },
            None if self.waits_for_consent(query.source, resolved.service, service_port) => Judgement { reason: Reason::Pending, ..found },
            None => found,
        }
    }

    /// What decides whoever the destination is.
    fn before_lookup(&self, dialled: Option<&IpAddr>, port: u16) -> Option<Reason> {
        if dialled.is_some_and(stays_inside) {
            return Some(Reason::Local);
        }
        if self.snapshot().revision == Revision(0) {
            return Some(Reason::NoSnapshot);
        }
        (port == TUNNEL_PORT).then_some(Reason::TunnelPort)
    }

    /// Whether datagrams may have a way: some workload of `source` is on a node with one of `destination`, or with the very one at `dialled`. Where no
    /// workloads are known, as at the desk, there is nothing to say against it; the node that carries them has the last word.
    fn shares_a_node(&self, source: ServiceId, destination: ServiceId, dialled: Option<IpAddr>) -> bool {
        let (from, to) = (self.endpoints(source), self.endpoints(destination));
        let exact = dialled.filter(|d| to.iter().any(|e| e.addresses.contains(d)));
        let mut there = to.iter().filter(|e| exact.is_none_or(|d| e.addresses.contains(&d)));
        from.is_empty() || to.is_empty() || there.any(|e| from.iter().any(|f| f.node == e.node))
    }

    /// A service asked for by name is reached as its virtual IP would be, an interface as any of its addresses.
    fn named(&self, id: ServiceId) -> Option<Resolved> {
        let kind = if self.service(id)?.externals.is_empty() { ResolvedKind::Vip } else { ResolvedKind::External };
        Some(Resolved { service: id, kind })
    }

    /// The port that policy speaks of. An interface has no port table: there the grant alone must match.
    fn service_port_behind(&self, resolved: Resolved, port: u16, protocol: Protocol) -> Option<u16> {
        match resolved.kind {
            ResolvedKind::External => Some(port),
            ResolvedKind::Vip => self.service_port(resolved.service, port, protocol).map(|p| p.port),
            ResolvedKind::Endpoint => self.service_port_of_target(resolved.service, port, protocol).map(|p| p.port),
        }
    }

    /// An interface's dependency on "every declared port" means those of its ranges, no others.
    fn waits_for_consent(&self, source: ServiceId, destination: ServiceId, port: u16) -> bool {
        let declared = || self.ports(destination).iter().any(|(p, _)| *p == port);
        self.pending(source, destination).any(|p| p.port.is_none_or(|only| only == port)) && declared()
    }
}

fn party(s: &Service) -> Party {
    Party { id: s.id, service: s.name.clone(), identity: s.identity.clone(), owner: s.owner.clone(), declared_at: s.declared_at.clone() }
}
