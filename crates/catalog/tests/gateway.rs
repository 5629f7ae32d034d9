//! What is exposed, who vouches for people, how the portal looks: what is read of it, and what is wrong with it.

mod common;

use common::{check, findings, one_line, service};
use weft_catalog::{Access, Catalog, LogoKind, Upstream};

/// An exposure of a service with ports of all kinds.
#[track_caller]
fn expose(entry: &str, expect: &[&str]) {
    let ports = "ports: [ { name: web, port: 80 }, { name: rpc, port: 81, appProtocol: grpc }, { name: db, port: 82, appProtocol: postgres }, \
                 { name: tls, port: 83, appProtocol: https }, { name: dns, port: 53, protocol: UDP } ]";
    let text = service(&format!("{ports}, expose: [ {entry} ]"));
    let found = findings(&[("base.yaml", common::BASE), ("x.yaml", &text)]);
    let shown: Vec<String> = found.iter().map(one_line).filter(|f| !f.contains("UDP is carried")).collect();
    assert_eq!(shown.len(), expect.len(), "{}", shown.join("\n"));
    for (got, want) in shown.iter().zip(expect) {
        let (want_message, want_help) = want.split_once(" | ").unwrap_or((want, ""));
        let (got_message, got_help) = got.split_once(" | ").unwrap();
        assert!(got_message.starts_with(want_message) && got_help.starts_with(want_help), "\ngot  {got}\nwant {want}");
    }
}

#[test]
fn a_good_exposure_has_no_findings() {
    expose("{ port: web, access: { public: true } }", &[]);
    expose("{ port: rpc, host: www.corp.net, path: \"/a/{id}\", access: { authenticated: true }, methods: [ GET, POST ] }", &[]);
    expose("{ port: web, host: x.apps.corp.example, pathPrefix: /a, rewrite: /, access: { groups: [ sales ] }, portal: { title: X, hidden: true } }", &[]);
    expose(
        "{ port: web, access: { public: true }, cors: { origins: [ \"https://a.example\", \"http://localhost:3000\" ], credentials: true, maxAgeSeconds: 600 } }",
        &[],
    );
}

#[test]
fn the_port_speaks_http() {
    let to = |port: &str| format!("{{ port: {port}, access: {{ public: true }} }}");
    expose(&to("wbe"), &["error 4 `wbe` exposure names port wbe, which the service does not declare | did you mean web?"]);
    expose(&to("99"), &["error 4 `99` exposure names port 99, which the service does not declare"]);
    expose(&to("db"), &["error 4 `db` exposure names port db, whose appProtocol is postgres | the gateway reaches http, h2c and grpc"]);
    expose(&to("tls"), &["error 4 `tls` exposure names port tls, whose appProtocol is https | the mesh encrypts already"]);
    expose(&to("dns"), &["error 4 `dns` exposure names port dns, which is UDP"]);
    expose("{ access: { public: true } }", &["error 4 `{` exposure names no port | add `port: NAME`"]);
}

#[test]
fn hosts_are_names_below_the_base_domain_or_absolute() {
    let at = |host: &str| format!("{{ port: web, host: {host}, access: {{ public: true }} }}");
    expose(&at("Shop"), &["error 4 `Shop` host \"Shop\" is no name that a browser could ask for | write it in lower case: shop"]);
    expose(&at("\"*.corp.example\""), &["error 4 `\"*.corp.example\"` host \"*.corp.example\" is no name | a host stands for itself"]);
    expose(&at("\"shop:8443\""), &["error 4 `\"shop:8443\"` host \"shop:8443\" is no name | a host is a name only"]);
    expose(&at("10.0.0.1"), &["error 4 `10.0.0.1` host \"10.0.0.1\" is no name"]);
    expose(&at("portal"), &["error 4 `portal` host portal.apps.corp.example is kept for portal and sign-on"]);
    expose(&at("id.apps.corp.example"), &["error 4 `id.apps.corp.example` host id.apps.corp.example is kept for the local identity provider"]);
    expose(
        &at("shop.apps"),
        &[
            "error 4 `shop.apps` host shop.apps has a dot, so it is absolute, and lies outside of baseDomain apps.corp.example | did you mean shop.apps.corp.example?",
        ],
    );
    expose(
        &at("shop.apps.crop.example"),
        &["warning 4 `shop.apps.crop.example` host shop.apps.crop.example lies outside of baseDomain | did you mean shop.apps.corp.example?"],
    );
    expose(&at("www.corp.net"), &[]);
    let alone = common::BASE.replace(", baseDomain: apps.corp.example", "");
    let open = service("ports: [ { name: web, port: 80 } ], expose: [ { port: web, host: www.corp.net, access: { public: true } } ]");
    let found = findings(&[("base.yaml", &alone), ("x.yaml", &open)]);
    assert!(one_line(&found[0]).starts_with("error 4 `{` service shop/x is exposed, but the Mesh has no baseDomain | add one such as"), "{found:?}");
}

#[test]
fn paths_are_in_normal_form_and_not_the_gateways() {
    let at = |path: &str| format!("{{ port: web, {path}, access: {{ public: true }} }}");
    expose(&at("path: a"), &["error 4 `a` path \"a\" does not begin with /"]);
    expose(&at("pathPrefix: /a/../b"), &["error 4 `/a/../b` pathPrefix \"/a/../b\" has a . or .. segment"]);
    expose(&at("path: /%61"), &["error 4 `/%61` path \"/%61\" writes 'a' as %-escape"]);
    expose(&at("path: /a%2Fb"), &["error 4 `/a%2Fb` path \"/a%2Fb\" holds an escaped slash"]);
    expose(&at("path: \"/x{id}\""), &["error 4 `\"/x{id}\"` path \"/x{id}\" has a segment that is neither plain nor {name}"]);
    expose(&at("pathPrefix: \"/{id}\""), &["error 4 `\"/{id}\"` pathPrefix \"/{id}\" has a {segment}"]);
    expose(&at("path: /a, pathPrefix: /b"), &["error 4 `{` exposure has both path and pathPrefix | give two exposures"]);
    expose(&at("path: /a, rewrite: /b"), &["error 4 `{` exposure rewrites a path that is exact"]);
    expose(&at("pathPrefix: /a, rewrite: b"), &["error 4 `b` rewrite \"b\" does not begin with /"]);
    for own in ["path: /.weft", "path: /.weft/login", "pathPrefix: /.weft/x"] {
        let path = own.split(' ').nth(1).unwrap();
        expose(&at(own), &[&format!("error 4 `{path}` path {path} is the gateway's own | /.weft/ holds")]);
    }
    expose(&at("pathPrefix: /.weft2"), &[]);
}

#[test]
fn access_is_one_of_three() {
    let open = |access: &str| format!("{{ port: web, access: {access} }}");
    let unsaid = "error 4 `{` exposure does not say who may open it | one of `access:";
    expose("{ port: web }", &[unsaid]);
    expose(&open("{ public: false }"), &[unsaid]);
    expose(&open("{ public: true, authenticated: true }"), &[unsaid]);
    expose(&open("{ authenticated: true, groups: [ a ] }"), &[unsaid]);
    expose(&open("{ public: true, groups: [ a ] }"), &["error 4 `{` exposure is public and for groups only at once | one of"]);
    expose(&open("{ groups: [] }"), &["error 4 `[` groups is empty, which would let nobody in"]);
    expose(&open("{ groups: [ \"\" ] }"), &["error 4 `\"\"` text is empty"]);
    expose(&open("{ groups: [ a, a ] }"), &["warning 4 `a` group a is named twice"]);
    expose(&open("{ group: [ a ] }"), &["error 4 `group` unknown field `group` | did you mean `groups`?"]);
    expose("{ port: web, access: { public: true }, methods: [] }", &["error 4 `[` methods is empty"]);
    expose("{ port: web, access: { public: true }, methods: [ get ] }", &["error 4 `get` method \"get\" is no HTTP method in capitals"]);
    expose("{ port: web, access: { public: true }, methods: [ TRACE ] }", &["error 4 `TRACE` method TRACE never passes the gateway"]);
}

#[test]
fn other_origins_are_named_as_browsers_name_them() {
    let cors = |rule: &str| format!("{{ port: web, access: {{ public: true }}, cors: {rule} }}");
    expose(&cors("{ origins: [ \"*\" ] }"), &[]);
    expose(&cors("{}"), &["error 4 `{` cors names no origins"]);
    expose(&cors("{ origins: [ \"*\" ], credentials: true }"), &["error 4 `{` cors sends credentials to every origin"]);
    expose(&cors("{ origins: [ \"*\", \"https://a.example\" ] }"), &["error 4 `{` cors names every origin and others"]);
    for bad in ["a.example", "https://a.example/", "https://A.example", "null", "https://*.a.example", "ftp://a.example"] {
        expose(&cors(&format!("{{ origins: [ \"{bad}\" ] }}")), &[&format!("error 4 `\"{bad}\"` origin \"{bad}\" is none that a browser names | write it")]);
    }
    expose(&cors("{ origins: [ \"https://a.example:443\" ] }"), &["error 4 `\"https://a.example:443\"` origin | browsers leave the standard port out"]);
    expose(&cors("{ origins: [ \"*\" ], headers: [ \"a b\" ] }"), &["error 4 `\"a b\"` header \"a b\" is no name of one"]);
    expose(&cors("{ origins: [ \"*\" ], headers: [ \"*\" ] }"), &["error 4 `\"*\"` header \"*\" is no name of one"]);
    expose(&cors("{ origins: [ \"*\" ], methods: [ put ] }"), &["error 4 `put` method \"put\""]);
    expose(&cors("{ origins: [ \"*\" ], maxAgeSeconds: 86401 }"), &["error 4 `86401` maxAgeSeconds \"86401\" is no number up to 86400"]);
}

/// Two services, each with one exposure.
#[track_caller]
fn both(first: &str, second: &str, expect: &[&str]) {
    let one = |name: &str, e: &str| {
        service(&format!("ports: [ {{ name: web, port: 80 }} ], expose: [ {{ port: web, host: h, access: {{ public: true }}, {e} }} ]"))
            .replace("name: x,", &format!("name: {name},"))
    };
    check(&format!("{}---\n{}", one("x", first), one("y", second)), expect);
}

#[test]
fn each_host_and_path_leads_to_one_place() {
    both("path: /a", "path: /b", &[]);
    both("path: /a", "path: /a", &["error 9 `/a` services shop/x and shop/y both expose h.apps.corp.example/a | the first is at x.yaml:4"]);
    both("path: \"/a/{x}\"", "path: \"/a/{y}\"", &["error 9 `\"/a/{y}\"` services shop/x and shop/y both expose h.apps.corp.example/a/{y}"]);
    both("pathPrefix: /a/", "pathPrefix: /a", &["error 9 `/a` services shop/x and shop/y both expose h.apps.corp.example/a/*"]);
    expose(
        "{ port: web, path: /a, access: { public: true } }, { port: rpc, path: /a, access: { authenticated: true } }",
        &["error 4 `/a` service shop/x exposes x.apps.corp.example/a twice"],
    );
    // The name and the whole name are one host.
    expose(
        "{ port: web, host: h, access: { public: true } }, { port: rpc, host: h.apps.corp.example, access: { public: true } }",
        &["error 4 `{` service shop/x exposes h.apps.corp.example/* twice"],
    );
}

#[test]
fn a_path_within_anothers_prefix_is_told() {
    let taken = |path: &str| format!("warning 9 `{path}` service shop/y takes");
    both("pathPrefix: /a", "path: /a/new", &[&taken("/a/new")]);
    both("pathPrefix: /a", "path: /a", &[&taken("/a")]);
    both("pathPrefix: /a", "pathPrefix: /a/b/c", &[&taken("/a/b/c")]);
    both("pathPrefix: /a", "path: \"/a/{x}/c\"", &[&taken("\"/a/{x}/c\"")]);
    // Everybody expects it of `/`, and what lies beside is nobody's affair.
    both("pathPrefix: /", "pathPrefix: /a", &[]);
    both("pathPrefix: /a", "path: /ab", &[]);
    both("path: /a/b", "path: \"/a/{x}\"", &[]);
    expose("{ port: web, pathPrefix: /a, access: { public: true } }, { port: web, path: /a/b, access: { authenticated: true } }", &[]);
}

/// A catalog of a Mesh with this spec, line 5 on, and one service that is open to `sales`.
fn mesh(spec: &str) -> Vec<String> {
    let text = format!(
        "apiVersion: weft.mesh/v1alpha1\nkind: Mesh\nmetadata: {{ name: corp }}\nspec:\n  trustDomain: corp.example\n  baseDomain: apps.corp.example\n{spec}"
    );
    let rest = common::BASE.split_once("---\n").unwrap().1;
    let open = service("ports: [ { name: web, port: 80 } ], expose: [ { port: web, access: { groups: [ sales ] } } ]");
    let found = findings(&[("mesh.yaml", &text), ("rest.yaml", rest), ("x.yaml", &open)]);
    found.iter().map(one_line).collect()
}

#[track_caller]
fn check_mesh(spec: &str, expect: &[&str]) {
    let found = mesh(spec);
    assert_eq!(found.len(), expect.len(), "{}", found.join("\n"));
    for (got, want) in found.iter().zip(expect) {
        let (want_message, want_help) = want.split_once(" | ").unwrap_or((want, ""));
        let (got_message, got_help) = got.split_once(" | ").unwrap();
        assert!(got_message.starts_with(want_message) && got_help.starts_with(want_help), "\ngot  {got}\nwant {want}");
    }
}

const PROVIDER: &str = "  identityProviders:\n    - { name: corp, issuer: \"https://login.example/realms/corp\", clientId: weft, MORE }\n";

#[test]
fn identity_providers_are_named_and_reachable() {
    let provider = |more: &str, expect: &[&str]| check_mesh(&PROVIDER.replace(", MORE", more), expect);
    provider("", &[]);
    provider(", claims: { groups: realm_access.roles, username: upn }, scopes: [ openid, groups ], via: { service: shop/stock, port: web }", &[]);
    provider(", claims: { groups: [ groups, roles, \"/https:~1~1corp.example~1groups\" ] }", &[]);
    provider(", claims: { groups: a..b }", &["error 8 `a..b` claim \"a..b\" has an empty part"]);
    provider(", claims: { roles: x }", &["error 8 `roles` unknown field `roles` | known here: groups"]);
    provider(", clientSecretFile: secret", &["error 8 `secret` clientSecretFile \"secret\" is not absolute"]);
    provider(", scopes: [ profile ]", &["error 8 `{` scopes leave openid out"]);
    provider(", scopes: [ \"a b\", openid ]", &["error 8 `\"a b\"` scope \"a b\" is none"]);
    provider(", builtin: true", &["error 8 `{` identity provider is builtin and has issuer", "error 8 `{` identity provider is builtin and has clientId"]);
    provider(
        ", via: { service: shop/stcok }",
        &["error 8 `{` identity provider corp is reached by shop/stcok, which the catalog does not declare | did you mean shop/stock?"],
    );
    provider(", via: { service: shop/stock, port: x }", &["error 8 `{` identity provider corp is reached by a port of shop/stock that it does not declare"]);
    let issuer = |url: &str, expect: &[&str]| check_mesh(&PROVIDER.replace(", MORE", "").replace("https://login.example/realms/corp", url), expect);
    issuer("http://localhost:9000/x", &[]);
    issuer("http://login.example", &["error 8 `\"http://login.example\"` issuer http://login.example is not https"]);
    issuer("https://login.example/?a", &["error 8 `\"https://login.example/?a\"` issuer https://login.example/?a has a query or fragment"]);
    issuer("login.example", &["error 8 `\"login.example\"` issuer \"login.example\" is no https URL"]);
    check_mesh("  identityProviders: [ { name: local, builtin: true } ]\n", &[]);
    check_mesh("  identityProviders: [ { name: a, builtin: true }, { name: b, builtin: true } ]\n", &["error 7 `b` there is one local provider"]);
    check_mesh("  identityProviders: [ { name: a } ]\n", &["error 7 `{` identity provider has no issuer or no clientId"]);
    check_mesh("  identityProviders: [ { issuer: \"https://a.example\" } ]\n", &["error 7 `{` identity provider has no name"]);
    let twice = format!("{}    - {{ name: corp, builtin: true }}\n", PROVIDER.replace(", MORE", ""));
    check_mesh(&twice, &["error 9 `corp` identity provider corp is declared twice | the first is at mesh.yaml:8"]);
}

#[test]
fn a_secret_in_the_catalog_is_refused_and_not_shown() {
    let text = format!(
        "{}---\napiVersion: weft.mesh/v1alpha1\nkind: Mesh\nmetadata: {{ name: m }}\nspec:\n  trustDomain: a.example\n  baseDomain: a.example\n  identityProviders:\n    - {{ name: corp, issuer: \"https://a.example\", clientId: weft, clientSecret: hunter2 }}\n",
        "# none\n"
    );
    let found = findings(&[("mesh.yaml", &text)]);
    let shown = found.iter().map(ToString::to_string).collect::<String>();
    assert!(shown.contains("error: a client's secret stands in the catalog") && shown.contains("mesh.yaml:10:"), "{shown}");
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[test]
fn a_group_is_called_unknown_only_where_all_are_known() {
    let closed = |groups: &str| PROVIDER.replace("MORE", &format!("groups: [ {groups} ]"));
    check_mesh(&closed("sales, ops"), &[]);
    check_mesh(&closed("slaes"), &["warning 4 `sales` service shop/x is open to group sales, which nobody has | did you mean slaes?"]);
    check_mesh(&closed("ops"), &["warning 4 `sales` service shop/x is open to group sales, which nobody has | no identity provider lists it"]);
    // Another provider may have it.
    check_mesh(&format!("{}    - {{ name: local, builtin: true }}\n", closed("ops")), &[]);
    let bookmark = "  bookmarks: [ { title: Wiki, url: \"https://wiki.example/\", groups: [ opps ] } ]\n";
    check_mesh(&format!("{}{bookmark}", closed("sales, ops")), &["warning 9 `opps` bookmark is shown to group opps, which nobody has | did you mean ops?"]);
}

#[test]
fn the_portal_can_be_read_by_everybody_and_leads_nowhere_else() {
    check_mesh("  portal: { title: Corp, support: help@corp.example, colours: { accent: \"#0A5C9E\", accentDark: \"#7fc4ff\" } }\n", &[]);
    check_mesh("  portal: { colors: { accent: \"#fe0\" } }\n", &["error 7 `\"#fe0\"` accent \"#fe0\" is no colour | write it in quotes"]);
    check_mesh(
        "  portal: { colours: { accent: \"#ffee00\" } }\n",
        &["warning 7 `\"#ffee00\"` accent #ffee00 stands out by 1.2 against white | choose a darker one"],
    );
    check_mesh("  portal: { colours: { accentDark: \"#101010\" } }\n", &["warning 7 `\"#101010\"` accentDark #101010 stands out by | choose a lighter one"]);
    let bookmark = |url: &str| format!("  bookmarks: [ {{ title: Wiki, url: \"{url}\" }} ]\n");
    check_mesh(&bookmark("https://wiki.example/a?b=c#d"), &[]);
    for bad in ["javascript:alert(1)", "//wiki.example", "wiki.example", "https://", "https://a b/", "data:text/html,x", "https://u@h/"] {
        check_mesh(&bookmark(bad), &[&format!("error 7 `\"{bad}\"` url \"{bad}\" is no https URL")]);
    }
    check_mesh("  bookmarks: [ { title: Wiki } ]\n", &["error 7 `{` bookmark has no title or no url"]);
    check_mesh("  publicPort: 0\n", &["error 7 `0` port \"0\" is no number"]);
    check(
        "apiVersion: weft.mesh/v1alpha1\nkind: Mesh\nmetadata: { name: m }\nspec: { trustDomain: a.example, baseDomain: 10.0.0.1 }\n",
        &["error 3 `m` catalog holds a second Mesh", "error 4 `10.0.0.1` host \"10.0.0.1\" is no DNS name"],
    );
}

#[test]
fn the_gateway_listens_where_people_come_or_where_it_is_told() {
    let ports = |spec: &str| {
        let mesh = format!("apiVersion: weft.mesh/v1alpha1\nkind: Mesh\nmetadata: {{ name: m }}\nspec: {{ trustDomain: a.example{spec} }}\n");
        let mesh = Catalog::parse([("mesh.yaml", mesh.as_str())]).unwrap().mesh;
        (mesh.public_port, mesh.listen_port, mesh.redirect_port)
    };
    assert_eq!(ports(""), (443, 443, None));
    assert_eq!(ports(", publicPort: 8443, redirectPort: 443"), (8443, 8443, Some(443)));
    assert_eq!(ports(", listenPort: 8443, redirectPort: 8080"), (443, 8443, Some(8080)));
    // Behind something that takes people elsewhere, the public port is not the gateway's.
    assert_eq!(ports(", publicPort: 15014, listenPort: 8443"), (15014, 8443, None));

    check_mesh("  redirectPort: 443\n", &["error 7 `443` redirectPort 443 is where the gateway listens for https | choose another"]);
    check_mesh("  listenPort: 80\n  redirectPort: 80\n", &["error 8 `80` redirectPort 80 is where the gateway listens"]);
    check_mesh("  publicPort: 8443\n  redirectPort: 8443\n", &["error 8 `8443` redirectPort 8443 is where the gateway listens"]);
    for field in ["listenPort", "redirectPort"] {
        check_mesh(&format!("  {field}: 15008\n"), &["error 7 `15008` port 15008 belongs to the mesh's tunnel"]);
        check_mesh(&format!("  {field}: 65536\n"), &["error 7 `65536` port \"65536\" is no number"]);
        for port in ["15009", "15012", "15013", "15014", "15021"] {
            let expect = format!("error 7 `{port}` {field} {port} is one of weft's own ports, 15008 to 15021 | choose another");
            check_mesh(&format!("  {field}: {port}\n"), &[&expect]);
        }
        for port in ["15007", "15022", "1", "65535"] {
            check_mesh(&format!("  {field}: {port}\n"), &[]);
        }
    }
    check_mesh(
        "  publicPort: 15014\n",
        &["error 7 `15014` publicPort 15014 is one of weft's own ports, 15008 to 15021 | give the gateway another one as listenPort"],
    );
}

#[test]
fn nobody_declares_what_is_wefts_own() {
    let own = |name: &str| service("title: X").replace("name: x, namespace: shop", &format!("name: {name}, namespace: weft"));
    for name in ["gateway", "iam-bridge", "anything"] {
        check(&own(name), &["error 3 `weft` namespace weft is kept for weft's own programs | they are there by themselves"]);
    }
}

#[test]
fn weft_s_own_services_need_addresses_too() {
    let small = common::BASE.replace("trustDomain: corp.example", "trustDomain: corp.example, serviceRange: 10.9.0.0/29");
    let found = |expose: &str| {
        let more: Vec<String> = ["a", "b", "c"].iter().map(|n| service("title: X").replace("name: x", &format!("name: {n}"))).collect();
        let open = service(&format!("ports: [ {{ name: web, port: 80 }} ]{expose}"));
        let all = findings(&[("base.yaml", &small), ("more.yaml", &more.join("---\n")), ("x.yaml", &open)]);
        all.iter().map(one_line).collect::<Vec<_>>()
    };
    assert_eq!(found(""), [""; 0]);
    assert!(
        found(", expose: [ { port: web, access: { public: true } } ]")[0]
            .starts_with("error 3 `corp` serviceRange 10.9.0.0/29 has 6 virtual IPs for 8 services")
    );
}

#[test]
fn what_is_exposed_is_read_as_documented() {
    let text = service(
        "ports: [ { name: web, port: 80, appProtocol: h2c } ], expose: [ { port: 80, host: shop, pathPrefix: /a, rewrite: /b, access: { groups: [ sales, \"a, b\" ] }, methods: [ GET ] }, { port: web, access: { public: true } } ]",
    );
    let catalog = Catalog::parse([("base.yaml", common::BASE), ("x.yaml", &text)]).unwrap();
    let x = catalog.services.iter().find(|s| s.name.name.as_str() == "x").unwrap();
    let e = &x.expose[0];
    assert_eq!((e.port, e.upstream, e.host.as_str(), e.path.to_string()), (80, Upstream::H2c, "shop.apps.corp.example", "/a/*".into()));
    assert_eq!((e.rewrite.as_ref().unwrap().as_str(), &e.access, e.methods.len()), ("/b", &Access::Groups(vec!["sales".into(), "a, b".into()]), 1));
    assert_eq!((x.expose[1].host.as_str(), x.expose[1].path.as_str(), &x.expose[1].access), ("x.apps.corp.example", "/", &Access::Public));
    assert!(catalog.has_gateway() && catalog.has_local_provider() && catalog.mesh.public_port == 443);
    assert!(!Catalog::parse([("base.yaml", common::BASE)]).unwrap().has_gateway());
}

#[test]
fn the_logo_is_a_file_of_the_catalog() {
    let dir = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    std::fs::create_dir(dir.path().join("mesh")).unwrap();
    write("base.yaml", common::BASE.split_once("---\n").unwrap().1);
    let load = |logo: &str| {
        let mesh = format!(
            "apiVersion: weft.mesh/v1alpha1\nkind: Mesh\nmetadata: {{ name: corp }}\nspec: {{ trustDomain: corp.example, portal: {{ logo: {logo} }} }}\n"
        );
        std::fs::write(dir.path().join("mesh/mesh.yaml"), mesh).unwrap();
        Catalog::load(dir.path()).map_err(|f| f.iter().map(one_line).collect::<Vec<_>>())
    };
    write("mesh/logo.svg", "<svg/>");
    write("top.svg", "<svg>top</svg>");
    std::fs::write(outside.path().join("logo.svg"), "<svg/>").unwrap();
    let logo = load("logo.svg").unwrap().mesh.portal.logo.unwrap();
    assert_eq!((logo.kind, logo.bytes.as_slice()), (LogoKind::Svg, &b"<svg/>"[..]));
    assert_eq!(load("../top.svg").unwrap().mesh.portal.logo.unwrap().bytes, b"<svg>top</svg>");
    let outside = outside.path().join("logo.svg").display().to_string();
    std::os::unix::fs::symlink(&outside, dir.path().join("mesh/link.svg")).unwrap();
    for (name, why) in [
        ("absent.svg", "it cannot be read"),
        (outside.as_str(), "it lies outside"),
        ("link.svg", "it lies outside"),
        ("../../../../../../../../etc/passwd", "it lies outside"),
        ("mesh.yaml", "its name ends in neither"),
    ] {
        let found = load(name).unwrap_err();
        assert!(found.len() == 1 && found[0].starts_with(&format!("error 4 `{name}` logo {name:?}: {why}")), "{found:?}");
    }
    // Without a directory there is no file.
    let mesh = common::BASE.replace("baseDomain: apps.corp.example", "portal: { logo: logo.svg }");
    assert!(Catalog::parse([("base.yaml", mesh.as_str())]).is_err());
}
