//! The pure L4 compile: what the kernel's tables must hold for one snapshot, in the words of policy. `weft-kernel` writes it and reads it back.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;
use weft_snapshot::{Port, Snapshot};
use weft_types::{Protocol, RuleId, ServiceId};

use crate::{
    address::{self, Claim},
    public,
};

/// What an address in the destination table is, and by which of its ports a service is reached there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    Vip,
    Endpoint,
    /// Of ports only: anybody may connect to the service's workloads there.
    Public,
}

/// One generation of the kernel's tables. No key appears twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelTables {
    /// Address → service.
    pub destinations: Vec<(IpAddr, ServiceId, Kind)>,
    /// Prefixes of declared interfaces.
    pub externals: Vec<(IpNet, ServiceId)>,
    /// Service, kind, dialled port, protocol → service port, target port.
    pub ports: Vec<(ServiceId, Kind, u16, Protocol, u16, u16)>,
    /// Source, destination, service port, protocol → rule, and whether the rule speaks of HTTP.
    pub grants: Vec<(ServiceId, ServiceId, u16, Protocol, RuleId, bool)>,
}

/// What the kernel must hold so that it judges every connection as [`crate::Index::decide`] does.
pub fn tables(snapshot: &Snapshot) -> KernelTables {
    let open =
        public::of(snapshot).into_iter().flat_map(|(id, ports)| ports.into_iter().map(move |port| ((id, Kind::Public, port, Protocol::Tcp), (port, port))));
    let destinations = address::claims(snapshot).into_iter().filter_map(|(addr, claim)| match claim {
        Claim::One(service, kind) => Some((addr, service, kind)),
        Claim::Disputed(_) => None,
    });
    KernelTables {
        destinations: destinations.collect(),
        externals: unique(snapshot.services.iter().flat_map(|s| s.externals.iter().map(|e| (e.cidr.trunc(), s.id)))),
        ports: unique(open.chain(snapshot.services.iter().flat_map(|s| {
            let row = move |kind, dialled, p: &Port| ((s.id, kind, dialled, p.protocol), (p.port, p.target_port));
            s.ports.iter().flat_map(move |p| [row(Kind::Vip, p.port, p), row(Kind::Endpoint, p.target_port, p)])
        })))
        .into_iter()
        .map(|((service, kind, dialled, protocol), (port, target))| (service, kind, dialled, protocol, port, target))
        .collect(),
        grants: unique(snapshot.grants.iter().map(|g| ((g.source, g.destination, g.port, g.protocol), (g.rule, g.needs_l7))))
            .into_iter()
            .map(|((source, destination, port, protocol), (rule, needs_l7))| (source, destination, port, protocol, rule, needs_l7))
            .collect(),
    }
}

/// The first value of each key, sorted by key.
fn unique<K: Ord, V>(rows: impl Iterator<Item = (K, V)>) -> Vec<(K, V)> {
    let mut first = BTreeMap::new();
    for (key, value) in rows {
        first.entry(key).or_insert(value);
    }
    first.into_iter().collect()
}
