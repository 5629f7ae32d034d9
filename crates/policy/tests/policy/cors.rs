//! Preflights, each with a control that differs in one thing.

use super::expose::{application, index, mesh, teams};
use weft_policy::{allowed_origin, preflight};

/// `expect`: the origin that the browser is told, or `-`.
#[track_caller]
fn check(rule: &str, origin: &str, method: &str, headers: &[&str], expect: &str) {
    let expose = format!("  ports: [ {{ name: web, port: 80 }} ]\n  expose:\n    - {{ port: web, access: {{ authenticated: true }}, {rule} }}\n");
    let index = index(&[mesh(""), teams(), application("shop/api", &expose)]);
    let route = index.route("api.corp.example", "/").unwrap();
    let answer = preflight(route, origin, method, headers);
    assert_eq!(answer.as_ref().map_or("-", |a| a.origin), expect, "{rule}: {origin} {method} {headers:?}");
    if let Some(answer) = answer {
        assert_eq!(allowed_origin(route.cors.as_ref().unwrap(), origin), Some(answer.origin));
    }
}

const RULE: &str =
    "cors: { origins: [ \"https://a.example\", \"https://b.example:8443\" ], methods: [ GET, PUT ], headers: [ Authorization ], credentials: true }";

#[test]
fn a_preflight_is_answered_by_the_routes_rule() {
    check(RULE, "https://a.example", "PUT", &["authorization"], "https://a.example");
    check(RULE, "https://b.example:8443", "GET", &[], "https://b.example:8443");
    check(RULE, "https://a.example", "PUT", &["Authorization", " authorization "], "https://a.example");
    for origin in ["https://b.example", "http://a.example", "https://a.example.evil.example", "https://A.example", "null", "*", ""] {
        check(RULE, origin, "PUT", &[], "-");
    }
    check(RULE, "https://a.example", "DELETE", &[], "-");
    check(RULE, "https://a.example", "put", &[], "-");
    check(RULE, "https://a.example", "PUT", &["authorization", "x-other"], "-");
    check("cors: { origins: [ \"*\" ] }", "https://any.example", "DELETE", &[], "*");
    check("cors: { origins: [ \"*\" ] }", "null", "GET", &["x-other"], "-");
    // The route's own methods hold whatever the rule says.
    check(&format!("methods: [ GET ], {RULE}"), "https://a.example", "PUT", &[], "-");
    check("methods: [ GET ], cors: { origins: [ \"*\" ] }", "https://a.example", "GET", &[], "*");
    check("portal: { hidden: true }", "https://a.example", "GET", &[], "-");
}
