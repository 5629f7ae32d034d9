//! Sessions over time: one renewal for many requests, outages of the provider, restarts of the gateway.

use std::sync::{Arc, atomic::Ordering};

use http::Method;
use tokio::task::JoinSet;

use crate::{
    apps::App,
    browser::at,
    client::{Answer, empty, request2},
    provider::Lie,
    world::{World, eventually},
};

async fn shop() -> (World, Arc<App>) {
    let app = App::start().await;
    let world = World::with(|plan| {
        plan.expose(
            "shop/orders",
            &[
                "{ port: web, host: orders, access: { groups: [ sales ] } }",
                "{ port: web, host: my, access: { authenticated: true } }",
                "{ port: web, host: shop, access: { public: true } }",
            ],
        );
        plan.workload("shop/orders", app.address);
    })
    .await;
    (world, app)
}

#[tokio::test]
async fn fifty_requests_at_expiry_are_one_renewal_and_none_fails() {
    let (world, app) = shop().await;
    let mut alice = world.signed_in("alice", &["sales"]).await;
    alice.open(&at("orders", "/")).await;
    let cookies = alice.cookies(&at("orders", "/"));
    let refreshes = || world.provider.counts.refreshes.load(Ordering::SeqCst);
    assert_eq!(refreshes(), 0);
    // The provider takes its time, so that all of them wait for the one.
    world.provider.refreshing.forget_permits(1000);
    world.time.pass(301);
    let before = app.requests();
    let mut asked = JoinSet::new();
    for _ in 0..5 {
        let sender = world.h2("orders.corp.example").await;
        for _ in 0..10 {
            let (mut sender, request) = (sender.clone(), request2(Method::GET, &at("orders", "/"), &[("cookie", &cookies)], empty()));
            asked.spawn(async move { Answer::of(sender.send_request(request).await.unwrap()).await.status });
        }
    }
    eventually("the provider is asked", async || refreshes() == 1).await;
    world.provider.refreshing.add_permits(1000);
    let answers = asked.join_all().await;
    assert!(answers.len() == 50 && answers.iter().all(|status| *status == 200), "{answers:?}");
    assert_eq!((refreshes(), app.requests()), (1, before + 50));
    // The renewal was no mere pretence: its groups are in force.
    world.person("alice", &["kitchen"]);
    world.time.pass(301);
    assert_eq!(alice.get(&at("orders", "/")).await.status, 403);
    assert_eq!(refreshes(), 2);
    assert_eq!(alice.get(&at("my", "/")).await.status, 401, "another host has no ticket yet");
    assert_eq!(alice.open(&at("my", "/")).await.status, 200);
}

#[tokio::test]
async fn an_outage_of_the_provider_breaks_only_new_sign_ins() {
    let (world, _app) = shop().await;
    let mut alice = world.signed_in("alice", &["sales"]).await;
    alice.open(&at("orders", "/")).await;
    world.provider.lie(Lie::Down);
    for _ in 0..5 {
        world.time.pass(301);
        assert_eq!(alice.get(&at("orders", "/")).await.status, 200);
    }
    assert_eq!(alice.open(&at("my", "/")).await.status, 200, "also at a host where they have not been");
    assert_eq!(world.get(&at("shop", "/")).await.status, 200);
    // What is known of the provider lets a new sign-in begin; it ends with a page that says what is wrong.
    let mut bob = world.browser();
    let page = bob.open(&at("orders", "/")).await;
    assert_eq!((page.status.as_u16(), page.header("content-type")), (503, "text/html; charset=utf-8"), "{page:?}");

    // A restart of the gateway meanwhile: whoever is signed in is signed in.
    world.running().stop().await;
    world.start().await;
    assert_eq!(alice.get(&at("orders", "/")).await.status, 200);
    world.provider.lie(Lie::None);
    world.time.pass(31);
    world.person("bob", &["sales"]);
    assert_eq!(bob.open(&at("orders", "/")).await.status, 200);
    // A provider that says no is another matter than one that says nothing.
    world.provider.lie(Lie::RefreshRefused);
    world.time.pass(301);
    assert_eq!(alice.get(&at("orders", "/")).await.status, 401);
}
