//! From catalog to grants: consent, ports, stable numbers.

use crate::common::{Numbers, catalog, compiled, document};
use weft_policy::compile;

fn documents(orders: &str, ledger: &str) -> Vec<(String, String)> {
    let docs = [
        ("shop/orders", "application", orders),
        ("shop/stock", "application", "  ports: [ { name: web, port: 80 }, { name: admin, port: 81 } ]\n"),
        ("finance/ledger", "application", ledger),
        (
            "finance/cards",
            "interface",
            "  consumers: [ \"shop/*\" ]\n  external: [ { cidr: 203.0.113.0/24, port: 443 }, { cidr: 198.51.100.0/24, port: 443 } ]\n",
        ),
    ];
    docs.into_iter().map(|(name, kind, rest)| (format!("{name}.yaml"), document(name, kind, rest))).collect()
}

/// `expect`: `source destination port[ http][ pending]`, sorted.
#[track_caller]
fn check(orders: &str, ledger: &str, expect: &[&str]) {
    let c = compiled(&catalog(&documents(orders, ledger)));
    let name = |id| c.services.iter().find(|s| s.id == id).unwrap().name.to_string();
    let grants = c.grants.iter().map(|g| format!("{} {} {}{}", name(g.source), name(g.destination), g.port, if g.needs_l7 { " http" } else { "" }));
    let pending = c.pending.iter().map(|p| format!("{} {} {} pending", name(p.source), name(p.destination), p.port.unwrap_or(0)));
    let mut all: Vec<_> = grants.chain(pending).collect();
    all.sort();
    assert_eq!(all, expect);
}

const LEDGER: &str = "  ports: [ { name: web, port: 80 } ]\n";
const OPEN: &str = "  ports: [ { name: web, port: 80 } ]\n  consumers: [ shop/orders ]\n";

#[test]
fn the_own_namespace_needs_no_consent() {
    check("  dependsOn: [ { service: stock } ]\n", LEDGER, &["shop/orders shop/stock 80", "shop/orders shop/stock 81"]);
    check("  dependsOn: [ { service: stock, port: admin } ]\n", LEDGER, &["shop/orders shop/stock 81"]);
    check("  dependsOn: [ { service: stock, port: 80, http: [ { path: / } ] } ]\n", LEDGER, &["shop/orders shop/stock 80 http"]);
}

#[test]
fn other_namespaces_need_it() {
    let on = "  dependsOn: [ { service: finance/ledger } ]\n";
    check(on, LEDGER, &["shop/orders finance/ledger 0 pending"]);
    check(on, OPEN, &["shop/orders finance/ledger 80"]);
    check("  dependsOn: [ { service: finance/ledger, port: web } ]\n", LEDGER, &["shop/orders finance/ledger 80 pending"]);
    check(on, &OPEN.replace("shop/orders", "shop/stock"), &["shop/orders finance/ledger 0 pending"]);
    check(on, &OPEN.replace("shop/orders", "\"shop/*\""), &["shop/orders finance/ledger 80"]);
    check("  dependsOn: [ { service: finance/cards } ]\n", LEDGER, &["shop/orders finance/cards 443"]);
}

#[test]
fn identity_and_virtual_ip_follow_the_document() {
    let c = compiled(&catalog(&documents("  workloads: [ { serviceAccount: clerk } ]\n", LEDGER)));
    let get = |name: &str| c.services.iter().find(|s| s.name.to_string() == name).unwrap();
    assert_eq!(get("shop/orders").identity.to_string(), "spiffe://corp.example/ns/shop/sa/clerk");
    assert_eq!(get("shop/stock").identity.to_string(), "spiffe://corp.example/ns/shop/sa/stock");
    assert!(get("shop/stock").vip.is_some() && get("finance/cards").vip.is_none());
    assert!(c.services.is_sorted_by_key(|s| s.id));
}

#[test]
fn a_rule_keeps_its_number_while_its_declaration_says_the_same() {
    let mut numbers = Numbers::default();
    let mut rules = |orders: &str| {
        let c = compile(&catalog(&documents(orders, OPEN)), &mut numbers);
        c.grants.iter().map(|g| g.rule.0).collect::<Vec<_>>()
    };
    let stock = "  dependsOn: [ { service: stock, port: web } ]\n";
    assert_eq!(rules(stock), [1]);
    assert_eq!(rules(&format!("  title: Moved down\n{stock}")), [1]);
    assert_eq!(rules("  dependsOn: [ { service: stock, port: web, http: [ { path: / } ] } ]\n"), [2], "HTTP makes it another rule");
    assert_eq!(rules("  dependsOn: [ { service: finance/ledger }, { service: stock, port: web } ]\n").len(), 2);
    assert_eq!(rules(stock), [1]);
}

#[test]
fn a_used_up_range_is_told() {
    let mesh = crate::common::MESH.replace("trustDomain: corp.example", "trustDomain: corp.example, serviceRange: 10.9.0.0/29");
    let files = documents("", LEDGER);
    let texts = files.iter().map(|(n, t)| (n.as_str(), t.as_str()));
    let catalog = weft_catalog::Catalog::parse([("mesh.yaml", mesh.as_str())].into_iter().chain(texts)).unwrap();
    let mut used = Numbers::default();
    for i in 0..6 {
        weft_policy::Ids::service_id(&mut used, &format!("old/s{i}").parse().unwrap());
    }
    let without: Vec<_> = compile(&catalog, &mut used).without_vip.iter().map(ToString::to_string).collect();
    assert_eq!(without, ["finance/ledger", "shop/orders", "shop/stock"]);
}
