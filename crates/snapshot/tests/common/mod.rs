//! One snapshot that uses every field.

use weft_snapshot::{Endpoint, External, Grant, Pending, Port, Service, ServiceKind, Snapshot, Team};
use weft_types::{Protocol, Revision, RuleId, ServiceId};

pub(crate) fn service(id: u32, name: &str, kind: ServiceKind) -> Service {
    let interface = kind == ServiceKind::Interface;
    let (namespace, short) = name.split_once('/').unwrap();
    let port = |name: &str, port, target_port, protocol| Port { name: name.parse().unwrap(), port, target_port, protocol };
    let external = |cidr: &str, port| External { cidr: cidr.parse().unwrap(), port, protocol: Protocol::Tcp };
    Service {
        id: ServiceId(id),
        name: name.parse().unwrap(),
        kind,
        title: format!("The {name}"),
        owner: "team-a".parse().unwrap(),
        capability: short.to_owned(),
        lifecycle: "production".to_owned(),
        identity: format!("spiffe://corp.example/ns/{namespace}/sa/{short}").parse().unwrap(),
        vip: (!interface).then(|| [100, 64, 0, u8::try_from(id).unwrap()].into()),
        ports: if interface { vec![] } else { vec![port("web", 80, 8080, Protocol::Tcp), port("dns", 53, 53, Protocol::Udp)] },
        externals: if interface { vec![external("203.0.113.0/24", 443), external("2001:db8::/32", 443)] } else { vec![] },
        consumers: vec!["billing/*".parse().unwrap(), "shop/orders".parse().unwrap()],
        declared_at: format!("{short}.yaml:3"),
    }
}

pub(crate) fn full() -> Snapshot {
    let endpoint = |service, node: &str, uid: &str, addresses: &[&str]| Endpoint {
        service: ServiceId(service),
        node: node.parse().unwrap(),
        uid: uid.parse().unwrap(),
        addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
    };
    let grant = |rule, source, destination, port, needs_l7| Grant {
        rule: RuleId(rule),
        source: ServiceId(source),
        destination: ServiceId(destination),
        port,
        protocol: Protocol::Tcp,
        needs_l7,
        declared_at: "orders.yaml:9".to_owned(),
    };
    Snapshot {
        revision: Revision(7),
        mesh: "corp".to_owned(),
        trust_domain: "corp.example".parse().unwrap(),
        services: vec![
            service(1, "shop/orders", ServiceKind::Application),
            service(2, "shop/orders-db", ServiceKind::Resource),
            service(3, "finance/cards", ServiceKind::Interface),
        ],
        endpoints: vec![endpoint(1, "a", "orders-1", &["10.0.0.1", "fd00::1"]), endpoint(1, "b", "orders-1", &["10.0.1.1"]), endpoint(2, "a", "db", &[])],
        grants: vec![grant(1, 1, 2, 80, false), grant(2, 1, 3, 443, true)],
        pending: vec![
            Pending { source: ServiceId(2), destination: ServiceId(3), port: None, declared_at: "db.yaml:4".to_owned() },
            Pending { source: ServiceId(2), destination: ServiceId(3), port: Some(443), declared_at: "db.yaml:5".to_owned() },
        ],
        teams: vec![Team { name: "team-a".parse().unwrap(), lead: "alice@corp.example".to_owned(), contact: "#a".to_owned() }],
    }
}
