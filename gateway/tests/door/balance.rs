//! Which workload gets a request, and what becomes of one that the first did not take.

use std::sync::{Arc, atomic::Ordering};

use http::Method;
use hyper::body::Frame;
use tokio::task::JoinSet;

use crate::{
    apps::App,
    browser::at,
    client::{Answer, empty, pieces, request, request2},
    nobody::{closer, nobody},
    world::{World, eventually},
};

const SHOP: &str = "{ port: web, host: shop, access: { public: true } }";

async fn shop(workloads: &[std::net::Ipv4Addr]) -> World {
    World::with(|plan| {
        plan.expose("shop/orders", &[SHOP]);
        for address in workloads {
            plan.workload("shop/orders", *address);
        }
    })
    .await
}

fn at_of(answer: &Answer) -> String {
    answer.json()["at"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn the_one_with_the_least_to_do_is_asked() {
    let apps = [App::start().await, App::start().await];
    let world = shop(&[apps[0].address, apps[1].address]).await;
    let hang = async |count: usize| {
        let mut sender = world.h2("shop.corp.example").await;
        let mut hanging = JoinSet::new();
        for _ in 0..count {
            sender.ready().await.unwrap();
            let mut sender = sender.clone();
            hanging.spawn(async move { drop(sender.send_request(request2(Method::GET, &at("shop", "/hang"), &[], empty())).await) });
        }
        hanging
    };
    let count = |app: &Arc<App>| app.hanging.load(Ordering::SeqCst);
    let _first = hang(20).await;
    eventually("they hang", async || count(&apps[0]) + count(&apps[1]) == 20).await;
    assert_eq!((count(&apps[0]), count(&apps[1])), (10, 10));
    // One more at either: the other one gets all that end at once.
    let _more = hang(1).await;
    eventually("it hangs", async || count(&apps[0]) + count(&apps[1]) == 21).await;
    let idle = if count(&apps[0]) == 10 { &apps[0] } else { &apps[1] };
    for _ in 0..10 {
        assert_eq!(at_of(&world.get(&at("shop", "/")).await), idle.address.to_string());
    }
}

#[tokio::test]
async fn a_workload_that_takes_no_connection_costs_nobody_a_request() {
    let app = App::start().await;
    let gone = nobody();
    let world = shop(&[gone, app.address]).await;
    for n in 0..10 {
        let answer = world.ask(Method::POST, &at("shop", "/"), &[], &format!("order {n}")).await;
        assert_eq!((answer.status.as_u16(), answer.json()["body"].as_str()), (200, Some(format!("order {n}").as_str())), "a POST too: nothing of it was sent");
    }
    assert_eq!(app.requests(), 10, "each came once");
    let retries = world.metric("weft_gateway_retries_total").await;
    assert!((1.0..10.0).contains(&retries), "{retries}: it is asked last for a while");
    // Also one whose body is still to come.
    let (send, body) = pieces();
    let post = request(Method::POST, &at("shop", "/"), &[], body);
    let mut sender = world.h1("shop.corp.example").await;
    let answer = tokio::spawn(async move { Answer::of(sender.send_request(post).await.unwrap()).await });
    send.send(Frame::data("late".into())).await.unwrap();
    drop(send);
    assert_eq!(answer.await.unwrap().json()["body"], "late");
    // Where nobody takes it, that is said, and whose it is.
    let world = shop(&[nobody(), nobody()]).await;
    let failed = world.get(&at("shop", "/")).await;
    assert_eq!((failed.status.as_u16(), failed.json()["error"].as_str()), (502, Some("unavailable")));
    assert!(failed.text().contains("ORDERS") && failed.text().contains("team-a"), "{}", failed.text());
    assert_eq!(world.metric("weft_gateway_retries_total").await, 1.0, "once on another, and no more");
}

#[tokio::test]
async fn what_may_have_been_taken_is_repeated_only_where_that_changes_nothing() {
    let app = App::start().await;
    let (closes, begun) = closer().await;
    let world = shop(&[closes, app.address]).await;
    // Whoever was asked first answers nothing; all workloads are asked in turn, so some of these came there.
    let (mut failed, mut answered) = (0, 0);
    for _ in 0..4 {
        let answer = world.ask(Method::POST, &at("shop", "/"), &[], "an order").await;
        match answer.status.as_u16() {
            200 => answered += 1,
            502 => failed += 1,
            other => panic!("{other}"),
        }
    }
    assert!(failed >= 1, "one of them was asked first");
    // The one that has failed is asked last for a while; without a body it is the same.
    let fresh = shop(&[closes, app.address]).await;
    assert_eq!(fresh.ask(Method::POST, &at("shop", "/"), &[], "").await.status, 502);
    failed += 1;
    assert_eq!((begun.load(Ordering::SeqCst), app.requests()), (failed, answered), "each order came to one of them, once");
    // What changes nothing is asked again of the other, and nobody notices.
    let world = shop(&[closes, app.address]).await;
    for _ in 0..4 {
        assert_eq!(world.get(&at("shop", "/")).await.status, 200);
    }
    assert!(begun.load(Ordering::SeqCst) > failed, "one of them was asked first");
}
