//! What is wrong with a catalog, where it is said to be, and which way out is shown.

mod common;

use common::{BASE, check, findings, one_line, service};

fn interface(name: &str, external: &str) -> String {
    format!(
        "apiVersion: weft.mesh/v1alpha1\nkind: MeshService\nmetadata: {{ name: {name}, namespace: shop }}\nspec: {{ type: interface, owner: team-a, external: {external} }}\n"
    )
}

#[test]
fn the_base_has_no_findings() {
    check("", &[]);
    check(&service("title: X"), &[]);
    check("# nothing but a comment\n---\n---\n", &[]);
}

#[test]
fn documents_must_be_known_and_whole() {
    check("kind: MeshService\n", &["error 1 `kind: MeshService` document has no apiVersion | begin it with"]);
    check(
        "apiVersion: weft.mesh/v1\nkind: Team\n",
        &["error 1 `weft.mesh/v1` apiVersion \"weft.mesh/v1\" is not known | this version reads weft.mesh/v1alpha1"],
    );
    check("apiVersion: weft.mesh/v1alpha1\n", &["error 1 `apiVersion: weft.mesh/v1alpha1` document has no kind | kinds are MeshService"]);
    check("apiVersion: weft.mesh/v1alpha1\nkind: MeshServce\n", &["error 2 `MeshServce` kind \"MeshServce\" is not known | did you mean MeshService?"]);
    check("apiVersion: weft.mesh/v1alpha1\nkind: MeshService\n", &["error 1 `apiVersion: weft.mesh/v1alpha1` service has no metadata.name"]);
    check("apiVersion: weft.mesh/v1alpha1\nkind: Team\nmetadata: { name: Big }\n", &["error 3 `Big` name \"Big\" may hold only"]);
    check("apiVersion: weft.mesh/v1alpha1\nkind: Team\nmetadata: { name: t, namespace: n }\n", &["error 3 `n` a team belongs to no namespace"]);
    check("just text\n", &["error 1 `just text` expected mapping start"]);
    check("- a\n- b\n", &["error 1 `-` expected mapping start"]);
}

#[test]
fn unknown_fields_are_refused_with_the_closest_known_one() {
    check(&service("onwer: team-a"), &["error 4 `onwer` unknown field `onwer` | did you mean `owner`? known here: type, title"]);
    check(&service("port: []"), &["error 4 `port` unknown field `port` | did you mean `ports`?"]);
    check(&service("ports: [ { name: web, port: 1, target: 2 } ]"), &["error 4 `target` unknown field `target` | known here: name"]);
    check(&service("dependsOn: [ { service: stock, ports: [web] } ]"), &["error 4 `ports` unknown field `ports` | did you mean `port`?"]);
    check(
        "apiVersion: weft.mesh/v1alpha1\nkind: Team\nmetadata: { name: t }\nspec: {}\nstatus: {}\n",
        &["error 5 `status` unknown field `status` | known here: apiVersion"],
    );
}

#[test]
fn broken_yaml_hides_nothing_of_the_other_documents() {
    let broken = format!("{}---\nkind: [\n---\n{}", service("title: \"\""), service("mode: observe").replace("name: x", "name: y"));
    check(&broken, &["error 4 `\"\"` text is empty", "error 6 `[` expected string scalar", "error 11 `observe` this version cannot observe"]);
    check(&service("title: a, title: b"), &["error 4 `title` field `title` is given twice"]);
    check(&service("ports: web"), &["error 4 `web` expected sequence start"]);
    check("a: &a [x]\nb: { <<: *a }\n", &["error 2 `<<` merge keys (`<<`) are not allowed in a catalog"]);
}

#[test]
fn what_cannot_be_read_makes_no_further_findings() {
    // The target's document is broken, so it is not called unknown; nor are the ports of a service whose ports could not be read.
    let broken = service("nonsense: 1").replace("name: x", "name: y");
    check(&format!("{}---\n{broken}", service("dependsOn: [ { service: y } ]")), &["error 9 `nonsense` unknown field"]);
    let bad_port = service("ports: [ { name: web, port: 0 } ]").replace("name: x", "name: y");
    check(&format!("{}---\n{bad_port}", service("dependsOn: [ { service: y, port: web } ]")), &["error 9 `0` port \"0\" is no number from 1 to 65535"]);
}

#[test]
fn there_is_one_mesh() {
    let overall = findings(&[("x.yaml", "")]);
    assert_eq!(overall.len(), 1, "{overall:?}");
    assert!(one_line(&overall[0]).starts_with("error - catalog holds no Mesh document | add one:"));
    let mesh = |spec: &str| format!("apiVersion: weft.mesh/v1alpha1\nkind: Mesh\nmetadata: {{ name: m }}\nspec: {{ {spec} }}\n");
    check(&mesh("trustDomain: b.example"), &["error 3 `m` catalog holds a second Mesh, m | the first is corp at base.yaml:3"]);
    let alone = |spec: &str, expect: &str| {
        let found = findings(&[("x.yaml", &mesh(spec))]);
        assert!(found.len() == 1 && one_line(&found[0]).starts_with(expect), "{spec}: {found:?}");
    };
    alone("baseDomain: x.example", "error 3 `m` mesh m has no spec.trustDomain");
    alone("trustDomain: A_B", "error 4 `A_B` trust domain \"A_B\"");
    alone(
        "trustDomain: a.example, serviceRange: 100.64.0.1/16",
        "error 4 `100.64.0.1/16` range 100.64.0.1/16 has bits set behind its prefix | the prefix is 100.64.0.0/16",
    );
    alone("trustDomain: a.example, serviceRange: fd00::/64", "error 4 `fd00::/64` range \"fd00::/64\" is no IPv4 prefix");
}

#[test]
fn the_service_range_must_suffice() {
    let small = BASE.replace("trustDomain: corp.example", "trustDomain: corp.example, serviceRange: 10.9.0.0/30");
    let found = |extra: &str| findings(&[("base.yaml", &small), ("x.yaml", extra)]).iter().map(one_line).collect::<Vec<_>>();
    assert_eq!(found(""), [""; 0]);
    assert!(found(&service("title: X"))[0].starts_with("error 3 `corp` serviceRange 10.9.0.0/30 has 2 virtual IPs for 3 services"));
}

#[test]
fn every_service_has_a_known_owner() {
    let document = service("title: X");
    check(&document.replace("owner: team-a, ", ""), &["error 3 `x` service shop/x has no spec.owner | name the Team"]);
    check(
        &document.replace("team-a", "taem-a"),
        &["error 4 `taem-a` service shop/x is owned by taem-a, which is no Team of the catalog | did you mean team-a?"],
    );
    check(&document.replace("team-a", "zebra"), &["error 4 `zebra` service shop/x is owned by zebra | declare it"]);
    check(&document.replace("type: application, ", ""), &["error 3 `x` service shop/x has no spec.type"]);
    check(&document.replace("application", "aplication"), &["error 4 `aplication` type \"aplication\" is not known | did you mean application?"]);
}

#[test]
fn names_capabilities_and_accounts_are_unique() {
    check(
        &service("capability: other").replace("name: x", "name: stock"),
        &["error 3 `stock` service shop/stock is declared twice | the first is at base.yaml:12"],
    );
    check(
        &service("capability: stock"),
        &["error 4 `stock` services shop/stock and shop/x have the same capability, stock | no two services do the same thing"],
    );
    // The default capability is the name, in whatever namespace.
    check(
        &service("title: S").replace("name: x, namespace: shop", "name: stock, namespace: other"),
        &["error 3 `stock` services shop/stock and other/stock have the same capability"],
    );
    check(
        &service("workloads: [ { serviceAccount: stock } ]"),
        &["error 4 `stock` services shop/stock and shop/x have the same service account, stock | the account is a service's identity"],
    );
    check(&service("workloads: [ { serviceAccount: a }, { serviceAccount: b } ]"), &["error 4 `b` service has two service accounts, a and b"]);
    check(&service("workloads: [ { container: a, systemdUnit: b } ]"), &["error 4 `{` a workload is one of"]);
    check("apiVersion: weft.mesh/v1alpha1\nkind: Team\nmetadata: { name: team-a }\n", &["error 3 `team-a` team team-a is declared twice"]);
}

#[test]
fn ports_are_unambiguous() {
    let ports = |list: &str, expect: &[&str]| check(&service(&format!("ports: [ {list} ]")), expect);
    ports("{ name: a, port: 1 }, { name: b, port: 2 }", &[]);
    ports("{ name: a, port: 1 }, { name: a, port: 2 }", &["error 4 `{` service shop/x declares port name a twice"]);
    ports("{ name: a, port: 1 }, { name: b, port: 1, targetPort: 2 }", &["error 4 `{` service shop/x declares port 1/TCP twice"]);
    ports("{ name: a, port: 1 }, { name: b, port: 2, targetPort: 1 }", &["error 4 `{` service shop/x leads two ports to target port 1/TCP"]);
    ports("{ name: a, port: 15008 }", &["error 4 `15008` port 15008 belongs to the mesh's tunnel"]);
    ports("{ name: a, port: 1, targetPort: 15008 }", &["error 4 `15008` port 15008 belongs to the mesh's tunnel"]);
    ports("{ name: a, port: 70000 }", &["error 4 `70000` port \"70000\" is no number"]);
    ports("{ name: Web, port: 1 }", &["error 4 `Web` port name \"Web\""]);
    ports("{ name: a-very-long-port-name, port: 1 }", &["error 4 `a-very-long-port-name` port name"]);
    ports("{ port: 1 }", &["error 4 `{` port has no name"]);
    ports("{ name: a }", &["error 4 `{` port has no number"]);
    ports("{ name: a, port: 1, protocol: SCTP }", &["error 4 `SCTP` protocol \"SCTP\" is not known | it is one of TCP, UDP"]);
    ports("{ name: a, port: 1, protocol: UDP }", &["warning 4 `{` UDP is carried within a node only"]);
}

#[test]
fn resources_are_highly_available() {
    let resource = |rest: &str| service(rest).replace("application", "resource");
    check(&resource("replicas: { min: 2 }"), &[]);
    check(&resource("title: R"), &["error 3 `x` resource shop/x does not declare replicas.min"]);
    check(&resource("replicas: { min: 1 }"), &["error 4 `1` resource shop/x is declared with at least 1 replica | resources are shared"]);
    check(
        &resource("lifecycle: experimental, replicas: { min: 1 }"),
        &["warning 4 `1` resource shop/x is declared with at least 1 replica | an experiment may run alone"],
    );
    check(&resource("lifecycle: experimental"), &["error 3 `x` resource shop/x does not declare replicas.min"]);
    check(&service("replicas: { min: 1 }"), &[]);
    check(&service("replicas: { min: two }"), &["error 4 `two` replicas.min \"two\" is no number"]);
}

#[test]
fn dependencies_lead_somewhere() {
    let on = |list: &str, expect: &[&str]| check(&service(&format!("dependsOn: [ {list} ]")), expect);
    on("{ service: stock }", &[]);
    on("{ service: stock, port: web }, { service: finance/cards, port: 443 }", &[]);
    on("{ service: stcok }", &["error 4 `stcok` service shop/x depends on shop/stcok, which the catalog does not declare | did you mean shop/stock?"]);
    on("{ service: cards }", &["error 4 `cards` service shop/x depends on shop/cards, which the catalog does not declare | did you mean finance/cards?"]);
    on("{ service: nowhere }", &["error 4 `nowhere` service shop/x depends on shop/nowhere | declare shop/nowhere"]);
    on("{ service: stock, port: wbe }", &["error 4 `wbe` service shop/x depends on port wbe of shop/stock, which declares no such port | did you mean web?"]);
    on("{ service: stock, port: 8080 }", &["error 4 `8080` service shop/x depends on port 8080 | 8080 is the target port of web: name the service's port, 80"]);
    on("{ service: stock, port: 99 }", &["error 4 `99` service shop/x depends on port 99 | it declares web (80)"]);
    on("{ service: finance/cards, port: https }", &["error 4 `https` service shop/x depends on port https | ports of an interface have numbers only: 443"]);
    on("{ service: stock, port: 0 }", &["error 4 `0` port \"0\" is neither a number"]);
    on("{ service: \"stock:80\" }", &["error 4 `\"stock:80\"` reference \"stock:80\" | a port stands in a field of its own"]);
    on("{ port: web }", &["error 4 `{` dependency names no service"]);
    on("{ service: x }", &["error 4 `x` service shop/x depends on itself"]);
    on("{ service: old }", &["warning 4 `old` service shop/x depends on shop/old, which is deprecated"]);
    on("{ service: stock }, { service: stock, port: web }", &["error 4 `{` service shop/x depends twice on port 80 of shop/stock"]);
    let silent = service("title: Y").replace("name: x", "name: y");
    check(&format!("{}---\n{silent}", service("dependsOn: [ { service: y } ]")), &["error 4 `y` service shop/x depends on shop/y, which declares no ports"]);
}

#[test]
fn consent_names_what_exists() {
    let to = |list: &str, expect: &[&str]| check(&service(&format!("consumers: [ {list} ]")), expect);
    to("finance/cards, \"finance/*\"", &[]);
    to(
        "finanec/cards",
        &["warning 4 `finanec/cards` service shop/x consents to finanec/cards, which the catalog does not declare | did you mean finance/cards?"],
    );
    to("\"finanec/*\"", &["warning 4 `\"finanec/*\"` service shop/x consents to finanec/* | did you mean finance/*?"]);
    to("shop/stock", &["warning 4 `shop/stock` consumer shop/stock is of the service's own namespace"]);
    to("finance/cards, finance/cards", &["warning 4 `finance/cards` consumer finance/cards is named twice"]);
    to("\"*\"", &["error 4 `\"*\"` consumer \"*\" names no namespace | consent is given to one namespace at a time"]);
    to("cards", &["error 4 `cards` consumer \"cards\" names no namespace | write `shop/cards` or `cards/*`"]);
    to("\"finance/c*\"", &["error 4 `\"finance/c*\"` consumer \"finance/c*\""]);
}

#[test]
fn interfaces_are_doors_to_one_place() {
    let at = |external: &str, expect: &[&str]| check(&interface("x", external), expect);
    at("[ { cidr: 198.51.100.0/24, port: 443 } ]", &[]);
    at("[]", &["error 3 `x` interface shop/x has no spec.external"]);
    at(
        "[ { dns: api.cards.example, port: 443 } ]",
        &["error 4 `api.cards.example` this version cannot declare an interface by DNS name | declare its addresses"],
    );
    at("[ { cidr: 198.51.100.7, port: 443 } ]", &["error 4 `198.51.100.7` cidr \"198.51.100.7\" is no address prefix | write 198.51.100.7/32"]);
    at(
        "[ { cidr: 198.51.100.7/24, port: 443 } ]",
        &["error 4 `198.51.100.7/24` cidr 198.51.100.7/24 has bits set behind its prefix | the prefix is 198.51.100.0/24"],
    );
    at("[ { cidr: 127.0.0.0/8, port: 443 } ]", &["error 4 `127.0.0.0/8` cidr 127.0.0.0/8 is loopback or multicast"]);
    at("[ { cidr: \"::/0\", port: 443 } ]", &["error 4 `\"::/0\"` cidr ::/0 takes in the IPv4-mapped addresses"]);
    at("[ { cidr: \"::ffff:10.0.0.0/104\", port: 443 } ]", &["error 4 `\"::ffff:10.0.0.0/104\"` cidr ::ffff:10.0.0.0/104 takes in the IPv4-mapped"]);
    at("[ { cidr: \"2000::/3\", port: 443 } ]", &[]);
    at("[ { cidr: 198.51.100.0/24 } ]", &["error 4 `{` range has no port"]);
    at("[ { port: 443 } ]", &["error 4 `{` entry has no cidr"]);
    at("[ { cidr: 100.64.3.0/24, port: 443 } ]", &["error 4 `{` interface shop/x claims 100.64.3.0/24, which lies in the mesh's serviceRange"]);
    at(
        "[ { cidr: 198.51.100.0/24, port: 443 }, { cidr: 198.51.100.0/24, port: 443 } ]",
        &["error 4 `{` interface shop/x declares 198.51.100.0/24 port 443/TCP twice"],
    );
    at(
        "[ { cidr: 198.51.100.0/24, port: 443 }, { cidr: 192.0.2.0/24, port: 22 } ]",
        &["error 4 `{` interface shop/x declares other ports for 198.51.100.0/24 than for 192.0.2.0/24"],
    );
    at("[ { cidr: 198.51.100.0/24, port: 443 }, { cidr: 192.0.2.0/24, port: 443 } ]", &[]);
    at(
        "[ { cidr: 203.0.113.128/25, port: 443 } ]",
        &["error 4 `{` interfaces finance/cards and shop/x both claim port 443 of 203.0.113.128/25 | one address has one door"],
    );
    at(
        "[ { cidr: 203.0.113.0/24, port: 80 } ]",
        &["error 4 `{` interfaces finance/cards and shop/x both claim 203.0.113.0/24 | in this version an address leads to one interface"],
    );
    at(
        "[ { cidr: 203.0.113.128/25, port: 80 } ]",
        &["warning 4 `{` 203.0.113.128/25 belongs to interface shop/x, so port 443 of finance/cards is not reached there"],
    );
}

#[test]
fn each_type_has_its_own_fields() {
    let interface_with = |field: &str| interface("x", "[ { cidr: 198.51.100.0/24, port: 443 } ]").replace("type:", &format!("{field}, type:"));
    check(&interface_with("ports: []"), &["error 3 `x` interface shop/x has spec.ports | an interface's ports stand in spec.external"]);
    check(&interface_with("dependsOn: []"), &["error 3 `x` interface shop/x has spec.dependsOn"]);
    check(&interface_with("replicas: { min: 2 }"), &["error 3 `x` interface shop/x has spec.replicas"]);
    check(&interface_with("workloads: []"), &["error 3 `x` interface shop/x has spec.workloads"]);
    check(&service("external: []"), &["error 3 `x` service shop/x has spec.external but is no interface"]);
}

#[test]
fn exposure_is_checked() {
    let expose = |entry: &str, expect: &[&str]| check(&service(&format!("ports: [ {{ name: web, port: 80 }} ], expose: [ {entry} ]")), expect);
    expose("{ port: web, access: { public: true } }", &[]);
    expose("{ port: 80, access: { authenticated: true } }", &[]);
    expose("{ port: wbe, access: { groups: [ a ] } }", &["error 4 `wbe` exposure names port wbe | did you mean web?"]);
    expose("{ port: web }", &["error 4 `{` exposure does not say who may open it"]);
    expose("{ port: web, access: { public: true, authenticated: true } }", &["error 4 `{` exposure does not say who may open it"]);
    expose("{ port: web, pathPrefix: x, access: { public: true } }", &["error 4 `x` pathPrefix \"x\""]);
}

#[test]
fn http_is_checked_and_said_to_deny() {
    let http = |rules: &str, expect: &[&str]| check(&service(&format!("dependsOn: [ {{ service: stock, http: {rules} }} ]")), expect);
    let denies = "warning 4 `[` this version cannot judge HTTP: the whole dependency is denied";
    http("[ { methods: [GET], pathPrefix: /items } ]", &[denies]);
    http("[]", &["error 4 `[` http is empty"]);
    http("[ { path: /a, pathPrefix: /b } ]", &["error 4 `[` an http rule has both path and pathPrefix", denies]);
    http("[ { path: a } ]", &[denies, "error 4 `a` path \"a\" does not begin with /"]);
    http("[ { methods: [get] } ]", &[denies, "error 4 `get` method \"get\""]);
}

#[test]
fn a_finding_is_shown_as_the_compiler_shows_one() {
    let found = findings(&[("base.yaml", BASE), ("shop/x.yaml", &service("dependsOn: [ { service: stcok } ]"))]);
    let expect = "\
error: service shop/x depends on shop/stcok, which the catalog does not declare
 --> shop/x.yaml:4:67
  |
4 | spec: { type: application, owner: team-a, dependsOn: [ { service: stcok } ] }
  |                                                                   ^^^^^
  = help: did you mean shop/stock?";
    assert_eq!(found[0].to_string(), expect);
}
