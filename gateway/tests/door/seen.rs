//! What an application sees of a request, and what a client sees of an application's answer.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method};
use hyper::body::Frame;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Value, json};

use crate::{
    apps::{App, values},
    browser::at,
    client::{Answer, Coming, empty, pieces, request, request2},
    world::World,
};

async fn shop() -> (World, Arc<App>) {
    let app = App::start().await;
    let world = World::with(|plan| {
        plan.expose(
            "shop/orders",
            &[
                "{ port: web, host: shop, access: { public: true } }",
                "{ port: web, host: orders, access: { groups: [ sales ] } }",
                "{ port: rpc, host: rpc, access: { public: true } }",
            ],
        );
        plan.workload("shop/orders", app.address);
    })
    .await;
    (world, app)
}

/// Checks an assertion as an application does it, with what is published.
async fn verified(world: &World, assertion: &str, audience: &str) -> Result<Value, String> {
    let keys = world.get(&at("portal", "/.weft/jwks.json")).await;
    assert_eq!((keys.status.as_u16(), keys.header("content-type")), (200, "application/jwk-set+json"), "{keys:?}");
    let kid = jsonwebtoken::decode_header(assertion).unwrap().kid.unwrap();
    let keys = keys.json();
    let key = keys["keys"].as_array().unwrap().iter().find(|key| key["kid"] == kid.as_str()).expect("the key is published");
    let key = DecodingKey::from_ec_components(key["x"].as_str().unwrap(), key["y"].as_str().unwrap()).unwrap();
    let mut expect = Validation::new(Algorithm::ES256);
    expect.set_audience(&[audience]);
    expect.set_issuer(&["https://portal.corp.example:8443"]);
    jsonwebtoken::decode::<Value>(assertion, &key, &expect).map(|token| token.claims).map_err(|e| e.to_string())
}

#[tokio::test]
async fn an_assertion_says_who_asks_and_nothing_else_does() {
    let (world, app) = shop().await;
    let mut alice = world.signed_in("alice", &["sales"]).await;
    alice.open(&at("orders", "/")).await;
    let seen = alice.get(&at("orders", "/x")).await;
    let assertions = values(&seen.json(), "weft-assertion");
    assert_eq!(assertions.len(), 1);
    let claims = verified(&world, &assertions[0], "shop/orders").await.unwrap();
    assert_eq!((claims["user"].as_str(), &claims["groups"], claims["idp"].as_str()), (Some("alice"), &json!(["sales"]), Some("corp")));
    assert_eq!((claims["sub"].as_str(), claims["email"].as_str()), (Some("id-of-alice"), Some("alice@corp.example")));
    assert_eq!(claims["flow"].as_str(), Some(seen.flow()));
    let (issued, ends) = (claims["iat"].as_u64().unwrap(), claims["exp"].as_u64().unwrap());
    assert_eq!((issued, ends), (world.time.now(), world.time.now() + 60));
    assert!(verified(&world, &assertions[0], "shop/stock").await.unwrap_err().contains("Audience"));

    // Copies of a client's own, whoever it is, however they are written, never arrive.
    let cookies = alice.cookies(&at("orders", "/"));
    for (host, cookie, own) in [("shop", "a=1", 0), ("orders", cookies.as_str(), 1)] {
        let head = format!(
            "GET / HTTP/1.1\r\nHost: {host}.corp.example:8443\r\nWeft-Assertion: forged\r\nWEFT-ASSERTION: forged\r\nweft-assertion: forged\r\nwEFT-aSSERTION: forged\r\n\
             Cookie: {cookie}\r\nConnection: close\r\n\r\n"
        );
        let answer = world.raw(&format!("{host}.corp.example"), head.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let seen = app.last().headers;
        assert!(!seen.values().any(|value| value == "forged"), "{seen:?}");
        assert_eq!(seen.get_all("weft-assertion").iter().count(), own, "{seen:?}");
    }
    // A field that servers take for another one is not let in at all, nor is a way to have ours taken out.
    let before = app.requests();
    for alike in ["Weft_Assertion", "WEFT_ASSERTION", "weft.assertion", "weft_assertion"] {
        let head = format!("GET / HTTP/1.1\r\nHost: shop.corp.example:8443\r\n{alike}: forged\r\nConnection: close\r\n\r\n");
        let answer = world.raw("shop.corp.example", head.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{alike}: {answer}");
    }
    assert_eq!(app.requests(), before);
    let named = format!("GET / HTTP/1.1\r\nHost: orders.corp.example:8443\r\nCookie: {cookies}\r\nConnection: close, weft-assertion\r\n\r\n");
    world.raw("orders.corp.example", named.as_bytes()).await;
    assert_eq!(app.last().headers.get_all("weft-assertion").iter().count(), 1);
}

#[tokio::test]
async fn trailers_bring_no_assertion_either() {
    let (world, app) = shop().await;
    let (send, body) = pieces();
    let call = request2(Method::POST, &at("rpc", "/pkg.Echo/Say"), &[("content-type", "application/grpc"), ("te", "trailers")], body);
    let mut sender = world.h2("rpc.corp.example").await;
    let answer = tokio::spawn(async move { Answer::of(sender.send_request(call).await.unwrap()).await });
    send.send(Frame::data("x".into())).await.unwrap();
    let mut trailers = HeaderMap::new();
    for (name, value) in [("weft-assertion", "forged"), ("checksum", "7")] {
        trailers.append(name, HeaderValue::from_static(value));
    }
    send.send(Frame::trailers(trailers)).await.unwrap();
    drop(send);
    let answer = answer.await.unwrap();
    assert_eq!(answer.json()["trailers"], json!([["checksum", "7"]]), "{answer:?}");
    assert_eq!(app.last().headers["te"], "trailers");
}

#[tokio::test]
async fn cookies_of_gateway_and_application_are_kept_apart() {
    let (world, app) = shop().await;
    let mut alice = world.signed_in("alice", &["sales"]).await;
    alice.open(&at("orders", "/")).await;
    let mine = alice.cookies(&at("orders", "/"));
    assert!(mine.contains("__Host-weft="));
    let cookie = format!("a=1; {mine}; b=\"x y\";c=");
    assert_eq!(world.ask(Method::GET, &at("orders", "/"), &[("cookie", &cookie)], "").await.status, 200);
    let seen = app.last().headers;
    assert_eq!(seen.get_all("cookie").iter().collect::<Vec<_>>(), ["a=1; b=\"x y\";c="], "{seen:?}");
    assert_eq!(world.ask(Method::GET, &at("orders", "/"), &[("cookie", &mine)], "").await.status, 200);
    assert!(!app.last().headers.contains_key("cookie"));
    let set = alice.get(&at("orders", "/cookies")).await;
    let set: Vec<&str> = set.headers.get_all("set-cookie").iter().map(|value| value.to_str().unwrap()).collect();
    assert_eq!(set, ["own=1; Path=/", "other=a b; HttpOnly"]);
    assert_eq!(alice.get(&at("orders", "/")).await.status, 200, "the session is what it was");
}

#[tokio::test]
async fn where_a_request_comes_from_is_what_the_gateway_saw() {
    let (world, app) = shop().await;
    let forged = [
        ("x-forwarded-for", "6.6.6.6"),
        ("x-forwarded-host", "evil.example"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-user", "root"),
        ("forwarded", "for=6.6.6.6"),
        ("x-real-ip", "6.6.6.6"),
        ("remote-user", "root"),
        ("x-request-id", "kept"),
    ];
    let ask = async |world: &World| {
        world.ask(Method::GET, &at("shop", "/a%20b?c=d"), &forged, "").await;
        let head = app.last();
        assert_eq!((head.method.as_str(), head.target.as_str()), ("GET", "/a%20b?c=d"));
        let one = |name: &str| match head.headers.get_all(name).iter().collect::<Vec<_>>()[..] {
            [] => String::new(),
            [value] => value.to_str().unwrap().to_owned(),
            _ => panic!("{name} twice"),
        };
        assert_eq!(
            (one("host"), one("x-forwarded-host"), one("x-forwarded-proto")),
            ("shop.corp.example:8443".into(), "shop.corp.example:8443".into(), "https".into())
        );
        for gone in ["x-forwarded-user", "forwarded", "x-real-ip", "remote-user"] {
            assert_eq!(one(gone), "", "{gone}");
        }
        assert_eq!(one("x-request-id"), "kept");
        one("x-forwarded-for")
    };
    assert_eq!(ask(&world).await, "127.0.0.1");
    // A proxy that is trusted says whom it speaks for; what that one was told before is not believed.
    world.running().stop().await;
    world.plan.lock().unwrap().config.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap(), "10.0.0.0/8".parse().unwrap()];
    world.start().await;
    assert_eq!(ask(&world).await, "6.6.6.6");
    for (said, expect) in [
        ("7.7.7.7, 6.6.6.6, 10.1.2.3", "6.6.6.6"),
        ("7.7.7.7, nonsense, 10.1.2.3", "10.1.2.3"),
        ("10.1.2.3", "10.1.2.3"),
        ("2001:db8::1", "2001:db8::1"),
        ("", "127.0.0.1"),
    ] {
        world.ask(Method::GET, &at("shop", "/"), &[("x-forwarded-for", said)], "").await;
        assert_eq!(app.last().headers["x-forwarded-for"], expect, "{said}");
    }
}

#[tokio::test]
async fn a_trace_goes_on() {
    let (world, app) = shop().await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    world.ask(Method::GET, &at("shop", "/"), &[("traceparent", trace), ("tracestate", "a=b")], "").await;
    assert_eq!((app.last().headers["traceparent"].to_str().unwrap(), app.last().headers["tracestate"].to_str().unwrap()), (trace, "a=b"));
    world.get(&at("shop", "/")).await;
    let first = app.last().headers["traceparent"].clone();
    world.get(&at("shop", "/")).await;
    assert!(first.len() == 55 && first != app.last().headers["traceparent"]);
}

#[tokio::test]
async fn a_body_that_breaks_off_is_no_whole_answer() {
    let (world, app) = shop().await;
    for two in [false, true] {
        let mut answer = if two {
            Coming(world.h2("shop.corp.example").await.send_request(request2(Method::GET, &at("shop", "/break"), &[], empty())).await.unwrap())
        } else {
            Coming(world.h1("shop.corp.example").await.send_request(request(Method::GET, &at("shop", "/break"), &[], empty())).await.unwrap())
        };
        assert_eq!(answer.0.headers()["content-length"], "100000");
        assert_eq!(answer.text().await, "half");
        app.gate.add_permits(1);
        assert!(matches!(answer.piece().await, Some(Err(_))));
    }
}
