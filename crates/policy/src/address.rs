//! Whose an address is: virtual IPs first, then endpoints, then the longest prefix of an interface.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, Ipv6Addr},
};

use ipnet::IpNet;
use weft_snapshot::Snapshot;
use weft_types::ServiceId;

use crate::Kind;

/// Who says that an address is theirs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    One(ServiceId, Kind),
    /// Endpoints of several services report it, so nobody has it: a wrong report must not move another service's traffic.
    Disputed(Vec<ServiceId>),
}

/// Every virtual IP and endpoint address, in canonical form. A virtual IP outranks any endpoint's report.
pub(crate) fn claims(snapshot: &Snapshot) -> BTreeMap<IpAddr, Claim> {
    let mut claims = BTreeMap::new();
    for service in &snapshot.services {
        if let Some(vip) = service.vip {
            claims.entry(IpAddr::V4(vip)).or_insert(Claim::One(service.id, Kind::Vip));
        }
    }
    for endpoint in &snapshot.endpoints {
        for address in endpoint.addresses.iter().map(IpAddr::to_canonical).filter(may_be_dialled) {
            claims.entry(address).and_modify(|claim| dispute(claim, endpoint.service)).or_insert(Claim::One(endpoint.service, Kind::Endpoint));
        }
    }
    claims
}

fn dispute(claim: &mut Claim, other: ServiceId) {
    match claim {
        Claim::One(_, Kind::Vip | Kind::Public) => {}
        Claim::One(holder, Kind::Endpoint) if *holder == other => {}
        Claim::One(holder, Kind::Endpoint) => *claim = Claim::Disputed(vec![*holder, other]),
        Claim::Disputed(all) if all.contains(&other) => {}
        Claim::Disputed(all) => all.push(other),
    }
}

/// What stays within a namespace by its nature is nobody's endpoint.
fn may_be_dialled(address: &IpAddr) -> bool {
    !stays_inside(address) && !address.is_multicast()
}

/// Loopback, or unspecified, which the kernel takes as loopback.
pub(crate) fn stays_inside(address: &IpAddr) -> bool {
    address.is_loopback() || address.is_unspecified()
}

/// Longest-prefix match over both families as the kernel does it: IPv4 is v4-mapped.
#[derive(Clone, Debug, Default)]
pub(crate) struct Prefixes {
    by_prefix: HashMap<(u8, u128), ServiceId>,
    /// Longest first.
    lengths: Vec<u8>,
}

impl Prefixes {
    /// Of two services with the same prefix the first has it; the catalog and the snapshot refuse that anyway.
    pub(crate) fn new(prefixes: impl IntoIterator<Item = (IpNet, ServiceId)>) -> Self {
        let mut all = Self::default();
        for (net, service) in prefixes {
            let length = match net {
                IpNet::V4(v4) => 96 + v4.prefix_len(),
                IpNet::V6(v6) => v6.prefix_len(),
            };
            all.by_prefix.entry((length, masked(net.network(), length))).or_insert(service);
            all.lengths.push(length);
        }
        all.lengths.sort_unstable_by(|a, b| b.cmp(a));
        all.lengths.dedup();
        all
    }

    pub(crate) fn longest(&self, address: IpAddr) -> Option<ServiceId> {
        self.lengths.iter().find_map(|&length| self.by_prefix.get(&(length, masked(address, length))).copied())
    }
}

fn masked(address: IpAddr, length: u8) -> u128 {
    let v6: Ipv6Addr = match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    let mask = if length == 0 { 0 } else { u128::MAX << (128 - u32::from(length)) };
    v6.to_bits() & mask
}
