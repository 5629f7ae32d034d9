//! What is exposed, compiled: weft's own services, their grants, routes, providers.

use crate::common::document;
use weft_catalog::Catalog;
use weft_policy::{Compiled, Destination, Index, Query};
use weft_snapshot::{Access, Claims, Shown, Upstream};
use weft_types::{Protocol, Reason, RuleId};

/// A Mesh with a base domain; `more` is added to its spec.
pub(crate) fn mesh(more: &str) -> (String, String) {
    let text = format!(
        "apiVersion: weft.mesh/v1alpha1\nkind: Mesh\nmetadata: {{ name: corp }}\nspec:\n  trustDomain: corp.example\n  baseDomain: corp.example\n  publicPort: 8443\n{more}"
    );
    ("mesh.yaml".to_owned(), text)
}

pub(crate) fn teams() -> (String, String) {
    let team = |name: &str, spec: &str| format!("apiVersion: weft.mesh/v1alpha1\nkind: Team\nmetadata: {{ name: {name} }}\nspec: {spec}\n");
    let text = [team("team-a", "{ lead: ada, contact: '#a' }"), team("team-b", "{ groups: [ sales ] }")].join("---\n");
    ("teams.yaml".to_owned(), text)
}

pub(crate) fn application(name: &str, rest: &str) -> (String, String) {
    (format!("{name}.yaml"), document(name, "application", rest))
}

pub(crate) fn catalog(documents: &[(String, String)]) -> Catalog {
    Catalog::parse(documents.iter().map(|(name, text)| (name.as_str(), text.as_str()))).unwrap_or_else(|findings| {
        let all: Vec<_> = findings.iter().map(ToString::to_string).collect();
        panic!("{}", all.join("\n\n"))
    })
}

pub(crate) fn index(documents: &[(String, String)]) -> Index {
    Index::new(std::sync::Arc::new(crate::common::snapshot(&catalog(documents), &[])))
}

fn compiled(documents: &[(String, String)]) -> Compiled {
    crate::common::compiled(&catalog(documents))
}

const PORTS: &str =
    "  ports: [ { name: web, port: 80, appProtocol: http }, { name: rpc, port: 81, appProtocol: grpc }, { name: h2, port: 82, appProtocol: h2c } ]\n";

fn orders(expose: &str) -> (String, String) {
    application("shop/orders", &format!("{PORTS}  expose:\n{expose}"))
}

/// `source destination port`, sorted.
fn grants(c: &Compiled) -> Vec<String> {
    let name = |id| c.services.iter().find(|s| s.id == id).unwrap().name.to_string();
    let mut all: Vec<_> = c.grants.iter().map(|g| format!("{} {} {}", name(g.source), name(g.destination), g.port)).collect();
    all.sort();
    all
}

#[test]
fn nothing_exposed_compiles_as_before() {
    let c = compiled(&[mesh(""), teams(), application("shop/orders", PORTS)]);
    assert!(c.gateway.is_none() && c.services.len() == 1 && c.grants.is_empty() && c.teams.iter().all(|t| t.groups.is_empty()), "{c:?}");
}

#[test]
fn an_exposure_lets_the_gateway_reach_that_port_and_no_other() {
    let stock = application("shop/stock", PORTS);
    let c = compiled(&[
        mesh(""),
        teams(),
        orders("    - { port: web, access: { public: true } }\n    - { port: rpc, path: /x, access: { public: true } }\n"),
        stock,
    ]);
    assert_eq!(
        grants(&c),
        ["weft/gateway shop/orders 80", "weft/gateway shop/orders 81", "weft/gateway weft/iam-bridge 80", "weft/iam-bridge weft/gateway 80"]
    );
    let own: Vec<_> = c.services.iter().filter(|s| s.declared_at == "built in").map(|s| (s.name.to_string(), s.identity.to_string(), s.ports.len())).collect();
    let identity = |sa: &str| format!("spiffe://corp.example/ns/weft/sa/{sa}");
    assert_eq!(own, [("weft/gateway".to_owned(), identity("gateway"), 1), ("weft/iam-bridge".to_owned(), identity("iam-bridge"), 1)]);
    assert_eq!(c.teams[1].groups, ["sales"]);

    let index = index(&[mesh(""), teams(), orders("    - { port: web, access: { public: true } }\n"), application("shop/stock", PORTS)]);
    let ask = |from: &str, to: &str, port| {
        let id = |n: &str| index.by_ref(&n.parse().unwrap()).unwrap().id;
        index.decide(&Query { source: id(from), destination: Destination::Service { id: id(to), port }, protocol: Protocol::Tcp })
    };
    let allowed = ask("weft/gateway", "shop/orders", 80);
    assert_eq!((allowed.reason, allowed.builtin, allowed.rule_declared_at.as_deref()), (Reason::Grant, true, Some("shop/orders.yaml:9")));
    assert!(allowed.rule != RuleId(0));
    assert_eq!(ask("weft/gateway", "weft/iam-bridge", 80).reason, Reason::Grant);
    // Each differs in one thing.
    let other_port = ask("weft/gateway", "shop/orders", 81);
    assert_eq!((other_port.reason, other_port.builtin), (Reason::NoGrant, false));
    let other_service = ask("weft/gateway", "shop/stock", 80);
    assert_eq!(other_service.reason, Reason::NoGrant);
    let other_source = ask("shop/stock", "shop/orders", 80);
    assert_eq!((other_source.reason, other_source.patch.is_some()), (Reason::NoGrant, true));
    let provider = ask("shop/orders", "weft/iam-bridge", 80);
    assert_eq!((provider.reason, provider.patch), (Reason::NoGrant, None));
    assert_eq!(provider.nearest_miss.as_deref(), Some("weft/iam-bridge is weft's own, and only weft/gateway reaches it"));
    let bridge_out = ask("weft/iam-bridge", "shop/orders", 80);
    assert_eq!(bridge_out.patch, None);
    assert_eq!(bridge_out.nearest_miss.as_deref(), Some("weft/iam-bridge is weft's own, and reaches weft/gateway only, at its port backchannel"));

    // The back channel, of the local provider and of nobody else.
    let told = ask("weft/iam-bridge", "weft/gateway", 80);
    assert_eq!((told.reason, told.builtin, told.rule_declared_at.as_deref()), (Reason::Grant, true, Some("mesh.yaml:3")));
    let other = ask("shop/orders", "weft/gateway", 80);
    assert_eq!((other.reason, other.patch), (Reason::NoGrant, None));
    assert_eq!(other.nearest_miss.as_deref(), Some("weft/gateway is weft's own, and only weft/iam-bridge reaches its port backchannel (80)"));

    // What the gateway is refused is mended by an exposure, not by a dependency that nobody may declare.
    let patch = other_service.patch.unwrap();
    assert_eq!(
        patch,
        "# add to shop/stock (shop/stock.yaml:3), owner team-a\nkind: MeshService\nmetadata: { name: stock, namespace: shop }\nspec:\n  expose:\n    - { port: web, access: { authenticated: true } }\n"
    );
    let lists = patch.split_once("spec:\n").unwrap().1;
    let mended =
        self::index(&[mesh(""), teams(), orders("    - { port: web, access: { public: true } }\n"), application("shop/stock", &format!("{PORTS}{lists}"))]);
    let id = |n: &str| mended.by_ref(&n.parse().unwrap()).unwrap().id;
    let query = Query { source: id("weft/gateway"), destination: Destination::Service { id: id("shop/stock"), port: 80 }, protocol: Protocol::Tcp };
    assert_eq!(mended.decide(&query).reason, Reason::Grant);
}

#[test]
fn the_back_channel_is_the_local_providers() {
    let open = || orders("    - { port: web, access: { public: true } }\n");
    let elsewhere = "  identityProviders: [ { name: corp, issuer: \"https://login.example\", clientId: weft, clientSecretFile: /etc/weft/secret, claims: { groups: roles } } ]\n";
    let c = compiled(&[mesh(elsewhere), teams(), open()]);
    assert_eq!(grants(&c), ["weft/gateway shop/orders 80"]);
    let gateway = c.services.iter().find(|s| s.name.to_string() == "weft/gateway").unwrap();
    let port = &gateway.ports[0];
    assert_eq!((gateway.ports.len(), port.name.as_str(), port.port, port.target_port, port.protocol), (1, "backchannel", 80, 15014, Protocol::Tcp));
}

#[test]
fn everybody_may_come_in_at_the_gateways_ports_and_at_no_others() {
    let open = || orders("    - { port: web, access: { public: true } }\n");
    let ports = |more: &str| {
        let index = index(&[mesh(more), teams(), open()]);
        let public: Vec<_> =
            index.snapshot().services.iter().map(|s| (s.name.to_string(), index.public_ports(s.id).to_vec())).filter(|s| !s.1.is_empty()).collect();
        let tables = weft_policy::tables(index.snapshot());
        let rows: Vec<_> = tables.ports.iter().filter(|p| p.1 == weft_policy::Kind::Public).map(|p| (p.0, p.2, p.3, p.4, p.5)).collect();
        let gateway = index.by_ref(&"weft/gateway".parse().unwrap()).unwrap().id;
        assert_eq!(rows, public[0].1.iter().map(|p| (gateway, *p, Protocol::Tcp, *p, *p)).collect::<Vec<_>>());
        public
    };
    let of_gateway = |ports: &[u16]| vec![("weft/gateway".to_owned(), ports.to_vec())];
    assert_eq!(ports(""), of_gateway(&[8443]));
    assert_eq!(ports("  redirectPort: 8080\n"), of_gateway(&[8080, 8443]));
    assert_eq!(ports("  listenPort: 10443\n  redirectPort: 8080\n"), of_gateway(&[8080, 10443]));

    // Whatever a snapshot says of another service, or of weft's own ports.
    let index = index(&[mesh("  redirectPort: 8080\n"), teams(), open()]);
    let with = |change: &dyn Fn(&mut weft_snapshot::Snapshot)| {
        let mut snapshot = (**index.snapshot()).clone();
        change(&mut snapshot);
        let index = Index::new(std::sync::Arc::new(snapshot));
        let ids: Vec<_> = index.snapshot().services.iter().map(|s| s.id).collect();
        let open: Vec<u16> = ids.into_iter().flat_map(|id| index.public_ports(id).to_vec()).collect();
        assert_eq!(open.len(), weft_policy::tables(index.snapshot()).ports.iter().filter(|p| p.1 == weft_policy::Kind::Public).count());
        open
    };
    let orders_id = index.by_ref(&"shop/orders".parse().unwrap()).unwrap().id;
    assert_eq!(with(&|_| {}), [8080, 8443]);
    assert_eq!(with(&|s| s.gateway.as_mut().unwrap().service = orders_id), [0_u16; 0]);
    assert_eq!(with(&|s| s.gateway.as_mut().unwrap().listen_port = 15008), [8080]);
    assert_eq!(with(&|s| s.gateway.as_mut().unwrap().redirect_port = Some(15014)), [8443]);
    assert_eq!(with(&|s| s.gateway = None), [0_u16; 0]);

    // A workload is no stranger: its way out is judged as ever, and this is no port that it could have.
    let id = |n: &str| index.by_ref(&n.parse().unwrap()).unwrap().id;
    let ask =
        |port| index.decide(&Query { source: id("shop/orders"), destination: Destination::Service { id: id("weft/gateway"), port }, protocol: Protocol::Tcp });
    let dialled = ask(8443);
    assert_eq!((dialled.reason, dialled.patch), (Reason::UnknownPort, None));
    assert_eq!(
        dialled.nearest_miss.as_deref(),
        Some("weft/gateway declares backchannel (80/TCP); 8443 is where people come in from outside, and no way for workloads")
    );
    assert_eq!(ask(8444).nearest_miss.as_deref(), Some("weft/gateway declares backchannel (80/TCP)"));
}

#[test]
fn routes_say_what_was_declared() {
    let c = compiled(&[
        mesh(""),
        teams(),
        orders(
            "    - { port: web, host: shop, pathPrefix: /orders/, rewrite: /api, access: { groups: [ sales, support ] }, methods: [ GET ], portal: { title: Orders, icon: cart, category: Sales } }\n    - { port: rpc, host: rpc.other.example, access: { authenticated: true }, portal: { hidden: true } }\n    - port: h2\n      path: /hook/{id}\n      access: { public: true }\n      cors: { origins: [ \"https://a.example\" ], headers: [ X-Asked ], credentials: true, maxAgeSeconds: 60 }\n",
        ),
    ]);
    let g = c.gateway.unwrap();
    let get = |host: &str| g.routes.iter().find(|r| r.host.as_str() == host).unwrap();
    let shop = get("shop.corp.example");
    assert_eq!((shop.path.to_string(), shop.upstream_path("/orders/7"), shop.upstream_path("/orders")), ("/orders/*".into(), "/api/7".into(), "/api".into()));
    assert_eq!(shop.access, Access::Groups(vec!["sales".into(), "support".into()]));
    assert_eq!((shop.upstream, shop.port, shop.portal.shown, shop.portal.title.as_str()), (Upstream::Http, 80, Shown::Own, "Orders"));
    assert!(shop.admits_method("GET") && shop.admits_method("HEAD") && !shop.admits_method("POST") && !shop.admits_method("get"));
    let rpc = get("rpc.other.example");
    assert_eq!((rpc.upstream, &rpc.access, rpc.path.to_string(), rpc.portal.shown), (Upstream::Grpc, &Access::Authenticated, "/*".into(), Shown::Hidden));
    // The host that nobody named is the service's own name.
    let own = get("orders.corp.example");
    let cors = own.cors.as_ref().unwrap();
    assert_eq!((own.upstream, own.upstream_path("/hook/1"), cors.headers.as_slice()), (Upstream::H2c, "/hook/1".into(), &["x-asked".to_owned()][..]));
    assert_eq!((own.portal.shown, own.declared_at.as_str()), (Shown::Default, "shop/orders.yaml:11"));
}

#[test]
fn a_route_keeps_its_number_while_it_says_the_same() {
    let mut numbers = crate::common::Numbers::default();
    let mut rule = |expose: &str| weft_policy::compile(&catalog(&[mesh(""), teams(), orders(expose)]), &mut numbers).gateway.unwrap().routes[0].rule;
    let first = rule("    - { port: web, access: { groups: [ a, b ] } }\n");
    assert_eq!(rule("\n    - { port: web, access: { groups: [ b, a ] }, portal: { icon: x } }\n"), first);
    let others =
        ["access: { groups: [ a ] }", "access: { public: true }", "access: { groups: [ a, b ] }, methods: [ GET ]", "path: /x, access: { groups: [ a, b ] }"];
    for other in others {
        assert_ne!(rule(&format!("    - {{ port: web, {other} }}\n")), first, "{other}");
    }
}

#[test]
fn who_vouches_for_people_is_the_local_provider_or_those_that_are_named() {
    let open = orders("    - { port: web, access: { public: true } }\n");
    let g = compiled(&[mesh(""), teams(), open.clone()]).gateway.unwrap();
    let p = &g.providers[0];
    assert_eq!((g.providers.len(), p.builtin, p.issuer.as_str(), p.via.as_ref().unwrap().port), (1, true, "https://id.corp.example:8443", 80));
    assert_eq!((g.portal_host().unwrap().as_str(), g.origin(&g.base_domain)), ("portal.corp.example", "https://corp.example:8443".to_owned()));

    let keycloak = "  identityProviders:\n    - name: corp\n      issuer: https://login.example/realms/corp\n      clientId: weft\n      clientSecretFile: /etc/weft/secret\n      claims: { groups: [ realm_access.roles, groups ] }\n      apiAudiences: [ shop-api ]\n      via: { service: iam/keycloak }\n";
    let iam = application("iam/keycloak", "  ports: [ { name: web, port: 8080 } ]\n");
    let c = compiled(&[mesh(keycloak), teams(), open, iam]);
    assert_eq!(grants(&c), ["weft/gateway iam/keycloak 8080", "weft/gateway shop/orders 80"]);
    let p = &c.gateway.as_ref().unwrap().providers[0];
    assert_eq!((p.builtin, p.client_id.as_str(), p.client_secret_file.as_str(), p.via.as_ref().unwrap().port), (false, "weft", "/etc/weft/secret", 8080));
    assert_eq!(p.claims, Claims { groups: vec!["realm_access.roles".parse().unwrap(), "groups".parse().unwrap()], ..Claims::default() });
    assert_eq!(
        (p.scopes.as_slice(), p.api_audiences.as_slice()),
        (&["openid".to_owned(), "profile".to_owned(), "email".to_owned()][..], &["shop-api".to_owned()][..])
    );
    assert!(c.services.iter().all(|s| s.name.to_string() != "weft/iam-bridge"));
}
