//! The portal shows exactly what a person may open.

use super::expose::{application, index, mesh, teams};
use weft_policy::{Index, Who};

const PORT: &str = "  ports: [ { name: web, port: 80 } ]\n  expose:\n";

fn shop() -> Index {
    let app = |name: &str, expose: &str| application(name, &format!("{PORT}{expose}"));
    let bookmarks =
        "  bookmarks:\n    - { title: Wiki, url: \"https://wiki.example/\" }\n    - { title: Bank, url: \"https://bank.example/\", groups: [ finance ] }\n";
    index(&[
        mesh(bookmarks),
        teams(),
        app("shop/front", "    - { port: web, host: shop, access: { public: true }, portal: { title: Shop, category: Sales } }\n"),
        app(
            "shop/orders",
            "    - { port: web, host: shop, pathPrefix: /orders, access: { groups: [ sales ] } }\n    - { port: web, host: shop, path: /hook, methods: [ POST ], access: { public: true } }\n",
        ),
        app(
            "shop/both",
            "    - { port: web, host: both, pathPrefix: /a, access: { groups: [ ops ] } }\n    - { port: web, host: both, pathPrefix: /b, access: { authenticated: true } }\n",
        ),
        app(
            "shop/parts",
            "    - { port: web, host: parts, pathPrefix: /a, access: { authenticated: true }, portal: { title: A } }\n    - { port: web, host: parts, pathPrefix: /b, access: { groups: [ ops ] }, portal: { title: B } }\n    - { port: web, host: parts, pathPrefix: /c, access: { public: true } }\n",
        ),
        app("shop/api", "    - { port: web, host: api, access: { public: true }, portal: { hidden: true } }\n"),
        app("shop/items", "    - { port: web, host: items, path: \"/{id}\", access: { public: true } }\n"),
        app("shop/taken", "    - { port: web, host: taken, pathPrefix: /x, access: { public: true } }\n"),
        app("shop/taker", "    - { port: web, host: taken, path: /x, methods: [ POST ], access: { public: true } }\n"),
    ])
}

#[track_caller]
fn check(who: Who<'_>, tiles: &[&str], bookmarks: &[&str]) {
    let index = shop();
    let shown: Vec<String> = index.portal(who).iter().map(|t| format!("{} {}", t.title, t.url)).collect();
    assert_eq!(shown, tiles);
    assert_eq!(index.bookmarks(who).iter().map(|b| b.title.as_str()).collect::<Vec<_>>(), bookmarks);
    // Every tile opens, and nothing that opens is left out.
    for t in index.portal(who) {
        let path = t.url.strip_prefix(&format!("https://{}:8443", t.route.host)).unwrap();
        let route = index.route(t.route.host.as_str(), path).unwrap();
        assert!(std::ptr::eq(route, t.route) && index.admit(route, who, "GET").is_allowed(), "{t:?}");
    }
}

const BOTH_B: &str = "both https://both.corp.example:8443/b";
const TAKEN: &str = "taken https://taken.corp.example:8443/x/";
const A: &str = "A https://parts.corp.example:8443/a";
const SHOP: &str = "Shop https://shop.corp.example:8443/";

#[test]
fn each_person_sees_what_they_may_open() {
    let groups = |all: &[&str]| all.iter().map(|g| (*g).to_owned()).collect::<Vec<_>>();
    check(Who::Person { name: "bob", groups: &[] }, &[A, BOTH_B, TAKEN, SHOP], &["Wiki"]);
    let sales = groups(&["sales"]);
    check(Who::Person { name: "sue", groups: &sales }, &[A, BOTH_B, "orders https://shop.corp.example:8443/orders", TAKEN, SHOP], &["Wiki"]);
    let ops = groups(&["ops", "finance"]);
    let both_a = "both https://both.corp.example:8443/a";
    check(Who::Person { name: "olga", groups: &ops }, &[A, "B https://parts.corp.example:8443/b", both_a, TAKEN, SHOP], &["Bank", "Wiki"]);
    check(Who::Anonymous, &[TAKEN, SHOP], &[]);
}
