//! `weft can user:NAME https://…` against a small catalog on disk: verdicts, exit codes, words.

use std::fs;

use crate::output::{Style, request};

use super::*;

const CATALOG: &str = r##"
apiVersion: weft.mesh/v1alpha1
kind: Mesh
metadata: { name: corp }
spec: { trustDomain: corp.example, baseDomain: apps.corp.example, publicPort: 8443, portal: { support: help@corp.example } }
---
apiVersion: weft.mesh/v1alpha1
kind: Team
metadata: { name: team-shop }
spec: { lead: alice@corp.example, contact: "#shop" }
---
apiVersion: weft.mesh/v1alpha1
kind: Team
metadata: { name: team-sales }
spec: { contact: "#sales", groups: [ sales ] }
---
apiVersion: weft.mesh/v1alpha1
kind: MeshService
metadata: { name: orders, namespace: shop }
spec:
  type: application
  title: Orders
  owner: team-shop
  ports: [ { name: web, port: 80 }, { name: admin, port: 81 } ]
  expose:
    - { port: web, host: shop, pathPrefix: /orders, rewrite: /, access: { groups: [ sales, support ] } }
    - { port: web, host: shop, path: /hook, methods: [ POST ], access: { public: true } }
    - { port: web, host: orders, access: { authenticated: true } }
"##;

/// The words of `weft can SRC URL [--method M] --catalog DIR`, behind its exit code; what is said on stderr behind ` ! `.
#[track_caller]
fn check(source: &str, url: &str, method: &str, expect: &str) {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("shop.yaml"), CATALOG).unwrap();
    let index = Index::new(source::compile_catalog(dir.path()).unwrap().into());
    let args = CanArgs {
        source: source.parse().unwrap(),
        destination: url.parse().unwrap(),
        catalog: None,
        protocol: None,
        method: (!method.is_empty()).then(|| method.parse().unwrap()),
    };
    let got = match asked(&args) {
        Ok((person, url)) => {
            let answer = decide(&index, &person, url, args.method.as_ref());
            let code = u8::from(matches!(outcome(&answer), Outcome::Findings));
            let said: String = remarks(index.snapshot(), &person, &answer).iter().map(|r| format!("! {r}\n")).collect();
            format!("{code}\n{}{said}", request(Style::default(), &answer))
        }
        Err(e) => format!("2\n{e}"),
    };
    assert_eq!(got.trim(), expect.trim(), "\n{got}");
}

#[test]
fn a_group_lets_in_and_its_control_without_it_is_told_what_is_missing() {
    check(
        "user:alice@sales",
        "https://shop.apps.corp.example/orders/7",
        "",
        "
0
allow  user:alice@sales → GET https://shop.apps.corp.example/orders/7  group sales (rule 2 at shop.yaml:26), by the catalog given
       leads to shop/orders (Orders), port 80, as /7, owner team-shop
",
    );
    check(
        "user:bob@kitchen",
        "https://shop.apps.corp.example/orders/7",
        "",
        "
1
deny   user:bob@kitchen → GET https://shop.apps.corp.example/orders/7  missing-group: they are in none of the groups that it is open to (rule 2 at shop.yaml:26), by the catalog given
       leads to shop/orders (Orders), port 80, as /7, owner team-shop

nearest miss: bob is in kitchen; the exposure at shop.yaml:26 is open to sales or support

smallest change: put bob into sales or support (ask team-sales: #sales or help@corp.example)

or, in the catalog:

  # in shop/orders, in the exposure at shop.yaml:26, owner team-shop
  access: { groups: [ sales, support, kitchen ] }
! no exposure, bookmark, team or identity provider names group kitchen
",
    );
    check(
        "group:support",
        "https://shop.apps.corp.example/orders",
        "",
        "
0
allow  group:support → GET https://shop.apps.corp.example/orders  group support (rule 2 at shop.yaml:26), by the catalog given
       leads to shop/orders (Orders), port 80, as /, owner team-shop
",
    );
}

#[test]
fn who_has_not_signed_in_is_told_to() {
    check(
        "anonymous",
        "https://orders.apps.corp.example:8443/",
        "",
        "
1
deny   anonymous → GET https://orders.apps.corp.example:8443/  sign-in: nobody has signed in (rule 4 at shop.yaml:28), by the catalog given
       leads to shop/orders (Orders), port 80, owner team-shop

nearest miss: the exposure at shop.yaml:28 is open to whoever has signed in

smallest change: sign in
",
    );
    check(
        "user:bob",
        "https://orders.apps.corp.example/",
        "",
        "
0
allow  user:bob → GET https://orders.apps.corp.example/  authenticated: it is open to whoever has signed in (rule 4 at shop.yaml:28), by the catalog given
       leads to shop/orders (Orders), port 80, owner team-shop
",
    );
}

#[test]
fn a_method_is_part_of_the_question() {
    check(
        "anonymous",
        "https://shop.apps.corp.example/hook",
        "POST",
        "
0
allow  anonymous → POST https://shop.apps.corp.example/hook  public: it is open to everybody (rule 3 at shop.yaml:27), by the catalog given
       leads to shop/orders (Orders), port 80, owner team-shop
",
    );
    check(
        "anonymous",
        "https://shop.apps.corp.example/hook",
        "PUT",
        "
1
deny   anonymous → PUT https://shop.apps.corp.example/hook  method: it does not take this method (rule 3 at shop.yaml:27), by the catalog given
       leads to shop/orders (Orders), port 80, owner team-shop

nearest miss: the exposure at shop.yaml:27 takes POST, not PUT

smallest change: add PUT to its methods (ask team-shop: #shop, alice@corp.example or help@corp.example)

or, in the catalog:

  # in shop/orders, in the exposure at shop.yaml:27, owner team-shop
  methods: [ POST, PUT ]
",
    );
}

#[test]
fn what_nothing_is_exposed_at_is_a_denial_with_its_neighbours() {
    check(
        "user:bob",
        "https://shop.apps.corp.example/other",
        "",
        "
1
deny   user:bob → GET https://shop.apps.corp.example/other  no-route: nothing is exposed at this path, by the catalog given

nearest miss: shop.apps.corp.example exposes /hook, /orders/*
",
    );
    check(
        "user:bob",
        "https://shp.apps.corp.example:444/",
        "",
        "
1
deny   user:bob → GET https://shp.apps.corp.example:444/  no-host: nothing is exposed at this host, by the catalog given

note: the gateway is reached at port 8443, not 444

note: did you mean shop.apps.corp.example?

nearest miss: applications are exposed at orders.apps.corp.example, shop.apps.corp.example
",
    );
}

#[test]
fn the_gateways_own_pages_are_its_own() {
    let own = |who: &str, url: &str| format!("0\nallow  {who} → GET {url}  own-page: it is a page of the gateway itself, by the catalog given");
    for (who, url) in [
        ("user:bob", "https://portal.apps.corp.example/"),
        ("anonymous", "https://portal.apps.corp.example/.weft/login"),
        ("anonymous", "https://id.apps.corp.example/authorize"),
        ("anonymous", "https://shop.apps.corp.example/.weft/jwks"),
    ] {
        check(who, url, "", &own(who, url));
    }
    check(
        "anonymous",
        "https://portal.apps.corp.example/",
        "",
        "
1
deny   anonymous → GET https://portal.apps.corp.example/  sign-in: nobody has signed in, by the catalog given

nearest miss: the portal is open to whoever has signed in

smallest change: sign in
",
    );
}

#[test]
fn questions_that_make_no_sense_are_errors_with_a_way_out() {
    check(
        "shop/orders",
        "https://shop.apps.corp.example/",
        "",
        "2\nan address https://… is what people and API clients ask for: write user:NAME, group:NAME or anonymous before it",
    );
    check("user:bob", "shop/orders", "", "2\nuser:bob is a person, and people come in through the gateway only: ask about https://HOST/PATH");
    check(
        "https://a.b/",
        "https://a.b/",
        "",
        "2\nhttps://a.b/ is where something leads, not who asks for it: write user:NAME, group:NAME or anonymous before it",
    );
}

#[test]
fn forgotten_and_mistyped_groups_are_remarked() {
    let index = |text: &str| {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("shop.yaml"), text).unwrap();
        Index::new(source::compile_catalog(dir.path()).unwrap().into())
    };
    let index = index(CATALOG);
    let said = |groups: &[&str]| {
        let person = PersonView { user: Some("bob".into()), groups: groups.iter().map(|g| (*g).to_owned()).collect() };
        let answer = decide(&index, &person, &"https://shop.apps.corp.example/orders".parse().unwrap(), None);
        remarks(index.snapshot(), &person, &answer)
    };
    assert_eq!(said(&[]), ["which groups bob is in only the identity provider knows: name them as user:bob@GROUP,GROUP"]);
    assert_eq!(said(&["slaes"]), ["no exposure, bookmark, team or identity provider names group slaes; did you mean sales?"]);
    assert_eq!(said(&["sales"]), [""; 0]);
}
