//! Every answer to a request, with its control.

use super::expose::{application, index, mesh, teams};
use weft_policy::{AccessReason, Admission, Index, Request, Who};
use weft_types::Verdict;

fn shop() -> Index {
    let expose = "    - { port: web, host: shop, access: { public: true }, methods: [ GET ] }\n    - { port: web, host: shop, pathPrefix: /my, access: { authenticated: true } }\n    - { port: web, host: shop, pathPrefix: /orders, access: { groups: [ sales, support ] } }\n    - { port: web, host: shop, path: \"/orders/{id}/label\", access: { public: true } }\n    - { port: web, host: shop, path: /orders/all, access: { groups: [ ops ] } }\n    - { port: web, host: api, pathPrefix: /v1, access: { groups: [ 'ops, all' ] }, methods: [ PUT ] }\n";
    index(&[mesh(""), teams(), application("shop/orders", &format!("  ports: [ {{ name: web, port: 80 }} ]\n  expose:\n{expose}"))])
}

/// `who`: `-` for nobody, else groups with commas between.
#[track_caller]
fn check(who: &str, method: &str, host: &str, path: &str, expect: AccessReason) {
    let index = shop();
    let groups: Vec<String> = who.split(',').filter(|g| !g.is_empty()).map(str::to_owned).collect();
    let who = if who == "-" { Who::Anonymous } else { Who::Person { name: "bob", groups: &groups } };
    let decision = index.decide_request(&Request { who, method, host, path });
    assert_eq!((decision.reason, decision.verdict), (expect, expect.verdict()), "{who:?} {method} {host}{path}: {decision:#?}");
    assert_eq!(decision.nearest_miss.is_some(), expect.verdict() == Verdict::Deny, "{decision:#?}");
    // What is told is what the gateway does.
    if let Some(route) = index.route(host, path) {
        let admission = index.admit(route, who, method);
        assert_eq!((admission.reason(), admission.is_allowed()), (expect, expect.verdict() == Verdict::Allow));
    }
}

#[test]
fn who_may_open_what() {
    use AccessReason::{Authenticated, Group, MissingGroup, Public, SignIn};
    let shop = "shop.corp.example";
    check("-", "GET", shop, "/", Public);
    check("", "GET", shop, "/anything", Public);
    check("-", "GET", shop, "/my", SignIn);
    check("", "GET", shop, "/my", Authenticated);
    check("-", "GET", shop, "/orders", SignIn);
    check("", "GET", shop, "/orders", MissingGroup);
    check("kitchen", "GET", shop, "/orders", MissingGroup);
    check("sale,sales2,Sales", "GET", shop, "/orders", MissingGroup);
    check("sales", "GET", shop, "/orders", Group);
    check("kitchen,support", "DELETE", shop, "/orders/7", Group);
    // A path that says more has its own rule, open or not.
    check("-", "GET", shop, "/orders/7/label", Public);
    check("sales", "GET", shop, "/orders/all", MissingGroup);
    check("ops", "GET", shop, "/orders/all", Group);
    check("ops", "GET", shop, "/orders/all/x", MissingGroup);
    check("ops, all", "PUT", "api.corp.example", "/v1", MissingGroup);
}

#[test]
fn methods_are_asked_of_whoever_may_come_in() {
    use AccessReason::{Method, MissingGroup, Public, SignIn};
    let shop = "shop.corp.example";
    check("-", "HEAD", shop, "/", Public);
    check("-", "POST", shop, "/", Method);
    check("-", "get", shop, "/", Method);
    check("-", "POST", "api.corp.example", "/v1", SignIn);
    check("x", "POST", "api.corp.example", "/v1", MissingGroup);
    // What is said to let them in would.
    let index = self::shop();
    let change = |who, method| index.decide_request(&Request { who, method, host: "api.corp.example", path: "/v1" }).change.unwrap();
    assert_eq!(change(Who::Anonymous, "POST"), "sign in, and ask with PUT instead of POST");
    assert_eq!(change(Who::Anonymous, "PUT"), "sign in");
    assert_eq!(change(Who::Person { name: "bob", groups: &[] }, "POST"), "put bob into ops, all (ask team-a: #a, ada), and ask with PUT instead of POST");
}

#[test]
fn what_nobody_exposed_is_nobodys() {
    use AccessReason::{NoHost, NoRoute, NotNormal};
    check("ops", "GET", "api.corp.example", "/", NoRoute);
    check("ops", "GET", "api.corp.example", "/v10", NoRoute);
    for host in ["corp.example", "other.example", "SHOP.corp.example", "shop.corp.example.", "shop.corp.example:8443", ""] {
        check("ops", "GET", host, "/", NoHost);
    }
    for path in ["", "orders", "/my/../orders", "/my//", "/%6Dy", "/my%2f..", "/my/%2E%2e/orders", "/my\\..\\orders", "/my?x"] {
        check("sales", "GET", "shop.corp.example", path, NotNormal);
    }
}

/// Whichever way an application reads a path with parameters, it is the same rule that let it in.
#[test]
fn parameters_of_a_path_lead_nowhere_else() {
    use AccessReason::{Group, MissingGroup, NoRoute, Public};
    let shop = "shop.corp.example";
    check("-", "GET", shop, "/a;x=1/b", Public);
    check("sales", "GET", shop, "/orders/7;x", Group);
    check("", "GET", shop, "/orders/7;x", MissingGroup);
    for path in ["/orders;x", "/orders;/7", "/my;", "/orders/all;x", "/.weft;x", "/a/..;/orders", "/;/orders"] {
        check("sales", "GET", shop, path, NoRoute);
    }
}

#[test]
fn the_gateway_keeps_its_own() {
    use AccessReason::{OwnPage, SignIn};
    check("", "GET", "portal.corp.example", "/", OwnPage);
    check("-", "GET", "portal.corp.example", "/", SignIn);
    check("-", "POST", "shop.corp.example", "/.weft/logout", OwnPage);
    check("-", "GET", "id.corp.example", "/authorize", OwnPage);
    let index = shop();
    assert!(index.route("shop.corp.example", "/.weft/x").is_none() && index.route("shop.corp.example", "/.weftx").is_some());
    assert!(index.route("portal.corp.example", "/").is_none() && index.route("id.corp.example", "/").is_none());
}

#[test]
fn a_refused_person_is_told_what_is_missing_and_whom_to_ask() {
    let index = shop();
    let groups = ["yes".to_owned()];
    let who = Who::Person { name: "bob", groups: &groups };
    let request = Request { who, method: "GET", host: "shop.corp.example", path: "/orders/7" };
    let d = index.decide_request(&request);
    let app = d.app.as_ref().unwrap();
    assert_eq!(
        (app.service.to_string(), app.title.as_str(), app.owner.as_str(), app.route.as_str()),
        ("shop/orders".into(), "orders", "team-a", "shop.corp.example/orders/*")
    );
    assert_eq!(d.missing, ["sales", "support"]);
    let ask: Vec<_> = d.ask.iter().map(|c| (c.team.as_str(), c.lead.as_str(), c.contact.as_str(), c.group.as_deref())).collect();
    assert_eq!(ask, [("team-a", "ada", "#a", None), ("team-b", "", "", Some("sales"))]);
    assert_eq!(d.nearest_miss.as_deref(), Some("bob is in yes; the exposure at shop/orders.yaml:11 is open to sales or support"));
    assert_eq!(d.change.as_deref(), Some("put bob into sales or support (ask team-b)"));
    // A word that YAML would take for something else is quoted.
    assert_eq!(
        d.patch.as_deref(),
        Some("# in shop/orders, in the exposure at shop/orders.yaml:11, owner team-a\naccess: { groups: [ sales, support, 'yes' ] }\n")
    );
    let route = index.route(request.host, request.path).unwrap();
    assert_eq!(index.admit(route, who, "GET"), Admission::MissingGroup { any_of: &["sales".to_owned(), "support".to_owned()] });
}

#[test]
fn without_a_gateway_nothing_is_open() {
    let index = index(&[mesh(""), teams(), application("shop/orders", "")]);
    let groups = ["ops".to_owned()];
    for who in [Who::Anonymous, Who::Person { name: "x", groups: &groups }] {
        let d = index.decide_request(&Request { who, method: "GET", host: "portal.corp.example", path: "/" });
        assert_eq!((d.reason, d.verdict), (AccessReason::NoHost, Verdict::Deny));
        assert!(index.portal(who).is_empty() && index.bookmarks(who).is_empty());
    }
}
