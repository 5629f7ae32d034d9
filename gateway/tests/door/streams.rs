//! Nothing is gathered on the way: each piece passes before the next has come, both ways, in every protocol.

use std::sync::{Arc, atomic::Ordering};

use http::{Method, Request, Version};
use hyper::body::Frame;
use tokio::{task::JoinSet, time::timeout};

use crate::{
    apps::App,
    browser::at,
    client::{Answer, Body, Coming, H1, H2, empty, full, pieces, request, request2},
    socket,
    world::{PATIENCE, World, eventually},
};

async fn shop() -> (World, Arc<App>, Arc<App>) {
    let (app, other) = (App::start().await, App::start().await);
    let world = World::with(|plan| {
        plan.expose("shop/orders", &["{ port: web, host: shop, access: { public: true } }", "{ port: rpc, host: rpc, access: { public: true } }"]);
        plan.expose("shop/stock", &["{ port: web, host: stock, access: { public: true } }"]);
        plan.workload("shop/orders", app.address);
        plan.workload("shop/stock", other.address);
    })
    .await;
    (world, app, other)
}

/// Sends over a connection of its own, by whichever protocol.
async fn send(world: &World, two: bool, method: Method, host: &str, path: &str, fields: &[(&str, &str)], body: Body) -> Coming {
    let (url, name) = (at(host, path), format!("{host}.corp.example"));
    let response = if two {
        let request: Request<Body> = request2(method, &url, fields, body);
        timeout(PATIENCE, world.h2(&name).await.send_request(request)).await
    } else {
        timeout(PATIENCE, world.h1(&name).await.send_request(request(method, &url, fields, body))).await
    };
    Coming(response.expect("a head before the end of the body").unwrap())
}

#[tokio::test]
async fn each_piece_passes_before_the_next_has_come() {
    let (world, ..) = shop().await;
    for two in [false, true] {
        let (pieces, body) = pieces();
        pieces.send(Frame::data("first".into())).await.unwrap();
        let mut answer = send(&world, two, Method::POST, "shop", "/duplex", &[], body).await;
        assert_eq!(answer.0.version(), if two { Version::HTTP_2 } else { Version::HTTP_11 });
        assert_eq!(answer.text().await, "first");
        for n in 0..5 {
            pieces.send(Frame::data(format!("piece {n}").into())).await.unwrap();
            assert_eq!(answer.text().await, format!("piece {n}"));
        }
        drop(pieces);
        assert!(matches!(answer.piece().await, None | Some(Ok(_))));
    }
}

#[tokio::test]
async fn an_upload_comes_to_the_application_while_it_is_sent() {
    let (world, app, _) = shop().await;
    for two in [false, true] {
        let before = app.bytes.load(Ordering::SeqCst);
        let (pieces, body) = pieces();
        let answer = async { Answer::of(send(&world, two, Method::PUT, "shop", "/upload", &[], body).await.0).await };
        let upload = async {
            for n in 1..=4 {
                pieces.send(Frame::data(vec![b'x'; 20_000].into())).await.unwrap();
                eventually("the piece has come", async || app.bytes.load(Ordering::SeqCst) == before + n * 20_000).await;
            }
            drop(pieces);
        };
        let (answer, ()) = tokio::join!(answer, upload);
        assert_eq!(answer.json()["body"].as_str().unwrap().len(), 80_000);
    }
    let big = world.get(&at("shop", "/big")).await;
    assert_eq!(big.body.len(), 300_000);
}

#[tokio::test]
async fn whoever_takes_nothing_holds_the_application_up_and_fills_no_memory() {
    let (world, app, _) = shop().await;
    for two in [false, true] {
        let before = app.flooded.load(Ordering::SeqCst);
        let mut flood = send(&world, two, Method::GET, "shop", "/flood", &[], empty()).await;
        assert!(flood.text().await.starts_with('x'));
        // Sockets hold some; then it stands still.
        let mut last = 0;
        let stands = async || {
            let now = app.flooded.load(Ordering::SeqCst);
            tokio::time::sleep(std::time::Duration::from_millis(500)).await;
            std::mem::replace(&mut last, app.flooded.load(Ordering::SeqCst)) == now
        };
        eventually("it stands still", stands).await;
        let held = app.flooded.load(Ordering::SeqCst) - before;
        assert!(held < 32 << 20, "{held} bytes on the way");
        // It goes on where it stood.
        let mut taken = 0;
        while taken < held + (1 << 20) {
            taken += flood.piece().await.unwrap().unwrap().len();
        }
        assert!(app.flooded.load(Ordering::SeqCst) > before + held);
    }
}

#[tokio::test]
async fn events_come_when_they_are_sent() {
    let (world, app, _) = shop().await;
    for two in [false, true] {
        let mut events = send(&world, two, Method::GET, "shop", "/sse", &[("accept", "text/event-stream")], empty()).await;
        assert_eq!(events.0.headers()["content-type"], "text/event-stream");
        assert_eq!(events.text().await, "data: hello\n\n");
        for n in 0..3 {
            app.events.send(format!("event {n}")).unwrap();
            assert_eq!(events.text().await, format!("data: event {n}\n\n"));
        }
        drop(events);
        eventually("the application is told that nobody listens", async || app.open() == 0).await;
    }
}

#[tokio::test]
async fn grpc_passes_with_its_trailers() {
    let (world, app, _) = shop().await;
    let fields = [("content-type", "application/grpc"), ("te", "trailers")];
    let unary = send(&world, true, Method::POST, "rpc", "/pkg.Echo/Talk", &fields, full("one message")).await;
    assert_eq!((app.last().target.as_str(), app.last().headers["content-type"].to_str().unwrap()), ("/pkg.Echo/Talk", "application/grpc"));
    let unary = Answer::of(unary.0).await;
    assert_eq!((unary.text(), unary.trailers.as_ref().unwrap()["grpc-status"].to_str().unwrap()), ("one message", "0"));
    let failed = Answer::of(send(&world, true, Method::POST, "rpc", "/pkg.Echo/Fail", &fields, full("x")).await.0).await;
    assert_eq!((failed.status.as_u16(), failed.header("grpc-status"), failed.header("grpc-message")), (200, "5", "no such thing"));

    let (pieces, body) = pieces();
    let mut talk = send(&world, true, Method::POST, "rpc", "/pkg.Echo/Talk", &fields, body).await;
    for n in 0..3 {
        pieces.send(Frame::data(format!("message {n}").into())).await.unwrap();
        assert_eq!(talk.text().await, format!("message {n}"));
    }
    drop(pieces);
    assert_eq!(Answer::of(talk.0).await.trailers.unwrap()["grpc-status"], "0");
}

#[tokio::test]
async fn websockets_open_over_both_protocols() {
    let (world, app, _) = shop().await;
    for hello in [H1, H2] {
        let mut socket = world.websocket(&at("shop", "/ws"), &[], hello).await.unwrap();
        for n in 0..3 {
            socket.echo(&format!("message {n}")).await;
        }
        assert_eq!(app.open(), 1);
        assert!(app.last().headers["upgrade"] == "websocket" && !app.last().headers.contains_key("weft-assertion"));
        drop(socket);
        eventually("the application is told", async || app.open() == 0).await;
    }
    // An application that takes none is heard.
    let refused = world.websocket(&at("shop", "/echo"), &[], H1).await.err().unwrap();
    assert_eq!(refused.status, 200);
    assert_eq!(socket::frame(socket::TEXT, b"a", false), [0x81, 1, b'a']);
}

#[tokio::test]
async fn an_application_that_hangs_slows_no_other() {
    let (world, app, _other) = shop().await;
    let mut hanging = JoinSet::new();
    for _ in 0..3 {
        let sender = world.h2("shop.corp.example").await;
        for _ in 0..50 {
            let mut sender = sender.clone();
            hanging.spawn(async move { drop(sender.send_request(request2(Method::GET, &at("shop", "/hang"), &[], empty())).await) });
        }
    }
    eventually("all of them wait", async || app.hanging.load(Ordering::SeqCst) == 150).await;
    // While they wait: others of the same connection's host, other applications, and the gateway itself.
    for _ in 0..20 {
        assert_eq!(world.get(&at("stock", "/")).await.status, 200);
        assert_eq!(world.get(&at("shop", "/")).await.status, 200, "nor itself, where it does not");
    }
    assert_eq!(world.get(&at("portal", "/.weft/jwks.json")).await.status, 200);
    assert_eq!((hanging.len(), app.hanging.load(Ordering::SeqCst)), (150, 150));
    assert!(hanging.try_join_next().is_none(), "they hang still");
}
