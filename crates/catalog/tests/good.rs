//! What a good catalog is read as.

use weft_catalog::{Catalog, Lifecycle, ServiceKind, Workload};
use weft_types::{PortRef, Protocol, ServiceRef};

/// The example of the documentation, as far as this version can do it.
const SHOP: &str = r##"
apiVersion: weft.mesh/v1alpha1
kind: MeshService
metadata: { name: orders, namespace: shop }
spec:
  type: application                 # application | resource | interface
  title: Orders
  owner: team-orders                # a Team
  capability: order-management      # unique in the system; default: the name
  lifecycle: production             # experimental | production (default) | deprecated
  workloads:                        # any of; default: serviceAccount of the same name
    - serviceAccount: orders
    - container: orders             # name as docker, podman or containerd know it
    - compose: { project: shop, service: orders }
    - systemdUnit: orders.service
  replicas: { min: 2 }
  ports:
    - { name: web, port: 80, targetPort: 8080, protocol: TCP, appProtocol: http }
  consumers: [ "billing/*" ]        # beyond the own namespace, which may always declare
  dependsOn:                        # this is the allow-list
    - { service: orders-db, port: postgres }
    - { service: stock, http: [ { methods: [GET], pathPrefix: /items } ] }
    - { service: finance/card-payments }
  expose:                           # gateway and portal
    - port: web
      host: shop                    # relative to Mesh.baseDomain; with a dot it is absolute
      pathPrefix: /orders
      access: { groups: [ sales, support ] }
      portal: { icon: cart, category: Sales }
---
apiVersion: weft.mesh/v1alpha1
kind: MeshService
metadata: { name: orders-db, namespace: shop, labels: { tier: data } }
spec:
  type: resource
  owner: team-orders
  replicas: { min: 2 }
  ports: [ { name: postgres, port: 5432 } ]
---
apiVersion: weft.mesh/v1alpha1
kind: MeshService
metadata: { name: stock, namespace: shop }
spec: { type: application, owner: team-orders, ports: [ { name: http, port: 80, targetPort: 9000 } ], dependsOn: [ { service: orders } ] }
---
apiVersion: weft.mesh/v1alpha1
kind: MeshService
metadata: { name: ledger, namespace: billing }
spec: { type: application, owner: team-finance, dependsOn: [ { service: shop/orders, port: 80 } ] }
---
apiVersion: weft.mesh/v1alpha1
kind: MeshService
metadata: { name: card-payments, namespace: finance }
spec:
  type: interface
  owner: team-finance
  consumers: [ "shop/orders" ]
  external: [ { cidr: 203.0.113.0/24, port: 443, tls: required } ]
---
apiVersion: weft.mesh/v1alpha1
kind: Team
metadata: { name: team-orders }
spec: { lead: alice@corp.example, contact: "#orders", groups: [ orders-team ] }
---
apiVersion: weft.mesh/v1alpha1
kind: Team
metadata: { name: team-finance }
---
apiVersion: weft.mesh/v1alpha1
kind: Mesh
metadata: { name: corp }
spec: { trustDomain: corp.example, baseDomain: apps.corp.example, serviceRange: 100.64.0.0/16 }
"##;

fn load(text: &str) -> Catalog {
    Catalog::parse([("shop.yaml", text)]).unwrap_or_else(|findings| {
        let all: Vec<_> = findings.iter().map(ToString::to_string).collect();
        panic!("{}", all.join("\n\n"))
    })
}

fn name(s: &str) -> ServiceRef {
    s.parse().unwrap()
}

#[test]
fn the_documented_example_is_read_as_documented() {
    let catalog = load(SHOP);
    let get = |n: &str| catalog.services.iter().find(|s| s.name == name(n)).unwrap();
    let orders = get("shop/orders");
    assert_eq!((orders.kind, orders.lifecycle, orders.replicas_min), (ServiceKind::Application, Lifecycle::Production, Some(2)));
    assert_eq!((orders.title.as_str(), orders.capability.as_str(), orders.service_account.as_str()), ("Orders", "order-management", "orders"));
    assert_eq!(orders.at.to_string(), "shop.yaml:4");
    assert_eq!(orders.workloads.len(), 4);
    assert_eq!(orders.workloads[2], Workload::Compose { project: "shop".into(), service: "orders".into() });
    let port = &orders.ports[0];
    assert_eq!((port.name.as_str(), port.port, port.target_port, port.protocol), ("web", 80, 8080, Protocol::Tcp));
    let targets: Vec<_> = orders.depends_on.iter().map(|d| (d.target.to_string(), d.port.clone(), d.http, d.at.to_string())).collect();
    let postgres = Some(PortRef::Name("postgres".parse().unwrap()));
    assert_eq!(
        targets,
        [
            ("shop/orders-db".to_owned(), postgres, false, "shop.yaml:21".to_owned()),
            ("shop/stock".to_owned(), None, true, "shop.yaml:22".to_owned()),
            ("finance/card-payments".to_owned(), None, false, "shop.yaml:23".to_owned()),
        ]
    );
    assert!(orders.consents_to(&name("billing/ledger")) && orders.consents_to(&name("shop/stock")) && !orders.consents_to(&name("finance/x")));
    assert_eq!(get("finance/card-payments").ports_meant(None), [(443, Protocol::Tcp)]);
    assert_eq!(get("shop/stock").service_account.as_str(), "stock");
    assert_eq!(catalog.mesh.service_range.to_string(), "100.64.0.0/16");
    assert_eq!((catalog.teams[1].contact.as_str(), &catalog.teams[1].groups), ("#orders", &vec!["orders-team".to_owned()]));
}

#[test]
fn what_this_version_does_not_do_is_said() {
    let catalog = load(SHOP);
    let said: Vec<_> = catalog.warnings.iter().map(|w| (w.at.as_ref().unwrap().line, w.message.as_str())).collect();
    assert_eq!(
        said,
        [(22, "this version cannot judge HTTP: the whole dependency is denied"), (57, "this version does not see whether connections to an interface use TLS"),]
    );
    assert!(catalog.warnings.iter().all(|w| !w.is_error()));
}

#[test]
fn the_smallest_document_has_name_type_and_owner() {
    let catalog = load(
        "apiVersion: weft.mesh/v1alpha1\nkind: MeshService\nmetadata: {name: a}\nspec: {type: application, owner: t}\n---\n\
         apiVersion: weft.mesh/v1alpha1\nkind: Team\nmetadata: {name: t}\n---\n\
         apiVersion: weft.mesh/v1alpha1\nkind: Mesh\nmetadata: {name: m}\nspec: {trustDomain: x.example}\n",
    );
    let a = &catalog.services[0];
    assert_eq!((a.name.to_string().as_str(), a.title.as_str(), a.capability.as_str()), ("default/a", "a", "a"));
    assert_eq!(catalog.mesh.service_range.to_string(), "100.64.0.0/16");
    assert!(catalog.warnings.is_empty());
}

#[test]
fn cycles_are_allowed() {
    let service = |n: &str, on: &str| {
        format!(
            "apiVersion: weft.mesh/v1alpha1\nkind: MeshService\nmetadata: {{name: {n}}}\nspec: {{type: application, owner: t, ports: [{{name: web, port: 80}}], dependsOn: [{{service: {on}}}]}}\n---\n"
        )
    };
    let rest = "apiVersion: weft.mesh/v1alpha1\nkind: Team\nmetadata: {name: t}\n---\napiVersion: weft.mesh/v1alpha1\nkind: Mesh\nmetadata: {name: m}\nspec: {trustDomain: x.example}\n";
    assert!(load(&format!("{}{}{rest}", service("a", "b"), service("b", "a"))).warnings.is_empty());
}
