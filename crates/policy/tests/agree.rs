//! The kernel's own function over the kernel's tables gives what `decide` gives from the snapshot: for every caller, address and port.

use std::{net::IpAddr, sync::Arc};

use proptest::{collection::vec, prelude::*, sample::select};
use weft_ebpf_common::{self as abi, Addr, judge};
use weft_policy::{Destination, Index, KernelTables, Kind, Query, tables};
use weft_snapshot::{Endpoint, External, Grant, Pending, Port, Service, ServiceKind, Snapshot};
use weft_types::{Protocol, Reason, Revision, RuleId, ServiceId};

/// The tables as the kernel looks them up, written out the slow way.
struct Kernel(KernelTables);

impl judge::Tables for Kernel {
    fn destination(&self, addr: &Addr) -> Option<abi::Destination> {
        let found = self.0.destinations.iter().find(|(a, ..)| Addr::from(*a) == *addr);
        found.map(|(_, service, kind)| abi::Destination { service: service.0, kind: number(*kind) })
    }

    fn external(&self, addr: &Addr) -> Option<abi::External> {
        let bits = |a: Addr| u128::from_be_bytes(a.octets());
        let length = |net: &ipnet::IpNet| u32::from(net.prefix_len()) + if net.network().is_ipv4() { 96 } else { 0 };
        let equal = |net: &&(ipnet::IpNet, ServiceId)| match 128 - length(&net.0) {
            128 => true,
            shift => bits(Addr::from(net.0.network())) >> shift == bits(*addr) >> shift,
        };
        let longest = self.0.externals.iter().filter(equal).max_by_key(|(net, _)| length(net));
        longest.map(|(_, service)| abi::External { service: service.0 })
    }

    fn port(&self, service: u32, kind: u32, port: u16, proto: u8) -> Option<abi::Port> {
        let key = |r: &&(ServiceId, Kind, u16, Protocol, u16, u16)| (r.0.0, number(r.1), r.2, r.3.number()) == (service, kind, port, proto);
        self.0.ports.iter().find(key).map(|r| abi::Port { service_port: r.4, target_port: r.5 })
    }

    fn grant(&self, source: u32, destination: u32, port: u16, proto: u8) -> Option<abi::Grant> {
        let key = |g: &&(ServiceId, ServiceId, u16, Protocol, RuleId, bool)| (g.0.0, g.1.0, g.2, g.3.number()) == (source, destination, port, proto);
        self.0.grants.iter().find(key).map(|g| abi::Grant { rule: g.4.0, flags: if g.5 { abi::GRANT_NEEDS_L7 } else { 0 } })
    }
}

fn number(kind: Kind) -> u32 {
    match kind {
        Kind::Vip => abi::DEST_VIP,
        Kind::Endpoint => abi::DEST_ENDPOINT,
        Kind::Public => abi::DEST_PUBLIC,
    }
}

/// Few enough that services, endpoints and interfaces meet at the same ones.
const ADDRESSES: [&str; 9] = ["10.0.0.1", "10.0.0.2", "::ffff:10.0.0.3", "10.0.1.1", "fd00::1", "fd00::2", "100.64.0.1", "100.64.0.2", "192.0.2.1"];
const RANGES: [&str; 8] = ["10.0.0.0/24", "10.0.0.0/30", "10.0.0.2/32", "10.0.0.0/8", "0.0.0.0/0", "fd00::/64", "2000::/3", "fd00::2/128"];
const PORTS: [u16; 4] = [80, 81, 8080, 15008];
const SERVICES: u32 = 6;

fn address() -> impl Strategy<Value = IpAddr> {
    select(&ADDRESSES[..]).prop_map(|a| a.parse().unwrap())
}

fn service(id: u32) -> impl Strategy<Value = Service> {
    let ports = vec((select(&PORTS[..]), select(&PORTS[..]), select(vec![Protocol::Tcp, Protocol::Udp])), 0..4);
    let ranges = vec((select(&RANGES[..]), select(&PORTS[..])), 0..3);
    (any::<bool>(), ports, ranges).prop_map(move |(interface, ports, ranges)| Service {
        id: ServiceId(id),
        name: format!("ns/s{id}").parse().unwrap(),
        kind: if interface { ServiceKind::Interface } else { ServiceKind::Application },
        title: String::new(),
        owner: "t".parse().unwrap(),
        capability: String::new(),
        lifecycle: String::new(),
        identity: format!("spiffe://d/ns/ns/sa/s{id}").parse().unwrap(),
        vip: (!interface).then(|| [100, 64, 0, u8::try_from(id).unwrap()].into()),
        ports: if interface { vec![] } else { ports.into_iter().enumerate().map(port).collect() },
        externals: if interface { ranges.into_iter().map(external).collect() } else { vec![] },
        consumers: vec![],
        declared_at: String::new(),
    })
}

fn port((i, (port, target_port, protocol)): (usize, (u16, u16, Protocol))) -> Port {
    Port { name: format!("p{i}").parse().unwrap(), port, target_port, protocol }
}

fn external((cidr, port): (&str, u16)) -> External {
    External { cidr: cidr.parse().unwrap(), port, protocol: Protocol::Tcp }
}

fn snapshot() -> impl Strategy<Value = Snapshot> {
    let services: Vec<_> = (1..=SERVICES).map(service).collect();
    let id = || (1..=SERVICES).prop_map(ServiceId);
    let endpoint = (id(), vec(address(), 0..3));
    let grant = (id(), id(), select(&PORTS[..]), select(vec![Protocol::Tcp, Protocol::Udp]), any::<bool>());
    (services, vec(endpoint, 0..8), vec(grant, 0..30), vec((id(), id()), 0..6)).prop_map(|(services, endpoints, grants, pending)| Snapshot {
        revision: Revision(1),
        mesh: String::new(),
        trust_domain: "d".parse().unwrap(),
        services,
        endpoints: endpoints
            .into_iter()
            .enumerate()
            .map(|(i, (service, addresses))| Endpoint { service, node: "n".parse().unwrap(), uid: format!("u{i}").parse().unwrap(), addresses })
            .collect(),
        grants: (1..)
            .zip(grants)
            .map(|(rule, (source, destination, port, protocol, needs_l7))| Grant {
                rule: RuleId(rule),
                source,
                destination,
                port,
                protocol,
                needs_l7,
                declared_at: String::new(),
            })
            .collect(),
        pending: pending.into_iter().map(|(source, destination)| Pending { source, destination, port: None, declared_at: String::new() }).collect(),
        teams: vec![],
        gateway: None,
    })
}

/// What waits for consent has no grant, and no more does the kernel know.
fn as_the_kernel_says_it(reason: Reason) -> u8 {
    if reason == Reason::Pending { Reason::NoGrant.code() } else { reason.code() }
}

proptest! {
    #[test]
    fn kernel_and_decide_agree_over_all_pairs(snapshot in snapshot()) {
        let kernel = Kernel(tables(&snapshot));
        let index = Index::new(Arc::new(snapshot));
        for source in 0..=SERVICES + 1 {
            for addr in ADDRESSES.iter().chain(&["203.0.113.9", "2001:db8::1"]).map(|a| a.parse::<IpAddr>().unwrap()) {
                for (port, protocol) in PORTS.into_iter().flat_map(|port| [(port, Protocol::Tcp), (port, Protocol::Udp)]) {
                    let decision = index.decide(&Query { source: ServiceId(source), destination: Destination::Address { addr, port }, protocol });
                    let judged = judge::judge(&kernel, source, &Addr::from(addr), port, protocol.number());
                    let (kernel_says, decide_says) = (
                        (judged.reason, judged.rule, judged.service_port),
                        (u32::from(as_the_kernel_says_it(decision.reason)), decision.rule.0, decision.port),
                    );
                    // Where the tunnel's port ends the matter, the kernel looks no further, while the record still names the port.
                    if decision.reason == Reason::TunnelPort {
                        prop_assert_eq!(kernel_says.0, decide_says.0);
                        continue;
                    }
                    prop_assert_eq!(kernel_says, decide_says, "{} → {}:{}/{}", source, addr, port, protocol);
                    prop_assert_eq!(judged.service, decision.destination.map_or(0, |d| d.id.0));
                    prop_assert_eq!(decision.nearest_miss.is_some(), decision.reason.code() >= 10);
                }
            }
        }
    }

    #[test]
    fn no_table_has_a_key_twice(snapshot in snapshot()) {
        let t = tables(&snapshot);
        let unique = |keys: Vec<String>| keys.iter().collect::<std::collections::BTreeSet<_>>().len() == keys.len();
        prop_assert!(unique(t.destinations.iter().map(|d| format!("{:?}", Addr::from(d.0))).collect()), "a key stands twice");
        prop_assert!(unique(t.externals.iter().map(|e| format!("{:?}", e.0)).collect()), "a key stands twice");
        prop_assert!(unique(t.ports.iter().map(|p| format!("{:?}", (p.0, p.1, p.2, p.3))).collect()), "a key stands twice");
        prop_assert!(unique(t.grants.iter().map(|g| format!("{:?}", (g.0, g.1, g.2, g.3))).collect()), "a key stands twice");
    }

    /// A service asked for by name is judged as its virtual IP is.
    #[test]
    fn name_and_virtual_ip_agree(snapshot in snapshot()) {
        let index = Index::new(Arc::new(snapshot));
        for service in index.snapshot().services.iter().filter(|s| s.vip.is_some()) {
            for (source, port) in (0..=SERVICES).flat_map(|s| PORTS.map(|p| (ServiceId(s), p))) {
                let ask = |destination| index.decide(&Query { source, destination, protocol: Protocol::Tcp });
                let by_name = ask(Destination::Service { id: service.id, port });
                prop_assert_eq!(by_name, ask(Destination::Address { addr: service.vip.unwrap().into(), port }));
            }
        }
    }
}
