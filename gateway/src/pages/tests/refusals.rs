//! Refusals and problems say who can help and whether to try again, and nothing of the inside.

use http::StatusCode;
use serde_json::json;
use weft_policy::{AccessReason, RequestDecision};

use super::{dom::Dom, world::*};
use crate::pages::{Denied, Fault, Frame, Problem, Reply, Retry, Trouble, Upstream, denied, denied_json, problem, problem_json, sign_on};

fn check_inside_is_not_told(text: &str) {
    for inside in ["orders.yaml", "nearest", "patch", "/inside", "spec:", "shop.apps.example/orders", "put bob into"] {
        assert!(!text.contains(inside), "{inside}: {text}");
    }
}

fn refuse(decision: &RequestDecision) -> (Reply, (StatusCode, serde_json::Value)) {
    let (brand, person) = (brand("Corp", "help@corp.example"), person("bob", &["staff"]));
    let apps = [app(1, "Notes", "")];
    let view = Denied { frame: frame(&brand, &person), decision, method: "DELETE", flow: FLOW, apps: &apps };
    (denied(&view), denied_json(&view))
}

#[test]
fn a_refusal_says_which_app_whose_what_is_missing_and_whom_to_ask() {
    let ask = vec![
        contact("team-orders", "olga@corp.example", "#orders", None),
        contact("people-office", "", "https://people.corp.example/", Some("sales")),
        contact("people-office", "", "https://people.corp.example/", Some("support")),
    ];
    let (page, (status, json)) = refuse(&RequestDecision { ask, ..decision(AccessReason::MissingGroup, "Orders", &["sales", "support"]) });
    assert_eq!((page.status, status), (StatusCode::FORBIDDEN, StatusCode::FORBIDDEN));
    let dom = Dom::parse(&page.html);
    assert_eq!(dom.one("h1").text, "You cannot open Orders");
    let main = &dom.one("main").text;
    for said in [
        "Orders belongs to team-orders",
        "one of the groups sales or support, and you are in none of them",
        "team-orders owns the app",
        "#orders",
        "olga@corp.example",
        "people-office decides who is in sales and support",
        "bob in full (bob), bob@corp.example",
        "staff",
        "weft why 00000000000004d2",
        "Sign in as somebody else",
    ] {
        assert!(main.contains(said), "{said}: {main}");
    }
    assert_eq!(dom.one("#reference").text, format!("weft why {FLOW}"));
    let mail = dom.find("a").find_map(|link| link.attr("href").filter(|to| to.starts_with("mailto:olga"))).unwrap();
    for part in ["subject=Access%20to%20Orders", "User%20name%3A%20bob", FLOW, "sales%2C%20support"] {
        assert!(mail.contains(part), "{part}: {mail}");
    }
    assert!(dom.find("a").any(|link| link.attr("href") == Some("https://people.corp.example/") && link.attr("rel") == Some("noreferrer")));
    let other = dom.within(dom.one("main"), "form").next().unwrap();
    assert_eq!((other.attr("method"), other.attr("action")), (Some("post"), Some("/.weft/logout")));
    check_inside_is_not_told(&page.html);
    check_inside_is_not_told(&json.to_string());
    assert_eq!(
        json,
        json!({
            "error": "missing-group",
            "message": "Orders is open to sales, support, and you are in none of these groups",
            "app": { "service": "shop/orders", "title": "Orders", "owner": "team-orders" },
            "missing_groups": ["sales", "support"],
            "methods": [],
            "ask": [
                { "team": "team-orders", "lead": "olga@corp.example", "contact": "#orders", "group": null },
                { "team": "people-office", "lead": "", "contact": "https://people.corp.example/", "group": "sales" },
                { "team": "people-office", "lead": "", "contact": "https://people.corp.example/", "group": "support" },
            ],
            "flow": FLOW,
            "explain": "weft why 00000000000004d2",
        })
    );
}

#[test]
fn one_missing_group_is_said_as_one() {
    let (page, _) = refuse(&decision(AccessReason::MissingGroup, "Orders", &["sales"]));
    assert!(Dom::parse(&page.html).one("main").text.contains("in the group sales, and you are not in it."));
}

#[test]
fn an_owner_without_any_way_to_be_reached_is_not_the_end() {
    let silent = RequestDecision { ask: vec![contact("team-orders", "", " ", None)], ..decision(AccessReason::MissingGroup, "Orders", &["sales"]) };
    let main = |page: Reply| Dom::parse(&page.html).one("main").text.clone();
    assert!(main(refuse(&silent).0).contains("help@corp.example"));
    // A control: with a way to the owner it stands at the foot only.
    assert!(!main(refuse(&decision(AccessReason::MissingGroup, "Orders", &["sales"])).0).contains("help@corp.example"));
}

#[test]
fn each_reason_has_its_status() {
    for (reason, expect, heading) in [
        (AccessReason::MissingGroup, 403, "You cannot open Orders"),
        (AccessReason::Method, 405, "Orders does not take this request"),
        (AccessReason::SignIn, 401, "Sign in to open Orders"),
        (AccessReason::NoHost, 404, "There is nothing at this address"),
        (AccessReason::NoRoute, 404, "There is nothing at this address"),
        (AccessReason::NotNormal, 400, "This request cannot be accepted"),
    ] {
        let (page, (status, json)) = refuse(&decision(reason, "Orders", &["sales"]));
        assert_eq!((page.status.as_u16(), status.as_u16(), json["error"].as_str()), (expect, expect, Some(reason.as_str())), "{reason}");
        assert_eq!(Dom::parse(&page.html).one("h1").text, heading, "{reason}");
        check_inside_is_not_told(&page.html);
        check_inside_is_not_told(&json.to_string());
    }
    let (page, _) = refuse(&decision(AccessReason::Method, "Orders", &[]));
    assert!(Dom::parse(&page.html).one("main").text.contains("it takes GET and POST, not DELETE."));
}

fn trouble(trouble: Trouble<'_>) -> (Reply, (StatusCode, serde_json::Value)) {
    let brand = brand("Corp", "");
    let view = Problem { frame: Frame { brand: &brand, portal: PORTAL, visitor: None, csrf: "" }, trouble, flow: FLOW };
    (problem(&view), problem_json(&view))
}

#[test]
fn what_exists_is_named_to_whom_may_open_it_only() {
    let (page, _) = trouble(Trouble::NotFound { apps: &[app(1, "Notes", "")] });
    assert!(Dom::parse(&page.html).one("main").text.contains("Notes"));
    let (page, (_, json)) = trouble(Trouble::NotFound { apps: &[] });
    assert!(!page.html.contains("What you can open"));
    assert_eq!((json["error"].as_str(), json["app"].is_null()), (Some("not-found"), true));
}

#[test]
fn an_app_that_fails_is_named_with_its_owner_and_whether_to_try_again() {
    let ask = [contact("team-orders", "olga@corp.example", "#orders", None)];
    let faults = [
        (Fault::Broken, StatusCode::BAD_GATEWAY, "bad-gateway"),
        (Fault::Late, StatusCode::GATEWAY_TIMEOUT, "timeout"),
        (Fault::Away, StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
    ];
    #[rustfmt::skip]
    let retries = [(Retry::Now, "Try again in a moment", true), (Retry::LookFirst, "look whether it was", false), (Retry::Useless, "will not help", false)];
    for (fault, status, error) in faults {
        for (retry, said, link) in retries {
            let upstream = Upstream { app: "Orders", owner: "team-orders", ask: &ask, status, fault, retry, again: Some("/orders/7") };
            let (page, (_, json)) = trouble(Trouble::Upstream(upstream));
            let dom = Dom::parse(&page.html);
            let main = &dom.one("main").text;
            assert_eq!((page.status, json["error"].as_str(), json["retry"].as_str()), (status, Some(error), Some(retry.as_str())));
            for said in ["Orders", "belongs to team-orders", "#orders", "olga@corp.example", FLOW, said] {
                assert!(main.contains(said), "{fault:?} {retry:?} {said}: {main}");
            }
            assert_eq!(dom.find("a").any(|a| a.attr("href") == Some("/orders/7")), link, "{fault:?} {retry:?}");
        }
    }
}

#[test]
fn what_the_http_layer_says_of_a_failure_is_said_to_people() {
    use weft_http::{Error, Fault as Of, Retry as Again, Side};
    #[rustfmt::skip]
    let cases = [
        (Of::Connect, Again::Never, true, Fault::Away, Retry::Now),
        (Of::ConnectTimeout, Again::Safe, false, Fault::Away, Retry::Now),
        (Of::Busy, Again::Never, false, Fault::Away, Retry::Now),
        (Of::Timeout, Again::IfIdempotent, true, Fault::Late, Retry::Now),
        (Of::Timeout, Again::IfIdempotent, false, Fault::Late, Retry::LookFirst),
        (Of::Reset, Again::IfIdempotent, false, Fault::Broken, Retry::LookFirst),
        (Of::Malformed, Again::Never, true, Fault::Broken, Retry::Useless),
    ];
    for (fault, again, idempotent, expect, retry) in cases {
        let error = Error::new(Side::Upstream, fault, again);
        assert_eq!((Fault::of(&error), Retry::of(&error, idempotent)), (expect, retry), "{fault:?} {again:?} {idempotent}");
    }
}

#[test]
fn the_others_say_what_is_the_matter() {
    for (which, status, said) in [
        (Trouble::Draining, 503, "You stay signed in"),
        (Trouble::Refused { status: StatusCode::BAD_REQUEST, sentence: "the path has a control character" }, 400, "The path has a control character."),
        (Trouble::Refused { status: StatusCode::PAYLOAD_TOO_LARGE, sentence: "the body is too large" }, 413, "The body is too large."),
        (Trouble::Internal, 500, "nothing that you did"),
    ] {
        let (page, (same, json)) = trouble(which);
        assert_eq!((page.status.as_u16(), same), (status, page.status));
        assert!(Dom::parse(&page.html).one("main").text.contains(said), "{said}");
        assert_eq!(json["flow"].as_str(), Some(FLOW));
    }
    let brand = brand("Corp", "");
    let unrecorded = Problem { frame: Frame { brand: &brand, portal: PORTAL, visitor: None, csrf: "" }, trouble: Trouble::Draining, flow: "" };
    assert!(!problem(&unrecorded).html.contains("weft why"));
    assert!(problem_json(&unrecorded).1["explain"].is_null());
}

#[test]
fn the_pages_of_signing_in_are_choices_questions_and_ways_on() {
    let brand = brand("Corp", "");
    let page = |links: &[(&str, &str)], button: Option<(&str, &str)>| {
        let own = |(label, to): &(&str, &str)| ((*label).to_owned(), (*to).to_owned());
        let page =
            crate::sso::Page { title: "Title".to_owned(), text: "Text.".to_owned(), links: links.iter().map(own).collect(), button: button.as_ref().map(own) };
        Dom::parse(&sign_on(&brand, PORTAL, &page))
    };
    let choice = page(&[("Corp", "https://portal.apps.example/.weft/start?provider=corp"), ("Partners", "/b"), ("Bad", "javascript:x")], None);
    let links: Vec<_> = choice.within(choice.one(".choices"), "a").map(|a| (a.text.as_str(), a.attr("href").unwrap())).collect();
    assert_eq!(links, [("Corp", "https://portal.apps.example/.weft/start?provider=corp"), ("Partners", "/b")]);
    let question = page(&[("Stay", "/")], Some(("Sign out", "/.weft/logout")));
    let form = question.one("form");
    assert_eq!((form.attr("method"), form.attr("action"), question.one("button").text.as_str()), (Some("post"), Some("/.weft/logout"), "Sign out"));
    assert_eq!(question.find(".choices").count() + page(&[("On", "/")], None).find(".choices").count(), 0);
}
