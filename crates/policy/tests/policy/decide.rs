//! Every reason, with its control: what is asked, what is answered, and how it is explained.

use crate::common::{document, index};
use weft_policy::{Decision, Destination, Index, Query, Resolved, ResolvedKind};
use weft_types::{Protocol, Reason, ServiceId};

fn shop() -> Vec<(String, String)> {
    let docs = [
        (
            "shop/orders",
            "application",
            "  ports: [ { name: web, port: 80, targetPort: 8080 }, { name: admin, port: 9000 } ]\n  dependsOn:\n    - { service: stock, port: web }\n    - { service: media, http: [ { methods: [GET] } ] }\n    - { service: finance/cards }\n    - { service: finance/ledger, port: web }\n",
        ),
        ("shop/stock", "application", "  ports: [ { name: web, port: 80, targetPort: 9000 }, { name: admin, port: 81 } ]\n"),
        ("shop/media", "application", "  ports: [ { name: web, port: 80 } ]\n"),
        ("shop/front", "application", "  dependsOn:\n    - { service: orders }\n    - { service: stock, port: admin }\n"),
        ("finance/ledger", "application", "  ports: [ { name: web, port: 80 } ]\n  dependsOn:\n    - { service: cards }\n"),
        ("finance/cards", "interface", "  consumers: [ shop/orders ]\n  external: [ { cidr: 203.0.113.0/24, port: 443 } ]\n"),
    ];
    docs.into_iter().map(|(name, kind, rest)| (format!("{name}.yaml"), document(name, kind, rest))).collect()
}

fn shop_index() -> Index {
    index(
        &shop(),
        &[("shop/orders", "10.0.0.1"), ("shop/stock", "10.0.0.2"), ("shop/stock", "fd00::2"), ("shop/media", "10.0.0.9"), ("shop/front", "10.0.0.9")],
    )
}

fn id(index: &Index, name: &str) -> ServiceId {
    index.by_ref(&name.parse().unwrap()).map_or_else(|| ServiceId(name.len() as u32 + 1000), |s| s.id)
}

/// `to`: `namespace/name:port`, or `address port` where a program dials.
fn ask(index: &Index, from: &str, to: &str, protocol: Protocol) -> Decision {
    let destination = match to.split_once(' ') {
        Some((addr, port)) => Destination::Address { addr: addr.parse().unwrap(), port: port.parse().unwrap() },
        None => {
            let (name, port) = to.rsplit_once(':').unwrap();
            Destination::Service { id: id(index, name), port: port.parse().unwrap() }
        }
    };
    index.decide(&Query { source: id(index, from), destination, protocol })
}

#[track_caller]
fn check(from: &str, to: &str, reason: Reason, nearest_miss: &str) {
    let index = shop_index();
    let d = ask(&index, from, to, Protocol::Tcp);
    assert_eq!((d.reason, d.verdict), (reason, reason.verdict()), "{from} → {to}: {d:#?}");
    assert_eq!(d.nearest_miss.as_deref().unwrap_or(""), nearest_miss, "{from} → {to}");
}

#[test]
fn a_grant_allows_by_name_by_virtual_ip_and_by_endpoint() {
    let index = shop_index();
    let vip = index.by_ref(&"shop/stock".parse().unwrap()).unwrap().vip.unwrap();
    for to in ["shop/stock:80", &format!("{vip} 80"), "10.0.0.2 9000", "::ffff:10.0.0.2 9000", "fd00::2 9000"] {
        let d = ask(&index, "shop/orders", to, Protocol::Tcp);
        assert_eq!((d.reason, d.port, d.rule_declared_at.as_deref()), (Reason::Grant, 80, Some("shop/orders.yaml:9")), "{to}");
        let (source, destination) = (d.source.unwrap(), d.destination.unwrap());
        assert_eq!((source.service.to_string().as_str(), destination.service.to_string().as_str()), ("shop/orders", "shop/stock"));
        assert_eq!(destination.identity.to_string(), "spiffe://corp.example/ns/shop/sa/stock");
        assert_eq!((destination.owner.as_str(), destination.declared_at.as_str()), ("team-a", "shop/stock.yaml:3"));
        assert!(d.rule.0 != 0 && d.nearest_miss.is_none() && d.patch.is_none() && d.revision.0 == 3);
    }
    check("shop/orders", "finance/cards:443", Reason::Grant, "");
    check("shop/orders", "203.0.113.77 443", Reason::Grant, "");
    // Without a port: every declared one.
    check("shop/front", "shop/orders:80", Reason::Grant, "");
    check("shop/front", "shop/orders:9000", Reason::Grant, "");
}

#[test]
fn a_service_may_reach_itself() {
    check("shop/orders", "shop/orders:80", Reason::Local, "");
    check("shop/orders", "10.0.0.1 8080", Reason::Local, "");
    check("shop/orders", "127.0.0.1 15008", Reason::Local, "");
    check("shop/orders", "::1 5", Reason::Local, "");
    check("shop/orders", "0.0.0.0 5", Reason::Local, "");
    check("shop/orders", "shop/orders:81", Reason::UnknownPort, "shop/orders declares web (80/TCP), admin (9000/TCP)");
}

#[test]
fn no_grant_names_what_comes_closest() {
    check(
        "shop/stock",
        "shop/orders:80",
        Reason::NoGrant,
        "shop/stock (shop/stock.yaml:3) declares no dependency on shop/orders; its port web (80) is open to shop/front",
    );
    check(
        "shop/media",
        "finance/ledger:80",
        Reason::NoGrant,
        "shop/media (shop/media.yaml:3) declares no dependency on finance/ledger; nobody may reach its port web (80)",
    );
    check("shop/front", "shop/stock:80", Reason::NoGrant, "the dependency of shop/front on shop/stock (shop/front.yaml:9) covers admin (81), not web (80)");
    check("shop/orders", "203.0.113.77 80", Reason::NoGrant, "the interface finance/cards (finance/cards.yaml:3) has 443/TCP, not 80");
    check(
        "shop/front",
        "203.0.113.77 443",
        Reason::NoGrant,
        "shop/front (shop/front.yaml:3) declares no dependency on finance/cards; its port 443 is open to finance/ledger, shop/orders",
    );
}

#[test]
fn consent_that_is_missing_is_told_apart() {
    check(
        "shop/orders",
        "finance/ledger:80",
        Reason::Pending,
        "shop/orders declares the dependency at shop/orders.yaml:12, but finance/ledger (finance/ledger.yaml:3) does not name it among its consumers",
    );
}

#[test]
fn http_denies_and_says_so() {
    check(
        "shop/orders",
        "shop/media:80",
        Reason::NeedsL7,
        "the dependency at shop/orders.yaml:10 lets shop/orders reach shop/media for certain HTTP requests only, and no L7 judge exists in this version",
    );
}

#[test]
fn ports_are_those_of_the_side_that_is_dialled() {
    check(
        "shop/orders",
        "shop/stock:9000",
        Reason::UnknownPort,
        "shop/stock declares web (80/TCP), admin (81/TCP); 9000 is where web listens on its workloads; the service's port is 80",
    );
    check(
        "shop/orders",
        "10.0.0.2 80",
        Reason::UnknownPort,
        "shop/stock declares web (80/TCP), admin (81/TCP); 80 is the service's port; at a workload's own address web listens on 9000",
    );
    check("shop/orders", "shop/front:80", Reason::UnknownPort, "shop/front declares no ports");
}

#[test]
fn nobody_s_addresses_are_unknown() {
    check("shop/orders", "192.0.2.1 80", Reason::UnknownDestination, "no service has 192.0.2.1 as virtual IP or endpoint, and no declared interface holds it");
    check("shop/orders", "shop/nothing:80", Reason::UnknownDestination, "no service of this revision has id 1012");
    // Two services report 10.0.0.9.
    check(
        "shop/orders",
        "10.0.0.9 80",
        Reason::UnknownDestination,
        "workloads of shop/front, shop/media all claim 10.0.0.9, so it counts as nobody's until one of them lets go",
    );
}

#[test]
fn the_tunnel_s_port_is_refused_before_anything_else() {
    let miss = "port 15008 belongs to the agents on every address of the mesh";
    check("shop/orders", "shop/stock:15008", Reason::TunnelPort, miss);
    check("shop/orders", "shop/orders:15008", Reason::TunnelPort, miss);
    check("shop/orders", "192.0.2.1 15008", Reason::TunnelPort, miss);
}

#[test]
fn an_unknown_caller_gets_nothing() {
    let miss = "no service of this revision has id 1012, which the caller carries";
    check("shop/nothing", "shop/stock:80", Reason::NoGrant, miss);
    check("shop/nothing", "192.0.2.1 80", Reason::UnknownDestination, miss);
    check("shop/nothing", "127.0.0.1 80", Reason::Local, "");
}

#[test]
fn udp_is_granted_by_itself_and_stays_on_a_node() {
    let docs = [
        ("shop/names", "application", "  ports: [ { name: dns, port: 53, targetPort: 5353, protocol: UDP }, { name: dns-tcp, port: 53, protocol: TCP } ]\n"),
        ("shop/asks", "application", "  dependsOn: [ { service: names, port: dns }, { service: clock } ]\n"),
        ("shop/other", "application", ""),
        ("shop/clock", "interface", "  external: [ { cidr: 192.0.2.0/24, port: 123, protocol: UDP } ]\n"),
    ];
    let docs: Vec<_> = docs.into_iter().map(|(name, kind, rest)| (format!("{name}.yaml"), document(name, kind, rest))).collect();
    let on = |nodes: [&str; 2]| {
        let mut snapshot = (**index(&docs, &[("shop/asks", "10.0.0.1"), ("shop/names", "10.0.0.2")]).snapshot()).clone();
        snapshot.endpoints.iter_mut().zip(nodes).for_each(|(e, node)| e.node = node.parse().unwrap());
        Index::new(std::sync::Arc::new(snapshot))
    };
    let check = |index: &Index, from: &str, to: &str, protocol, reason: Reason, miss: &str| {
        let d = ask(index, from, to, protocol);
        assert_eq!((d.reason, d.protocol), (reason, protocol), "{from} → {to}: {d:#?}");
        assert!(d.nearest_miss.as_deref().unwrap_or_default().contains(miss), "{from} → {to}: {d:#?}");
    };
    let (one, two, desk) = (on(["a", "a"]), on(["a", "b"]), index(&docs, &[]));
    for to in ["shop/names:53", "10.0.0.2 5353"] {
        check(&one, "shop/asks", to, Protocol::Udp, Reason::Grant, "");
        check(&one, "shop/asks", to, Protocol::Tcp, if to.contains('/') { Reason::NoGrant } else { Reason::UnknownPort }, "shop/names");
        check(&one, "shop/other", to, Protocol::Udp, Reason::NoGrant, "declares no dependency on shop/names");
        check(&two, "shop/asks", to, Protocol::Udp, Reason::OtherNode, "shop/asks runs on a, shop/names on b");
        // Where it runs is no matter for who has no grant.
        check(&two, "shop/other", to, Protocol::Udp, Reason::NoGrant, "");
    }
    check(&desk, "shop/asks", "shop/names:53", Protocol::Udp, Reason::Grant, "");
    check(&one, "shop/asks", "192.0.2.1 123", Protocol::Udp, Reason::Protocol, "not carried to interfaces");
}

#[test]
fn before_the_first_snapshot_nothing_passes() {
    let mut empty = (**shop_index().snapshot()).clone();
    empty.revision = weft_types::Revision(0);
    let index = Index::new(std::sync::Arc::new(empty));
    assert_eq!(ask(&index, "shop/orders", "shop/stock:80", Protocol::Tcp).reason, Reason::NoSnapshot);
    assert_eq!(ask(&index, "shop/orders", "127.0.0.1 80", Protocol::Tcp).reason, Reason::Local);
}

#[test]
fn the_index_answers_by_every_name() {
    let index = shop_index();
    let (orders, stock, media, cards) = (id(&index, "shop/orders"), id(&index, "shop/stock"), id(&index, "shop/media"), id(&index, "finance/cards"));
    let identity = |s: &str| index.by_identity(&s.parse().unwrap()).map(|s| s.id);
    assert_eq!(identity("spiffe://corp.example/ns/shop/sa/stock"), Some(stock));
    assert_eq!(identity("spiffe://other.example/ns/shop/sa/stock"), None);
    assert_eq!(identity("spiffe://corp.example/ns/finance/sa/cards"), None, "nobody carries an interface's identity");
    assert_eq!(index.endpoints(stock).iter().map(|e| e.uid.as_str()).collect::<Vec<_>>(), ["w1", "w2"]);
    assert!(index.endpoints(cards).is_empty() && index.endpoints(ServiceId(0)).is_empty());
    let resolve = |a: &str| index.resolve(a.parse().unwrap());
    assert_eq!(resolve("::ffff:10.0.0.1"), Some(Resolved { service: orders, kind: ResolvedKind::Endpoint }));
    assert_eq!(resolve("203.0.113.1"), Some(Resolved { service: cards, kind: ResolvedKind::External }));
    assert_eq!(resolve("10.0.0.9"), None);
    assert_eq!(index.port(stock, &"web".parse().unwrap()).map(|p| p.target_port), Some(9000));
    assert_eq!(index.port(stock, &"81".parse().unwrap()).map(|p| p.name.as_str()), Some("admin"));
    assert_eq!(index.port(stock, &"9000".parse().unwrap()), None);
    assert_eq!(index.service_port_of_target(stock, 9000, Protocol::Tcp).map(|p| p.port), Some(80));
    assert_eq!(index.service_port_of_target(stock, 9000, Protocol::Udp), None);
    assert_eq!((index.ports(cards), index.ports(stock)), (vec![(443, Protocol::Tcp)], vec![(80, Protocol::Tcp), (81, Protocol::Tcp)]));
    assert!(index.granted(orders, stock, 80, Protocol::Tcp).is_some());
    assert!(index.granted(orders, stock, 80, Protocol::Udp).is_none());
    assert!(index.granted(orders, media, 80, Protocol::Tcp).is_none(), "a grant that needs L7 is none at L4");
}
