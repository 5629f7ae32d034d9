//! Domain to bytes. The result is canonical: equal snapshots have equal bytes, whatever order their lists were in.

use std::{borrow::Cow, net::IpAddr};

use prost::Message;

use crate::{Endpoint, External, Grant, Pending, Port, Service, ServiceKind, Snapshot, Team, decode::Elements, gateway::encode, wire};

/// The payload of an envelope.
pub fn encode(snapshot: &Snapshot) -> Vec<u8> {
    let sorted = if snapshot.is_sorted() { Cow::Borrowed(snapshot) } else { Cow::Owned(snapshot.clone().sorted()) };
    wire::Snapshot {
        revision: sorted.revision.0,
        mesh: sorted.mesh.clone(),
        trust_domain: sorted.trust_domain.to_string(),
        services: sorted.services.iter().map(service).collect(),
        endpoints: sorted.endpoints.iter().map(endpoint).collect(),
        grants: sorted.grants.iter().map(grant).collect(),
        pending: sorted.pending.iter().map(pending).collect(),
        teams: sorted.teams.iter().map(team).collect(),
        gateway: sorted.gateway.as_ref().map(encode::settings),
        routes: sorted.gateway.iter().flat_map(|g| &g.routes).map(encode::route).collect(),
        providers: sorted.gateway.iter().flat_map(|g| &g.providers).map(encode::provider).collect(),
        bookmarks: sorted.gateway.iter().flat_map(|g| &g.bookmarks).map(encode::bookmark).collect(),
    }
    .encode_to_vec()
}

/// The same of some elements, in the order that they have.
pub(crate) fn encode_elements(e: &Elements) -> Vec<u8> {
    wire::Snapshot {
        revision: e.revision,
        mesh: e.mesh.clone(),
        trust_domain: e.trust_domain.as_ref().map(ToString::to_string).unwrap_or_default(),
        services: e.services.iter().map(service).collect(),
        endpoints: e.endpoints.iter().map(endpoint).collect(),
        grants: e.grants.iter().map(grant).collect(),
        pending: e.pending.iter().map(pending).collect(),
        teams: e.teams.iter().map(team).collect(),
        gateway: e.gateway.as_ref().map(encode::settings),
        routes: e.routes.iter().map(encode::route).collect(),
        providers: e.providers.iter().map(encode::provider).collect(),
        bookmarks: e.bookmarks.iter().map(encode::bookmark).collect(),
    }
    .encode_to_vec()
}

fn service(s: &Service) -> wire::Service {
    wire::Service {
        id: s.id.0,
        namespace: s.name.namespace.to_string(),
        name: s.name.name.to_string(),
        kind: match s.kind {
            ServiceKind::Application => 1,
            ServiceKind::Resource => 2,
            ServiceKind::Interface => 3,
        },
        title: s.title.clone(),
        owner: s.owner.to_string(),
        capability: s.capability.clone(),
        lifecycle: s.lifecycle.clone(),
        identity: s.identity.to_string(),
        vip: s.vip.map(u32::from),
        ports: s.ports.iter().map(port).collect(),
        externals: s.externals.iter().map(external).collect(),
        declared_at: s.declared_at.clone(),
        consumers: s.consumers.iter().map(ToString::to_string).collect(),
    }
}

fn port(p: &Port) -> wire::Port {
    wire::Port { name: p.name.to_string(), port: p.port.into(), target_port: p.target_port.into(), protocol: p.protocol.number().into() }
}

fn external(e: &External) -> wire::External {
    wire::External { network: octets(e.cidr.network()), prefix_bits: e.cidr.prefix_len().into(), port: e.port.into(), protocol: e.protocol.number().into() }
}

fn endpoint(e: &Endpoint) -> wire::Endpoint {
    wire::Endpoint { service: e.service.0, node: e.node.to_string(), uid: e.uid.to_string(), addresses: e.addresses.iter().copied().map(octets).collect() }
}

fn grant(g: &Grant) -> wire::Grant {
    wire::Grant {
        rule: g.rule.0,
        source: g.source.0,
        destination: g.destination.0,
        port: g.port.into(),
        protocol: g.protocol.number().into(),
        needs_l7: g.needs_l7,
        declared_at: g.declared_at.clone(),
    }
}

fn pending(p: &Pending) -> wire::Pending {
    wire::Pending { source: p.source.0, destination: p.destination.0, port: p.port.unwrap_or(0).into(), declared_at: p.declared_at.clone() }
}

fn team(t: &Team) -> wire::Team {
    wire::Team { name: t.name.to_string(), lead: t.lead.clone(), contact: t.contact.clone(), groups: t.groups.clone() }
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}
