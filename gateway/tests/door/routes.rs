//! Which application gets a request, and which path it sees.

use http::Method;

use crate::{
    apps::App,
    browser::at,
    client::{Answer, empty, request2},
    world::World,
};

async fn shop() -> (World, [std::sync::Arc<App>; 3]) {
    let apps = [App::start().await, App::start().await, App::start().await];
    let world = World::with(|plan| {
        let public = |rest: &str| format!("{{ port: web, host: shop, {rest}, access: {{ public: true }} }}");
        plan.expose("shop/front", &[&public("pathPrefix: /")]);
        plan.expose("shop/orders", &[&public("pathPrefix: /orders, rewrite: /api/v1"), &public("path: \"/customers/{id}/orders\"")]);
        plan.expose(
            "shop/stock",
            &[&public("pathPrefix: /orders/stock"), &public("path: /orders/list"), "{ port: web, host: stock, pathPrefix: /s, access: { public: true } }"],
        );
        for (service, app) in [("shop/front", &apps[0]), ("shop/orders", &apps[1]), ("shop/stock", &apps[2])] {
            plan.workload(service, app.address);
        }
    })
    .await;
    (world, apps)
}

#[tokio::test]
async fn each_path_leads_to_its_application_as_it_was_decided() {
    let (world, apps) = shop().await;
    let check = async |url: String, to: usize, target: &str| {
        let seen = world.get(&url).await;
        assert_eq!((seen.json()["target"].as_str(), seen.json()["at"].as_str()), (Some(target), Some(apps[to].address.to_string().as_str())), "{url}");
        let host = url.strip_prefix("https://").unwrap().split_once(".corp").unwrap().0;
        let two = world.h2(&format!("{host}.corp.example")).await.send_request(request2(Method::GET, &url, &[], empty())).await.unwrap();
        let two = Answer::of(two).await;
        assert_eq!((two.json()["target"].as_str(), two.json()["at"].as_str()), (Some(target), seen.json()["at"].as_str()), "{url} over HTTP/2");
    };
    check(at("shop", "/"), 0, "/").await;
    check(at("shop", "/anything?a=b&c=%2F%20d"), 0, "/anything?a=b&c=%2F%20d").await;
    check(at("shop", "/orders"), 1, "/api/v1").await;
    check(at("shop", "/orders/7?x"), 1, "/api/v1/7?x").await;
    check(at("shop", "/ordersx"), 0, "/ordersx").await;
    check(at("shop", "/customers/7/orders"), 1, "/customers/7/orders").await;
    check(at("shop", "/customers/7/orders/8"), 0, "/customers/7/orders/8").await;
    check(at("shop", "/orders/stock/a"), 2, "/orders/stock/a").await;
    check(at("shop", "/orders/list"), 2, "/orders/list").await;
    check(at("shop", "/orders/list/more"), 1, "/api/v1/list/more").await;
    check(at("stock", "/s/x"), 2, "/s/x").await;
    // Byte for byte, where two readers agree on what it means.
    check(at("shop", "/a~b/%C3%A9/(c)*;v=1/@:d!$&'"), 0, "/a~b/%C3%A9/(c)*;v=1/@:d!$&'").await;
}

#[tokio::test]
async fn what_leads_nowhere_is_not_found_and_comes_to_nobody() {
    let (world, apps) = shop().await;
    let nowhere = world.get(&at("stock", "/other")).await;
    assert_eq!((nowhere.status.as_u16(), nowhere.json()["error"].as_str()), (404, Some("not-found")));
    let page = world.ask(Method::GET, &at("stock", "/other"), &[("sec-fetch-mode", "navigate")], "").await;
    assert_eq!((page.status.as_u16(), page.header("content-type")), (404, "text/html; charset=utf-8"));
    // A host that has no route, under a certificate that fits all.
    let nobody = world.get(&at("nobody", "/")).await;
    assert_eq!((nobody.status.as_u16(), nobody.json()["error"].as_str()), (404, Some("not-found")));
    // The gateway's own paths never come to an application, known or not, also where it has all of a host.
    for own in ["/.weft", "/.weft/", "/.weft/nothing", "/.weft/../.weft/x"] {
        let answer =
            world.raw("shop.corp.example", format!("GET {own} HTTP/1.1\r\nHost: shop.corp.example:8443\r\nConnection: close\r\n\r\n").as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 404"), "{own}: {answer}");
    }
    assert_eq!(apps.iter().map(|app| app.requests()).sum::<usize>(), 0);
}

#[tokio::test]
async fn a_path_is_normal_before_it_is_matched() {
    let (world, apps) = shop().await;
    let send = async |target: &str| {
        world.raw("shop.corp.example", format!("GET {target} HTTP/1.1\r\nHost: shop.corp.example:8443\r\nConnection: close\r\n\r\n").as_bytes()).await
    };
    // What is the same for everybody is one path, for the route and for the application.
    for (target, app, seen) in
        [("/x/../orders/7", 1, "/api/v1/7"), ("/%6frders/7", 1, "/api/v1/7"), ("/orders/stock/../7", 1, "/api/v1/7"), ("/orders/%7E", 1, "/api/v1/~")]
    {
        let before = apps[app].requests();
        let answer = send(target).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{target}: {answer}");
        assert_eq!((apps[app].requests(), apps[app].last().target.as_str()), (before + 1, seen), "{target}");
    }
    // What two readers could take for two paths is refused.
    let before = apps.iter().map(|app| app.requests()).sum::<usize>();
    for target in ["/orders%2F7", "/orders%2f..%2fstock", "/orders\\stock", "/orders/%5c", "/a%00", "/%zz", "/orders/..;/stock"] {
        let answer = send(target).await;
        assert!(answer.starts_with("HTTP/1.1 400") || answer.starts_with("HTTP/1.1 404"), "{target}: {answer}");
    }
    assert_eq!(apps.iter().map(|app| app.requests()).sum::<usize>(), before);
    // Nor does a host that is written otherwise lead elsewhere.
    let upper = world.raw("shop.corp.example", b"GET /orders/7 HTTP/1.1\r\nHost: SHOP.Corp.Example:8443\r\nConnection: close\r\n\r\n").await;
    assert!(upper.starts_with("HTTP/1.1 200"), "{upper}");
    let other =
        world.raw("shop.corp.example", b"GET https://stock.corp.example:8443/s HTTP/1.1\r\nHost: shop.corp.example:8443\r\nConnection: close\r\n\r\n").await;
    assert!(other.starts_with("HTTP/1.1 400"), "{other}");
}

#[tokio::test]
async fn the_local_provider_is_reached_under_its_own_host() {
    let app = App::start().await;
    let provider = App::at(15013).await;
    let world = World::before(|plan| {
        plan.local_provider = true;
        plan.expose("shop/orders", &["{ port: web, host: shop, access: { public: true } }"]);
        plan.workload("shop/orders", app.address);
        plan.workload("weft/iam-bridge", provider.address);
    })
    .await;
    let secret = world.dir.path().join("local-secret");
    std::fs::write(&secret, "a-secret\n").unwrap();
    world.plan.lock().unwrap().config.local_provider_secret_file = Some(secret);
    world.revise(|_| {});
    world.start().await;
    let fields = [("cookie", "weft-id=theirs; __Host-weft=a-ticket"), ("weft-assertion", "forged"), ("x-forwarded-for", "6.6.6.6")];
    let seen = world.ask(Method::GET, &at("id", "/authorize?a=b"), &fields, "").await;
    assert_eq!((seen.status.as_u16(), seen.json()["target"].as_str()), (200, Some("/authorize?a=b")), "{seen:?}");
    let headers = provider.last().headers;
    assert_eq!((headers["cookie"].to_str().unwrap(), headers["host"].to_str().unwrap()), ("weft-id=theirs", "id.corp.example:8443"));
    assert!(headers["x-forwarded-for"] == "127.0.0.1" && !headers.contains_key("weft-assertion"), "{headers:?}");
    // A revision leaves what is under way there alone: nothing had to let it in.
    let before = provider.requests();
    let gate = at("id", "/gate");
    let wait = world.ask(Method::POST, &gate, &[], "a password");
    let revise = async {
        crate::world::eventually("it waits", async || provider.requests() == before + 1).await;
        world.revised(|plan| plan.expose("shop/stock", &["{ port: web, host: stock, access: { public: true } }"])).await;
        provider.gate.add_permits(1);
    };
    let (answer, ()) = tokio::join!(wait, revise);
    assert_eq!((answer.status.as_u16(), answer.text()), (200, "through"));
    // What is the gateway's own is not the provider's; and whoever opens a page is led there to sign in.
    let before = provider.requests();
    assert_eq!(world.get(&at("id", "/.weft/backchannel-logout")).await.status, 404);
    assert_eq!(provider.requests(), before);
    assert_eq!(app.requests(), 0);
}
