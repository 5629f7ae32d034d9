//! Who may open what, over the wire: sign-in, groups, methods, preflights, bearer tokens, the portal.

use std::sync::Arc;

use http::Method;
use serde_json::json;

use crate::{
    apps::{App, values},
    browser::at,
    client::{Answer, full, request2},
    nobody::nobody,
    provider::API,
    world::World,
};

const PAGE: [(&str, &str); 2] = [("sec-fetch-mode", "navigate"), ("accept", "text/html")];

/// `shop` is public, `my` for whoever signs in, `orders` for sales; `rpc` speaks gRPC.
async fn shop() -> (World, Arc<App>) {
    let app = App::start().await;
    let world = World::with(|plan| {
        plan.expose(
            "shop/orders",
            &[
                "{ port: web, host: shop, access: { public: true }, methods: [ GET, POST ], cors: { origins: [ \"https://a.example\" ], methods: [ POST ], headers: [ x-asked ], credentials: true, maxAgeSeconds: 60 } }",
                "{ port: web, host: my, access: { authenticated: true } }",
                "{ port: web, host: orders, access: { groups: [ sales ] }, methods: [ GET ], cors: { origins: [ \"https://a.example\" ] } }",
                "{ port: rpc, host: rpc, access: { groups: [ sales ] } }",
            ],
        );
        plan.workload("shop/orders", app.address);
    })
    .await;
    (world, app)
}

#[tokio::test]
async fn nobody_is_led_to_sign_in_and_programs_are_told() {
    let (world, app) = shop().await;
    assert_eq!(world.get(&at("shop", "/")).await.status, 200);
    assert_eq!(app.requests(), 1);

    let page = world.ask(Method::GET, &at("my", "/deep?a=b"), &PAGE, "").await;
    assert_eq!(page.status, 303);
    assert!(page.header("location").starts_with(&at("portal", "/.weft/start?")), "{page:?}");
    for (method, host, fields) in [(Method::GET, "my", &[][..]), (Method::GET, "my", &[("sec-fetch-mode", "cors")]), (Method::POST, "orders", &PAGE)] {
        let told = world.ask(method, &at(host, "/"), fields, "").await;
        assert_eq!((told.status.as_u16(), told.json()["error"].as_str()), (401, Some("sign_in_required")));
        assert!(told.header("www-authenticate").starts_with("Bearer"));
    }
    let rpc = world.h2("rpc.corp.example").await;
    let call = request2(Method::POST, &at("rpc", "/pkg.Echo/Talk"), &[("content-type", "application/grpc"), ("te", "trailers")], full("x"));
    let told = Answer::of(rpc.clone().send_request(call).await.unwrap()).await;
    assert_eq!((told.status.as_u16(), told.header("grpc-status"), told.header("content-type")), (200, "16", "application/grpc"));
    assert_eq!(app.requests(), 1, "none of it came to the application");
}

#[tokio::test]
async fn one_sign_in_is_good_at_every_host_and_leads_back_to_where_it_began() {
    let (world, app) = shop().await;
    world.person("alice", &["sales"]);
    let mut alice = world.browser();
    let deep = at("my", "/deep/link?a=b&c=%20");
    let seen = alice.open(&deep).await;
    assert_eq!((seen.status.as_u16(), seen.json()["target"].as_str()), (200, Some("/deep/link?a=b&c=%20")));
    assert_eq!(alice.trail.last(), Some(&deep));
    let at_provider = |trail: &[String]| trail.iter().filter(|url| url.contains("/authorize")).count();
    assert_eq!(at_provider(&alice.trail), 1);
    let seen = alice.open(&at("orders", "/")).await;
    assert_eq!((seen.status.as_u16(), at_provider(&alice.trail)), (200, 1), "single sign-on");
    assert_eq!(alice.open(&at("portal", "/")).await.status, 200);
    // Each host has a ticket of its own, and none is good elsewhere.
    let ticket = |host: &str| alice.jar[&(format!("{host}.corp.example"), "__Host-weft".to_owned())].clone();
    assert!(ticket("my") != ticket("orders") && ticket("orders") != ticket("portal"));
    let stolen = format!("__Host-weft={}", ticket("my"));
    let before = app.requests();
    assert_eq!(world.ask(Method::GET, &at("orders", "/"), &[("cookie", &stolen)], "").await.status, 401);
    assert_eq!(world.ask(Method::GET, &at("my", "/"), &[("cookie", &stolen)], "").await.status, 200);
    assert_eq!(app.requests(), before + 1);
}

#[tokio::test]
async fn who_lacks_a_group_learns_which_and_whom_to_ask() {
    let (world, app) = shop().await;
    let mut bob = world.signed_in("bob", &["kitchen"]).await;
    bob.open(&at("my", "/")).await;
    let before = app.requests();
    let page = bob.open(&at("orders", "/")).await;
    assert_eq!(page.status, 403);
    for word in ["ORDERS", "team-a", "bob", "sales", "#help-a", page.flow()] {
        assert!(page.text().contains(word), "{word}: {}", page.text());
    }
    let told = bob.get(&at("orders", "/")).await;
    let says = told.json();
    assert_eq!((told.status.as_u16(), says["error"].as_str(), &says["missing_groups"]), (403, Some("missing-group"), &json!(["sales"])));
    assert_eq!(says["app"], json!({"service": "shop/orders", "title": "ORDERS", "owner": "team-a"}));
    assert_eq!(says["flow"].as_str(), Some(told.flow()));
    assert!(says["ask"].to_string().contains("#help-a"), "{says}");

    bob.open(&at("rpc", "/")).await;
    let cookies = bob.cookies(&at("rpc", "/"));
    let rpc = world.h2("rpc.corp.example").await;
    let call =
        request2(Method::POST, &at("rpc", "/pkg.Echo/Talk"), &[("content-type", "application/grpc"), ("te", "trailers"), ("cookie", &cookies)], full("x"));
    assert_eq!(Answer::of(rpc.clone().send_request(call).await.unwrap()).await.header("grpc-status"), "7");
    assert_eq!(app.requests(), before, "none of it came to the application");

    // Who has the group comes in, but not with every method.
    let mut alice = world.signed_in("alice", &["sales"]).await;
    assert_eq!(alice.open(&at("orders", "/")).await.status, 200);
    let not_that = alice.post(&at("orders", "/"), "a=b").await;
    assert_eq!((not_that.status.as_u16(), not_that.header("allow"), not_that.json()["error"].as_str()), (405, "GET", Some("method")));
    assert_eq!(world.ask(Method::DELETE, &at("shop", "/"), &[], "").await.header("allow"), "GET, POST");
}

#[tokio::test]
async fn a_preflight_is_answered_by_the_route_and_asks_nobody_to_sign_in() {
    let (world, app) = shop().await;
    let preflight = async |host: &str, origin: &str, method: &str, headers: &str| {
        let fields = [("origin", origin), ("access-control-request-method", method), ("access-control-request-headers", headers)];
        world.ask(Method::OPTIONS, &at(host, "/x"), &fields, "").await
    };
    let granted = preflight("shop", "https://a.example", "POST", "x-asked").await;
    assert_eq!((granted.status.as_u16(), granted.header("access-control-allow-origin")), (204, "https://a.example"));
    assert_eq!((granted.header("access-control-allow-methods"), granted.header("access-control-allow-headers")), ("POST", "x-asked"));
    assert_eq!((granted.header("access-control-allow-credentials"), granted.header("access-control-max-age")), ("true", "60"));
    assert!(granted.header("vary").contains("Origin"));
    // The same for a route that asks for sign-in: a preflight carries no session.
    let granted = preflight("orders", "https://a.example", "GET", "").await;
    assert_eq!((granted.status.as_u16(), granted.header("access-control-allow-origin")), (204, "https://a.example"));
    for (host, origin, method, headers) in [
        ("shop", "https://b.example", "POST", "x-asked"),
        ("shop", "https://a.example", "DELETE", ""),
        ("shop", "https://a.example", "POST", "x-other"),
        ("orders", "https://b.example", "GET", ""),
    ] {
        let refused = preflight(host, origin, method, headers).await;
        assert!(!refused.headers.contains_key("access-control-allow-origin"), "{host} {origin} {method} {headers}: {refused:?}");
    }
    assert_eq!(app.requests(), 0);
    // Without a rule it is a request like any other: the application's own affair where all may come, and refused where not.
    let refused = preflight("my", "https://a.example", "GET", "").await;
    assert!(refused.status == 401 && !refused.headers.contains_key("access-control-allow-origin"), "{refused:?}");
    assert_eq!(app.requests(), 0);

    // An answer is marked by the route's rule, whatever the application says (it says `*`).
    let marked = world.ask(Method::GET, &at("shop", "/"), &[("origin", "https://a.example")], "").await;
    assert_eq!((marked.header("access-control-allow-origin"), marked.header("access-control-allow-credentials")), ("https://a.example", "true"));
    let not = world.ask(Method::GET, &at("shop", "/"), &[("origin", "https://b.example")], "").await;
    assert!(not.status == 200 && !not.headers.contains_key("access-control-allow-origin"), "{not:?}");
}

#[tokio::test]
async fn programs_come_with_tokens_of_the_provider() {
    let (world, app) = shop().await;
    let now = world.time.now();
    let token = |change: &[(&str, serde_json::Value)]| {
        let mut claims = json!({"iss": world.provider.issuer(), "aud": API, "sub": "robot-1", "preferred_username": "robot", "groups": ["sales"], "iat": now, "exp": now + 60});
        change.iter().for_each(|(name, value)| claims[*name] = value.clone());
        format!("Bearer {}", world.provider.key().jwt(&claims))
    };
    let ask = async |authorization: &str| world.ask(Method::GET, &at("orders", "/"), &[("authorization", authorization)], "").await;
    let good = ask(&token(&[])).await;
    assert_eq!(good.status, 200, "{good:?}");
    assert_eq!(values(&good.json(), "authorization"), [""; 0], "the token is good at every application, so none gets it");
    assert_eq!(values(&good.json(), "weft-assertion").len(), 1);
    for (what, value, status) in [
        ("aud", json!("https://other.example"), 401),
        ("exp", json!(now - 61), 401),
        ("iss", json!("https://other.example"), 401),
        ("groups", json!(["kitchen"]), 403),
    ] {
        let refused = ask(&token(&[(what, value)])).await;
        assert_eq!(refused.status.as_u16(), status, "{what}: {refused:?}");
    }
    assert_eq!(ask("Bearer opaque").await.status, 401);
    assert_eq!(app.requests(), 1);
    // Two credentials at once are none.
    let mut alice = world.signed_in("alice", &["sales"]).await;
    alice.open(&at("orders", "/")).await;
    assert_eq!(alice.ask(Method::GET, &at("orders", "/"), &[("authorization", &token(&[]))], "").await.status, 400);
}

#[tokio::test]
async fn the_portal_shows_what_this_person_may_open() {
    let (world, _app) = shop().await;
    let all = [at("shop", "/"), at("my", "/"), at("orders", "/"), at("secret", "/")];
    // The page, and what its script learns of whether they answer.
    let apps = async |user: &str, groups: &[&str]| {
        let mut browser = world.signed_in(user, groups).await;
        let page = browser.open(&at("portal", "/")).await;
        assert_eq!((page.status.as_u16(), page.header("content-type"), page.header("cache-control")), (200, "text/html; charset=utf-8", "no-store"));
        assert!(page.text().contains(user), "{}", page.text());
        let answering = browser.get(&at("portal", "/.weft/apps.json")).await;
        assert_eq!((answering.status.as_u16(), answering.header("content-type")), (200, "application/json"));
        let shown: Vec<_> = all.iter().filter(|url| page.text().contains(&format!("href=\"{url}\""))).cloned().collect();
        let said: Vec<_> = answering.json()["apps"].as_object().unwrap().values().map(|reach| reach.as_str().unwrap().to_owned()).collect();
        (shown, said)
    };
    // One tile of the application, by the first exposure that this person may open.
    assert_eq!(apps("alice", &["sales"]).await, (vec![at("my", "/")], vec!["up".to_owned()]));
    world
        .revised(|plan| {
            plan.expose("shop/secret", &["{ port: web, host: secret, access: { groups: [ ops ] } }"]);
            plan.workload("shop/secret", nobody());
        })
        .await;
    assert_eq!(apps("alice", &["sales"]).await.0, [at("my", "/")]);
    let (shown, mut said) = apps("olga", &["ops"]).await;
    said.sort();
    assert_eq!((shown, said), (vec![at("my", "/"), at("secret", "/")], vec!["down".to_owned(), "up".to_owned()]));
    let unknown = world.get(&at("portal", "/.weft/apps.json")).await;
    assert_eq!((unknown.status.as_u16(), unknown.json()["error"].as_str()), (401, Some("sign_in_required")));
    let page = world.ask(Method::GET, &at("portal", "/"), &PAGE, "").await;
    assert!(page.status == 303 && page.header("location").starts_with(&at("portal", "/.weft/start?")), "{page:?}");
    assert_eq!(world.ask(Method::POST, &at("portal", "/"), &[], "x").await.header("allow"), "GET, HEAD");
    assert_eq!(world.get(&at("portal", "/other")).await.status, 404);
}
