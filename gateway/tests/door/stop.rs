//! The end, in order.

use std::time::Duration;

use http::Method;
use weft_http::Drained;

use crate::{
    apps::App,
    browser::at,
    client::{Coming, H1, H2, empty, request, request2},
    world::{World, eventually},
};

#[tokio::test]
async fn what_runs_ends_what_is_open_is_told_and_nothing_new_begins() {
    let app = App::start().await;
    let world = World::with(|plan| {
        plan.config.drain = Duration::from_secs(3);
        plan.expose("shop/orders", &["{ port: web, host: shop, access: { public: true } }"]);
        plan.workload("shop/orders", app.address);
    })
    .await;
    let sockets = [world.websocket(&at("shop", "/ws"), &[], H1).await.unwrap(), world.websocket(&at("shop", "/ws"), &[], H2).await.unwrap()];
    let mut events = world.h1("shop.corp.example").await.send_request(request(Method::GET, &at("shop", "/sse"), &[], empty())).await.map(Coming).unwrap();
    assert_eq!(events.text().await, "data: hello\n\n");
    let before = app.requests();
    let (mut one, mut two) = (world.h1("shop.corp.example").await, world.h2("shop.corp.example").await);
    let mut idle = world.h1("shop.corp.example").await;
    let one = tokio::spawn(async move { one.send_request(request(Method::GET, &at("shop", "/gate"), &[], empty())).await });
    let two = tokio::spawn(async move { two.send_request(request2(Method::GET, &at("shop", "/gate"), &[], empty())).await });
    eventually("both run", async || app.requests() == before + 2).await;

    let running = world.running();
    let stopping = tokio::spawn(running.stop());
    eventually("nobody listens any more", async || tokio::net::TcpStream::connect(world.public()).await.is_err()).await;
    assert!(idle.ready().await.is_err() || idle.send_request(request(Method::GET, &at("shop", "/"), &[], empty())).await.is_err(), "what is idle is closed");
    app.gate.add_permits(2);
    for response in [one, two] {
        let response = response.await.unwrap().unwrap();
        assert_eq!((response.status(), Coming(response).text().await.as_str()), (200.try_into().unwrap(), "through"));
    }
    app.events.send("still".to_owned()).unwrap();
    assert_eq!(events.text().await, "data: still\n\n", "until the grace is over");
    for socket in sockets {
        assert_eq!(socket.ends_with().await, Some(1001));
    }
    assert!(!matches!(events.piece().await, Some(Ok(_))));
    assert!(matches!(stopping.await.unwrap(), Drained::Cut(_)));
    eventually("the application is told", async || app.open() == 0).await;
    // Everything that was answered is told of.
    let paths: Vec<_> = world.log().iter().map(|line| line["path"].as_str().unwrap().to_owned()).collect();
    for (path, times) in [("/gate", 2), ("/sse", 1), ("/ws", 2), ("/before", 1)] {
        assert_eq!(paths.iter().filter(|p| *p == path).count(), times, "{path} in {paths:?}");
    }
    assert_eq!(world.agent.flows().len(), paths.len());
}

#[tokio::test]
async fn what_an_agent_missed_it_is_told_before_the_end() {
    let app = App::start().await;
    let world = World::with(|plan| {
        plan.expose("shop/orders", &["{ port: web, host: shop, access: { public: true } }"]);
        plan.workload("shop/orders", app.address);
    })
    .await;
    world.agent.go();
    let missed = world.get(&at("shop", "/")).await;
    // The next time that it is asked by itself lies seconds ahead.
    tokio::time::sleep(Duration::from_secs(3)).await;
    world.agent.come();
    world.running().stop().await;
    assert!(world.agent.flows().iter().any(|flow| flow.id == missed.flow()));
}

#[tokio::test]
async fn with_nothing_open_it_ends_at_once() {
    let world = World::with(|plan| {
        plan.config.drain = Duration::from_secs(3600);
        plan.expose("shop/orders", &["{ port: web, host: shop, access: { public: true } }"]);
    })
    .await;
    let mut kept = world.h2("shop.corp.example").await;
    kept.ready().await.unwrap();
    assert_eq!(tokio::time::timeout(crate::world::PATIENCE, world.running().stop()).await.expect("long before the grace"), Drained::InOrder);
}
