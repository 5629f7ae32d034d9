//! Warm tunnels: used again by the same caller for the same endpoint, by nobody else, and never trusted to be alive.

use std::{sync::Arc, time::Duration};

use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;
use weft_ebpf_common::TUNNEL_PORT;
use weft_tunnel::{Answer, HeaderDecoder};

use super::{
    abort, hear, hear_end, hear_reset, say,
    world::{CLIENT, SERVER, World, until},
};
use crate::proxy::{LocalWorkload, Measure, Point, read_ahead::ReadAhead, tls::Configs, tunnel::Tunnel};

const SHAKEN: Measure = Measure::Handshake { point: Point::In, ok: true };

/// One connection from greeting to its clean end.
async fn visit(w: &World) {
    let (mut client, mut server) = w.connected().await;
    say(&mut client, "ping").await;
    hear(&mut server, "ping").await;
    drop(server);
    hear_end(&mut client).await;
    drop(client);
    // The tunnel is back in the pool when the connection is no longer live.
    until(|| w.proxy_a.live() + w.proxy_b.live() == 0).await;
}

async fn pooled(w: &World, n: usize) {
    until(|| w.proxy_a.shared.pool.len() == n).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tunnel_is_used_again_after_a_clean_end() {
    let w = World::new().await;
    for _ in 0..5 {
        visit(&w).await;
        pooled(&w, 1).await;
    }
    assert_eq!(w.b.count(SHAKEN), 1);
    assert_eq!((w.a.count(Measure::Pool { hit: false }), w.a.count(Measure::Pool { hit: true })), (1, 4));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_at_the_same_time_have_tunnels_of_their_own() {
    let w = World::new().await;
    let (mut first, mut one) = w.connected().await;
    let (mut second, mut two) = w.connected().await;
    say(&mut second, "second").await;
    say(&mut first, "first").await;
    hear(&mut one, "first").await;
    hear(&mut two, "second").await;
    assert_eq!(w.b.count(SHAKEN), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_tunnel_is_not_used_again() {
    let w = World::new().await;
    let (client, mut server) = w.connected().await;
    abort(client);
    hear_reset(&mut server).await;
    visit(&w).await;
    assert_eq!(w.b.count(SHAKEN), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_workload_of_the_same_service_gets_no_foreign_tunnel() {
    let w = World::new().await;
    visit(&w).await;
    pooled(&w, 1).await;
    let twin = LocalWorkload { number: 9, uid: "client-2".parse().unwrap(), ..LocalWorkload::clone(&w.client) };
    let listener = std::net::TcpListener::bind((w.client.addresses[0], 0)).unwrap();
    let capture = listener.local_addr().unwrap();
    w.proxy_a.serve_capture(Arc::new(twin), listener).unwrap();
    let mut client = TcpStream::connect(capture).await.unwrap();
    let mut server = w.accept().await;
    say(&mut server, "hello").await;
    hear(&mut client, "hello").await;
    assert_eq!((w.b.count(SHAKEN), w.a.count(Measure::Pool { hit: true })), (2, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewed_svid_makes_new_tunnels() {
    let w = World::new().await;
    visit(&w).await;
    pooled(&w, 1).await;
    w.a.svids.lock().unwrap().insert(CLIENT, w.svid(CLIENT));
    w.a.tick();
    visit(&w).await;
    assert_eq!(w.b.count(SHAKEN), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tunnel_that_the_other_node_has_closed_is_passed_over() {
    let w = World::new().await;
    visit(&w).await;
    pooled(&w, 1).await;
    w.proxy_b.drain(Duration::ZERO).await;
    // The closing is seen on the idle tunnel, which leaves the pool by itself.
    until(|| {
        w.proxy_a.shared.pool.sweep();
        w.proxy_a.shared.pool.len() == 0
    })
    .await;
}

/// A node whose agent serves the first connection of a tunnel and drops the tunnel at the second header: the caller asks again, once, afresh.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tunnel_that_dies_before_the_answer_is_replaced_once() {
    let w = World::unserved().await;
    let listener = TcpListener::bind((w.server.addresses[0], TUNNEL_PORT)).await.unwrap();
    let config = Configs::default().incoming(SERVER, &w.svid(SERVER), &w.b.bundle.lock().unwrap().clone().unwrap());
    let served = tokio::spawn(async move {
        for connections in [1, 1] {
            let (socket, _) = listener.accept().await.unwrap();
            let stream = TlsAcceptor::from(config.clone()).accept(ReadAhead::new(socket)).await.unwrap();
            let mut tunnel = Tunnel::new(tokio_rustls::TlsStream::Server(stream));
            for _ in 0..connections {
                header(&mut tunnel).await;
                tunnel.send_answer(&Answer::Accepted).await.unwrap();
                tunnel.stream.write_all(&weft_tunnel::fin()).await.unwrap();
                // The client's FIN.
                header_or_fin(&mut tunnel).await;
            }
            header(&mut tunnel).await;
        }
    });
    for _ in 0..2 {
        let mut client = w.dial().await;
        hear_end(&mut client).await;
        drop(client);
        pooled(&w, 1).await;
    }
    assert_eq!(w.a.count(Measure::Handshake { point: Point::Out, ok: true }), 2);
    assert_eq!(w.a.count(Measure::Pool { hit: true }), 1, "the second connection had tried the warm one");
    served.abort();
}

async fn header(tunnel: &mut Tunnel) {
    let mut decoder = HeaderDecoder::default();
    while tunnel.some_of_header(&mut decoder).await.unwrap().is_none() {}
}

async fn header_or_fin(tunnel: &mut Tunnel) {
    let (buffer, n) = crate::proxy::tunnel::read(&mut tunnel.stream).await.unwrap();
    assert_eq!(buffer[..n], weft_tunnel::fin());
}
