//! What is told of each request: access log, metrics, flows.

use std::sync::Arc;

use http::Method;
use serde_json::Value;

use crate::{
    apps::App,
    browser::at,
    client::{Coming, H1, empty, full, request, request2},
    world::{WEB_PORT, World, eventually},
};

async fn shop() -> (World, Arc<App>) {
    let app = App::start().await;
    let world = World::with(|plan| {
        plan.expose("shop/orders", &["{ port: web, host: shop, access: { public: true } }", "{ port: web, host: orders, access: { groups: [ sales ] } }"]);
        plan.workload("shop/orders", app.address);
    })
    .await;
    (world, app)
}

/// The line of a flow, once it is written.
async fn line(world: &World, flow: &str) -> Value {
    eventually("the line", async || world.log().iter().any(|line| line["flow"] == flow)).await;
    world.log().into_iter().find(|line| line["flow"] == flow).unwrap()
}

#[tokio::test]
async fn a_request_is_told_of_in_the_log_and_to_the_agent() {
    let (world, app) = shop().await;
    let mut alice = world.signed_in("alice", &["sales"]).await;
    alice.open(&at("orders", "/")).await;
    let cookies = alice.cookies(&at("orders", "/"));
    let fields = [("user-agent", "tests/1"), ("cookie", cookies.as_str())];
    let good = world.ask(Method::GET, &at("orders", "/x/y?secret=1"), &fields, "").await;
    let told = line(&world, good.flow()).await;
    for (field, value) in [
        ("client", "127.0.0.1"),
        ("user", "alice"),
        ("protocol", "HTTP/1.1"),
        ("method", "GET"),
        ("host", "orders.corp.example"),
        ("path", "/x/y"),
        ("service", "shop/orders"),
        ("verdict", "allow"),
        ("reason", "group"),
        ("agent", "tests/1"),
        ("backend", &format!("{}:{WEB_PORT}", app.address)),
    ] {
        assert_eq!(told[field], value, "{field}: {told}");
    }
    assert_eq!((told["status"].as_u64(), told["bytes"].as_u64()), (Some(200), Some(good.body.len() as u64)));
    assert!(told["head_ms"].as_f64().unwrap() <= told["total_ms"].as_f64().unwrap() && told["time_ms"].as_u64().unwrap() > 1_700_000_000_000);
    assert!(told.get("cut").is_none() && told.get("detail").is_none());
    let text = std::fs::read_to_string(world.dir.path().join("access.log")).unwrap();
    for secret in ["secret=1", cookies.split_once('=').unwrap().1] {
        assert!(!text.contains(secret), "{secret} stands in the log");
    }

    let denied = world.ask(Method::GET, &at("orders", "/"), &[], "").await;
    let told = line(&world, denied.flow()).await;
    assert_eq!(
        (told["verdict"].as_str(), told["reason"].as_str(), told["status"].as_u64(), &told["user"]),
        (Some("deny"), Some("sign-in"), Some(401), &Value::Null)
    );

    // The agent is told the same, under the same id.
    let flow = |id: &str| world.agent.flows().into_iter().find(|flow| flow.id == id);
    eventually("both flows", async || flow(good.flow()).is_some() && flow(denied.flow()).is_some()).await;
    let (good, denied) = (flow(good.flow()).unwrap(), flow(denied.flow()).unwrap());
    assert_eq!(
        (good.point.as_str(), good.verdict.as_str(), good.reason.as_str(), good.source.as_str(), good.destination.as_str()),
        ("gateway", "allow", "group", "user:alice", "shop/orders")
    );
    let request = good.request.unwrap();
    assert_eq!((request.user.as_str(), &request.groups[..], request.path.as_str(), request.status), ("alice", &["sales".to_owned()][..], "/x/y", 200));
    assert!(good.rule > 0 && good.revision == 1 && good.bytes_in > 0 && good.address == "127.0.0.1");
    assert_eq!((denied.verdict.as_str(), denied.reason.as_str(), denied.request.unwrap().status), ("deny", "sign-in", 401));

    // A page of the gateway's own is in the log, and no flow.
    let keys = world.get(&at("portal", "/.weft/jwks.json")).await;
    let told = line(&world, keys.flow()).await;
    assert_eq!((told["service"].as_str(), told["reason"].as_str()), (Some("weft/gateway"), Some("own-page")));
    let head = world.ask(Method::HEAD, &at("portal", "/.weft/jwks.json"), &[], "").await;
    assert!(line(&world, head.flow()).await.get("cut").is_none());
    assert!(flow(keys.flow()).is_none());
}

#[tokio::test]
async fn a_log_that_is_moved_away_is_begun_anew() {
    let (world, _app) = shop().await;
    let first = world.get(&at("shop", "/")).await;
    line(&world, first.flow()).await;
    let file = world.dir.path().join("access.log");
    std::fs::rename(&file, world.dir.path().join("access.log.1")).unwrap();
    world.reload();
    eventually("another file", async || file.exists()).await;
    let second = world.get(&at("shop", "/")).await;
    line(&world, second.flow()).await;
    assert_eq!(world.log().len(), 1);
}

#[tokio::test]
async fn what_breaks_off_is_told_as_cut() {
    let (world, app) = shop().await;
    // By the client.
    let mut sender = world.h1("shop.corp.example").await;
    let mut events = sender.send_request(request(Method::GET, &at("shop", "/sse"), &[], empty())).await.map(Coming).unwrap();
    events.text().await;
    let flow = events.0.headers()["weft-flow"].to_str().unwrap().to_owned();
    drop((sender, events));
    let told = line(&world, &flow).await;
    assert_eq!((told["cut"].as_bool(), told["bytes"].as_u64(), told["status"].as_u64()), (Some(true), Some(13), Some(200)));
    // By the application.
    let mut broken = world.h1("shop.corp.example").await.send_request(request(Method::GET, &at("shop", "/break"), &[], empty())).await.map(Coming).unwrap();
    let flow = broken.0.headers()["weft-flow"].to_str().unwrap().to_owned();
    broken.text().await;
    app.gate.add_permits(1);
    assert!(broken.piece().await.unwrap().is_err());
    assert_eq!(line(&world, &flow).await["cut"], true);
    // One that is whole, of the same length as far as it came.
    let mut two = world.h2("shop.corp.example").await;
    let whole = two.send_request(request2(Method::POST, &at("shop", "/pkg/Talk"), &[], full("half"))).await.map(Coming).unwrap();
    let flow = whole.0.headers()["weft-flow"].to_str().unwrap().to_owned();
    let whole = crate::client::Answer::of(whole.0).await;
    let told = line(&world, &flow).await;
    assert_eq!((told["bytes"].as_u64(), whole.text(), told.get("cut"), told["protocol"].as_str()), (Some(4), "half", None, Some("HTTP/2")));
}

#[tokio::test]
async fn metrics_count_what_happens() {
    let (world, _app) = shop().await;
    let connections = world.metric("weft_gateway_connections").await;
    let _socket = world.websocket(&at("shop", "/ws"), &[], H1).await.unwrap();
    for _ in 0..3 {
        world.get(&at("shop", "/")).await;
    }
    world.get(&at("orders", "/")).await;
    world.get(&at("nobody", "/")).await;
    world.raw("shop.corp.example", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n").await;
    let ok = "service=\"shop/orders\",method=\"GET\",status=\"2xx\"";
    assert_eq!(world.metric_of("weft_gateway_requests_total", ok).await, 3.0);
    assert_eq!(world.metric_of("weft_gateway_requests_total", "status=\"1xx\"").await, 1.0);
    assert_eq!(world.metric_of("weft_gateway_request_seconds_count", "shop/orders").await, 5.0);
    assert_eq!(world.metric_of("weft_gateway_upstream_seconds_count", "shop/orders").await, 4.0);
    assert_eq!(world.metric_of("weft_gateway_denied_total", "reason=\"sign-in\"").await, 1.0);
    assert_eq!(world.metric_of("weft_gateway_denied_total", "reason=\"no-host\"").await, 1.0);
    assert_eq!(world.metric("weft_gateway_refused_total").await, 1.0);
    assert_eq!(world.metric("weft_gateway_live").await, 1.0);
    assert!(world.metric("weft_gateway_certificate_not_after_seconds").await > 1.7e9);
    eventually("one connection more is open", async || world.metric("weft_gateway_connections").await == connections + 1.0).await;
}
