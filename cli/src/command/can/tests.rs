//! `weft can --catalog` against a small catalog on disk: verdicts, exit codes, and the errors a mistyped question gets.

use std::fs;

use crate::output::{Style, answers};

use super::*;

const CATALOG: &str = r##"
apiVersion: weft.mesh/v1alpha1
kind: Mesh
metadata: { name: corp }
spec: { trustDomain: corp.example, serviceRange: 100.64.0.0/16 }
---
apiVersion: weft.mesh/v1alpha1
kind: Team
metadata: { name: team-shop }
spec: { lead: alice@corp.example, contact: "#shop" }
---
apiVersion: weft.mesh/v1alpha1
kind: MeshService
metadata: { name: storefront, namespace: shop }
spec:
  type: application
  owner: team-shop
  dependsOn: [ { service: orders, port: web }, { service: finance/card-payments } ]
---
apiVersion: weft.mesh/v1alpha1
kind: MeshService
metadata: { name: orders, namespace: shop }
spec:
  type: application
  owner: team-shop
  ports: [ { name: web, port: 80, targetPort: 8080 }, { name: admin, port: 9000 } ]
---
apiVersion: weft.mesh/v1alpha1
kind: MeshService
metadata: { name: stock, namespace: shop }
spec: { type: application, owner: team-shop }
---
apiVersion: weft.mesh/v1alpha1
kind: MeshService
metadata: { name: card-payments, namespace: finance }
spec:
  type: interface
  owner: team-shop
  consumers: [ "shop/storefront" ]
  external: [ { cidr: 203.0.113.0/24, port: 443 } ]
---
apiVersion: weft.mesh/v1alpha1
kind: MeshService
metadata: { name: ledger, namespace: billing }
spec:
  type: application
  owner: team-shop
  dependsOn: [ { service: shop/orders, port: web } ]
"##;

/// The words of `weft can SRC DST --catalog DIR`, behind its exit code.
#[track_caller]
fn check(source: &str, destination: &str, expect: &str) {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("shop.yaml"), CATALOG).unwrap();
    let got = match decide_offline(dir.path(), &source.parse().unwrap(), &destination.parse().unwrap()) {
        Ok(a) => {
            let code = match outcome(&a) {
                Outcome::Ok => 0,
                Outcome::Findings => 1,
                other => panic!("{other:?}"),
            };
            let text = answers(Style::default(), &a);
            let lines: Vec<&str> = text.lines().take(a.len()).map(str::trim_end).collect();
            format!("{code}\n{}", lines.join("\n"))
        }
        Err(e) => format!("2\n{e:#}"),
    };
    assert_eq!(got, expect.trim(), "\n{got}");
}

#[test]
fn a_declared_dependency_is_allowed_and_its_control_without_one_denied() {
    check(
        "shop/storefront",
        "shop/orders:web",
        "0\nallow  shop/storefront → shop/orders:80/TCP (web)  rule 1 at shop.yaml:18, by the catalog given, owner team-shop",
    );
    check(
        "shop/storefront",
        "shop/orders:80",
        "0\nallow  shop/storefront → shop/orders:80/TCP (web)  rule 1 at shop.yaml:18, by the catalog given, owner team-shop",
    );
    check(
        "shop/stock",
        "shop/orders:80",
        "1\ndeny   shop/stock → shop/orders:80/TCP (web)  no-grant: no declared dependency covers this source, destination and port, by the catalog given, owner team-shop",
    );
}

#[test]
fn without_a_port_every_declared_one_is_answered_and_one_denial_decides_the_exit_code() {
    check(
        "shop/storefront",
        "shop/orders",
        "1
allow  shop/storefront → shop/orders:80/TCP (web)      rule 1 at shop.yaml:18, by the catalog given, owner team-shop
deny   shop/storefront → shop/orders:9000/TCP (admin)  no-grant: no declared dependency covers this source, destination and port, by the catalog given, owner team-shop",
    );
}

#[test]
fn interfaces_are_reached_by_name_and_by_address() {
    check(
        "shop/storefront",
        "finance/card-payments",
        "0\nallow  shop/storefront → finance/card-payments:443/TCP  rule 2 at shop.yaml:18, by the catalog given, owner team-shop",
    );
    check(
        "shop/storefront",
        "ip:203.0.113.9:443",
        "0\nallow  shop/storefront → finance/card-payments:443/TCP  rule 2 at shop.yaml:18, by the catalog given, owner team-shop",
    );
    check(
        "shop/orders",
        "ip:192.0.2.1:443",
        "1\ndeny   shop/orders → 192.0.2.1:443/TCP  unknown-destination: the address belongs to no service and no declared interface, by the catalog given",
    );
}

#[test]
fn a_dependency_without_consent_is_pending() {
    check(
        "billing/ledger",
        "shop/orders:web",
        "1\ndeny   billing/ledger → shop/orders:80/TCP (web)  pending: the dependency is declared, but the provider has not consented, by the catalog given, owner team-shop",
    );
}

#[test]
fn questions_that_make_no_sense_are_errors_with_a_way_out() {
    check("shop/storefrnt", "shop/orders", "2\nno service shop/storefrnt in the catalog given; did you mean shop/storefront?");
    check("shop/storefront", "billing/orders", "2\nno service billing/orders in the catalog given; did you mean shop/orders?");
    check("shop/storefront", "shop/orders:wbe", "2\nshop/orders declares no port wbe; it has web (80/TCP), admin (9000/TCP); did you mean web?");
    check("shop/storefront", "billing/ledger", "2\nbilling/ledger declares no port, so nothing can connect to it");
    check("shop/storefront:80", "shop/orders", "2\nthe source is who connects, so it takes no port: leave out \":80\"");
    check("node:a", "shop/orders", "2\nnode a is no workload: name a service (NAMESPACE/NAME) or ip:ADDRESS");
    check(
        "ip:10.0.0.1",
        "shop/orders",
        "2\nip:10.0.0.1 is the address of no workload, so nothing with an identity connects from there; name the service instead",
    );
    check(
        "shop/storefront",
        "ip:192.0.2.1",
        "2\nip:192.0.2.1 belongs to no service and no declared interface, so its ports are not known: write ip:192.0.2.1:PORT",
    );
}

#[test]
fn an_undeclared_number_is_a_question_with_an_answer() {
    check(
        "shop/storefront",
        "shop/orders:81",
        "1\ndeny   shop/storefront → shop/orders:81/TCP  unknown-port: the destination declares no such port, by the catalog given, owner team-shop",
    );
}

#[test]
fn a_broken_or_absent_catalog_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("shop.yaml"), CATALOG.replace("owner: team-shop", "onwer: team-shop")).unwrap();
    let ask = |dir: &Path| format!("{:#}", decide_offline(dir, &"shop/orders".parse().unwrap(), &"shop/orders".parse().unwrap()).unwrap_err());
    let broken = ask(dir.path());
    assert!(broken.contains("has errors") && broken.contains("shop.yaml:") && broken.contains("onwer"), "{broken}");
    let absent = ask(&dir.path().join("absent"));
    assert!(absent.contains("cannot read catalog directory"), "{absent}");
}
