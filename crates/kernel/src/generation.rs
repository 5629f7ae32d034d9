//! From policy's words to table entries of one generation, and what must change in a table that holds another. Pure.

use std::{
    collections::HashMap,
    fmt::Debug,
    hash::Hash,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use weft_ebpf_common::{
    Addr, DEST_ENDPOINT, DEST_PUBLIC, DEST_VIP, Destination, DestinationKey, External, ExternalKey, GRANT_NEEDS_L7, Grant, GrantKey, PROTO_ICMP, Port, PortKey,
};
use weft_policy::{KernelTables, Kind};
use weft_types::{Protocol, RuleId, ServiceId};

use crate::{KernelError, table::LpmKey};

/// Bits of a prefix key before the address: the slot.
const SLOT_BITS: u32 = 32;
/// Bits before an IPv4 address in its mapped form.
const MAPPED_BITS: u32 = 96;

/// One generation as the kernel holds it.
#[derive(Debug, Default)]
pub(crate) struct Generation {
    pub(crate) destinations: HashMap<DestinationKey, Destination>,
    pub(crate) externals: HashMap<LpmKey, External>,
    pub(crate) ports: HashMap<PortKey, Port>,
    pub(crate) grants: HashMap<GrantKey, Grant>,
}

impl Generation {
    pub(crate) fn new(slot: u32, tables: &KernelTables) -> Result<Self, KernelError> {
        let mut g = Self::default();
        for &(ip, service, kind) in &tables.destinations {
            let key = DestinationKey { slot, addr: ip.into() };
            insert("DESTINATIONS", &mut g.destinations, key, Destination { service: service.0, kind: kind_code(kind) })?;
        }
        for &(net, service) in &tables.externals {
            insert("EXTERNALS", &mut g.externals, prefix_key(slot, net), External { service: service.0 })?;
        }
        // Who may dial any port may ask for an echo. Derived, so it is no word of policy.
        for &(source, destination, _, _, rule, _) in &tables.grants {
            let key = GrantKey { slot, source: source.0, destination: destination.0, port: 0, proto: PROTO_ICMP, pad: 0 };
            g.grants.entry(key).or_insert(Grant { rule: rule.0, ..Grant::default() });
        }
        for &(service, kind, port, proto, service_port, target_port) in &tables.ports {
            let key = PortKey { slot, service: service.0, kind: kind_code(kind), port, proto: proto.number(), pad: 0 };
            insert("PORTS", &mut g.ports, key, Port { service_port, target_port })?;
        }
        for &(source, destination, port, proto, rule, needs_l7) in &tables.grants {
            let key = GrantKey { slot, source: source.0, destination: destination.0, port, proto: proto.number(), pad: 0 };
            insert("GRANTS", &mut g.grants, key, Grant { rule: rule.0, flags: if needs_l7 { GRANT_NEEDS_L7 } else { 0 } })?;
        }
        Ok(g)
    }

    /// How many: destinations, externals, ports, grants.
    pub(crate) fn entries(&self) -> [usize; 4] {
        [self.destinations.len(), self.externals.len(), self.ports.len(), self.grants.len()]
    }

    /// Back to policy's words, sorted. What no version of this crate could have written is left out.
    pub(crate) fn tables(&self) -> KernelTables {
        let mut t = KernelTables::default();
        t.destinations.extend(self.destinations.iter().filter_map(|(k, v)| Some((k.addr.into(), ServiceId(v.service), kind_of(v.kind)?))));
        t.externals.extend(self.externals.iter().filter_map(|(k, v)| Some((net_of(k)?, ServiceId(v.service)))));
        t.ports.extend(
            self.ports
                .iter()
                .filter_map(|(k, v)| Some((ServiceId(k.service), kind_of(k.kind)?, k.port, Protocol::from_number(k.proto)?, v.service_port, v.target_port))),
        );
        t.grants.extend(self.grants.iter().filter_map(|(k, v)| {
            let needs_l7 = v.flags & GRANT_NEEDS_L7 != 0;
            Some((ServiceId(k.source), ServiceId(k.destination), k.port, Protocol::from_number(k.proto)?, RuleId(v.rule), needs_l7))
        }));
        t.destinations.sort_unstable();
        t.externals.sort_unstable();
        t.ports.sort_unstable_by_key(|&(s, k, p, proto, ..)| (s, k, p, proto.number()));
        t.grants.sort_unstable_by_key(|&(s, d, p, proto, ..)| (s, d, p, proto.number()));
        t
    }
}

/// What turns `have` into `want`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Diff<K, V> {
    pub(crate) remove: Vec<K>,
    pub(crate) put: Vec<(K, V)>,
}

pub(crate) fn diff<K: Copy + Eq + Hash, V: Copy + PartialEq>(have: &HashMap<K, V>, want: &HashMap<K, V>) -> Diff<K, V> {
    Diff {
        remove: have.keys().filter(|k| !want.contains_key(k)).copied().collect(),
        put: want.iter().filter(|(k, v)| have.get(k) != Some(v)).map(|(k, v)| (*k, *v)).collect(),
    }
}

fn insert<K: Eq + Hash + Debug + Copy, V: PartialEq>(table: &'static str, map: &mut HashMap<K, V>, key: K, value: V) -> Result<(), KernelError> {
    match map.get(&key) {
        Some(old) if *old != value => Err(KernelError::Contradiction { table, key: format!("{key:?}") }),
        _ => {
            map.insert(key, value);
            Ok(())
        }
    }
}

fn kind_code(kind: Kind) -> u32 {
    match kind {
        Kind::Vip => DEST_VIP,
        Kind::Endpoint => DEST_ENDPOINT,
        Kind::Public => DEST_PUBLIC,
    }
}

fn kind_of(code: u32) -> Option<Kind> {
    match code {
        DEST_VIP => Some(Kind::Vip),
        DEST_ENDPOINT => Some(Kind::Endpoint),
        DEST_PUBLIC => Some(Kind::Public),
        _ => None,
    }
}

fn prefix_key(slot: u32, net: IpNet) -> LpmKey {
    let (addr, bits) = match net {
        IpNet::V4(n) => (IpAddr::V4(n.network()), MAPPED_BITS + u32::from(n.prefix_len())),
        IpNet::V6(n) => (IpAddr::V6(n.network()), u32::from(n.prefix_len())),
    };
    LpmKey { bits: SLOT_BITS + bits, data: ExternalKey { slot_be: slot.to_be(), addr: Addr::from(addr) } }
}

fn net_of(key: &LpmKey) -> Option<IpNet> {
    let bits = key.bits.checked_sub(SLOT_BITS)?;
    let octets = key.data.addr.octets();
    match bits.checked_sub(MAPPED_BITS) {
        Some(v4) if key.data.addr.is_v4() => {
            let ip = Ipv4Addr::new(octets[12], octets[13], octets[14], octets[15]);
            Ipv4Net::new(ip, u8::try_from(v4).ok()?).ok().map(IpNet::V4)
        }
        _ => Ipv6Net::new(Ipv6Addr::from(octets), u8::try_from(bits).ok()?).ok().map(IpNet::V6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> KernelTables {
        KernelTables {
            destinations: vec![("10.0.0.1".parse().unwrap(), ServiceId(2), Kind::Vip), ("fd00::3".parse().unwrap(), ServiceId(2), Kind::Endpoint)],
            externals: vec![
                ("0.0.0.0/0".parse().unwrap(), ServiceId(8)),
                ("192.0.2.0/24".parse().unwrap(), ServiceId(9)),
                ("2001:db8::/32".parse().unwrap(), ServiceId(9)),
            ],
            ports: vec![
                (ServiceId(2), Kind::Vip, 80, Protocol::Tcp, 80, 8080),
                (ServiceId(2), Kind::Endpoint, 8080, Protocol::Tcp, 80, 8080),
                (ServiceId(2), Kind::Public, 443, Protocol::Tcp, 443, 443),
            ],
            grants: vec![(ServiceId(1), ServiceId(2), 80, Protocol::Tcp, RuleId(5), false), (ServiceId(3), ServiceId(2), 80, Protocol::Tcp, RuleId(6), true)],
        }
    }

    #[test]
    fn what_goes_in_comes_out() {
        for slot in [0, 1] {
            assert_eq!(Generation::new(slot, &small()).unwrap().tables(), small());
        }
    }

    #[test]
    fn an_echo_follows_from_any_grant() {
        let g = Generation::new(0, &small()).unwrap();
        let echo = |source, destination| g.grants.contains_key(&GrantKey { slot: 0, source, destination, port: 0, proto: PROTO_ICMP, pad: 0 });
        assert_eq!((echo(1, 2), echo(3, 2), echo(2, 1)), (true, true, false));
    }

    #[test]
    fn the_two_generations_share_no_key() {
        let (a, b) = (Generation::new(0, &small()).unwrap(), Generation::new(1, &small()).unwrap());
        assert!(a.destinations.keys().all(|k| !b.destinations.contains_key(k)));
        assert!(a.externals.keys().all(|k| !b.externals.contains_key(k)));
        assert!(a.ports.keys().all(|k| !b.ports.contains_key(k)));
        assert!(a.grants.keys().all(|k| !b.grants.contains_key(k)));
    }

    #[test]
    fn a_prefix_key_is_slot_then_mapped_address() {
        let key = prefix_key(1, "192.0.2.0/24".parse().unwrap());
        assert_eq!(key.bits, 32 + 96 + 24);
        assert_eq!(key.data.slot_be.to_ne_bytes(), [0, 0, 0, 1]);
        assert_eq!(key.data.addr.octets()[10..], [0xff, 0xff, 192, 0, 2, 0]);
        // Host bits of a careless prefix do not make another key.
        assert_eq!(prefix_key(1, "192.0.2.77/24".parse().unwrap()), key);
    }

    #[test]
    fn a_contradiction_is_refused_and_a_repetition_is_not() {
        let mut t = small();
        t.destinations.push(t.destinations[0]);
        assert!(Generation::new(0, &t).is_ok());
        t.destinations.push(("10.0.0.1".parse().unwrap(), ServiceId(3), Kind::Vip));
        assert!(matches!(Generation::new(0, &t), Err(KernelError::Contradiction { table: "DESTINATIONS", .. })));
    }

    #[test]
    fn a_diff_touches_only_what_differs() {
        let have = HashMap::from([(1, 'a'), (2, 'b'), (3, 'c')]);
        let want = HashMap::from([(1, 'a'), (2, 'x'), (4, 'd')]);
        let mut d = diff(&have, &want);
        d.put.sort_unstable();
        assert_eq!(d, Diff { remove: vec![3], put: vec![(2, 'x'), (4, 'd')] });
        assert_eq!(diff(&want, &want), Diff { remove: vec![], put: vec![] });
    }
}
